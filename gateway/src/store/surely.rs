//! Writes whose outcome must be known: where the answer is lost, it is found out what became of them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Expect, Revision, Store, StoreError, Write};

/// How long it is found out, beyond what the store itself tries.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before another try.
const PAUSE: Duration = Duration::from_millis(250);

/// Writes one key, on a condition and with a value that nobody else writes there. Gives its revision; 0 for a deletion that
/// was found to have taken place.
///
/// # Errors
/// As [`Store::write`]. [`StoreError::Unknown`] only after a minute of trying.
pub async fn write_surely(store: &dyn Store, write: Write) -> Result<Revision, StoreError> {
    debug_assert!(write.expect != Expect::Any, "a repeat would overwrite what came after");
    let (until, mut is_lost) = (Instant::now() + PATIENCE, false);
    loop {
        let error = match store.write(write.clone()).await {
            // A repeat conflicts with the first, where that did take place.
            Err(error @ StoreError::Conflict { .. }) if is_lost => match store.get(&write.key).await {
                Ok(now) if now.as_ref().map(|now| &now.value) == write.value.as_ref() => {
                    return Ok(now.map_or(0, |now| now.revision));
                }
                Ok(_) => return Err(error),
                Err(error) => error,
            },
            Err(error @ StoreError::Unknown(_)) => {
                is_lost = true;
                error
            }
            Err(error @ StoreError::Failed(_)) if is_lost => error,
            ended => return ended,
        };
        if Instant::now() >= until {
            return Err(StoreError::Unknown(error.to_string()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
