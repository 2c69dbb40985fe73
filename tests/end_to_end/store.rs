//! Storage: what every engine promises, and what each promises of its own. A further engine is one more line here.

pub(crate) mod conformance;
mod crash;
mod embedded;
mod nats;
pub(crate) mod nats_server;
mod speed;

use std::path::Path;
use std::sync::Arc;

use postern_gateway::store::nats::Nats;
use postern_gateway::store::sqlite::Sqlite;
use postern_tests::memory::{Disk, Memory};

use self::conformance::{Engine, Opened, conform};
use self::nats_server::{NatsServer, of_stream};

conform!(embedded_engine: EmbeddedEngine);
conform!(nats_engine: NatsEngine);
conform!(memory_engine: MemoryEngine);

/// SQLite in a folder that goes with the test.
pub(crate) struct EmbeddedEngine(tempfile::TempDir);

impl EmbeddedEngine {
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}

impl Engine for EmbeddedEngine {
    async fn start() -> Option<Self> {
        Some(Self(tempfile::tempdir().expect("a temporary folder")))
    }

    async fn open(&self) -> Opened {
        let sqlite = Sqlite::open(self.folder()).expect("the folder is nobody else's");
        let closing = sqlite.clone();
        let close = Box::pin(async move { closing.close().await.expect("the last commit is made") });
        Opened { store: sqlite.clone(), log: sqlite as Arc<_>, close }
    }
}

/// A stream of a server of its own.
pub(crate) struct NatsEngine(NatsServer);

impl Engine for NatsEngine {
    async fn start() -> Option<Self> {
        NatsServer::start().await.map(Self)
    }

    async fn open(&self) -> Opened {
        let nats = Nats::open(&self.0.servers(), &of_stream("postern")).await.expect("the server is there");
        let closing = nats.clone();
        let close = Box::pin(async move { closing.close().await.expect("the last commit is made") });
        Opened { store: nats.clone(), log: nats as Arc<_>, close }
    }
}

/// What simulations are run on.
pub(crate) struct MemoryEngine(Arc<Disk>);

impl Engine for MemoryEngine {
    async fn start() -> Option<Self> {
        Some(Self(Disk::new()))
    }

    async fn open(&self) -> Opened {
        let memory = Memory::open(self.0.clone());
        let closing = memory.clone();
        let close = Box::pin(async move { closing.close() });
        Opened { store: memory.clone(), log: memory as Arc<_>, close }
    }
}
