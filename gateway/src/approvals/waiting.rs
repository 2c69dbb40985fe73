//! Waiting for an answer: how an approval stands, at once and whenever it changes, at whichever gateway it does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::Stream;
use postern_chassis::fault::Fault;
use postern_proto::approval::v1::{Approval, ApprovalState, AwaitResponseRequest, AwaitResponseResponse};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::Inner;
use crate::error::Error;
use crate::names;
use crate::store::Change;

/// The longest silence where none is wished, and those that may be.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);
const HEARTBEATS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);
/// How long a caller is asked to wait before it calls again when the gateway stops.
const RESUME_AFTER: Duration = Duration::from_secs(1);

/// A caller that waits.
pub(super) struct Waiting {
    inner: Arc<Inner>,
    name: String,
    heartbeat: Duration,
    changes: Receiver<Change>,
    /// What was told last, and when.
    told: Option<(Approval, Instant)>,
    ended: bool,
}

impl Waiting {
    /// Begins to wait.
    ///
    /// # Errors
    /// FIELD_INVALID; APPROVAL_NOT_FOUND; DRAINING.
    pub(super) async fn open(inner: Arc<Inner>, request: AwaitResponseRequest) -> Result<Self, Error> {
        names::approval("name", &request.name)?;
        let heartbeat = request.heartbeat_interval.map_or(Ok(DEFAULT_HEARTBEAT), Duration::try_from);
        let heartbeat = heartbeat.ok().filter(|interval| HEARTBEATS.contains(interval));
        let heartbeat =
            heartbeat.ok_or_else(|| Error::field("heartbeat_interval", "expected 5 s to 300 s"))?;
        if inner.stop.is_cancelled() {
            return Err(draining().into());
        }
        // Before it is read: no change is missed.
        let changes = inner.store.watch();
        inner.get(&request.name).await?;
        Ok(Self { inner, name: request.name, heartbeat, changes, told: None, ended: false })
    }

    /// What is told, each when it is.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<AwaitResponseResponse, Status>> {
        futures_util::stream::unfold(self, |mut waiting| async move {
            if waiting.ended {
                return None;
            }
            let next = waiting.next().await.map_err(Status::from);
            waiting.ended |= next.is_err();
            Some((next, waiting))
        })
    }

    async fn next(&mut self) -> Result<AwaitResponseResponse, Error> {
        loop {
            let approval = self.inner.get(&self.name).await?;
            let silent = self.told.as_ref().is_none_or(|(_, when)| when.elapsed() >= self.heartbeat);
            let changed = self.told.as_ref().is_none_or(|(before, _)| *before != approval);
            if changed || silent {
                self.ended = approval.state() != ApprovalState::Pending;
                self.told = Some((approval.clone(), Instant::now()));
                let tell_time = Some(SystemTime::now().into());
                return Ok(AwaitResponseResponse { approval: Some(approval), tell_time });
            }
            self.wait().await?;
        }
    }

    /// Waits until there may be something to tell.
    async fn wait(&mut self) -> Result<(), Error> {
        let last = self.told.as_ref().map_or_else(Instant::now, |(_, when)| *when);
        let stop = self.inner.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(draining().into()),
                () = tokio::time::sleep_until(last + self.heartbeat) => return Ok(()),
                change = self.changes.recv() => match change {
                    Ok(change) if change.key != self.name => {}
                    // What was missed may have been it.
                    Ok(_) | Err(RecvError::Lagged(_)) => return Ok(()),
                    Err(RecvError::Closed) => return Err(draining().into()),
                },
            }
        }
    }
}

fn draining() -> Fault {
    let message = "the gateway stops: call again, here or at another one";
    Fault::new(Code::Unavailable, "DRAINING", message).retry_after(RESUME_AFTER)
}
