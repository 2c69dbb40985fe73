//! The world of an end-to-end test: the sandbox's servers and a gateway over them, on free ports, gone with the test.

pub(crate) mod triggers;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use postern_gateway::serve::Listeners;
use postern_gateway::settings::Settings as GatewaySettings;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    CreateTriggerRequest, Event, StartPosition, SubscribeRequest, SubscribeResponse,
};
use postern_proto::mail::v1::Email;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{SendEmailRequest, SendEmailResponse};
use postern_sandbox::place::{ANNA, BO, Place, PlaceSettings};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::ports::{self, Port};

pub(crate) const SMTP: &str = "connections/mail";
pub(crate) const OUTLOOK: &str = "connections/office";
pub(crate) const TRIGGER: &str = "connections/office/triggers/new-mail";
/// How long anything may take that should come: far longer than it does, so that only a fault gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The sandbox's servers on free ports.
pub(crate) async fn place() -> Place {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Place::start(PlaceSettings { listen_smtp: free, listen_graph: free, host: None }).await.unwrap()
}

/// A gateway in the test's own process, over the sandbox.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) channel: Channel,
    pub(crate) folder: tempfile::TempDir,
    port: Port,
    /// Where providers push to, if anywhere.
    pub(crate) http: Option<SocketAddr>,
    _door: Port,
    /// What the gateway is started with beside what every test needs.
    flags: Vec<String>,
    stop: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    /// The sandbox, a gateway, and a connection to each provider.
    pub(crate) async fn connected() -> Self {
        Self::start().await.with_connections().await
    }

    /// The same, with a public URL: what happens is pushed.
    pub(crate) async fn pushed() -> Self {
        Self::start_with(true, &[]).await.with_connections().await
    }

    /// The sandbox, a gateway with these flags, and a connection to each provider.
    pub(crate) async fn flagged(flags: &[&str]) -> Self {
        Self::start_with(false, flags).await.with_connections().await
    }

    /// The sandbox and a gateway with a public URL.
    pub(crate) async fn reached() -> Self {
        Self::start_with(true, &[]).await
    }

    async fn with_connections(self) -> Self {
        let world = self;
        create(&world.channel, SMTP, world.place.smtp_connection()).await.unwrap();
        create(&world.channel, OUTLOOK, world.place.outlook_connection()).await.unwrap();
        world
    }

    /// The sandbox and a gateway.
    pub(crate) async fn start() -> Self {
        Self::start_with(false, &[]).await
    }

    async fn start_with(is_reached: bool, flags: &[&str]) -> Self {
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let (port, door) = (Port::keep(), Port::keep());
        let http = is_reached.then_some(door.address);
        let (stop, serving) = serve(folder.path(), port.address, http, &flags).await;
        let (place, channel) = (place().await, connect(port.address).await);
        Self { place, channel, folder, port, http, _door: door, flags, stop, serving: Some(serving) }
    }

    /// Stops the gateway in good order and starts it again on the same folder and port.
    pub(crate) async fn restart(&mut self) {
        self.stop.cancel();
        self.serving.take().unwrap().await.unwrap();
        let (stop, serving) = serve(self.folder.path(), self.port.address, self.http, &self.flags).await;
        (self.stop, self.serving) = (stop, Some(serving));
        self.channel = connect(self.port.address).await;
    }

    /// Where the gateway listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    pub(crate) fn triggers(&self) -> TriggerServiceClient<Channel> {
        TriggerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn connections(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel.clone())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    folder: &Path,
    listen: SocketAddr,
    http: Option<SocketAddr>,
    flags: &[String],
) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let grpc = ports::listen(listen).await;
    let ready = folder.join("ready.json");
    let _ = std::fs::remove_file(&ready);
    let mut arguments: Vec<OsString> =
        ["gateway", "--data-dir", "--ready-file"].into_iter().map(Into::into).collect();
    arguments.insert(2, folder.join("data").into());
    arguments.push(ready.clone().into());
    let http = match http {
        Some(http) => {
            arguments.extend(["--public-url".into(), format!("http://{http}/postern").into()]);
            Some(ports::listen(http).await)
        }
        None => None,
    };
    arguments.extend(flags.iter().map(Into::into));
    let settings = GatewaySettings::parse_from(arguments);
    let stop = CancellationToken::new();
    let serving = postern_gateway::serve::serve(Listeners { grpc, http }, settings, stop.clone());
    let serving = tokio::spawn(async move { serving.await.unwrap() });
    until("the gateway is ready", || async { ready.exists().then_some(()) }).await;
    (stop, serving)
}

