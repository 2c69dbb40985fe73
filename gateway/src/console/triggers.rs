//! Triggers: how each fares; pausing, resuming, looking now, and trying.

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::event::v1::{
    Event, ListTriggersRequest, NudgeTriggerRequest, PauseTriggerRequest, ResumeTriggerRequest, Trigger,
    TriggerState, TryTriggerRequest, trigger::Kind,
};
use tonic::Status;

use super::events::Shown;
use super::failure::failed;
use super::form::Fields;
use super::session::Session;
use super::show::{exact, id, when};
use crate::pages::{page, plain};

const HERE: &str = "/triggers";
/// How many a page shows.
const PAGE: i32 = 200;

#[derive(Template)]
#[template(path = "console/triggers.html")]
struct Triggers<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    triggers: Vec<Trigger>,
    next: String,
}

#[derive(Template)]
#[template(path = "console/tried.html")]
struct Tried<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    name: &'a str,
    events: Vec<Shown>,
}

/// What a trigger is of, for people.
fn kind(trigger: &Trigger) -> &'static str {
    match trigger.kind {
        Some(Kind::NewEmail(_)) => "new mail",
        Some(Kind::EventCreated(_)) => "calendar entry created",
        Some(Kind::EventModified(_)) => "calendar entry changed",
        Some(Kind::EventStartingSoon(_)) => "calendar entry starts soon",
        None => "",
    }
}

/// `{connection}/{trigger}`, as paths name it.
fn short(name: &str) -> String {
    name.replacen("connections/", "", 1).replacen("/triggers/", "/", 1)
}

/// The connection of a trigger, by its id.
fn connection(trigger: &Trigger) -> &str {
    trigger.name.trim_start_matches("connections/").split('/').next().unwrap_or_default()
}

fn failures(trigger: &Trigger) -> i32 {
    trigger.status.as_ref().map_or(0, |status| status.consecutive_failures)
}

/// `GET /console/triggers`
pub(super) async fn list(session: Session, page_of: super::paging::PageOf) -> Response {
    let request = ListTriggersRequest { page_size: PAGE, page_token: page_of.token, ..Default::default() };
    match session.api.triggers().list_triggers(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let (triggers, next) = (answer.triggers, answer.next_page_token);
            let template = Triggers { root: &session.root, here: HERE, session: &session, triggers, next };
            page(StatusCode::OK, &template)
        }
        Err(status) => failed(&session, "", &status),
    }
}

/// `POST /console/triggers/{connection}/{trigger}/{action}`
pub(super) async fn act(
    session: Session,
    Path((connection, trigger, action)): Path<(String, String, String)>,
    fields: Fields,
) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let name = format!("connections/{connection}/triggers/{trigger}");
    let mut triggers = session.api.triggers();
    let request_id = String::new();
    let done: Result<(), Status> = match action.as_str() {
        "pause" => triggers.pause_trigger(PauseTriggerRequest { request_id, name }).await.map(drop),
        "resume" => triggers.resume_trigger(ResumeTriggerRequest { request_id, name }).await.map(drop),
        "look" => triggers.nudge_trigger(NudgeTriggerRequest { name }).await.map(drop),
        "try" => {
            // What happened in the last day is what somebody who tries a trigger wants to see.
            let since = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
            let request = TryTriggerRequest { name: name.clone(), since: Some(since.into()) };
            match triggers.try_trigger(request).await {
                Ok(answer) => return tried(&session, &name, answer.into_inner().events).await,
                Err(status) => Err(status),
            }
        }
        _ => return plain(StatusCode::NOT_FOUND, "a trigger can be paused, resumed, tried or looked after"),
    };
    match done {
        Ok(()) => Redirect::to(&format!("{}/console{HERE}", session.root)).into_response(),
        Err(status) => failed(&session, HERE, &status),
    }
}

async fn tried(session: &Session, name: &str, found: Vec<Event>) -> Response {
    let mut events = Vec::with_capacity(found.len());
    for event in found {
        events.push(Shown::of(event, &session.api).await);
    }
    page(StatusCode::OK, &Tried { root: &session.root, here: HERE, session, name, events })
}
