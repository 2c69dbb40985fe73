//! A user comes back from a provider's page: the sign-in is taken by one request, gone on with, and ended. A grant is
//! stored together with the state of its connection and the end of its sign-in, or not at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_proto::connection::v1::{ConnectionState, SignInKind, SignInState};
use postern_proto::connector::v1::CompleteSignInResponse;
use prost::Message as _;

use super::record::{self, Name, Record, Stored, time};
use super::{COMPLETE_TIMEOUT, failure, told};
use crate::connections::Room;
use crate::connections::change::new_edition;
use crate::connections::event::{TRIES, state_changed};
use crate::connections::record::{GRANTS, GrantRecord, id_of};
use crate::error::Error;
use crate::store::{Expect, StoreError, Write};

/// How often the storing of a grant is tried while storage fails, and the pause between: it cannot be had again.
const STORE_TRIES: u32 = 4;
const STORE_PAUSE: Duration = Duration::from_millis(250);

/// What became of a user's coming back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CameBack {
    /// The sign-in has ended: how, its record says.
    Ended,
    /// It had ended before.
    Again,
    /// Somebody goes on with it at this moment.
    Meanwhile,
    /// The provider or its connector is out of order: the same may be tried again.
    ForNow,
    /// There is no such sign-in, or none in a browser.
    Nowhere,
}

impl Room {
    /// Goes on with a sign-in whose user came back with a query. It goes on when the browser has gone: a code is good
    /// for one use.
    pub(super) async fn came_back(self: &Arc<Self>, name: Name, query: String) -> CameBack {
        let room = self.clone();
        let going_on = tokio::spawn(async move { room.go_on(&name, &query).await });
        match going_on.await {
            Ok(Ok(came)) => came,
            Ok(Err(error)) => {
                let (code, reason) = told(error);
                tracing::warn!(?code, reason, "a sign-in could not be gone on with");
                CameBack::ForNow
            }
            Err(_) => CameBack::ForNow,
        }
    }

    async fn go_on(self: &Arc<Self>, name: &Name, query: &str) -> Result<CameBack, Error> {
        let now = SystemTime::now();
        let Some(found) = record::read(self.store.as_ref(), name).await? else {
            return Ok(CameBack::Nowhere);
        };
        if found.record.kind() != SignInKind::Browser {
            return Ok(CameBack::Nowhere);
        }
        if found.record.state() != SignInState::Pending {
            return Ok(CameBack::Again);
        }
        if found.is_over(now) {
            // What it is shown as.
            return Ok(CameBack::Ended);
        }
        if time(found.record.busy_until).is_some_and(|until| until > now) {
            return Ok(CameBack::Meanwhile);
        }
        let busy_until = Some((now + COMPLETE_TIMEOUT + Duration::from_secs(5)).into());
        let taken = Record { busy_until, ..found.record };
        let taken = match record::write(self.store.as_ref(), name, found.revision, taken).await {
            Err(StoreError::Conflict { .. }) => return Ok(CameBack::Meanwhile),
            taken => taken?,
        };
        let asked = self.ask_to_complete(name, &taken, query).await;
        self.ended_or_for_now(name, taken, asked).await
    }

    /// Writes down what came of a sign-in that was gone on with.
    async fn ended_or_for_now(
        &self,
        name: &Name,
        taken: Stored,
        asked: Result<CompleteSignInResponse, Error>,
    ) -> Result<CameBack, Error> {
        match asked {
            Ok(answer) if !answer.grant.is_empty() => {
                self.signed_in(name, &taken, &answer).await?;
                Ok(CameBack::Ended)
            }
            Ok(_) => {
                let message = "the connector gave no grant: begin a new sign-in";
                self.fail_sign_in(name, &taken, "PROVIDER_UNAVAILABLE", message).await?;
                Ok(CameBack::Ended)
            }
            Err(Error::NotFound(..)) => Ok(CameBack::Nowhere),
            Err(error) => match failure(&error) {
                Some((reason, message)) => {
                    self.fail_sign_in(name, &taken, &reason, &message).await?;
                    Ok(CameBack::Ended)
                }
                None => {
                    let (code, reason) = told(error);
                    tracing::warn!(
                        connection.name = name.connection,
                        ?code,
                        reason,
                        "a sign-in is to be tried again"
                    );
                    let free = Record { busy_until: None, ..taken.record };
                    record::write(self.store.as_ref(), name, taken.revision, free).await?;
                    Ok(CameBack::ForNow)
                }
            },
        }
    }

    /// Stores what a sign-in gave: the connection turns ready, and what came of older grants is not heeded any more, for
    /// the connection has another edition now.
    pub(super) async fn signed_in(
        &self,
        name: &Name,
        taken: &Stored,
        answer: &CompleteSignInResponse,
    ) -> Result<(), Error> {
        let done = Record {
            state: SignInState::Succeeded.into(),
            account: answer.account.clone(),
            ..taken.record.clone()
        };
        let done = record::written(name, taken.revision, &done.ended());
        let connection = &name.connection;
        let (mut tries, mut failures, mut is_lost) = (0, 0, false);
        loop {
            let mut stored = self.stored(connection).await?;
            let from = stored.connection.state();
            stored.edition = new_edition();
            stored.connection.set_state(ConnectionState::Ready);
            let grant = GrantRecord {
                grant: self.seal_grant(connection, &answer.grant)?,
                expire_time: answer.expire_time,
                edition: stored.edition,
            };
            let writes = vec![
                Write {
                    key: connection.clone(),
                    value: Some(stored.value()),
                    expect: Expect::Revision(stored.revision),
                },
                Write {
                    key: format!("{GRANTS}{}", id_of(connection)),
                    value: Some(grant.encode_to_vec().into()),
                    expect: Expect::Any,
                },
                done.clone(),
            ];
            let healed = from != ConnectionState::Ready;
            let events = healed.then(|| state_changed(connection, &stored, ConnectionState::Ready, ""));
            let written = self.log.append(events.into_iter().collect(), writes).await;
            self.cache.forget(connection);
            match written {
                Ok(_) => {
                    tracing::info!(connection.name = connection, healed, "a user signed in");
                    return Ok(());
                }
                Err(StoreError::Conflict { key }) if key == *connection && tries < TRIES => tries += 1,
                // Where it took place after all, the repeat meets it.
                Err(StoreError::Conflict { key }) if is_lost && key == done.key => {
                    let now = self.store.get(&key).await?;
                    if now.is_some_and(|now| Some(&now.value) == done.value.as_ref()) {
                        return Ok(());
                    }
                    return Err(StoreError::Conflict { key }.into());
                }
                Err(error @ (StoreError::Failed(_) | StoreError::Unknown(_))) if failures < STORE_TRIES => {
                    is_lost |= matches!(error, StoreError::Unknown(_));
                    failures += 1;
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
