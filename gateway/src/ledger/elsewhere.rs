//! Changes that another gateway makes: a repeat waits for what that one writes down, for as long as it lives.

use std::time::Duration;

use bytes::Bytes;
use postern_chassis::fault::Fault;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Code;

use super::Ledger;
use crate::error::Error;
use crate::store::Revision;

/// How long a repeat waits at most: longer than changes take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long to wait until it is looked again, at first and at last: nobody is told of records.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

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
    let until = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        // Asked first: what that one wrote down before its end is seen then.
        let is_live = !run.is_empty() && ledger.leases.is_live(run).await?;
        if ledger.has_changed(key, revision).await? {
            return Ok(true);
        }
        if !is_live {
            return Ok(false);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = caller.closed() => {
                let message = "the caller ended the call";
                return Err(Fault::new(Code::Cancelled, "CALL_CANCELLED", message).into());
            }
        }
        if Instant::now() >= until {
            let message = "another gateway has been making this change for too long";
            return Err(Fault::new(Code::Unavailable, "REQUEST_RUNNING", message).into());
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
