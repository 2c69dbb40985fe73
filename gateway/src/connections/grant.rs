//! Opening a connection from the store, and keeping its grant fresh: one refresh at a time for each connection, the new
//! grant stored before it is used. A refresh goes on when the call that wanted it is gone: what a provider has rotated
//! must not be lost.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use postern_proto::connector::v1::{RefreshCredentialsRequest, RefreshCredentialsResponse};
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;

use super::opened::{Freshness, Grant};
use super::record::{GRANTS, GrantRecord, Stored, id_of};
use super::{Opened, Room, refusal};
use crate::connectors::unavailable;
use crate::error::Error;
use crate::store::{Expect, Revision, StoreError, Write};

/// How long a provider may take for a new grant.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a renewal ahead of expiry that failed, at least; at most twice this.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// How often the storing of a new grant is tried, and the pause between: the grant before may be worth nothing by then.
const STORE_TRIES: u32 = 4;
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// From how many connections on the list of refreshes is cleared of those that are over.
const FLIGHTS_KEPT: usize = 64;

/// How long a grant that was refused although it was new is not renewed again: whatever the provider minds, a newer one
/// does not help, and its token endpoint is to be spared.
const DOUBT: Duration = Duration::from_secs(10);
/// From how many doubted grants on the list is cleared of those whose time is over.
const DOUBTS_KEPT: usize = 64;

/// The grants that were refused although they were new, by connection.
#[derive(Default)]
pub(super) struct Doubts(Mutex<HashMap<String, (Revision, Instant)>>);

impl Doubts {
    /// Notes that a connection's grant was refused right after it was given.
    pub(super) fn note(&self, opened: &Opened) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.len() >= DOUBTS_KEPT {
            doubts.retain(|_, (_, since)| since.elapsed() < DOUBT);
        }
        doubts.insert(opened.name().to_owned(), (opened.grant().revision(), Instant::now()));
    }

    /// Whether a newer grant may help a connection whose grant was refused.
    pub(super) fn allow(&self, opened: &Opened) -> bool {
        let doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.get(opened.name()).is_none_or(|(revision, since)| {
            *revision != opened.grant().revision() || since.elapsed() >= DOUBT
        })
    }
}

/// What the last refresh of a connection failed with, and when: for those who waited for it.
type Failure = Option<(Instant, Status)>;

/// The refreshes under way, by connection.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<String, Weak<tokio::sync::Mutex<Failure>>>>);

impl Flights {
    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<Failure>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(name).and_then(Weak::upgrade) {
            return flight;
        }
        if flights.len() >= FLIGHTS_KEPT {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        let flight = Arc::new(tokio::sync::Mutex::new(None));
        flights.insert(name.to_owned(), Arc::downgrade(&flight));
        flight
    }
}

impl Room {
    /// Opens a connection from the store, with the grant that is stored, and keeps it for the next call.
    pub(super) async fn load(&self, name: &str) -> Result<Arc<Opened>, Error> {
        let generation = self.cache.generation();
        let stored = self.stored(name).await?;
        let opened = Arc::new(self.open_stored(&stored).await?);
        self.cache.keep(generation, &opened);
        Ok(opened)
    }

    async fn open_stored(&self, stored: &Stored) -> Result<Opened, Error> {
        let connection = self.unseal_credentials(stored)?;
        let name = connection.name.clone();
        if !stored.needs_grant {
            return Opened::new(stored, connection, Grant::NotNeeded, bytes::Bytes::new());
        }
        let Some(entry) = self.store.get(&format!("{GRANTS}{}", id_of(&name))).await? else {
            return Opened::new(stored, connection, Grant::Absent { revision: 0 }, bytes::Bytes::new());
        };
        let record = GrantRecord::decode(entry.value.clone()).ok();
        let Some(record) = record.filter(|record| record.edition == stored.edition) else {
            let grant = Grant::Absent { revision: entry.revision };
            return Opened::new(stored, connection, grant, bytes::Bytes::new());
        };
        let token = self.unseal_grant(&name, &record.grant)?;
        let expires = record.expire_time.and_then(|time| SystemTime::try_from(time).ok());
        Opened::new(stored, connection, Grant::held(entry.revision, expires), token)
    }

    /// Renews a grant that ages, apart from the call that found it so.
    pub(super) fn renew_ahead(self: &Arc<Self>, opened: &Arc<Opened>) {
        if opened.renewing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (room, opened) = (self.clone(), opened.clone());
        tokio::spawn(async move {
            if let Err(error) = room.refresh_alone(&opened).await {
                tracing::warn!(connection.name = opened.name(), %error, "a grant could not be renewed ahead of its end");
                tokio::time::sleep(RENEWAL_PAUSE.mul_f64(1.0 + fastrand::f64())).await;
            }
            opened.renewing.store(false, Ordering::Relaxed);
        });
    }

