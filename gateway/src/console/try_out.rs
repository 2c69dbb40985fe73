//! A form to send a mail by hand, through any connection that can.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use postern_proto::connection::v1::ListConnectionsRequest;
use postern_proto::mail::v1::{Email, Importance, RecipientResult, RecipientState};
use postern_proto::outbox::v1::QueueEmailRequest;
use postern_proto::{outlook, smtp};
use tonic::Status;

use super::failure::{Failure, failed, status_of};
use super::form::Fields;
use super::session::Session;
use super::show::id;
use crate::pages::page;

const HERE: &str = "/try-out";
/// How many connections there are to choose from.
const MOST: i32 = 1_000;

/// What became of a mail.
struct Sent {
    /// What was done, in a few words.
    what: String,
    message_id: String,
    recipients: Vec<RecipientResult>,
}

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
    sent: Option<Sent>,
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

async fn sent(session: &Session, fields: &Fields) -> Result<Sent, Status> {
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
    let (connection, kind) = fields.get("connection").rsplit_once(' ').unwrap_or_default();
    let (connection, email) = (connection.to_owned(), Some(email));
    if fields.is_set("queue") {
        let request = QueueEmailRequest { connection, email, ..Default::default() };
        let queued = session.api.outbox().queue_email(request).await?.into_inner().queued_email;
        let name = queued.unwrap_or_default().name;
        return Ok(Sent {
            what: format!("Queued as {name}."),
            message_id: String::new(),
            recipients: Vec::new(),
        });
    }
    if kind == "outlook" {
        let request = outlook::v1::SendEmailRequest { connection, email, ..Default::default() };
        let answer = session.api.mail().send_email(request).await?.into_inner();
        let what = "Taken for sending.".to_owned();
        return Ok(Sent { what, message_id: answer.internet_message_id, recipients: Vec::new() });
    }
    let content = email.map(smtp::v1::send_email_request::Content::Email);
    let request = smtp::v1::SendEmailRequest { connection, content, ..Default::default() };
    let answer = session.api.smtp().send_email(request).await?.into_inner();
    let what = "Handed over.".to_owned();
    Ok(Sent { what, message_id: answer.message_id, recipients: answer.recipients })
}

async fn shown(
    session: &Session,
    status: StatusCode,
    fields: &Fields,
    failure: Option<Failure>,
    sent: Option<Sent>,
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
