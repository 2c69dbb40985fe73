//! The whole loop, step by step, through the public gRPC API alone: connections, triggers, a subscriber, a mail by SMTP,
//! its event, a request repeated, a calendar entry, its event, a restart, and the subscriber going on from its cursor.
//! Each step is checked; the first that does not hold ends the tour.

mod calendar;
mod mail;
mod say;
mod subscriber;

use std::time::Duration;

use postern_chassis::digest::hex;
use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{
    CheckConnectionRequest, Connection, CreateConnectionRequest, UpdateConnectionRequest,
};
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{CreateTriggerRequest, Event, GetTriggerRequest, Trigger};
use postern_proto::mail::v1::RecipientState;
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::outlook::v1::{CalendarEvent, EventCreatedTrigger, GetEmailsRequest, NewEmailTrigger};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{SendEmailRequest, SendEmailResponse};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::child::Gateway;
use crate::place::{ANNA, NOBODY, Place};
use say::Steps;
use subscriber::Subscriber;

const SMTP: &str = "connections/sandbox-smtp";
const OUTLOOK: &str = "connections/sandbox-outlook";
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gateway to tour.
pub enum Target {
    /// One that runs already.
    Running {
        /// Its URL.
        url: String,
        /// A caller's token.
        token: Option<SecretString>,
    },
    /// One that is started for the tour, all-in-one, in a process of its own.
    Started {
        /// Where it listens.
        listen: String,
        /// Where its console is.
        console: String,
    },
}

/// A tour whose every step held.
pub struct Shown {
    started: Option<(Gateway, tempfile::TempDir)>,
    url: String,
}

/// A channel that shows the caller's token.
type Authorized = InterceptedService<Channel, Token>;

/// The caller's token, put on each call.
#[derive(Clone)]
struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Walks through the loop.
///
/// # Errors
/// The first step that did not hold, and why.
pub async fn run(place: &Place, target: Target) -> Result<Shown, BoxError> {
    let mut steps = Steps::new();
    let smtp = place.smtp.address();
    steps.done("the sandbox is up", format!("SMTP on {smtp}, a small Graph on {}", place.graph.url()))?;

    let (mut started, url, token) = match target {
        Target::Running { url, token } => (None, url, Token(token.map(bearer).transpose()?)),
        Target::Started { listen, console } => {
            let folder = tempfile::tempdir()?;
            let gateway = start(&listen, &console, &folder).await?;
            let url = format!("http://{}", gateway.address());
            let id = gateway.id().unwrap_or_default();
            steps.done("the gateway is up", format!("all-in-one on {url}, process {id}"))?;
            (Some((gateway, folder)), url, Token(None))
        }
    };
    let channel = connect(&url, &token).await?;

    for (name, (settings, credentials)) in
        [(SMTP, place.smtp_connection()), (OUTLOOK, place.outlook_connection())]
    {
        let account = connection(channel.clone(), name, settings, credentials).await?;
        steps.done("a connection is made and checked", format!("{name}, account {account}"))?;
    }
    let mails = NewEmailTrigger { include_attachments: true, ..NewEmailTrigger::default() };
    let watched = trigger(channel.clone(), "new-mail", Kind::NewEmail(mails)).await?;
    steps.done("a trigger watches the Inbox", watched)?;
    let entries = EventCreatedTrigger::default();
    let watched = trigger(channel.clone(), "new-entry", Kind::EventCreated(entries)).await?;
    steps.done("another watches the calendar", watched)?;

    let mut subscriber = Subscriber::open(channel.clone(), None).await?;
    steps
        .done("a subscriber listens", format!("its stream opened at cursor {}", hex(subscriber.cursor())))?;

    let sent = send(channel.clone(), &steps.tag("first")).await?;
    say_sent(&mut steps, &sent)?;
    let event = subscriber.next_of(&steps.tag("first"), PATIENCE).await?;
    say_event(&mut steps, &event)?;
    let once = repeat(channel.clone(), &steps.tag("first"), &sent).await?;
    steps.done("asked for again, it was not sent again", once)?;

    let made = calendar::make(channel.clone(), &steps.tag("quarterly")).await?;
    steps.done("a calendar entry was made", format!("{:?}, in {}", made.subject, made.start_time_zone))?;
    let entry = subscriber.next_of(&made.subject, PATIENCE).await?;
    say_entry(&mut steps, &entry, &made)?;

    // What comes after this was not seen by the subscriber, whatever becomes of the gateway.
    let cursor = subscriber.leave();
    let channel = if let Some((gateway, folder)) = started.take() {
        let (listen, console) = (gateway.address().to_owned(), gateway.http().unwrap_or_default().to_owned());
        gateway.kill().await?;
        let gateway = start(&listen, &console, &folder).await?;
        let id = gateway.id().unwrap_or_default();
        steps
            .done("the gateway was killed and started again", format!("on the same folder, process {id}"))?;
        started = Some((gateway, folder));
        connect(&url, &token).await?
    } else {
        steps.done("the subscriber went away", "the gateway is not ours to restart".to_owned())?;
        channel
    };

    let sent = send(channel.clone(), &steps.tag("second")).await?;
    say_sent(&mut steps, &sent)?;
    let mut subscriber = Subscriber::open(channel, Some(cursor)).await?;
    let resumed = subscriber.next_of(&steps.tag("second"), PATIENCE).await?;
    if subscriber.saw(&event.id) || subscriber.saw(&entry.id) {
        return Err("an event came again after its cursor".into());
    }
    say_event(&mut steps, &resumed)?;
    steps.done(
        "nothing was lost",
        "the subscriber went on from its cursor: no event twice, none missed".into(),
    )?;
    steps.all_held()?;
    Ok(Shown { started, url })
}

