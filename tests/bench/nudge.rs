//! From the SMTP server's 250 to the event at the subscriber, when the trigger is nudged as the mail lands.

use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    CreateTriggerRequest, NudgeTriggerRequest, SubscribeRequest, SubscribeResponse, Trigger,
};
use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_sandbox::child::Gateway;
use postern_sandbox::place::{ANNA, BO, Place, PlaceSettings};
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::figures::{Table, millis, quantile};
use crate::peers::program;

const SMTP: &str = "connections/mail";
const OUTLOOK: &str = "connections/office";
const TRIGGER: &str = "connections/office/triggers/new-mail";
/// How many mails are sent, one after the other; the first few warm things up and do not count.
const MAILS: usize = 220;
const WARM_UP: usize = 20;
/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures, and gives the section.
pub(crate) async fn section() -> Result<String, BoxError> {
    let free = "127.0.0.1:0".parse()?;
    let place = Place::start(PlaceSettings { listen_smtp: free, listen_graph: free, host: None }).await?;
    let folder = tempfile::tempdir()?;
    let gateway = Gateway::start(&program("gateway")?, &[], "127.0.0.1:0", folder.path(), "error").await?;
    let channel = Channel::from_shared(format!("http://{}", gateway.address()))?.connect().await?;
    create(&channel, SMTP, place.smtp_connection()).await?;
    create(&channel, OUTLOOK, place.outlook_connection()).await?;
    let mut triggers = TriggerServiceClient::new(channel.clone());
    triggers.create_trigger(trigger()?).await?;
    let request = SubscribeRequest::default();
    let mut stream = EventServiceClient::new(channel.clone()).subscribe(request).await?.into_inner();

    let (mut sends, mut waits) = (Vec::new(), Vec::new());
    for number in 0..MAILS {
        let begun = Instant::now();
        send(&channel, number).await?;
        let taken = Instant::now();
        triggers.nudge_trigger(NudgeTriggerRequest { name: TRIGGER.into() }).await?;
        tokio::time::timeout(PATIENCE, event(&mut stream)).await.map_err(|_| "no event came")??;
        if number >= WARM_UP {
            sends.push(taken - begun);
            waits.push(taken.elapsed());
        }
    }
    gateway.stop().await?;

    let mut table =
        Table::new("From the SMTP server's 250 to the event", &["", "median", "99 of 100", "longest"]);
    for (name, mut times) in [
        ("a mail handed over (`SendEmail`, STARTTLS, a warm socket)", sends),
        ("its event at the subscriber, after the 250", waits),
    ] {
        let cells = [0.5, 0.99, 1.0].map(|q| millis(quantile(&mut times, q)));
        table.row(&[vec![name.to_owned()], cells.to_vec()].concat());
    }
    table.note(
        "200 mails of 100 bytes, one after the other. The second row holds the answer's way back to the sender, the nudge \
         (a gRPC call), the look (two requests to the sandbox's Graph on the same machine, and what that takes), the \
         durable append, and the stream.",
    );
    Ok(table.markdown())
}

async fn create(
    channel: &Channel,
    name: &str,
    (settings, credentials): (Settings, Credentials),
) -> Result<(), BoxError> {
    let connection =
        Connection { settings: Some(settings), credentials: Some(credentials), ..Connection::default() };
    let connection_id = name.trim_start_matches("connections/").to_owned();
    let request =
        CreateConnectionRequest { connection_id, connection: Some(connection), ..Default::default() };
    ConnectionServiceClient::new(channel.clone()).create_connection(request).await?;
    Ok(())
}

fn trigger() -> Result<CreateTriggerRequest, BoxError> {
    Ok(CreateTriggerRequest {
        connection: OUTLOOK.into(),
        trigger_id: "new-mail".into(),
        trigger: Some(Trigger {
            interval: Some(Duration::from_secs(3_600).try_into()?),
            kind: Some(Kind::NewEmail(NewEmailTrigger::default())),
            ..Trigger::default()
        }),
        ..CreateTriggerRequest::default()
    })
}

async fn send(channel: &Channel, number: usize) -> Result<(), BoxError> {
    let email = Email {
        from: BO.into(),
        to: vec![ANNA.into()],
        subject: format!("Mail {number}"),
        body: "x".repeat(100),
        ..Email::default()
    };
    let request = SendEmailRequest {
        connection: SMTP.into(),
        content: Some(Content::Email(email)),
        ..Default::default()
    };
    SmtpServiceClient::new(channel.clone()).send_email(request).await?;
    Ok(())
}

async fn event(stream: &mut Streaming<SubscribeResponse>) -> Result<(), BoxError> {
    loop {
        match stream.message().await?.and_then(|answer| answer.kind) {
            Some(Answer::Batch(_)) => return Ok(()),
            Some(Answer::Opened(_) | Answer::Heartbeat(_)) => {}
            other => return Err(format!("unexpected on the stream: {other:?}").into()),
        }
    }
}
