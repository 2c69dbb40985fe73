//! Forwarded unary calls: the gateway beside nginx grpc_pass, in front of the same connector, in rounds whose order
//! rotates, so that a machine's moods fall on both alike. How many a second, plain and with a request id each; and how
//! long one takes that is alone.

mod own_load;

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

/// Of how many calls one is made with a request id: each is two commits to the disk.
const WITH_IDS_SHARE: u32 = 2;
/// How many calls are made one after another in each round.
const ALONE: usize = 1_000;
/// The goals beside nginx.
const PLAIN_GOAL: f64 = 1.0;
const WITH_IDS_GOAL: f64 = 0.9;

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
    /// The same with a request id for each call.
    with_ids: Vec<f64>,
    with_ids_micros: Vec<f64>,
    /// The median of calls made one after another, in microseconds.
    alone: Vec<f64>,
}

impl Way {
    fn new(name: impl Into<String>, address: SocketAddr, peer: Option<Peer>) -> Self {
        let (per_second, processor_micros) = (Vec::new(), Vec::new());
        let (with_ids, with_ids_micros, alone) = (Vec::new(), Vec::new(), Vec::new());
        let name = name.into();
        Self { name, address, peer, per_second, processor_micros, with_ids, with_ids_micros, alone }
    }

    fn processor_seconds(&self) -> Result<f64, BoxError> {
        self.peer.as_ref().map_or(Ok(0.0), Peer::processor_seconds)
    }

    /// What a call takes of the program on this way.
    fn processor(&self, micros: &[f64]) -> String {
        self.peer.as_ref().map_or("none".into(), |_| format!("{:.1} µs", median(micros)))
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
            let between = way.processor_seconds()?;
            way.processor_micros.push((between - before) * 1e6 / f64::from(settings.calls));
            let calls = settings.calls / WITH_IDS_SHARE;
            way.with_ids.push(own_load::with_ids(way.address, &request, calls as usize).await?);
            let used = way.processor_seconds()? - between;
            way.with_ids_micros.push(used * 1e6 / f64::from(calls));
            way.alone.push(own_load::one_by_one(way.address, &request, ALONE).await?);
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
        "The gateway to nginx in the same round: **{:.2}** times the calls a second (median; {low:.2} to {high:.2}; goal \
         {PLAIN_GOAL}: {}), {:.2} times the processor time a call. Its metrics are counted throughout.",
        median(&speed),
        met(median(&speed) >= PLAIN_GOAL),
        median(&cost)
    ));
    for way in ways {
        let (low, high) = ends(&way.per_second);
        let per_second = format!("{:.0}", median(&way.per_second));
        let processor = way.processor(&way.processor_micros);
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
    format!("{}\n{}", table.markdown(), told_of_ids(ways))
}

/// What a call with a request id costs, and one that is alone.
fn told_of_ids(ways: &[Way; 3]) -> String {
    let [direct, nginx, gateway] = ways;
    let columns = [
        "way",
        "calls a second, each with a request id",
        "the proxy's processor time a call",
        "one call alone, median",
        "added by the way",
    ];
    let mut table = Table::new("Forwarded with the ledger, and alone", &columns);
    let speed = ratios(&gateway.with_ids, &nginx.with_ids);
    let (low, high) = ends(&speed);
    table.lead(&format!(
        "With a request id for each call, which the gateway writes down durably before it hands the call over, and again \
         with the answer: **{:.2}** times nginx, which keeps nothing (median; {low:.2} to {high:.2}; goal {WITH_IDS_GOAL}: {}).",
        median(&speed),
        met(median(&speed) >= WITH_IDS_GOAL),
    ));
    for way in ways {
        let added: Vec<_> = way.alone.iter().zip(&direct.alone).map(|(way, none)| way - none).collect();
        table.row(&[
            way.name.clone(),
            format!("{:.0}", median(&way.with_ids)),
            way.processor(&way.with_ids_micros),
            format!("{:.0} µs", median(&way.alone)),
            format!("{:.0} µs", median(&added)),
        ]);
    }
    table.note(&format!(
        "By a client of tonic's in the benchmark's own process, over as many connections and calls at once as above; one \
         call alone: {ALONE} calls a round, one after another on one connection."
    ));
    table.markdown()
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}
