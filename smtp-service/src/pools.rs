//! All pools of the process, one a connection as it was last given: other settings or credentials make another pool.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use postern_chassis::digest::{self, DIGEST_BYTES};
use postern_proto::connection::v1::Connection as Stored;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior};

use crate::connection::Connection;
use crate::error::Error;
use crate::pool::{Leaving, Pool};

/// How often unused sockets are looked for: the shortest idle timeout.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a pool is kept that nobody uses: longer than any socket in it.
const UNUSED: Duration = Duration::from_secs(15 * 60);
/// The most pools: at the bound, the one that was unused for longest is closed.
const MAX_POOLS: usize = 1_000;
/// The most connections that are known as they travelled: a pool has several while its connection's state changes.
const MAX_MET: usize = 4 * MAX_POOLS;

/// What tells a pool from all others: a digest of name, settings and credentials. The secrets in it cannot be read
/// back.
type Key = [u8; DIGEST_BYTES];

/// The pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Mutex<HashMap<Key, Arc<Pool>>>,
    /// Pools' keys, by the digest of a connection as it travelled with a call: the next one like it need not be read.
    met: Mutex<HashMap<Key, Key>>,
}

impl Pools {
    /// No pools.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The pool of a connection.
    ///
    /// # Errors
    /// The connection's fields that are wrong.
    pub(crate) fn of(&self, stored: &Stored) -> Result<Arc<Pool>, Error> {
        let key = key(stored);
        if let Some(pool) = self.pools().get(&key) {
            return Ok(Arc::clone(pool));
        }
        // Outside the lock: certificates may have to be read.
        let pool = Arc::new(Pool::new(Connection::check(stored)?));
        let mut pools = self.pools();
        if pools.len() >= MAX_POOLS && !pools.contains_key(&key) {
            let oldest = pools.iter().min_by_key(|(_, pool)| pool.last_used()).map(|(key, _)| *key);
            if let Some(oldest) = oldest.and_then(|key| pools.remove(&key)) {
                tokio::spawn(quit(oldest.close()));
            }
        }
        // Where the connection was changed, sockets of how it was before would only count towards the server's limits.
        let before = pools.values().filter(|other| other.connection().name() == pool.connection().name());
        let left: Vec<_> = before.flat_map(|other| other.take_kept()).collect();
        if !left.is_empty() {
            tokio::spawn(quit(left));
        }
        match pools.entry(key) {
            Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            Entry::Vacant(entry) => Ok(Arc::clone(entry.insert(pool))),
        }
    }

    /// The pool of a connection that travelled like one before.
    pub(crate) fn met(&self, arrival: &Key) -> Option<Arc<Pool>> {
        let key = *self.met_ones().get(arrival)?;
        self.pools().get(&key).cloned()
    }

    /// Remembers how a connection travelled.
    pub(crate) fn meet(&self, arrival: Key, stored: &Stored) {
        let mut met = self.met_ones();
        // Each is met again at its next call.
        if met.len() >= MAX_MET {
            met.clear();
        }
        met.insert(arrival, key(stored));
    }

    /// Closes sockets and drops pools that nobody uses, for as long as it is polled.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let idle = self.take_idle(Instant::now());
            if !idle.is_empty() {
                tokio::spawn(quit(idle));
            }
        }
    }

    fn take_idle(&self, now: Instant) -> Vec<Leaving> {
        let mut idle = Vec::new();
        self.pools().retain(|_, pool| {
            let unused =
                now.saturating_duration_since(pool.last_used()) >= UNUSED && Arc::strong_count(pool) == 1;
            idle.extend(if unused { pool.close() } else { pool.take_idle(now) });
            !unused
        });
        idle
    }

    /// Says QUIT on every socket that is kept, and keeps none any more.
    pub(crate) async fn close(&self) {
        let kept = self.pools().drain().flat_map(|(_, pool)| pool.close()).collect();
        quit(kept).await;
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn met_ones(&self) -> MutexGuard<'_, HashMap<Key, Key>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says QUIT on all of them at once; each is bounded by itself.
async fn quit(leaving: Vec<Leaving>) {
    join_all(leaving.into_iter().map(Leaving::quit)).await;
}

/// The key of a connection. What does not bear on how it is used, such as its state, makes no other pool.
fn key(stored: &Stored) -> Key {
    let bearing = Stored {
        name: stored.name.clone(),
        settings: stored.settings.clone(),
        credentials: stored.credentials.clone(),
        ..Default::default()
    };
    digest::of(&bearing.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::connection::v1::connection::{Credentials, Settings};
    use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};

    fn stored(name: &str, server: &str, password: &str) -> Stored {
        let settings = SmtpSettings { server: server.into(), username: "bo".into(), ..Default::default() };
        let credentials = SmtpCredentials { password: password.into(), ..Default::default() };
        Stored {
            name: name.into(),
            settings: Some(Settings::Smtp(settings)),
            credentials: Some(Credentials::SmtpCredentials(credentials)),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_change_of_settings_or_credentials_makes_another_pool() {
        let pools = Pools::new();
        let first = pools.of(&stored("connections/a", "mail.example.org", "one")).unwrap();
        let same =
            Stored { etag: "other".into(), state: 2, ..stored("connections/a", "mail.example.org", "one") };
        assert!(Arc::ptr_eq(&first, &pools.of(&same).unwrap()));
        for other in [
            stored("connections/b", "mail.example.org", "one"),
            stored("connections/a", "smtp.example.org", "one"),
            stored("connections/a", "mail.example.org", "two"),
        ] {
            assert!(!Arc::ptr_eq(&first, &pools.of(&other).unwrap()));
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_met_has_its_pool_for_as_long_as_there_is_one() {
        let pools = Pools::new();
        let stored = stored("connections/a", "mail.example.org", "one");
        let arrival = digest::of(b"as it travelled");
        assert!(pools.met(&arrival).is_none());
        let pool = pools.of(&stored).unwrap();
        pools.meet(arrival, &stored);
        assert!(Arc::ptr_eq(&pool, &pools.met(&arrival).unwrap()));
        pools.close().await;
        assert!(pools.met(&arrival).is_none(), "nothing is sent through a pool that was closed");
        for number in 0..2 * MAX_MET {
            pools.meet(digest::of(&number.to_le_bytes()), &stored);
        }
        assert!(pools.met_ones().len() <= MAX_MET);
    }

    #[tokio::test]
    async fn pools_are_dropped_when_long_unused_and_never_too_many() {
        let pools = Pools::new();
        for number in 0..MAX_POOLS + 10 {
            pools.of(&stored(&format!("connections/{number}"), "mail.example.org", "x")).unwrap();
        }
        assert_eq!(pools.pools().len(), MAX_POOLS);
        pools.take_idle(Instant::now());
        assert_eq!(pools.pools().len(), MAX_POOLS);
        pools.take_idle(Instant::now() + UNUSED);
        assert_eq!(pools.pools().len(), 0);
    }
}