impl Shown {
    /// Prints ready-made commands to go on with.
    ///
    /// # Errors
    /// Nobody reads.
    pub fn say_what_to_try(&self, place: &Place) -> Result<(), BoxError> {
        let console = self.started.as_ref().and_then(|(gateway, _)| gateway.http());
        say::what_to_try(&self.url, console, place)
    }

    /// Stops what was started for the tour.
    ///
    /// # Errors
    /// The gateway did not stop well.
    pub async fn end(self) -> Result<(), BoxError> {
        match self.started {
            Some((gateway, _folder)) => gateway.stop().await,
            None => Ok(()),
        }
    }
}

async fn start(listen: &str, console: &str, folder: &tempfile::TempDir) -> Result<Gateway, BoxError> {
    let lead = ["gateway", "--http-listen", console];
    Gateway::start(&std::env::current_exe()?, &lead, listen, folder.path(), "warn").await
}

fn bearer(token: SecretString) -> Result<MetadataValue<Ascii>, BoxError> {
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn connect(url: &str, token: &Token) -> Result<Authorized, BoxError> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(PATIENCE);
    let channel = endpoint.connect().await.map_err(|error| format!("{url} is not reached: {error}"))?;
    Ok(InterceptedService::new(channel, token.clone()))
}

/// Makes a connection, or brings the one from a tour before up to date, and checks it. Gives the account.
async fn connection(
    channel: Authorized,
    name: &str,
    settings: Settings,
    credentials: Credentials,
) -> Result<String, BoxError> {
    let mut client = ConnectionServiceClient::new(channel);
    let connection =
        Connection { settings: Some(settings), credentials: Some(credentials), ..Connection::default() };
    let create = CreateConnectionRequest {
        connection_id: name.trim_start_matches("connections/").to_owned(),
        connection: Some(connection.clone()),
        ..CreateConnectionRequest::default()
    };
    match client.create_connection(create).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            let connection = Some(Connection { name: name.to_owned(), ..connection });
            client.update_connection(UpdateConnectionRequest { connection, ..Default::default() }).await?;
        }
        created => _ = created?,
    }
    let checked = client.check_connection(CheckConnectionRequest { name: name.to_owned() }).await?;
    Ok(checked.into_inner().account)
}

