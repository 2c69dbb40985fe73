//! Where the answers of a stream go: one at a time, when the peer has room, and a heartbeat after each silence.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use postern_proto::event::v1::{Confirmed, Heartbeat};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::wire::{ConsumeAnswer, Deliveries, Delivery, Said};
use crate::metrics::DELIVERED;

/// How many confirmations wait for the peer to read before nothing more is heard from it.
const MOST_UNREAD: usize = 10_000;
/// How long the status that ends a stream waits for the peer to read.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What an outlet did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worked {
    /// It told something.
    Told,
    /// It gave a heartbeat.
    Beaten,
    /// Nothing: the peer is gone.
    Gone,
}

/// The answers of a stream.
pub(super) struct Outlet {
    out: mpsc::Sender<Result<ConsumeAnswer, Status>>,
    heartbeat: Duration,
    spoke: Instant,
    /// What is durable and was not told yet: told together.
    confirmed: Confirmed,
    /// What is to be told besides, in order: an opening, a gap, one batch.
    ready: VecDeque<Said>,
}

impl Outlet {
    pub(super) fn new(out: mpsc::Sender<Result<ConsumeAnswer, Status>>, heartbeat: Duration) -> Self {
        let (confirmed, ready) = (Confirmed::default(), VecDeque::new());
        Self { out, heartbeat, spoke: Instant::now(), confirmed, ready }
    }

    /// Puts an answer where it waits for room.
    pub(super) fn say(&mut self, said: Said) {
        self.ready.push_back(said);
    }

    pub(super) fn deliver(&mut self, deliveries: Vec<Delivery>) {
        if !deliveries.is_empty() {
            self.say(Said::Deliveries(Deliveries { deliveries }));
        }
    }

    /// Notes what became durable.
    pub(super) fn confirm(&mut self, confirmed: Confirmed) {
        if !confirmed.cursor.is_empty() {
            self.confirmed.cursor = confirmed.cursor;
        }
        self.confirmed.ack_ids.extend(confirmed.ack_ids);
        self.confirmed.failures.extend(confirmed.failures);
    }

    /// Whether all but confirmations was told: the next events may be read.
    pub(super) fn is_clear(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether more may be heard from the peer.
    pub(super) fn may_listen(&self) -> bool {
        self.confirmed.ack_ids.len() + self.confirmed.failures.len() < MOST_UNREAD
    }

    fn has_something(&self) -> bool {
        !self.ready.is_empty() || self.confirmed != Confirmed::default()
    }

    /// Tells what waits, once the peer has room, and a heartbeat where nothing does for long. May be given up and called
    /// again.
    pub(super) async fn work(&mut self, cursor: impl Fn() -> Bytes) -> Worked {
        if !self.has_something() {
            tokio::select! {
                () = tokio::time::sleep_until(self.spoke + self.heartbeat) => {}
                () = self.out.closed() => return Worked::Gone,
            }
        }
        let Ok(permit) = self.out.reserve().await else { return Worked::Gone };
        let is_opening = matches!(self.ready.front(), Some(Said::Opened(_)));
        let said = if self.confirmed == Confirmed::default() || is_opening {
            self.ready.pop_front()
        } else {
            Some(Said::Confirmed(std::mem::take(&mut self.confirmed)))
        };
        let worked = if said.is_some() { Worked::Told } else { Worked::Beaten };
        let said = said.unwrap_or_else(|| Said::Heartbeat(Heartbeat { cursor: cursor() }));
        if let Said::Deliveries(given) = &said {
            DELIVERED.add(given.deliveries.len() as u64);
        }
        permit.send(Ok(ConsumeAnswer { said: Some(said) }));
        self.spoke = Instant::now();
        worked
    }

    /// Tells what was confirmed and not told, and why the stream ends; no reason: it is done.
    pub(super) async fn end(mut self, status: Option<Status>) {
        let confirmed = std::mem::take(&mut self.confirmed);
        let last = async {
            if confirmed != Confirmed::default() {
                let said = Some(Said::Confirmed(confirmed));
                self.out.send(Ok(ConsumeAnswer { said })).await?;
            }
            if let Some(status) = status {
                self.out.send(Err(status)).await?;
            }
            Ok::<_, mpsc::error::SendError<_>>(())
        };
        // Who does not read is not told.
        drop(tokio::time::timeout(LAST_WORD, last).await);
    }
}
