//! Sign-ins as they lie in the store: `sign-ins/{connection}/{sign_in}`, written by whoever goes on with one over the
//! revision that it read, so that each is gone on with once.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use postern_proto::connection::v1::{SignIn, SignInKind, SignInState};
use prost::Message;
use prost_types::{Duration, Timestamp};

use crate::connections::Room;
use crate::connections::record::{CONNECTIONS, id_of, sealed_shut};
use crate::error::Error;
use crate::names;
use crate::store::{Entry, Expect, Revision, Store, StoreError, Write};

/// Where they lie.
pub(in crate::connections) const SIGN_INS: &str = "sign-ins/";
/// The longest sealed name that is read.
const MAX_SEALED: usize = 1_024;

/// The name of a sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// `connections/{connection}`.
    pub(super) connection: String,
    pub(super) id: String,
}

impl Name {
    /// Reads a resource name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (connection, id) = name.split_once("/sign-ins/")?;
        (names::connection("", connection).is_ok() && names::is_id(id))
            .then(|| Self { connection: connection.to_owned(), id: id.to_owned() })
    }

    /// Reads a key of the store.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (connection, id) = key.strip_prefix(SIGN_INS)?.split_once('/')?;
        Self::parse(&format!("{CONNECTIONS}{connection}/sign-ins/{id}"))
    }

    pub(super) fn key(&self) -> String {
        format!("{SIGN_INS}{}/{}", id_of(&self.connection), self.id)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/sign-ins/{}", self.connection, self.id)
    }
}

/// A sign-in.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(enumeration = "SignInKind", tag = "1")]
    pub(super) kind: i32,
    #[prost(enumeration = "SignInState", tag = "2")]
    pub(super) state: i32,
    #[prost(string, tag = "3")]
    pub(super) verification_url: String,
    #[prost(message, optional, tag = "4")]
    pub(super) create_time: Option<Timestamp>,
    #[prost(message, optional, tag = "5")]
    pub(super) expire_time: Option<Timestamp>,
    #[prost(string, tag = "6")]
    pub(super) failure_reason: String,
    #[prost(string, tag = "7")]
    pub(super) failure_message: String,
    #[prost(string, tag = "8")]
    pub(super) account: String,
    /// What its connector keeps of it, sealed. Empty once it has ended.
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) secret: Bytes,
    /// Where the provider leads back to.
    #[prost(string, tag = "10")]
    pub(super) redirect_url: String,
    /// How long was waited, of a device code, before it is asked about next.
    #[prost(message, optional, tag = "11")]
    pub(super) poll_interval: Option<Duration>,
    /// Until then nobody else goes on with it: somebody does, or it is to be waited.
    #[prost(message, optional, tag = "12")]
    pub(super) busy_until: Option<Timestamp>,
}

impl Record {
    /// The record of one that has ended: nothing secret is left.
    pub(super) fn ended(self) -> Self {
        Self { secret: Bytes::new(), busy_until: None, ..self }
    }
}

/// A record with its revision.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) revision: Revision,
}

impl Stored {
    /// Reads an entry. `None`: it is no record of ours.
    pub(super) fn read(entry: &Entry) -> Option<Self> {
        let record = Record::decode(entry.value.clone()).ok()?;
        Some(Self { record, revision: entry.revision })
    }

    /// Whether it can still be done.
    pub(super) fn is_pending(&self, now: SystemTime) -> bool {
        self.record.state() == SignInState::Pending && !self.is_over(now)
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        time(self.record.expire_time).is_none_or(|expires| expires <= now)
    }

    /// As callers see it.
    pub(super) fn shown(&self, name: &Name) -> SignIn {
        let record = &self.record;
        let shown = SignIn {
            name: name.to_string(),
            kind: record.kind,
            state: record.state,
            verification_url: record.verification_url.clone(),
            expire_time: record.expire_time,
            failure_reason: record.failure_reason.clone(),
            failure_message: record.failure_message.clone(),
            account: record.account.clone(),
            ..SignIn::default()
        };
        if record.state() != SignInState::Pending || !self.is_over(SystemTime::now()) {
            return shown;
        }
        // Nobody has written it down yet.
        let (reason, message) = EXPIRED;
        let (failure_reason, failure_message) = (reason.to_owned(), message.to_owned());
        SignIn { state: SignInState::Failed.into(), failure_reason, failure_message, ..shown }
    }
}

