//! One stream of a SHARED subscription.

use std::sync::Arc;

use postern_proto::event::v1::consume_request::Kind;
use postern_proto::event::v1::{Confirmed, ConsumeOpened, ConsumeRequest, SubscriptionMode};
use tokio::sync::{mpsc, oneshot};

use super::desk::{Ask, By, Given, Joined};
use crate::error::Error;
use crate::events::reading::draining;
use crate::store::StoreError;
use crate::subscriptions::consume::{Inbound, Opening};
use crate::subscriptions::outlet::{Outlet, Worked};
use crate::subscriptions::settle::Checked;
use crate::subscriptions::stored;
use crate::subscriptions::wire::Said;
use crate::subscriptions::{Subscriptions, moved};

/// Serves a stream until it ends; without an error where the peer has ended it.
pub(in crate::subscriptions) async fn run(
    of: &Arc<Subscriptions>,
    opening: Opening,
    mut inbound: Inbound,
    outlet: &mut Outlet,
) -> Result<(), Error> {
    let (events, bytes) = (opening.max_events, opening.max_bytes);
    let (joined, desk) = of.ask(&opening.id, |answer| Ask::Join { events, bytes, answer }).await?;
    outlet.say(Said::Opened(ConsumeOpened {
        mode: SubscriptionMode::Shared.into(),
        cursor: joined.floor.borrow().encode(),
        heartbeat_interval: opening.heartbeat.try_into().ok(),
        ack_deadline: joined.ack_deadline.try_into().ok(),
        client_id: opening.client_id.clone(),
    }));
    let stream = joined.stream;
    let ended = serve(of, &opening.id, joined, &desk, &mut inbound, outlet).await;
    // Where the desk has ended, its deliveries come back at their deadlines.
    drop(desk.send(Ask::Leave { stream }).await);
    ended
}

async fn serve(
    of: &Arc<Subscriptions>,
    id: &str,
    mut joined: Joined,
    desk: &mpsc::Sender<Ask>,
    inbound: &mut Inbound,
    outlet: &mut Outlet,
) -> Result<(), Error> {
    let gone = || Error::from(StoreError::Failed("the subscription's task ended".to_owned()));
    let first = *joined.life.borrow_and_update();
    let mut taking: Option<oneshot::Receiver<Result<Given, Error>>> = None;
    let by = By::Stream(joined.stream);
    loop {
        if outlet.is_clear() && taking.is_none() {
            let (answer, given) = oneshot::channel();
            desk.send(Ask::Take { by, at_once: false, answer }).await.map_err(|_| gone())?;
            taking = Some(given);
        }
        let given = async {
            match &mut taking {
                Some(given) => given.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = of.stop.cancelled() => return Err(draining().into()),
            changed = joined.life.changed() => {
                let now = *joined.life.borrow_and_update();
                if now.deleted {
                    return Err(stored::missing(id));
                }
                if now.moves != first.moves {
                    return Err(moved().into());
                }
                changed.map_err(|_| gone())?;
            }
            message = inbound.message(), if outlet.may_listen() => match message {
                Ok(Some(message)) => outlet.confirm(hear(desk, id, message).await?),
                // It has nothing more to say.
                Ok(None) => return Ok(()),
                // It cannot be read, or the peer is gone, which then does not hear of it.
                Err(status) => return Err(status.into()),
            },
            given = given => {
                taking = None;
                let given = given.map_err(|_| gone())??;
                if let Some(gap) = given.gap {
                    outlet.say(Said::Gap(gap));
                }
                outlet.deliver(given.deliveries);
            }
            worked = outlet.work(|| joined.floor.borrow().encode()) => if worked == Worked::Gone {
                return Ok(());
            },
        }
    }
}

/// Has done what the peer says of its deliveries.
async fn hear(desk: &mpsc::Sender<Ask>, id: &str, message: ConsumeRequest) -> Result<Confirmed, Error> {
    let settle = match message.kind {
        Some(Kind::Settle(settle)) => settle,
        Some(Kind::Start(_)) => return Err(Error::field("start", "came again: expected once")),
        Some(Kind::Commit(_)) => {
            return Err(Error::field("commit", "is of ORDERED subscriptions: expected settle"));
        }
        None => return Err(Error::field("kind", "is absent: expected settle")),
    };
    settled(desk, Checked::parse(settle, "settle", id)?).await
}

/// Has the desk do it, part by part.
pub(super) async fn settled(desk: &mpsc::Sender<Ask>, parts: Vec<Checked>) -> Result<Confirmed, Error> {
    let gone = || Error::from(StoreError::Failed("the subscription's task ended".to_owned()));
    let mut all = Confirmed::default();
    for checked in parts {
        let (answer, answered) = oneshot::channel();
        desk.send(Ask::Settle { checked, answer }).await.map_err(|_| gone())?;
        let confirmed = answered.await.map_err(|_| gone())??;
        all.ack_ids.extend(confirmed.ack_ids);
        all.failures.extend(confirmed.failures);
    }
    Ok(all)
}
