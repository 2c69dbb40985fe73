//! A connection opened for calls: the metadata that travels with them, and how long its grant is good.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use postern_chassis::fault::Fault;
use postern_chassis::opened::{CONNECTION_METADATA, MAX_OPEN_CONNECTION_BYTES, encode};
use postern_proto::connection::v1::{Connection, ConnectionState};
use postern_proto::connector::v1::OpenConnection;
use prost::Message as _;
use tonic::Code;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use super::record::{Stored, is_shut};
use crate::error::Error;
use crate::store::Revision;

/// How long before its end a grant is renewed, at most; a short one is renewed after four fifths of its life.
const RENEW_AHEAD: Duration = Duration::from_secs(300);

/// A connection opened for calls. Holds secrets: it shows none.
pub struct Opened {
    name: String,
    kind: String,
    edition: u64,
    state: ConnectionState,
    metadata: BinaryMetadataValue,
    header: HeaderValue,
    grant: Grant,
    /// Whether a renewal ahead of expiry is under way.
    pub(super) renewing: AtomicBool,
}

/// What is known of the grant that an opened connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// Connections of this kind need none.
    NotNeeded,
    /// There is none that could be used.
    Absent {
        /// The revision of what is stored in its place. 0: nothing.
        revision: Revision,
    },
    /// There is one.
    Held {
        /// Its revision in the store.
        revision: Revision,
        /// When it is to be renewed, and when it must not be used any more. `None`: it lasts.
        times: Option<(SystemTime, SystemTime)>,
    },
}

impl Grant {
    /// A grant that is held until a time. The renewal's time has jitter, so that gateways and connections do not all
    /// come at once.
    pub(super) fn held(revision: Revision, expires: Option<SystemTime>) -> Self {
        let times = expires.map(|expires| {
            let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
            let ahead = (left / 5).min(RENEW_AHEAD).mul_f64(0.75 + fastrand::f64() / 2.0);
            (expires - ahead, expires - ahead / 8)
        });
        Self::Held { revision, times }
    }

    /// The revision of what is stored.
    pub(super) fn revision(self) -> Revision {
        match self {
            Self::NotNeeded => 0,
            Self::Absent { revision } | Self::Held { revision, .. } => revision,
        }
    }
}

/// Whether an opened connection can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It can.
    Fresh,
    /// It can, and its grant should be renewed meanwhile.
    Ageing,
    /// Its grant must be renewed first.
    Spent,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

impl Opened {
    pub(super) fn new(
        stored: &Stored,
        connection: Connection,
        grant: Grant,
        token: bytes::Bytes,
    ) -> Result<Self, Error> {
        let (name, kind) = (connection.name.clone(), connection.kind.clone());
        let metadata = metadata_of(&OpenConnection { connection: Some(connection), grant: token })?;
        let mut map = MetadataMap::new();
        map.insert_bin(CONNECTION_METADATA, metadata.clone());
        let mut header =
            map.into_headers().remove(CONNECTION_METADATA).unwrap_or(HeaderValue::from_static(""));
        header.set_sensitive(true);
        Ok(Self {
            name,
            kind,
            edition: stored.edition,
            state: stored.connection.state(),
            metadata,
            header,
            grant,
            renewing: AtomicBool::new(false),
        })
    }

    /// `connections/{connection}`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of its connector.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Changes with each change of its settings or credentials.
    #[must_use]
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// The value of the metadata `postern-connection-bin`, marked sensitive.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// For tonic's own requests. The type's `Debug` shows what it holds: never to be printed.
    pub(super) fn metadata(&self) -> &BinaryMetadataValue {
        &self.metadata
    }

    pub(super) fn grant(&self) -> Grant {
        self.grant
    }

    pub(super) fn state(&self) -> ConnectionState {
        self.state
    }

    /// Whether its state says that no call is to be made.
    pub(super) fn is_shut(&self) -> bool {
        is_shut(self.state)
    }

    pub(super) fn freshness(&self) -> Freshness {
        match self.grant {
            Grant::NotNeeded | Grant::Held { times: None, .. } => Freshness::Fresh,
            Grant::Absent { .. } => Freshness::Spent,
            Grant::Held { times: Some((renew, spent)), .. } => {
                let now = SystemTime::now();
                if now < renew {
                    Freshness::Fresh
                } else if now < spent {
                    Freshness::Ageing
                } else {
                    Freshness::Spent
                }
            }
        }
    }
}

/// The metadata for a connection, if it is small enough to travel.
pub(super) fn metadata_of(connection: &OpenConnection) -> Result<BinaryMetadataValue, Error> {
    let size = connection.encoded_len();
    if size <= MAX_OPEN_CONNECTION_BYTES {
        return Ok(encode(connection));
    }
    let problem = format!("settings and credentials have {size} bytes, at most {MAX_OPEN_CONNECTION_BYTES}");
    if connection.grant.is_empty() {
        return Err(Error::field("connection", problem));
    }
    Err(Fault::new(Code::Internal, "GRANT_TOO_LARGE", format!("with its grant, {problem}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(grant: Grant) -> Opened {
        let connection = Connection { name: "connections/abc".into(), ..Default::default() };
        let stored = Stored {
            connection: connection.clone(),
            credentials: Default::default(),
            edition: 1,
            needs_grant: false,
            revision: 1,
        };
        Opened::new(&stored, connection, grant, bytes::Bytes::from_static(b"sesame")).unwrap()
    }

    #[test]
    fn a_grant_is_renewed_ahead_of_its_end() {
        let ends_in = |seconds| Grant::held(1, Some(SystemTime::now() + Duration::from_secs(seconds)));
        assert_eq!(opened(ends_in(3_600)).freshness(), Freshness::Fresh);
        assert_eq!(opened(ends_in(0)).freshness(), Freshness::Spent);
        let Grant::Held { times: Some((renew, spent)), .. } = ends_in(3_600) else { panic!("not held") };
        let ahead = SystemTime::now() + Duration::from_secs(3_600);
        let ahead = ahead.duration_since(renew).unwrap();
        assert!((200..400).contains(&ahead.as_secs()), "{ahead:?}");
        assert!(renew < spent);
        let past = SystemTime::now() - Duration::from_secs(1);
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(
            opened(Grant::Held { revision: 1, times: Some((past, later)) }).freshness(),
            Freshness::Ageing
        );
    }

    #[test]
    fn an_opened_connection_shows_no_secret() {
        let opened = opened(Grant::NotNeeded);
        let shown = format!("{opened:?} {:?}", opened.header());
        assert!(!shown.contains("sesame") && !shown.contains("c2VzYW1l"), "{shown}");
    }
}