/// The failure of one that nobody did in time.
pub(super) const EXPIRED: (&str, &str) =
    ("SIGN_IN_EXPIRED", "nobody signed in before it expired: begin a new sign-in");

/// A time of a record.
pub(super) fn time(time: Option<Timestamp>) -> Option<SystemTime> {
    time.and_then(|time| time.try_into().ok())
}

/// Reads a sign-in. `None`: there is none.
pub(super) async fn read(store: &dyn Store, name: &Name) -> Result<Option<Stored>, StoreError> {
    Ok(store.get(&name.key()).await?.as_ref().and_then(Stored::read))
}

/// The write of a record over the one that was read; 0: there is none yet.
pub(super) fn written(name: &Name, before: Revision, record: &Record) -> Write {
    let expect = if before == 0 { Expect::Absent } else { Expect::Revision(before) };
    Write { key: name.key(), value: Some(record.encode_to_vec().into()), expect }
}

/// Writes a record over the one that was read; 0: there is none yet.
pub(super) async fn write(
    store: &dyn Store,
    name: &Name,
    before: Revision,
    record: Record,
) -> Result<Stored, StoreError> {
    let revision = store.write(written(name, before, &record)).await?;
    Ok(Stored { record, revision })
}

impl Room {
    pub(super) fn seal_sign_in(&self, name: &Name, secret: &[u8]) -> Result<Bytes, Error> {
        let sealed = self.keys.seal(&format!("{name}#sign-in"), secret);
        Ok(sealed.map_err(|error| sealed_shut(&name.connection, &error))?.into())
    }

    pub(super) fn unseal_sign_in(&self, name: &Name, sealed: &[u8]) -> Result<Bytes, Error> {
        let plain = self.keys.open(&format!("{name}#sign-in"), sealed);
        Ok(Bytes::copy_from_slice(&plain.map_err(|error| sealed_shut(&name.connection, &error))?))
    }

    /// A name as it stands in a URL: nobody can read it, or make one.
    pub(super) fn sealed_name(&self, purpose: &str, name: &Name) -> Result<String, Error> {
        let sealed = self.keys.seal(purpose, name.to_string().as_bytes());
        Ok(URL_SAFE_NO_PAD.encode(sealed.map_err(|error| sealed_shut(&name.connection, &error))?))
    }

    /// Reads a name that was sealed for a purpose. `None`: it was not.
    pub(super) fn unsealed_name(&self, purpose: &str, sealed: &str) -> Option<Name> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plain = self.keys.open(purpose, &sealed).ok()?;
        Name::parse(std::str::from_utf8(&plain).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_requests_and_from_keys() {
        let name = Name::parse("connections/office/sign-ins/sign-in-00ff").unwrap();
        assert_eq!(name.key(), "sign-ins/office/sign-in-00ff");
        assert_eq!(Name::of_key(&name.key()).unwrap(), name);
        for wrong in ["", "connections/office", "connections/office/sign-ins/", "connections/o/sign-ins/abc"]
        {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Name::of_key("sign-ins/office"), None);
    }

    #[test]
    fn one_that_nobody_did_in_time_has_failed() {
        let name = Name::parse("connections/office/sign-ins/abc").unwrap();
        let expiring = |ago: u64| Stored {
            record: Record {
                state: SignInState::Pending.into(),
                expire_time: Some(
                    (SystemTime::now() + std::time::Duration::from_secs(100)
                        - std::time::Duration::from_secs(ago))
                    .into(),
                ),
                ..Record::default()
            },
            revision: 1,
        };
        assert_eq!(expiring(0).shown(&name).state(), SignInState::Pending);
        let expired = expiring(200).shown(&name);
        assert_eq!((expired.state(), expired.failure_reason.as_str()), (SignInState::Failed, EXPIRED.0));
    }
}