/// Makes a trigger, unless a tour before did. Gives what it is, in words.
async fn trigger(channel: Authorized, id: &str, kind: Kind) -> Result<String, BoxError> {
    let mut client = TriggerServiceClient::new(channel);
    let name = format!("{OUTLOOK}/triggers/{id}");
    let interval = Duration::from_secs(1);
    let create = CreateTriggerRequest {
        connection: OUTLOOK.to_owned(),
        trigger_id: id.to_owned(),
        trigger: Some(Trigger {
            interval: Some(interval.try_into()?),
            kind: Some(kind),
            ..Trigger::default()
        }),
        ..CreateTriggerRequest::default()
    };
    match client.create_trigger(create).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            client.get_trigger(GetTriggerRequest { name: name.clone() }).await?;
        }
        created => _ = created?,
    }
    Ok(format!("{name}, looking every {} s", interval.as_secs()))
}

/// Sends a mail with an HTML body and two attachments to two recipients, one of whom the server refuses.
async fn send(channel: Authorized, subject: &str) -> Result<SendEmailResponse, BoxError> {
    let request = SendEmailRequest {
        connection: SMTP.to_owned(),
        request_id: subject.replace(' ', "-"),
        content: Some(Content::Email(mail::example(subject))),
        delivery_reports: None,
    };
    let sent = SmtpServiceClient::new(channel).send_email(request).await?.into_inner();
    let state_of = |address: &str| {
        sent.recipients.iter().find(|result| result.address == address).map(|result| result.state())
    };
    if state_of(ANNA) != Some(RecipientState::Accepted)
        || state_of(NOBODY) != Some(RecipientState::RefusedPermanent)
    {
        return Err(format!("the recipients' results are not as expected: {:?}", sent.recipients).into());
    }
    Ok(sent)
}

/// Asks for a mail again that was sent: the answer is the first one, and the mail is in the mailbox once.
async fn repeat(channel: Authorized, subject: &str, first: &SendEmailResponse) -> Result<String, BoxError> {
    if send(channel.clone(), subject).await? != *first {
        return Err("the repeated request got another answer".into());
    }
    let newest = GetEmailsRequest { connection: OUTLOOK.to_owned(), top: 10, ..GetEmailsRequest::default() };
    let emails = MailServiceClient::new(channel).get_emails(newest).await?.into_inner().emails;
    match emails.iter().filter(|email| email.subject == subject).count() {
        1 => Ok("the same request_id got the same answer".to_owned()),
        times => Err(format!("the mail is in the mailbox {times} times").into()),
    }
}

fn say_sent(steps: &mut Steps, sent: &SendEmailResponse) -> Result<(), BoxError> {
    let reply = sent.reply.clone().unwrap_or_default();
    steps.done("a mail was sent over SMTP", format!("the server said {} {}", reply.code, reply.text))?;
    for result in &sent.recipients {
        let reply = result.reply.clone().unwrap_or_default();
        let state = format!("{:?}", result.state());
        let said = format!("{} {} {}", reply.code, reply.enhanced_code, reply.text);
        steps.detail(&format!("{:<20} {state:<17} {said}", result.address))?;
    }
    steps.detail(&format!("Message-ID {}", sent.message_id))
}

fn say_event(steps: &mut Steps, event: &Event) -> Result<(), BoxError> {
    let email = mail::check(event)?;
    steps.done("its event came back", format!("{} {}", event.r#type, event.id))?;
    steps.detail(&format!("subject     {}", email.subject))?;
    let from = email.from.clone().unwrap_or_default();
    steps.detail(&format!("from        {} <{}>", from.name, from.address))?;
    steps.detail(&format!(
        "body        {} bytes of {}",
        email.body.len(),
        if email.is_html { "HTML" } else { "text" }
    ))?;
    for attachment in &email.attachments {
        let place = if attachment.is_inline { "inline" } else { "attached" };
        steps.detail(&format!(
            "attachment  {} ({}, {place}, {} bytes)",
            attachment.file_name,
            attachment.content_type,
            attachment.content_data.len()
        ))?;
    }
    steps.detail(&format!("cursor      {}", hex(&event.cursor)))
}

fn say_entry(steps: &mut Steps, event: &Event, made: &CalendarEvent) -> Result<(), BoxError> {
    let entry = calendar::check(event, made)?;
    steps.done("its event came back", format!("{} {}", event.r#type, event.id))?;
    let place = entry.location.clone().unwrap_or_default();
    let start = entry.start.unwrap_or_default();
    steps.detail(&format!("starts      {start} in {}", place.display_name))
}
