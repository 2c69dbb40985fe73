//! What is connected, what flows, and what is wrong with what to do about it.

mod trouble;

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use postern_proto::connection::v1::ListConnectionsRequest;
use postern_proto::event::v1::{ListSubscriptionsRequest, ListTriggersRequest, TriggerState};
use postern_proto::outbox::v1::{ListQueuedEmailsRequest, QueuedEmail, QueuedEmailState};
use tonic::Status;

use super::chart::{self, Chart};
use super::failure::failed;
use super::session::Session;
use super::show::many;
use crate::pages::page;
use crate::pulse::{Minute, PULSE};
use trouble::{Found, Trouble, troubles};

/// How many of each are looked at.
const MOST: i32 = 1_000;

#[derive(Template)]
#[template(path = "console/overview.html")]
struct Overview<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    is_new: bool,
    connections: String,
    triggers: String,
    waiting: String,
    troubles: Vec<Trouble>,
    charts: [Chart; 3],
}

/// A number of things that were counted up to [`MOST`].
#[derive(Clone, Copy)]
struct Count {
    seen: usize,
    is_more: bool,
}

impl Count {
    fn figure(self) -> String {
        if self.is_more { format!("{}+", self.seen) } else { self.seen.to_string() }
    }

    fn words(self, one: &str, several: &str) -> String {
        if self.is_more { format!("{} {several} and more", self.seen) } else { many(self.seen, one, several) }
    }
}

/// What flowed in the last hour, through this gateway.
fn charts(minutes: &[Minute]) -> [Chart; 3] {
    let each = |value: fn(&Minute) -> u64| minutes.iter().map(value).collect::<Vec<_>>();
    let (events, sent) = (each(|minute| minute.events), each(|minute| minute.sent));
    let failed = each(|minute| minute.failed);
    let most = events.iter().max().copied().unwrap_or_default();
    let sum = |values: &[u64]| values.iter().sum::<u64>();
    let latency =
        each(|minute| minute.most.map_or(0, |most| u64::try_from(most.as_micros()).unwrap_or(u64::MAX)));
    let longest = latency.iter().max().copied().unwrap_or_default();
    let took = match longest {
        0 => "no call in the last hour".to_owned(),
        micros => format!("99 of 100 took {} at most", took(Duration::from_micros(micros))),
    };
    [
        chart::bars(
            "Events a minute",
            format!("{} in the last hour, at most {most} a minute", sum(&events)),
            &events,
            &[],
        ),
        chart::bars(
            "Mails sent, and failures",
            format!("{} sent, {} failed in the last hour", sum(&sent), sum(&failed)),
            &sent,
            &failed,
        ),
        chart::bars("How long calls took", took, &latency, &[]),
    ]
}

fn took(length: Duration) -> String {
    match length.as_millis() {
        0 => "1 ms".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", length.as_secs_f64()),
    }
}

/// `GET /console`
pub(super) async fn show(session: Session) -> Response {
    match overview(&session).await {
        Ok(response) => response,
        Err(status) => failed(&session, "", &status),
    }
}

async fn mails(session: &Session, states: &[QueuedEmailState]) -> Result<(Vec<QueuedEmail>, Count), Status> {
    let states = states.iter().map(|state| i32::from(*state)).collect();
    let request = ListQueuedEmailsRequest { states, page_size: MOST, ..Default::default() };
    let answer = session.api.outbox().list_queued_emails(request).await?.into_inner();
    let count = Count { seen: answer.queued_emails.len(), is_more: !answer.next_page_token.is_empty() };
    Ok((answer.queued_emails, count))
}

async fn overview(session: &Session) -> Result<Response, Status> {
    let request = ListConnectionsRequest { page_size: MOST, ..Default::default() };
    let connections = session.api.connections().list_connections(request).await?.into_inner();
    let request = ListTriggersRequest { page_size: MOST, ..Default::default() };
    let triggers = session.api.triggers().list_triggers(request).await?.into_inner();
    let request = ListSubscriptionsRequest { page_size: MOST, ..Default::default() };
    let subscriptions = session.api.subscriptions().list_subscriptions(request).await?.into_inner();
    use QueuedEmailState::{Deferred, Failed, Queued, Sending};
    let (_, waiting) = mails(session, &[Queued, Deferred, Sending]).await?;
    let (deferred, deferred_count) = mails(session, &[Deferred]).await?;
    let (failed, failed_count) = mails(session, &[Failed]).await?;
    drop(deferred);

    let count = |seen, token: &str| Count { seen, is_more: !token.is_empty() };
    let is_active = |state: TriggerState| state == TriggerState::Active;
    let active = triggers.triggers.iter().filter(|it| is_active(it.state())).count();
    let found = Found {
        unreached: &session.console.unreached(),
        connections: &connections.connections,
        triggers: &triggers.triggers,
        subscriptions: &subscriptions.subscriptions,
        deferred: deferred_count,
        failed: &failed,
        more_failed: failed_count.is_more,
    };
    let template = Overview {
        root: &session.root,
        here: "",
        session,
        is_new: connections.connections.is_empty(),
        connections: count(connections.connections.len(), &connections.next_page_token).figure(),
        triggers: count(active, &triggers.next_page_token).figure(),
        waiting: waiting.figure(),
        troubles: troubles(found),
        charts: charts(&PULSE.minutes()),
    };
    Ok(page(StatusCode::OK, &template))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_stopped_says_so() {
        let count = |seen, is_more| Count { seen, is_more };
        assert_eq!(count(1_000, true).figure(), "1000+");
        assert_eq!(count(1_000, true).words("mail", "mails"), "1000 mails and more");
        assert_eq!(count(1, false).words("mail", "mails"), "1 mail");
    }

    #[test]
    fn charts_tell_their_figures() {
        let minute = Minute {
            sent: 3,
            failed: 1,
            events: 2,
            most: Some(Duration::from_millis(8)),
            ..Minute::default()
        };
        let words = charts(&[Minute::default(), minute]).map(|chart| chart.words);
        assert_eq!(words[0], "2 in the last hour, at most 2 a minute");
        assert_eq!(words[1], "3 sent, 1 failed in the last hour");
        assert_eq!(words[2], "99 of 100 took 8 ms at most");
        assert_eq!(charts(&[Minute::default()])[2].words, "no call in the last hour");
    }
}
