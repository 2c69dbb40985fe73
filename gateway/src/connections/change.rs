//! Making, changing, deleting and checking connections. Each change is one write of one value: nothing can be left half
//! done, but a deletion with its triggers, which can be repeated.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_proto::connection::v1::{
    CheckConnectionResponse, Connection, ConnectionState, CreateConnectionRequest, DeleteConnectionRequest,
    UpdateConnectionRequest,
};
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckConnectionResponse as Checked, OpenConnection, ValidateConnectionRequest,
    ValidateConnectionResponse,
};
use tokio::time::Instant;

use postern_chassis::fault::Fault;
use prost::Message as _;
use tonic::Code;

use super::event::TRIES;
use super::opened::{Freshness, metadata_of};
use super::record::{CONNECTIONS, GRANTS, GrantRecord, Stored, check_etag, id_of};
use super::{Room, refusal, shape};
use crate::connectors::Connector;
use crate::error::Error;
use crate::store::{Expect, StoreError, Write};
use crate::{mask, names};

/// How long a connector may take to say whether a connection is well-formed: it asks nobody.
const VALIDATE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the check of a connection may take: name, TCP, TLS and sign-in, each with patience.
const CHECK_TIMEOUT: Duration = Duration::from_secs(90);
/// Why a connection needs a sign-in whose user has not signed in yet.
const SIGN_IN_NEEDED: &str = "SIGN_IN_NEEDED";
/// How many keys are listed at a time when they are deleted.
const DELETE_PAGE: usize = 256;

impl Room {
    pub(super) async fn create(&self, request: CreateConnectionRequest) -> Result<Connection, Error> {
        let id = names::chosen_or_new("connection_id", &request.connection_id, "connection")?;
        let given = request.connection.ok_or_else(|| Error::field("connection", "is absent"))?;
        let kind = shape::check(&given)?;
        let name = format!("{CONNECTIONS}{id}");
        let connector = self.connectors.for_kind(&kind)?;
        if self.store.get(&name).await?.is_some() {
            return Err(Error::Exists("Connection", name));
        }
        let now = Some(SystemTime::now().into());
        let connection = Connection {
            name: name.clone(),
            etag: String::new(),
            create_time: now,
            update_time: now,
            last_use_time: None,
            state: ConnectionState::Ready.into(),
            kind,
            ..given
        };
        let needs = self.validate(&connector, &connection).await?;
        let credentials = self.seal_credentials(&connection)?;
        let mut connection = Connection { credentials: None, ..connection };
        connection.set_state(first_state(needs));
        let needs_grant = needs.needs_grant;
        let mut stored = Stored { connection, credentials, edition: new_edition(), needs_grant, revision: 0 };
        match self.write(&stored, ConnectionState::Ready, SIGN_IN_NEEDED).await {
            Ok(revision) => stored.revision = revision,
            Err(Error::Store(StoreError::Conflict { .. })) => return Err(Error::Exists("Connection", name)),
            Err(error) => return Err(error),
        }
        Ok(stored.shown())
    }