pub(crate) async fn connect(address: impl std::fmt::Display) -> Channel {
    let url = format!("http://{address}");
    Channel::from_shared(url).unwrap().connect().await.unwrap()
}

/// Asks again and again until there is an answer; for what has no event of its own to wait on.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("it never came that {what}"))
}

/// What a number comes to: it reaches `least`, and then does not change for a while. That nothing more happens has no
/// event: a look that ends too soon lets a test miss something, and never fail.
pub(crate) async fn standing_still(what: &str, least: usize, number: impl Fn() -> usize) -> usize {
    let standing = async {
        let mut last = number();
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = std::mem::replace(&mut last, number());
            if last == before && last >= least {
                return last;
            }
        }
    };
    tokio::time::timeout(PATIENCE, standing).await.unwrap_or_else(|_| panic!("{what}: no end of them"))
}

pub(crate) async fn create(
    channel: &Channel,
    name: &str,
    (settings, credentials): (Settings, Credentials),
) -> Result<Connection, Status> {
    let connection =
        Connection { settings: Some(settings), credentials: Some(credentials), ..Connection::default() };
    let request = CreateConnectionRequest {
        connection_id: name.trim_start_matches("connections/").to_owned(),
        connection: Some(connection),
        ..CreateConnectionRequest::default()
    };
    let mut client = ConnectionServiceClient::new(channel.clone());
    Ok(client.create_connection(request).await?.into_inner().connection.unwrap())
}

/// A request for a trigger on new mail in the Inbox, looked after each second.
pub(crate) fn new_mail() -> CreateTriggerRequest {
    triggers::request("new-mail", Duration::from_secs(1), triggers::mail_in("", ""))
}

/// A plain mail from Bo to Anna.
pub(crate) fn mail(subject: &str) -> Email {
    Email {
        from: BO.to_owned(),
        to: vec![ANNA.to_owned()],
        subject: subject.to_owned(),
        body: "Hello".to_owned(),
        ..Email::default()
    }
}

/// Sends a mail through the gateway.
pub(crate) async fn send(
    channel: &Channel,
    request_id: &str,
    email: Email,
) -> Result<SendEmailResponse, Status> {
    let request = SendEmailRequest {
        connection: SMTP.to_owned(),
        request_id: request_id.to_owned(),
        content: Some(Content::Email(email)),
        delivery_reports: None,
    };
    Ok(SmtpServiceClient::new(channel.clone()).send_email(request).await?.into_inner())
}

/// Opens a stream of all events; the first answer is consumed.
pub(crate) async fn subscribe(channel: &Channel, position: Option<Position>) -> Streaming<SubscribeResponse> {
    let start = Some(StartPosition { position });
    let request = SubscribeRequest { start, ..SubscribeRequest::default() };
    let mut client = EventServiceClient::new(channel.clone());
    let mut stream = client.subscribe(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().kind;
    assert!(matches!(first, Some(Answer::Opened(_))), "{first:?}");
    stream
}

/// The next events of a stream, `count` of them or more.
pub(crate) async fn events(stream: &mut Streaming<SubscribeResponse>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let answer = next.unwrap_or_else(|_| panic!("only {} of {count} events came", events.len()));
        match answer.unwrap().expect("the stream goes on").kind {
            Some(Answer::Batch(batch)) => events.extend(batch.events),
            Some(Answer::Heartbeat(_)) => {}
            other => panic!("unexpected on the stream: {other:?}"),
        }
    }
    events
}

/// The next event of a type on a stream. What else comes is passed over, and so is what comes with it.
pub(crate) async fn event_of(stream: &mut Streaming<SubscribeResponse>, r#type: &str) -> Event {
    loop {
        let some = events(stream, 1).await;
        if let Some(event) = some.into_iter().find(|event| event.r#type == r#type) {
            return event;
        }
    }
}

/// The subject of the mail in an event.
pub(crate) fn subject(event: &Event) -> String {
    use postern_proto::event::v1::event_data::Kind::NewEmail;
    match event.data.as_ref().and_then(|data| data.kind.as_ref()) {
        Some(NewEmail(email)) => email.subject.clone(),
        other => panic!("no mail in {other:?}"),
    }
}