    /// The connection with a newer grant than the one it was opened with.
    pub(super) async fn refresh(self: &Arc<Self>, opened: &Arc<Opened>) -> Result<Arc<Opened>, Error> {
        let (room, opened) = (self.clone(), opened.clone());
        let refreshing = tokio::spawn(async move { room.refresh_alone(&opened).await });
        refreshing.await.map_err(|_| unavailable("the refresh of its credentials broke off"))?
    }

    async fn refresh_alone(self: &Arc<Self>, stale: &Opened) -> Result<Arc<Opened>, Error> {
        let name = stale.name();
        let wanted = Instant::now();
        let flight = self.flights.of(name);
        let mut failure = flight.lock().await;
        if let Some((failed, status)) = &*failure
            && *failed >= wanted
        {
            return Err(status.clone().into());
        }
        let opened = self.load(name).await?;
        if opened.grant() == Grant::NotNeeded {
            return Ok(opened);
        }
        let is_newer = opened.grant().revision() != stale.grant().revision();
        if is_newer && !opened.is_shut() && opened.freshness() != Freshness::Spent {
            return Ok(opened);
        }
        let claim = self.claim(name).await?;
        // Another gateway may have been first.
        let opened = if claim.is_some() { self.load(name).await? } else { opened };
        let is_newer = opened.grant().revision() != stale.grant().revision();
        let refreshed = if is_newer && !opened.is_shut() && opened.freshness() != Freshness::Spent {
            Ok(opened)
        } else {
            self.ask_for_grant(&opened).await
        };
        if let Some(claim) = claim {
            self.let_go(claim).await;
        }
        if let Err(Error::Connector(status)) = &refreshed {
            *failure = Some((Instant::now(), (**status).clone()));
        } else if let Err(Error::Fault(fault) | Error::Unanswered(fault)) = &refreshed {
            *failure = Some((Instant::now(), fault.clone().into()));
        }
        refreshed
    }

    /// The connection with the grant that comes next: one that the provider gave before and that could not be stored then,
    /// or else one that it is asked for now.
    async fn ask_for_grant(self: &Arc<Self>, opened: &Opened) -> Result<Arc<Opened>, Error> {
        let name = opened.name();
        let record = match self.unstored.take(opened) {
            Some(record) => record,
            None => self.ask_provider(opened).await?,
        };
        let revision = match self.store_grant(opened, &record).await {
            Ok(revision) => revision,
            Err(error) => {
                self.unstored.keep(opened, record);
                return Err(error);
            }
        };
        let renewed = self.load(name).await?;
        // One that lasts a moment only is taken all the same: it is the newest there is.
        let is_ours = matches!(renewed.grant(), Grant::Held { revision: held, .. } if held == revision);
        if is_ours || renewed.freshness() != Freshness::Spent {
            return Ok(renewed);
        }
        Err(unavailable("the connection changed while its credentials were refreshed").into())
    }

    /// Asks the provider for a grant.
    async fn ask_provider(self: &Arc<Self>, opened: &Opened) -> Result<GrantRecord, Error> {
        let name = opened.name();
        let connector = self.connectors.for_kind(opened.kind())?;
        let deadline = Instant::now() + REFRESH_TIMEOUT;
        let request = RefreshCredentialsRequest {};
        let answer = self
            .ask(
                &connector,
                name,
                opened.metadata(),
                deadline,
                &request,
                &|mut connector, request| async move { connector.refresh_credentials(request).await },
            )
            .await;
        let answer: RefreshCredentialsResponse = match answer {
            Err(Error::Connector(mut status)) => {
                if let Some((state, reason)) = refusal(&status) {
                    self.turn(name, opened.edition(), state, reason).await?;
                    status.metadata_mut().remove(postern_chassis::fault::REFRESH_METADATA);
                }
                return Err(Error::Connector(status));
            }
            answer => answer?,
        };
        let grant = self.seal_grant(name, &answer.grant)?;
        Ok(GrantRecord { grant, expire_time: answer.expire_time, edition: opened.edition() })
    }

    /// Stores a grant. Gives its revision; where another gateway was first, that of its grant.
    async fn store_grant(&self, opened: &Opened, record: &GrantRecord) -> Result<Revision, Error> {
        let name = opened.name();
        let key = format!("{GRANTS}{}", id_of(name));
        let expect = match opened.grant().revision() {
            0 => Expect::Absent,
            revision => Expect::Revision(revision),
        };
        let write = Write { key: key.clone(), value: Some(record.encode_to_vec().into()), expect };
        let mut tries = 1;
        loop {
            let written = self.store.write(write.clone()).await;
            self.cache.forget(name);
            match written {
                Ok(revision) => return Ok(revision),
                Err(StoreError::Conflict { .. }) => {
                    return Ok(self.store.get(&key).await?.map_or(0, |entry| entry.revision));
                }
                // Where the first did take place, the second finds it: a conflict.
                Err(StoreError::Failed(_) | StoreError::Unknown(_)) if tries < STORE_TRIES => {
                    tries += 1;
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
