//! One refresh at a time for each connection over all gateways that share a store: whoever refreshes claims it there,
//! for some providers take a refresh token once.
//!
//! `grant-claims/{connection}`: the gateway that refreshes. The claim of one that is dead, or that takes too long, is
//! nobody's.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::Room;
use super::record::id_of;
use crate::error::Error;
use crate::leases::member_key;
use crate::store::{Expect, Guard, StoreError, Write};

/// How long a claim holds: longer than a refresh may take, with the storing of what it gives.
const PATIENCE: Duration = Duration::from_secs(40);

impl Room {
    /// Claims the refresh of a connection: waits until no other gateway has it. `None`: there is no other.
    pub(super) async fn claim(&self, name: &str) -> Result<Option<Guard>, Error> {
        let Some(leases) = self.leases.as_ref().filter(|_| self.store.is_shared()) else { return Ok(None) };
        let key = format!("grant-claims/{}", id_of(name));
        let value = Some(Bytes::copy_from_slice(leases.id().as_bytes()));
        let mut changes = self.store.watch();
        // The claim that is in the way, and until when it holds: as long as it is the same.
        let mut waiting: Option<(u64, Instant)> = None;
        loop {
            let found = self.store.get(&key).await?;
            let expect = match &found {
                None => Expect::Absent,
                Some(entry) => {
                    let owner = std::str::from_utf8(&entry.value).unwrap_or_default();
                    let until = waiting.filter(|(revision, _)| *revision == entry.revision);
                    let (_, until) =
                        *waiting.insert(until.unwrap_or((entry.revision, Instant::now() + PATIENCE)));
                    // One of its own was left by a refresh that broke off: here, one waits for the other.
                    let is_held =
                        owner != leases.id() && Instant::now() < until && leases.is_live(owner).await?;
                    if is_held {
                        let member = member_key(owner);
                        let freed = async {
                            loop {
                                match changes.recv().await {
                                    Ok(change) if change.key == key || change.key == member => break,
                                    Ok(_) => {}
                                    Err(RecvError::Lagged(_)) => break,
                                    Err(RecvError::Closed) => std::future::pending().await,
                                }
                            }
                        };
                        let _ = timeout_at(until, freed).await;
                        continue;
                    }
                    Expect::Revision(entry.revision)
                }
            };
            match self.store.write(Write { key: key.clone(), value: value.clone(), expect }).await {
                Ok(revision) => return Ok(Some(Guard { key, revision })),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lets a claim go, unless another gateway has taken it.
    pub(super) async fn let_go(&self, Guard { key, revision }: Guard) {
        match self.store.write(Write { key, value: None, expect: Expect::Revision(revision) }).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => tracing::warn!(%error, "a claim to a refresh stays until its time is over"),
        }
    }
}
