//! Changes that another gateway makes: a repeat waits for what that one writes down, for as long as it lives.

use std::time::Duration;

use bytes::Bytes;
use postern_chassis::fault::Fault;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tonic::Code;

use super::Ledger;
use crate::error::Error;
use crate::leases::member_key;
use crate::store::Revision;

/// How long a repeat waits at most: longer than changes take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits until a record has changed that another run of the gateway began. False: that one lives no more, and the record
/// is as it was.
pub(super) async fn wait(
    ledger: &Ledger,
    key: &str,
    revision: Option<Revision>,
    run: &Bytes,
    caller: &mut oneshot::Sender<()>,
) -> Result<bool, Error> {
    let Ok(run) = std::str::from_utf8(run) else { return Ok(false) };
    let until = tokio::time::Instant::now() + PATIENCE;
    let member = member_key(run);
    // Watched before it is read: no change falls in between.
    let mut changes = ledger.store.watch();
    loop {
        // Asked first: what that one wrote down before its end is seen then.
        let is_live = !run.is_empty() && ledger.leases.is_live(run).await?;
        if ledger.has_changed(key, revision).await? {
            return Ok(true);
        }
        if !is_live {
            return Ok(false);
        }
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = caller.closed() => {
                    let message = "the caller ended the call";
                    return Err(Fault::new(Code::Cancelled, "CALL_CANCELLED", message).into());
                }
                () = tokio::time::sleep_until(until) => {
                    let message = "another gateway has been making this change for too long";
                    let fault = Fault::new(Code::Unavailable, "REQUEST_RUNNING", message);
                    return Err(fault.into());
                }
            };
            match change {
                Ok(change) if change.key == key || change.key == member && change.value.is_none() => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Ok(false),
            }
        }
    }
}
