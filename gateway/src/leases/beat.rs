//! The heartbeat of a gateway: a record in the store, written again and again. How long its leases hold is counted from
//! before the last write that is known to have succeeded.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::time::{Instant, timeout};

use super::record::{Member, member_key};
use super::{HEARTBEAT, Room, Stage, TENURE};
use crate::store::{Expect, Revision, StoreError, Write};

/// How long a heartbeat may take, and the pause after one that failed.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);
/// How often a heartbeat that met another write is tried.
const TRIES: usize = 3;

/// The task that beats.
pub(super) struct Beat {
    room: Arc<Room>,
    beats: u64,
    /// The revision of the last write that is known; 0: none.
    revision: Revision,
}

impl Beat {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room, beats: 0, revision: 0 }
    }

    /// Beats until the gateway's end.
    pub(super) async fn run(mut self) {
        let mut stage = self.room.stage.subscribe();
        let mut wait = HEARTBEAT;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stage.changed() => {}
            }
            if *stage.borrow_and_update() == Stage::Ended {
                return;
            }
            let begun = Instant::now();
            let beaten = timeout(PATIENCE, self.once()).await;
            wait = match beaten {
                Ok(Ok(())) => HEARTBEAT.saturating_sub(begun.elapsed()),
                failed => {
                    let error = failed.map_or_else(
                        |_| "no answer in time".to_owned(),
                        |failed| failed.err().map(|error| error.to_string()).unwrap_or_default(),
                    );
                    tracing::warn!(error, "a heartbeat failed");
                    self.lapse();
                    PAUSE
                }
            };
        }
    }

    /// The first heartbeat, as soon as the store takes it.
    pub(super) async fn first(&mut self) {
        while let Err(error) = self.once().await {
            tracing::warn!(%error, "the store takes nothing yet: waiting for it");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One heartbeat.
    async fn once(&mut self) -> Result<(), StoreError> {
        let key = member_key(&self.room.id);
        for _ in 0..TRIES {
            let begun = Instant::now();
            let member = Member {
                beats: self.beats + 1,
                address: self.room.address.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                retiring: *self.room.stage.borrow() != Stage::Serving,
            };
            let expect = if self.revision == 0 { Expect::Absent } else { Expect::Revision(self.revision) };
            let write = Write { key: key.clone(), value: Some(member.encode_to_vec().into()), expect };
            match self.room.store.write(write).await {
                Ok(revision) => {
                    (self.revision, self.beats) = (revision, member.beats);
                    self.extend(begun);
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => match self.room.store.get(&key).await? {
                    // Nobody else writes there: a heartbeat that was given up on came through after all.
                    Some(entry) => self.revision = entry.revision,
                    None if *self.room.stage.borrow() == Stage::Ended => return Ok(()),
                    None => {
                        if self.revision != 0 {
                            tracing::warn!("other gateways took this one for dead: it begins anew");
                        }
                        self.revision = 0;
                        self.room.lose_all();
                        self.room.wake.notify_one();
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key })
    }

    /// All that is held holds for longer. What was counted as lost is not held again by it.
    fn extend(&self, begun: Instant) {
        self.lapse();
        let mut tenure = self.room.tenure();
        if !tenure.is_in_force() {
            tenure.since = Instant::now();
        }
        tenure.until = Some(begun + TENURE);
        self.room.tell(&tenure);
    }

    /// Counts all as lost once the time is over for which it holds.
    fn lapse(&self) {
        let is_over = self.room.tenure().until.is_some_and(|until| until <= Instant::now());
        if is_over {
            self.room.lose_all();
            self.room.wake.notify_one();
        }
    }
}
