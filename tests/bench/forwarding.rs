//! Forwarded unary calls per second: the gateway beside nginx grpc_pass, in front of the same connector, in rounds whose
//! order rotates, so that a machine's moods fall on both alike.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest, connection};
use postern_proto::mail::v1::Email;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{SendEmailRequest, SmtpSettings};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::echo;
use crate::figures::{Table, ends, median, ratios};
use crate::load::{self, CALLS_AT_ONCE, CONNECTIONS, Calls};
use crate::peers::{self, Peer};

/// The method that is called.
const PATH: &str = "/postern.smtp.v1.SmtpService/SendEmail";
/// How long the body of the mail is: a request is about 1 KB.
const BODY_BYTES: usize = 940;
/// The connection that the calls name.
const CONNECTION: &str = "connections/bench";

/// How much is measured.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// How many rounds
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many calls each way in each round
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    calls: u32,
}

/// A way to the connector, and what was measured of it.
struct Way {
    name: String,
    address: SocketAddr,
    /// Absent: no program lies on this way.
    peer: Option<Peer>,
    per_second: Vec<f64>,
    processor_micros: Vec<f64>,
}

impl Way {
    fn new(name: impl Into<String>, address: SocketAddr, peer: Option<Peer>) -> Self {
        Self { name: name.into(), address, peer, per_second: Vec::new(), processor_micros: Vec::new() }
    }

    fn processor_seconds(&self) -> Result<f64, BoxError> {
        self.peer.as_ref().map_or(Ok(0.0), Peer::processor_seconds)
    }
}

/// Measures, and gives the section.
///
/// # Errors
/// A program is missing, or a call was not answered as it should be.
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let nginx_version = peers::version("nginx", "-v", "nginx-light").await?;
    let load_version = peers::version("h2load", "--version", "nghttp2-client").await?;
    let folder = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connector = listener.local_addr()?;
    let echo = tokio::spawn(echo::serve(listener, echo::Polled::default(), stop.clone()));

    let gateway = peers::gateway(folder.path(), connector).await?;
    create_connection(gateway.address).await?;
    let nginx = peers::nginx(folder.path(), connector).await?;
    let mut ways = [
        Way::new("no proxy", connector, None),
        Way::new("nginx `grpc_pass`", nginx.address, Some(nginx)),
        Way::new("Postern's gateway", gateway.address, Some(gateway)),
    ];
    let request = request();
    let body = write_body(folder.path(), &request)?;
    let calls = Calls { path: PATH, body: &body, answer_bytes: FRAME_BYTES + echo::answer().encoded_len() };
    for way in &ways {
        checked_call(way, &request).await?;
        load::run(&calls, way.address, settings.calls as usize / 4).await?;
    }
    for round in 0..usize::from(settings.rounds) {
        for turn in 0..ways.len() {
            let way = &mut ways[(round + turn) % 3];
            let before = way.processor_seconds()?;
            way.per_second.push(load::run(&calls, way.address, settings.calls as usize).await?);
            let used = way.processor_seconds()? - before;
            way.processor_micros.push(used * 1e6 / f64::from(settings.calls));
        }
    }
    for way in &ways {
        checked_call(way, &request).await?;
    }
    stop.cancel();
    echo.await??;
    Ok(told(settings, &ways, &calls, &request, &[nginx_version, load_version]))
}

/// What stands before each message on the wire: a flag and the length (gRPC over HTTP/2).
const FRAME_BYTES: usize = 5;

fn request() -> SendEmailRequest {
    SendEmailRequest {
        connection: CONNECTION.into(),
        request_id: String::new(),
        content: Some(Content::Email(Email {
            to: vec!["anna@example.org".into()],
            subject: "a mail of the benchmark".into(),
            body: "x".repeat(BODY_BYTES),
            ..Email::default()
        })),
        delivery_reports: None,
    }
}

fn write_body(folder: &Path, request: &SendEmailRequest) -> Result<std::path::PathBuf, BoxError> {
    let message = request.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len())?.to_be_bytes());
    frame.extend(message);
    let path = folder.join("body");
    std::fs::write(&path, frame)?;
    Ok(path)
}

async fn create_connection(gateway: SocketAddr) -> Result<(), BoxError> {
    let mut client = ConnectionServiceClient::connect(format!("http://{gateway}")).await?;
    let server = SmtpSettings { server: "mail.example.org".into(), ..SmtpSettings::default() };
    let connection =
        Connection { settings: Some(connection::Settings::Smtp(server)), ..Connection::default() };
    let request = CreateConnectionRequest {
        connection_id: CONNECTION.trim_start_matches("connections/").into(),
        connection: Some(connection),
        ..CreateConnectionRequest::default()
    };
    client.create_connection(request).await?;
    Ok(())
}

/// One call by a real client: h2load does not look at what gRPC says.
async fn checked_call(way: &Way, request: &SendEmailRequest) -> Result<(), BoxError> {
    let mut client = SmtpServiceClient::connect(format!("http://{}", way.address)).await?;
    let answer = client.send_email(request.clone()).await?.into_inner();
    if answer == echo::answer() { Ok(()) } else { Err(format!("{}: another answer came", way.name).into()) }
}

fn told(
    settings: &Settings,
    ways: &[Way; 3],
    calls: &Calls<'_>,
    request: &SendEmailRequest,
    with: &[String],
) -> String {
    let [_, nginx, gateway] = ways;
    let columns = ["way", "calls a second, median", "lowest to highest", "the proxy's processor time a call"];
    let mut table = Table::new("Forwarded unary calls, beside nginx `grpc_pass`", &columns);
    let (speed, cost) = (
        ratios(&gateway.per_second, &nginx.per_second),
        ratios(&gateway.processor_micros, &nginx.processor_micros),
    );
    let (low, high) = ends(&speed);
    table.lead(&format!(
        "The gateway to nginx in the same round: **{:.2}** times the calls a second (median; {low:.2} to {high:.2}), \
         {:.2} times the processor time a call.",
        median(&speed),
        median(&cost)
    ));
    for way in ways {
        let (low, high) = ends(&way.per_second);
        let processor = match way.peer {
            Some(_) => format!("{:.1} µs", median(&way.processor_micros)),
            None => "none".into(),
        };
        let per_second = format!("{:.0}", median(&way.per_second));
        table.row(&[way.name.clone(), per_second, format!("{low:.0} to {high:.0}"), processor]);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    table.note(&format!(
        "{CONNECTIONS} connections with {CALLS_AT_ONCE} calls at once on each; requests of {} bytes, answers of {}; {} \
         calls a run, {} rounds in rotated order. Load, proxy and a connector that answers at once share {cores} cores. \
         With {}.",
        FRAME_BYTES + request.encoded_len(),
        calls.answer_bytes,
        settings.calls,
        settings.rounds,
        with.join(", "),
    ));
    table.markdown()
}
