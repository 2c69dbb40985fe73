//! Pull and Acknowledge of SHARED subscriptions.

use std::sync::Arc;

use bytes::Bytes;
use postern_proto::event::v1::{Confirmed, Settle};

use super::desk::{Ask, By};
use crate::error::Error;
use crate::events::reading::draining;
use crate::subscriptions::Subscriptions;
use crate::subscriptions::pull::Pulling;
use crate::subscriptions::settle::Checked;
use crate::subscriptions::wire::PullAnswer;

/// Gives what there is, each delivery outstanding until its deadline.
pub(in crate::subscriptions) async fn pull(
    of: &Arc<Subscriptions>,
    asked: Pulling,
) -> Result<PullAnswer, Error> {
    let by = By::Pull(asked.max_events);
    let at_once = asked.wait.is_zero();
    let taking = of.ask(&asked.id, |answer| Ask::Take { by, at_once, answer });
    let nothing = || PullAnswer { deliveries: Vec::new(), cursor: Bytes::new(), gap: None };
    let waited = async {
        match at_once {
            true => std::future::pending().await,
            false => tokio::time::sleep(asked.wait).await,
        }
    };
    tokio::select! {
        biased;
        given = taking => {
            let (given, _) = given?;
            Ok(PullAnswer { deliveries: given.deliveries, gap: given.gap, ..nothing() })
        }
        () = of.stop.cancelled() => Err(draining().into()),
        () = waited => Ok(nothing()),
    }
}

/// Does what was said of deliveries.
pub(in crate::subscriptions) async fn settle(
    of: &Arc<Subscriptions>,
    id: &str,
    settle: Settle,
) -> Result<Confirmed, Error> {
    let mut all = Confirmed::default();
    for checked in Checked::parse(settle, "settle", id)? {
        let (confirmed, _) = of.ask(id, |answer| Ask::Settle { checked: checked.clone(), answer }).await?;
        all.ack_ids.extend(confirmed.ack_ids);
        all.failures.extend(confirmed.failures);
    }
    Ok(all)
}