    pub(super) async fn update(&self, request: UpdateConnectionRequest) -> Result<Connection, Error> {
        let wanted = request.connection.ok_or_else(|| Error::field("connection", "is absent"))?;
        names::connection("connection.name", &wanted.name)?;
        let mask = request.update_mask;
        shape::check_paths(mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default())?;
        for _ in 0..TRIES {
            let stored = self.stored(&wanted.name).await?;
            check_etag(&wanted.etag, &stored)?;
            let from = stored.connection.state();
            let (mut changed, grant) = self.changed(stored, &wanted, mask.as_ref()).await?;
            let reason = if changed.is_shut() { SIGN_IN_NEEDED } else { "" };
            match self.write_with(&changed, from, reason, grant).await {
                Ok(revision) => {
                    changed.revision = revision;
                    return Ok(changed.shown());
                }
                // Somebody else was first: what is wanted is applied to what that one left.
                Err(Error::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key: wanted.name }.into())
    }

    /// A connection with what is wanted of it, validated where that matters, and its grant, where that is to be kept.
    async fn changed(
        &self,
        stored: Stored,
        wanted: &Connection,
        mask: Option<&prost_types::FieldMask>,
    ) -> Result<(Stored, Option<Write>), Error> {
        let kind = stored.connection.kind.clone();
        let settable = shape::settable();
        let mut connection = mask::apply(shape::CONNECTION, &stored.connection, wanted, mask, &settable)?;
        if shape::check(&connection)? != kind {
            let problem = format!("the kind cannot be changed: {} is of the kind {kind}", wanted.name);
            return Err(Error::field("connection.settings", problem));
        }
        let field = shape::credentials_of(&kind);
        let takes_credentials = mask::names(mask, &field, wanted.credentials.is_some());
        let takes_settings = connection.settings != stored.connection.settings;
        let mut changed = Stored {
            connection: stored.connection.clone(),
            credentials: stored.credentials.clone(),
            ..stored
        };
        let mut grant = None;
        if takes_credentials || takes_settings {
            if !takes_credentials {
                connection.credentials = self.unseal_credentials(&stored)?.credentials;
            }
            let connector = self.connectors.for_kind(&kind)?;
            let needs = self.validate(&connector, &connection).await?;
            changed.needs_grant = needs.needs_grant;
            changed.edition = new_edition();
            if !takes_credentials {
                grant = self.grant_to_keep(&stored, changed.edition).await?;
            }
            if takes_credentials || (grant.is_none() && needs.needs_sign_in) {
                connection.set_state(first_state(needs));
            } else if connection.state() == ConnectionState::Misconfigured {
                // What was refused is no longer what is set up.
                connection.set_state(ConnectionState::Ready);
            }
        }
        if takes_credentials {
            changed.credentials = self.seal_credentials(&connection)?;
        }
        connection.credentials = None;
        connection.update_time = Some(SystemTime::now().into());
        changed.connection = connection;
        Ok((changed, grant))
    }

    /// The write that keeps a connection's grant where only settings change: what a user gave is not to be given again
    /// for them, and a refresh token that was rotated cannot be. What is stale of it is renewed before it is used, and
    /// the connector heeds nothing of it that is not for the new settings.
    async fn grant_to_keep(&self, stored: &Stored, edition: u64) -> Result<Option<Write>, Error> {
        let key = format!("{GRANTS}{}", id_of(&stored.connection.name));
        let Some(entry) = self.store.get(&key).await? else { return Ok(None) };
        let record = GrantRecord::decode(entry.value).ok().filter(|record| record.edition == stored.edition);
        Ok(record.map(|record| {
            let record = GrantRecord { edition, expire_time: Some(SystemTime::UNIX_EPOCH.into()), ..record };
            let (value, expect) = (record.encode_to_vec().into(), Expect::Revision(entry.revision));
            Write { key, value: Some(value), expect }
        }))
    }

    /// Asks the connector whether a connection is well-formed. Gives what it needs.
    async fn validate(
        &self,
        connector: &Connector,
        connection: &Connection,
    ) -> Result<ValidateConnectionResponse, Error> {
        let opened = OpenConnection { connection: Some(connection.clone()), grant: bytes::Bytes::new() };
        let metadata = metadata_of(&opened)?;
        let deadline = Instant::now() + VALIDATE_TIMEOUT;
        let request = ValidateConnectionRequest {};
        let asked = self.ask(
            connector,
            &connection.name,
            &metadata,
            deadline,
            &request,
            &|mut connector, request| async move { connector.validate_connection(request).await },
        );
        asked.await
    }

    pub(super) async fn delete(self: &Arc<Self>, request: DeleteConnectionRequest) -> Result<(), Error> {
        let name = request.name;
        names::connection("name", &name)?;
        let below = |kind: &str| format!("{kind}/{}/", id_of(&name));
        let triggers = below("triggers");
        for _ in 0..TRIES {
            let stored = self.stored(&name).await?;
            check_etag(&request.etag, &stored)?;
            if !request.force && !self.store.list(&triggers, "", 1).await?.is_empty() {
                let message = format!("triggers use {name}: delete them first, or set force");
                let fault = Fault::new(Code::FailedPrecondition, "CONNECTION_IN_USE", message);
                return Err(fault.with("connection", name).into());
            }
            // The connection goes last: if this breaks off, it can be repeated.
            self.delete_all(&triggers).await?;
            // As long as there is a connection to do it by.
            self.end_notifications(&name).await?;
            for kind in ["places", "polls", "notifications", "nudges", "fares", "sign-ins"] {
                self.delete_all(&below(kind)).await?;
            }
            let write = Write { key: name.clone(), value: None, expect: Expect::Revision(stored.revision) };
            let deleted = self.store.write(write).await;
            self.cache.forget(&name);
            match deleted {
                Ok(_) => {
                    // A trigger that was made in between goes with it.
                    self.delete_all(&triggers).await?;
                    for kind in ["places", "notifications", "sign-ins"] {
                        self.delete_all(&below(kind)).await?;
                    }
                    let key = format!("{GRANTS}{}", id_of(&name));
                    self.store.write(Write { key, value: None, expect: Expect::Any }).await?;
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: name }.into())
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        loop {
            let entries = self.store.list(prefix, "", DELETE_PAGE).await?;
            for entry in &entries {
                let write = Write { key: entry.key.clone(), value: None, expect: Expect::Any };
                self.store.write(write).await?;
            }
            if entries.len() < DELETE_PAGE {
                return Ok(());
            }
        }
    }

    /// Asks the provider whether a connection works, even where it is known not to, and brings its state up to date.
    pub(super) async fn check(self: &Arc<Self>, name: &str) -> Result<CheckConnectionResponse, Error> {
        names::connection("name", name)?;
        let deadline = Instant::now() + CHECK_TIMEOUT;
        let opened = self.load(name).await?;
        let edition = opened.edition();
        let opened = match opened.freshness() {
            Freshness::Spent => self.refresh(&opened).await?,
            _ if opened.is_shut() => self.refresh(&opened).await?,
            _ => opened,
        };
        let request = CheckConnectionRequest {};
        let asked = self.call(&opened, deadline, request, |mut connector, request| async move {
            connector.check_connection(request).await
        });
        let answer: Result<Checked, Error> = asked.await;
        if let Err(Error::Connector(status)) = &answer
            && let Some((state, reason)) = refusal(status)
        {
            self.turn(name, edition, state, reason).await?;
        }
        let Checked { account, details } = answer?;
        let stored = self.turn(name, edition, ConnectionState::Ready, "").await?;
        Ok(CheckConnectionResponse { connection: Some(stored.shown()), account, details })
    }
}

/// The state of a connection whose credentials are new.
fn first_state(needs: ValidateConnectionResponse) -> ConnectionState {
    if needs.needs_sign_in { ConnectionState::NeedsSignIn } else { ConnectionState::Ready }
}

/// A new edition: never 0.
pub(super) fn new_edition() -> u64 {
    fastrand::u64(1..)
}
