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
/// How much of its waiting a group's thread is ready to go on at once. Where those it waits for take longer they need the
/// processor themselves, and it naps between two looks: to give way at each look costs as much as what it waits for.
const READY: Duration = Duration::from_micros(100);
/// How long a nap is. The system adds what it takes to wake, some 50 µs.
const NAP: Duration = Duration::from_micros(1);

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
        let left = |bound: Duration| bound.saturating_sub(self.waited);
        let request = taken_within(self.requests, left(self.patience), left(READY));
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

/// The next request, where it waits or comes within a time that is too short to block. For as long as `ready` the thread
/// looks whenever it has a turn of the processor, and then after each nap.
#[allow(clippy::disallowed_methods, reason = "the thread is the store's own: it holds no other task up")]
pub(super) fn taken_within(
    requests: &mut mpsc::Receiver<Request>,
    time: Duration,
    ready: Duration,
) -> Option<Request> {
    let begun = Instant::now();
    loop {
        match requests.try_recv() {
            Ok(request) => return Some(request),
            Err(TryRecvError::Empty) => match begun.elapsed() {
                waited if waited >= time => return None,
                waited if waited < ready => std::thread::yield_now(),
                _ => std::thread::sleep(NAP),
            },
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}
