//! Approvals: pending and answered, who answered what; cancelling one.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::approval::v1::approval_policy::Kind as Policy;
use postern_proto::approval::v1::{Approval, ApprovalState, CancelApprovalRequest, ListApprovalsRequest};

use super::failure::failed;
use super::form::Fields;
use super::paging::Wanted;
use super::session::Session;
use super::show::{date, exact, id, many, when};
use crate::pages::page;

const HERE: &str = "/approvals";
/// How many a page shows.
const PAGE: i32 = 100;
/// How many who were asked are named without being asked for.
const NAMED: usize = 4;

/// The choices of the filter: value, word, states.
const CHOICES: [(&str, &str, &[ApprovalState]); 4] = [
    ("", "All", &[]),
    ("pending", "Pending", &[ApprovalState::Pending]),
    ("answered", "Answered", &[ApprovalState::Answered]),
    ("ended", "Ended without", &[ApprovalState::Cancelled, ApprovalState::Expired]),
];

#[derive(Template)]
#[template(path = "console/approvals.html")]
struct Approvals<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    wanted: &'a str,
    approvals: Vec<Approval>,
    next: String,
}

/// The state's word and its colour.
pub(super) fn state_word(state: ApprovalState) -> (&'static str, &'static str) {
    match state {
        ApprovalState::Pending => ("pending", "warn"),
        ApprovalState::Answered => ("answered", "good"),
        ApprovalState::Cancelled => ("cancelled", ""),
        ApprovalState::Expired => ("expired", "bad"),
        ApprovalState::Unspecified => ("", ""),
    }
}

/// Whose answers decide, in words.
fn policy(approval: &Approval) -> String {
    match approval.policy.as_ref().and_then(|policy| policy.kind.as_ref()) {
        _ if approval.recipients.len() < 2 => String::new(),
        Some(Policy::Everybody(true)) => "everybody must answer".to_owned(),
        Some(Policy::Quorum(quorum)) => format!("{quorum} must choose the same"),
        _ => "the first answer decides".to_owned(),
    }
}

/// How many were asked and have answered.
fn asked(approval: &Approval) -> String {
    let answered = approval.recipients.iter().filter(|it| !it.selected_option.is_empty()).count();
    let asked = many(approval.recipients.len(), "person", "people");
    format!("{answered} of {asked} answered")
}

fn is_pending(approval: &Approval) -> bool {
    approval.state() == ApprovalState::Pending
}

/// `GET /console/approvals`
pub(super) async fn list(session: Session, Query(wanted): Query<Wanted>) -> Response {
    let choice = CHOICES.iter().find(|(value, ..)| *value == wanted.state).unwrap_or(&CHOICES[0]);
    let request = ListApprovalsRequest {
        states: choice.2.iter().map(|state| i32::from(*state)).collect(),
        page_size: PAGE,
        page_token: wanted.page,
        ..Default::default()
    };
    match session.api.approvals().list_approvals(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let (approvals, next) = (answer.approvals, answer.next_page_token);
            let (root, session) = (&session.root, &session);
            page(StatusCode::OK, &Approvals { root, here: HERE, session, wanted: choice.0, approvals, next })
        }
        Err(status) => failed(&session, "", &status),
    }
}

/// `POST /console/approvals/{approval}/cancel`
pub(super) async fn cancel(session: Session, Path(approval): Path<String>, fields: Fields) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let request = CancelApprovalRequest { name: format!("approvals/{approval}"), ..Default::default() };
    match session.api.approvals().cancel_approval(request).await {
        Ok(_) => Redirect::to(&fields.back_to(&session, HERE)).into_response(),
        Err(status) => failed(&session, HERE, &status),
    }
}
