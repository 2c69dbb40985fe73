//! Approvals: pending and answered; cancelling one.

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::approval::v1::{Approval, ApprovalState, CancelApprovalRequest, ListApprovalsRequest};

use super::failure::failed;
use super::form::Fields;
use super::paging::PageOf;
use super::session::Session;
use super::show::{exact, id, when};
use crate::pages::page;

const HERE: &str = "/approvals";
/// How many a page shows.
const PAGE: i32 = 100;

#[derive(Template)]
#[template(path = "console/approvals.html")]
struct Approvals<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    approvals: Vec<Approval>,
    next: String,
}

/// The state's word and its colour.
fn state(approval: &Approval) -> (&'static str, &'static str) {
    match approval.state() {
        ApprovalState::Pending => ("pending", "warn"),
        ApprovalState::Answered => ("answered", "good"),
        ApprovalState::Cancelled => ("cancelled", ""),
        ApprovalState::Expired => ("expired", "bad"),
        ApprovalState::Unspecified => ("", ""),
    }
}

/// `GET /console/approvals`
pub(super) async fn list(session: Session, page_of: PageOf) -> Response {
    let request = ListApprovalsRequest { page_size: PAGE, page_token: page_of.token, ..Default::default() };
    match session.api.approvals().list_approvals(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let (approvals, next) = (answer.approvals, answer.next_page_token);
            let template = Approvals { root: &session.root, here: HERE, session: &session, approvals, next };
            page(StatusCode::OK, &template)
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
        Ok(_) => Redirect::to(&format!("{}/console{HERE}", session.root)).into_response(),
        Err(status) => failed(&session, HERE, &status),
    }
}
