//! Which engine a gateway runs on, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::migrate::{self, Movable};
use super::nats::{Nats, NatsSettings, Servers};
use super::sqlite::{DATABASE_FILE, Sqlite};
use super::{EventLog, Store, StoreError};

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a folder of this machine, for one gateway.
    Folder(PathBuf),
    /// In a stream of NATS JetStream, for several.
    Nats(Servers),
}

impl FromStr for Place {
    type Err = String;

    /// A folder, unless it is an address of NATS.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains("://") {
            true => text.parse().map(Self::Nats),
            false if text.is_empty() => Err("expected a folder or nats://HOST:PORT".to_owned()),
            false => Ok(Self::Folder(text.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Nats(servers) => write!(f, "{servers}"),
        }
    }
}

/// A store that is open.
pub enum Engine {
    /// The embedded one.
    Sqlite(Arc<Sqlite>),
    /// The one that several gateways share.
    Nats(Arc<Nats>),
}

impl Engine {
    /// Opens a store, which is made where it is missing, for a gateway to run on.
    ///
    /// # Errors
    /// As those of [`Sqlite::open`] and [`Nats::open`]; it holds a copy that was not finished.
    pub async fn open(place: &Place, nats: &NatsSettings) -> Result<Self, StoreError> {
        Self::open_any(place, nats, true).await?.finished(place).await
    }

    /// The same for a store that must be there.
    pub(super) async fn open_there(place: &Place, nats: &NatsSettings) -> Result<Self, StoreError> {
        Self::open_any(place, nats, false).await?.finished(place).await
    }

    async fn finished(self, place: &Place) -> Result<Self, StoreError> {
        if let Err(problem) = migrate::check_finished(&*self.store()).await {
            self.close().await?;
            return Err(StoreError::Unusable { place: place.to_string(), problem });
        }
        Ok(self)
    }

    /// The same for a store that may be half full; `make` says whether one that is missing is made.
    pub(super) async fn open_any(place: &Place, nats: &NatsSettings, make: bool) -> Result<Self, StoreError> {
        match place {
            Place::Folder(folder) if !make && !folder.join(DATABASE_FILE).is_file() => {
                Err(StoreError::Unusable {
                    place: place.to_string(),
                    problem: "no store is there: expected the folder of a gateway that was stopped"
                        .to_owned(),
                })
            }
            Place::Folder(folder) => {
                let folder = folder.clone();
                let opened = tokio::task::spawn_blocking(move || Sqlite::open(&folder)).await;
                let broken = |error| StoreError::Failed(format!("the opening was broken off: {error}"));
                Ok(Self::Sqlite(opened.map_err(broken)??))
            }
            Place::Nats(servers) if make => Ok(Self::Nats(Nats::open(servers, nats).await?)),
            Place::Nats(servers) => Ok(Self::Nats(Nats::open_there(servers, nats).await?)),
        }
    }

    /// Its values.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(sqlite) => sqlite.clone(),
            Self::Nats(nats) => nats.clone(),
        }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Sqlite(sqlite) => sqlite.clone(),
            Self::Nats(nats) => nats.clone(),
        }
    }

    /// It, to be filled from another.
    pub(super) fn movable(&self) -> Arc<dyn Movable> {
        match self {
            Self::Sqlite(sqlite) => sqlite.clone(),
            Self::Nats(nats) => nats.clone(),
        }
    }

    /// Makes the last commit, and lets go of it.
    ///
    /// # Errors
    /// The last commit took too long; it may still come.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Nats(nats) => nats.close().await,
        }
    }
}
