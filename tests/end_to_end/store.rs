//! Storage: what every engine promises, and what each promises of its own. A further engine is one more line here.

pub(crate) mod conformance;
mod crash;
mod embedded;
mod speed;

use std::path::Path;
use std::sync::Arc;

use postern_gateway::store::sqlite::Sqlite;

use self::conformance::{Engine, Opened, conform};

conform!(embedded_engine: EmbeddedEngine);

/// SQLite in a folder that goes with the test.
pub(crate) struct EmbeddedEngine(tempfile::TempDir);

impl EmbeddedEngine {
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}

impl Engine for EmbeddedEngine {
    fn start() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    async fn open(&self) -> Opened {
        let sqlite = Sqlite::open(self.folder()).expect("the folder is nobody else's");
        let closing = sqlite.clone();
        let close = Box::pin(async move { closing.close().await.expect("the last commit is made") });
        Opened { store: sqlite.clone(), log: sqlite as Arc<_>, close }
    }
}
