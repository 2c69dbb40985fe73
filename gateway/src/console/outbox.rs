//! The outbox: queued, deferred, failed and delivered mails; trying one now, taking one back.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::outbox::v1::{
    CancelQueuedEmailRequest, ListQueuedEmailsRequest, QueuedEmail, QueuedEmailState, RetryQueuedEmailRequest,
};

use super::failure::failed;
use super::form::Fields;
use super::paging::Wanted;
use super::session::Session;
use super::show::{exact, id, when};
use crate::pages::{page, plain};

const HERE: &str = "/outbox";
/// How many a page shows.
const PAGE: i32 = 100;

#[derive(Template)]
#[template(path = "console/outbox.html")]
struct Outbox<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    wanted: &'a str,
    emails: Vec<QueuedEmail>,
    next: String,
}

/// The choices of the filter: value, word, states.
const CHOICES: [(&str, &str, &[QueuedEmailState]); 5] = [
    ("", "All", &[]),
    (
        "waiting",
        "Waiting",
        &[QueuedEmailState::Queued, QueuedEmailState::Sending, QueuedEmailState::Deferred],
    ),
    ("deferred", "Deferred", &[QueuedEmailState::Deferred]),
    ("failed", "Failed", &[QueuedEmailState::Failed]),
    ("delivered", "Delivered", &[QueuedEmailState::Delivered]),
];

/// The state's word and its colour.
pub(super) fn state(email: &QueuedEmail) -> (&'static str, &'static str) {
    match email.state() {
        QueuedEmailState::Queued => ("queued", ""),
        QueuedEmailState::Sending => ("sending", "warn"),
        QueuedEmailState::Deferred => ("deferred", "warn"),
        QueuedEmailState::Delivered => ("delivered", "good"),
        QueuedEmailState::Failed => ("failed", "bad"),
        QueuedEmailState::Cancelled => ("cancelled", ""),
        QueuedEmailState::Unspecified => ("", ""),
    }
}

fn can_retry(email: &QueuedEmail) -> bool {
    matches!(
        email.state(),
        QueuedEmailState::Deferred | QueuedEmailState::Failed | QueuedEmailState::Cancelled
    )
}

fn can_cancel(email: &QueuedEmail) -> bool {
    matches!(email.state(), QueuedEmailState::Queued | QueuedEmailState::Deferred)
}

/// `GET /console/outbox`
pub(super) async fn list(session: Session, Query(wanted): Query<Wanted>) -> Response {
    let choice = CHOICES.iter().find(|(value, ..)| *value == wanted.state).unwrap_or(&CHOICES[0]);
    let request = ListQueuedEmailsRequest {
        states: choice.2.iter().map(|state| i32::from(*state)).collect(),
        page_size: PAGE,
        page_token: wanted.page,
        ..Default::default()
    };
    match session.api.outbox().list_queued_emails(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let (emails, next) = (answer.queued_emails, answer.next_page_token);
            let (root, session) = (&session.root, &session);
            page(StatusCode::OK, &Outbox { root, here: HERE, session, wanted: choice.0, emails, next })
        }
        Err(status) => failed(&session, "", &status),
    }
}

/// `POST /console/outbox/{email}/{action}`
pub(super) async fn act(
    session: Session,
    Path((email, action)): Path<(String, String)>,
    fields: Fields,
) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let (name, request_id) = (format!("outbox/{email}"), String::new());
    let mut outbox = session.api.outbox();
    let done = match action.as_str() {
        "retry" => outbox.retry_queued_email(RetryQueuedEmailRequest { request_id, name }).await.map(drop),
        "cancel" => outbox.cancel_queued_email(CancelQueuedEmailRequest { request_id, name }).await.map(drop),
        _ => return plain(StatusCode::NOT_FOUND, "a queued mail can be tried again and taken back"),
    };
    match done {
        Ok(()) => Redirect::to(&fields.back_to(&session, HERE)).into_response(),
        Err(status) => failed(&session, HERE, &status),
    }
}
