//! A form to send a mail by hand, through any connection that can.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use postern_proto::connection::v1::ListConnectionsRequest;
use postern_proto::mail::v1::{Email, Importance, RecipientResult, RecipientState};
use postern_proto::outbox::v1::{GetQueuedEmailRequest, QueueEmailRequest, QueuedEmail, QueuedEmailState};
use tonic::Status;

use super::failure::{Failure, failed, status_of};
use super::form::Fields;
use super::session::Session;
use super::show::id;
use crate::pages::page;

const HERE: &str = "/try-out";
/// How many connections there are to choose from.
const MOST: i32 = 1_000;
/// How often it is looked whether a mail is handed over, and how often at most; then the outbox tells the rest.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const MAX_LOOKS: u32 = 75;

#[derive(Template)]
#[template(path = "console/try_out.html")]
struct TryOut<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    /// Name and kind of each connection.
    connections: Vec<(String, String)>,
    fields: &'a Fields,
    failure: Option<Failure>,
    sent: Option<QueuedEmail>,
}

fn is_delivered(email: &QueuedEmail) -> bool {
    email.state() == QueuedEmailState::Delivered
}

fn is_accepted(result: &RecipientResult) -> bool {
    result.state() == RecipientState::Accepted
}

/// `GET /console/try-out`
pub(super) async fn form(session: Session) -> Response {
    shown(&session, StatusCode::OK, &Fields::default(), None, None).await
}

/// `POST /console/try-out`
pub(super) async fn send(session: Session, fields: Fields) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    match sent(&session, &fields).await {
        Ok(sent) => shown(&session, StatusCode::OK, &fields, None, Some(sent)).await,
        Err(status) => shown(&session, status_of(&status), &fields, Some((&status).into()), None).await,
    }
}

/// Sends a mail by the outbox, which takes any connection that can send, and waits for what becomes of it.
async fn sent(session: &Session, fields: &Fields) -> Result<QueuedEmail, Status> {
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
    let (connection, email) = (fields.get("connection").to_owned(), Some(email));
    let mut outbox = session.api.outbox();
    let request = QueueEmailRequest { connection, email, ..Default::default() };
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

async fn shown(
    session: &Session,
    status: StatusCode,
    fields: &Fields,
    failure: Option<Failure>,
    sent: Option<QueuedEmail>,
) -> Response {
    let request = ListConnectionsRequest { page_size: MOST, ..Default::default() };
    let connections = match session.api.connections().list_connections(request).await {
        Ok(answer) => answer.into_inner().connections,
        Err(status) => return failed(session, "", &status),
    };
    let connections = connections.into_iter().map(|it| (it.name, it.kind)).collect();
    let root = &session.root;
    page(status, &TryOut { root, here: HERE, session, connections, fields, failure, sent })
}
