//! `Pull` and `Acknowledge`, for callers that cannot stream. What is common to both modes.

use std::sync::Arc;
use std::time::Duration;

use postern_proto::event::v1::{AcknowledgeRequest, AcknowledgeResponse, PullRequest, SubscriptionMode};

use super::consume::{DEFAULT_EVENTS, MAX_EVENTS, bounded, client_id, gather};
use super::stored::{self, id_of};
use super::{PullAnswer, Subscriptions, ordered, shared};
use crate::error::Error;
use crate::events::reading::draining;
use crate::metrics::DELIVERED;
use crate::names;

/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A checked `PullRequest`.
pub(super) struct Pulling {
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) max_events: usize,
    pub(super) wait: Duration,
}

impl Subscriptions {
    /// Gives what a subscription has.
    pub(crate) async fn pull(self: &Arc<Self>, request: PullRequest) -> Result<PullAnswer, Error> {
        if self.stop.is_cancelled() {
            return Err(draining().into());
        }
        let mut wrong = Vec::new();
        gather(&mut wrong, names::subscription("subscription", &request.subscription));
        gather(&mut wrong, client_id("client_id", &request.client_id));
        let max_events =
            bounded(request.max_events.into(), DEFAULT_EVENTS, 1, MAX_EVENTS).unwrap_or_else(|| {
                wrong.push(("max_events".to_owned(), "expected 1 to 1000, or 0 for 100".to_owned()));
                DEFAULT_EVENTS
            });
        let wait = request.wait.map_or(Ok(Duration::ZERO), Duration::try_from);
        let wait = wait.ok().filter(|wait| *wait <= MAX_WAIT).unwrap_or_else(|| {
            wrong.push(("wait".to_owned(), "expected 0 s to 60 s".to_owned()));
            Duration::ZERO
        });
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        let id = id_of(&request.subscription).to_owned();
        let stored = stored::read(&*self.store, &id).await?;
        let asked = Pulling { id, client_id: request.client_id, max_events, wait };
        let answer = match stored.mode() {
            SubscriptionMode::Shared => shared::unary::pull(self, asked).await?,
            _ if asked.client_id.is_empty() => return Err(Error::field("client_id", NEEDED)),
            _ => ordered::unary::pull(self, stored, asked).await?,
        };
        DELIVERED.add(answer.deliveries.len() as u64);
        Ok(answer)
    }

    /// Settles what was given.
    pub(crate) async fn acknowledge(
        self: &Arc<Self>,
        request: AcknowledgeRequest,
    ) -> Result<AcknowledgeResponse, Error> {
        let mut wrong = Vec::new();
        gather(&mut wrong, names::subscription("subscription", &request.subscription));
        gather(&mut wrong, client_id("client_id", &request.client_id));
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        let id = id_of(&request.subscription).to_owned();
        let stored = stored::read(&*self.store, &id).await?;
        let confirmed = match (stored.mode(), request.settle.clone()) {
            (SubscriptionMode::Shared, _) if !request.cursor.is_empty() => {
                return Err(Error::field("cursor", "is of ORDERED subscriptions: expected settle"));
            }
            (SubscriptionMode::Shared, None) => {
                return Err(Error::field("settle", "is absent: it is needed"));
            }
            (SubscriptionMode::Shared, Some(settle)) => shared::unary::settle(self, &id, settle).await?,
            (_, Some(_)) => {
                return Err(Error::field("settle", "is of SHARED subscriptions: expected cursor"));
            }
            _ if request.client_id.is_empty() => return Err(Error::field("client_id", NEEDED)),
            _ if request.cursor.is_empty() => return Err(Error::field("cursor", "is absent: it is needed")),
            _ => ordered::unary::acknowledge(self, &id, &stored, request).await?,
        };
        Ok(AcknowledgeResponse { confirmed: Some(confirmed) })
    }
}

/// What is wrong with an absent client id.
const NEEDED: &str = "is absent: an ORDERED subscription tells by it who reads";
