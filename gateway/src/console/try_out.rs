//! A form to send a mail by hand, through any connection that can: at once, as `SendEmail` does, or by the outbox.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use postern_proto::connection::v1::{Connection, ListConnectionsRequest};
use postern_proto::mail::v1::{Email, Importance, RecipientResult, RecipientState};
use postern_proto::outbox::v1::{GetQueuedEmailRequest, QueueEmailRequest, QueuedEmail, QueuedEmailState};
use tonic::Status;

use super::failure::{Failure, failed, status_of};
use super::form::Fields;
use super::kinds::{self, Sent};
use super::outbox::state;
use super::session::Session;
use super::show::{id, many};
use crate::names;
use crate::pages::page;

const HERE: &str = "/try-out";
/// How many connections there are to choose from.
const MOST: i32 = 1_000;
/// How often it is looked whether a queued mail is handed over, and how often at most; then the outbox tells the rest.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const MAX_LOOKS: u32 = 75;

/// What became of a mail.
enum Outcome {
    Sent(Sent),
    Queued(Box<QueuedEmail>),
}

#[derive(Template)]
#[template(path = "console/try_out.html")]
struct TryOut<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    /// Those that can send.
    connections: Vec<Connection>,
    /// How many need a sign-in first.
    unready: usize,
    fields: &'a Fields,
    /// By which a form that is sent twice sends one mail.
    request_id: String,
    failure: Option<Failure>,
    outcome: Option<Outcome>,
}

fn is_delivered(email: &QueuedEmail) -> bool {
    email.state() == QueuedEmailState::Delivered
}

fn is_accepted(result: &RecipientResult) -> bool {
    result.state() == RecipientState::Accepted
}

/// `GET /console/try-out`
pub(super) async fn form(session: Session) -> Response {
    match connections(&session).await {
        Ok(known) => shown(&session, StatusCode::OK, known, &Fields::default(), None, None),
        Err(status) => failed(&session, "", &status),
    }
}

/// `POST /console/try-out`
pub(super) async fn send(session: Session, fields: Fields) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let known = match connections(&session).await {
        Ok(known) => known,
        Err(status) => return failed(&session, "", &status),
    };
    match sent(&session, &known, &fields).await {
        Ok(outcome) => shown(&session, StatusCode::OK, known, &fields, None, Some(outcome)),
        Err(status) => shown(&session, status_of(&status), known, &fields, Some((&status).into()), None),
    }
}

async fn connections(session: &Session) -> Result<Vec<Connection>, Status> {
    let request = ListConnectionsRequest { page_size: MOST, ..Default::default() };
    Ok(session.api.connections().list_connections(request).await?.into_inner().connections)
}

async fn sent(session: &Session, known: &[Connection], fields: &Fields) -> Result<Outcome, Status> {
    let list = |name| match fields.get(name) {
        "" => Vec::new(),
        addresses => vec![addresses.to_owned()],
    };
    let email = Email {
        from: fields.get("from").to_owned(),
        to: list("to"),
        cc: list("cc"),
        subject: fields.get("subject").to_owned(),
        body: fields.text("body").to_owned(),
        is_html: fields.is_set("is_html"),
        importance: Importance::from_str_name(fields.get("importance")).unwrap_or_default().into(),
        ..Default::default()
    };
    let (connection, request_id) = (fields.get("connection").to_owned(), fields.get("request_id").to_owned());
    if fields.get("way") == "outbox" {
        return Ok(Outcome::Queued(Box::new(queued(session, connection, request_id, email).await?)));
    }
    let Some(connection) = known.iter().find(|it| it.name == connection) else {
        return Err(Status::invalid_argument("choose a connection that the mail is to go through"));
    };
    Ok(Outcome::Sent(kinds::send(&session.api, request_id, connection, email).await?))
}

/// Queues a mail, and waits a little for what becomes of it.
async fn queued(
    session: &Session,
    connection: String,
    request_id: String,
    email: Email,
) -> Result<QueuedEmail, Status> {
    let mut outbox = session.api.outbox();
    let request = QueueEmailRequest { connection, request_id, email: Some(email), ..Default::default() };
    let mut queued = outbox.queue_email(request).await?.into_inner().queued_email.unwrap_or_default();
    for _ in 0..MAX_LOOKS {
        if !matches!(queued.state(), QueuedEmailState::Queued | QueuedEmailState::Sending) {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let request = GetQueuedEmailRequest { name: queued.name.clone() };
        queued = outbox.get_queued_email(request).await?.into_inner().queued_email.unwrap_or_default();
    }
    Ok(queued)
}

fn shown(
    session: &Session,
    status: StatusCode,
    known: Vec<Connection>,
    fields: &Fields,
    failure: Option<Failure>,
    outcome: Option<Outcome>,
) -> Response {
    let (connections, others): (Vec<_>, Vec<_>) = known.into_iter().partition(kinds::can_send);
    let (root, unready) = (&session.root, others.len());
    let request_id = names::newest_first("console-", SystemTime::now());
    let here = HERE;
    let template = TryOut { root, here, session, connections, unready, fields, request_id, failure, outcome };
    page(status, &template)
}
