//! What is connected, what flows, and what is wrong with what to do about it.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use postern_proto::connection::v1::{ConnectionState, ListConnectionsRequest};
use postern_proto::event::v1::{ListTriggersRequest, TriggerState};
use postern_proto::outbox::v1::{ListQueuedEmailsRequest, QueuedEmailState};
use tonic::Status;

use super::chart;
use super::failure::failed;
use super::session::Session;
use super::show::id;
use crate::pages::page;
use crate::pulse::PULSE;

/// How many of each are looked at.
const MOST: i32 = 1_000;

/// Something that is wrong.
struct Trouble {
    what: String,
    advice: String,
    link: String,
}

#[derive(Template)]
#[template(path = "console/overview.html")]
struct Overview<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    connections: usize,
    triggers: usize,
    waiting: usize,
    troubles: Vec<Trouble>,
    /// Drawings by the gateway: nothing in them comes from outside.
    charts: [(&'static str, String); 3],
}

/// What flowed in the last hour, through this gateway.
fn charts() -> [(&'static str, String); 3] {
    let minutes = PULSE.minutes();
    let events: Vec<_> = minutes.iter().map(|minute| minute.events).collect();
    let sent: Vec<_> = minutes.iter().map(|minute| minute.sent).collect();
    let failed: Vec<_> = minutes.iter().map(|minute| minute.failed).collect();
    let milliseconds = |length: Duration| length.as_secs_f64() * 1_000.0;
    let latency: Vec<_> = minutes.iter().map(|minute| minute.most.map(milliseconds)).collect();
    [
        ("Events a minute", chart::bars("events a minute", &events, &[])),
        (
            "Changes made, and calls that failed",
            chart::bars("changes made and calls that failed", &sent, &failed),
        ),
        ("How long calls took, 99 of 100", chart::line("how long 99 of 100 calls took", &latency, "ms")),
    ]
}

/// `GET /console`
pub(super) async fn show(session: Session) -> Response {
    match overview(&session).await {
        Ok(response) => response,
        Err(status) => failed(&session, "", &status),
    }
}

async fn overview(session: &Session) -> Result<Response, Status> {
    let request = ListConnectionsRequest { page_size: MOST, ..Default::default() };
    let connections = session.api.connections().list_connections(request).await?.into_inner().connections;
    let request = ListTriggersRequest { page_size: MOST, ..Default::default() };
    let triggers = session.api.triggers().list_triggers(request).await?.into_inner().triggers;
    let states = [QueuedEmailState::Queued, QueuedEmailState::Deferred, QueuedEmailState::Sending];
    let states = states.map(i32::from).to_vec();
    let request = ListQueuedEmailsRequest { states, page_size: MOST, ..Default::default() };
    let waiting = session.api.outbox().list_queued_emails(request).await?.into_inner().queued_emails;

    let mut troubles = Vec::new();
    for connection in connections.iter().filter(|it| it.state() == ConnectionState::NeedsSignIn) {
        troubles.push(Trouble {
            what: format!("The provider refuses the credentials of {}.", id(&connection.name)),
            advice: "Sign in again, or give it new credentials.".to_owned(),
            link: format!("/connections/{}", id(&connection.name)),
        });
    }
    for trigger in &triggers {
        let Some(status) = trigger.status.as_ref().filter(|status| status.consecutive_failures > 2) else {
            continue;
        };
        let failure = status.last_failure.clone().unwrap_or_default();
        troubles.push(Trouble {
            what: format!("{} has failed {} times in a row.", trigger.name, status.consecutive_failures),
            advice: failure.message,
            link: "/triggers".to_owned(),
        });
    }
    let deferred = waiting.iter().filter(|it| it.state() == QueuedEmailState::Deferred).count();
    if deferred > 0 {
        troubles.push(Trouble {
            what: format!("{deferred} mails of the outbox could not be handed over yet."),
            advice: "They are tried again by themselves; the outbox says why.".to_owned(),
            link: "/outbox".to_owned(),
        });
    }
    Ok(page(
        StatusCode::OK,
        &Overview {
            root: &session.root,
            here: "",
            session,
            connections: connections.len(),
            triggers: triggers.iter().filter(|it| it.state() == TriggerState::Active).count(),
            waiting: waiting.len(),
            troubles,
            charts: charts(),
        },
    ))
}
