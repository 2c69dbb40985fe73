//! How connections and grants lie in the store: `connections/{id}` holds a connection with its credentials sealed, one
//! value written at once; `grants/{id}` the grant that the connector gave last, sealed.

use bytes::Bytes;
use postern_chassis::fault::Fault;
use postern_proto::connection::v1::{Connection, ConnectionState};
use prost::Message as _;
use tonic::Code;

use super::Room;
use crate::error::Error;
use crate::seal::SealError;
use crate::store::{Entry, Revision};

/// Where connections lie.
pub(super) const CONNECTIONS: &str = "connections/";
/// Where grants lie.
pub(super) const GRANTS: &str = "grants/";

/// A connection as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// Without credentials and etag.
    #[prost(message, optional, tag = "1")]
    pub(super) connection: Option<Connection>,
    /// A sealed `Connection` that holds the credentials alone. Empty: there are none.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) credentials: Bytes,
    /// A random number, another one with each change of settings or credentials: a grant is good for one edition, so
    /// that none outlives what it was given for.
    #[prost(fixed64, tag = "3")]
    pub(super) edition: u64,
    /// Whether its connector wants a grant for it.
    #[prost(bool, tag = "4")]
    pub(super) needs_grant: bool,
}

/// A grant as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GrantRecord {
    /// The sealed grant.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) grant: Bytes,
    /// When it stops working.
    #[prost(message, optional, tag = "2")]
    pub(super) expire_time: Option<prost_types::Timestamp>,
    /// The edition of the connection that it is for.
    #[prost(fixed64, tag = "3")]
    pub(super) edition: u64,
}

/// A connection with its revision.
pub(super) struct Stored {
    pub(super) connection: Connection,
    pub(super) credentials: Bytes,
    pub(super) edition: u64,
    pub(super) needs_grant: bool,
    pub(super) revision: Revision,
}

impl Stored {
    pub(super) fn read(entry: &Entry) -> Result<Self, Error> {
        let record = Record::decode(entry.value.clone()).map_err(|_| Error::unreadable(&entry.key))?;
        let connection = record.connection.ok_or_else(|| Error::unreadable(&entry.key))?;
        Ok(Self {
            connection,
            credentials: record.credentials,
            edition: record.edition,
            needs_grant: record.needs_grant,
            revision: entry.revision,
        })
    }

    /// The value to store.
    pub(super) fn value(&self) -> Bytes {
        let connection = Connection { etag: String::new(), credentials: None, ..self.connection.clone() };
        let record = Record {
            connection: Some(connection),
            credentials: self.credentials.clone(),
            edition: self.edition,
            needs_grant: self.needs_grant,
        };
        record.encode_to_vec().into()
    }

    /// The connection as callers see it.
    pub(super) fn shown(&self) -> Connection {
        Connection { etag: etag(self.revision), credentials: None, ..self.connection.clone() }
    }

    /// Whether its state says that no call is to be made.
    pub(super) fn is_shut(&self) -> bool {
        is_shut(self.connection.state())
    }
}

/// Whether no call is to be made in a state.
pub(super) fn is_shut(state: ConnectionState) -> bool {
    matches!(state, ConnectionState::NeedsSignIn | ConnectionState::Misconfigured)
}

/// The etag of a revision.
fn etag(revision: Revision) -> String {
    format!("{revision:x}")
}

/// Checks the etag that a caller gave, if any.
pub(super) fn check_etag(given: &str, stored: &Stored) -> Result<(), Error> {
    if given.is_empty() || given == etag(stored.revision) {
        return Ok(());
    }
    Err(Error::EtagMismatch(stored.connection.name.clone()))
}

/// The id within a connection's name.
pub(super) fn id_of(name: &str) -> &str {
    name.strip_prefix(CONNECTIONS).unwrap_or(name)
}

impl Room {
    /// A connection as stored.
    pub(super) async fn stored(&self, name: &str) -> Result<Stored, Error> {
        let entry = self.store.get(name).await?;
        Stored::read(&entry.ok_or_else(|| Error::NotFound("Connection", name.to_owned()))?)
    }

    /// Seals what a connection holds of credentials.
    pub(super) fn seal_credentials(&self, connection: &Connection) -> Result<Bytes, Error> {
        if connection.credentials.is_none() {
            return Ok(Bytes::new());
        }
        let alone = Connection { credentials: connection.credentials.clone(), ..Default::default() };
        let plain = secrecy::zeroize::Zeroizing::new(alone.encode_to_vec());
        let sealed = self.keys.seal(&format!("{}#credentials", connection.name), &plain);
        Ok(sealed.map_err(|error| sealed_shut(&connection.name, &error))?.into())
    }

    /// A connection with its credentials.
    pub(super) fn unseal_credentials(&self, stored: &Stored) -> Result<Connection, Error> {
        let mut connection = stored.connection.clone();
        if !stored.credentials.is_empty() {
            let name = &connection.name;
            let plain = self.keys.open(&format!("{name}#credentials"), &stored.credentials);
            let plain = plain.map_err(|error| sealed_shut(name, &error))?;
            let alone = Connection::decode(plain.as_slice()).map_err(|_| Error::unreadable(name))?;
            connection.credentials = alone.credentials;
        }
        Ok(connection)
    }

    pub(super) fn seal_grant(&self, name: &str, grant: &[u8]) -> Result<Bytes, Error> {
        let sealed = self.keys.seal(&format!("{name}#grant"), grant);
        Ok(sealed.map_err(|error| sealed_shut(name, &error))?.into())
    }

    pub(super) fn unseal_grant(&self, name: &str, sealed: &[u8]) -> Result<Bytes, Error> {
        let plain = self.keys.open(&format!("{name}#grant"), sealed);
        Ok(Bytes::copy_from_slice(&plain.map_err(|error| sealed_shut(name, &error))?))
    }
}

/// The error of a secret that cannot be sealed or opened.
pub(super) fn sealed_shut(name: &str, error: &SealError) -> Error {
    tracing::error!(connection.name = name, %error, "a secret cannot be sealed or opened");
    let message = format!("the credentials of {name} cannot be opened: {error}");
    Fault::new(Code::Internal, "CREDENTIALS_UNREADABLE", message).with("connection", name).into()
}
