//! A group of requests, taken one by one as they are done: those who were just answered ask again meanwhile.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Request, TRIM_EVENTS};

/// Events in one commit: beyond this a group gains nothing more, and its first would wait for its last.
const GROUP_EVENTS: usize = 1024;
/// How long a group that is smaller than the one before waits for those who were just answered to ask again, at most, and
/// at most this part of what the last commit took. Without it a large group and a small one alternate, and each costs a
/// sync of the disk.
const GATHER: Duration = Duration::from_micros(500);
const GATHER_PART: u32 = 2;

/// How large a group was and how long it took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    requests: usize,
    pub(super) took: Duration,
}

/// Requests that are committed together.
pub(super) struct Group<'a> {
    first: Option<Request>,
    requests: &'a mut mpsc::Receiver<Request>,
    /// How many it is likely to have.
    expected: usize,
    /// How many were taken.
    taken: usize,
    /// About how many events they cost.
    events: usize,
    /// How long it may still wait for more, and how long it waited.
    patience: Duration,
    waited: Duration,
    begun: Instant,
    /// Nothing is taken after a close.
    closing: Option<oneshot::Sender<()>>,
}

impl<'a> Group<'a> {
    /// A group that begins with a request, after another one.
    pub(super) fn new(first: Request, requests: &'a mut mpsc::Receiver<Request>, before: Pace) -> Self {
        Self {
            first: Some(first),
            requests,
            expected: before.requests,
            taken: 0,
            events: 0,
            patience: GATHER.min(before.took / GATHER_PART),
            waited: Duration::ZERO,
            begun: Instant::now(),
            closing: None,
        }
    }

    /// What it was like, waiting left aside, and who closes the store after it.
    pub(super) fn end(self) -> (Pace, Option<oneshot::Sender<()>>) {
        let took = self.begun.elapsed().saturating_sub(self.waited);
        (Pace { requests: self.taken, took }, self.closing)
    }

    fn more(&mut self) -> Option<Request> {
        if self.closing.is_some() || self.events >= GROUP_EVENTS {
            return None;
        }
        if let Ok(request) = self.requests.try_recv() {
            return Some(request);
        }
        if self.taken >= self.expected {
            return None;
        }
        let begun = Instant::now();
        let request = taken_within(self.requests, self.patience.saturating_sub(self.waited));
        self.waited += begun.elapsed();
        request
    }
}

impl Iterator for Group<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let request = self.first.take().or_else(|| self.more())?;
        self.events += match &request {
            Request::Commit { commit, .. } => commit.events.len().max(1),
            Request::Restore { events, .. } => events.len(),
            Request::Trim { .. } | Request::Records { .. } | Request::Forget { .. } => TRIM_EVENTS,
            Request::Recall { .. } | Request::Close { .. } => 1,
        };
        match request {
            Request::Close { answer } => {
                self.closing = Some(answer);
                None
            }
            request => {
                self.taken += 1;
                Some(request)
            }
        }
    }
}

/// The next request, where it waits or comes within a time that is too short to sleep.
pub(super) fn taken_within(requests: &mut mpsc::Receiver<Request>, time: Duration) -> Option<Request> {
    let begun = Instant::now();
    loop {
        match requests.try_recv() {
            Ok(request) => return Some(request),
            Err(TryRecvError::Empty) if begun.elapsed() < time => std::thread::yield_now(),
            Err(_) => return None,
        }
    }
}
