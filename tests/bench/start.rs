//! From the start of the all-in-one gateway's process to its first answer, on a new folder and on one it knows.

use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_sandbox::child::Gateway;
use tokio::time::Instant;

use crate::figures::{Table, millis, quantile};
use crate::peers::program;

/// How often it is started each way.
const ROUNDS: usize = 15;

/// Measures, and gives the section.
pub(crate) async fn section() -> Result<String, BoxError> {
    let mut table = Table::new("Start to ready", &["folder", "median", "slowest of 15"]);
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        new.push(start(folder.path()).await?);
        known.push(start(folder.path()).await?);
    }
    for (name, mut times) in [("new: store and keys are made", new), ("known", known)] {
        table.row(&[name.to_owned(), millis(quantile(&mut times, 0.5)), millis(quantile(&mut times, 1.0))]);
    }
    table.note("The gateway all-in-one, from the start of the process until its ready file is there: both connectors are \
                up and described, the listener takes calls.");
    Ok(table.markdown())
}

async fn start(folder: &std::path::Path) -> Result<Duration, BoxError> {
    let begun = Instant::now();
    let gateway = Gateway::start(&program("gateway")?, &[], "127.0.0.1:0", folder, "error").await?;
    let took = begun.elapsed();
    gateway.stop().await?;
    Ok(took)
}
