//! Pull and Acknowledge of ORDERED subscriptions.

use bytes::Bytes;
use postern_proto::event::v1::{AcknowledgeRequest, Confirmed};
use tokio::time::Instant;

use super::{Hold, Way};
use crate::error::Error;
use crate::events::cursor::Cursor;
use crate::events::reading::draining;
use crate::store::StoreError;
use crate::subscriptions::gaps::merged;
use crate::subscriptions::news::Known;
use crate::subscriptions::pull::Pulling;
use crate::subscriptions::stored::{self, Stored};
use crate::subscriptions::wire::{BATCH_BYTES, PullAnswer};
use crate::subscriptions::{Subscriptions, moved, taken_over};

/// Gives what comes after the committed place.
pub(in crate::subscriptions) async fn pull(
    of: &Subscriptions,
    stored: Stored,
    asked: Pulling,
) -> Result<PullAnswer, Error> {
    let until = Instant::now() + asked.wait;
    let mut news = of.news.follow(&asked.id);
    let mut tail = of.log.tail();
    let mut seen = (0, news.borrow_and_update().look_again);
    let kept = of.take_over(&asked.id, &asked.client_id, false).await?;
    seen.0 = kept.revision;
    let hold = Hold::of(&kept.value);
    let (mut way, gap, _) = Way::begin(&*of.log, stored.filter(), &kept.value).await?;
    let mut answer = PullAnswer { deliveries: Vec::new(), cursor: Bytes::new(), gap };
    let mut bytes = 0_usize;
    loop {
        let left = asked.max_events - answer.deliveries.len();
        let room = BATCH_BYTES.saturating_sub(bytes);
        let next = way.next(&*of.log, left, room, answer.deliveries.is_empty()).await?;
        bytes += next.places.iter().map(|(_, bytes)| bytes).sum::<usize>();
        if let Some(gap) = next.gap {
            answer.gap = Some(merged(answer.gap.take(), gap));
        }
        answer.deliveries.extend(next.deliveries);
        let has_some = !answer.deliveries.is_empty() || answer.gap.is_some();
        if answer.deliveries.len() >= asked.max_events || next.is_full || (next.is_end && has_some) {
            break;
        }
        if !next.is_end {
            tokio::task::consume_budget().await;
            continue;
        }
        let after = way.after.sequence;
        let is_news = |known: &Known| known.reading > seen.0 || known.look_again > seen.1;
        tokio::select! {
            () = of.stop.cancelled() => return Err(draining().into()),
            known = async { news.wait_for(is_news).await.map(|known| *known) } => {
                let known = known.unwrap_or_default();
                hold.check(&stored::read_reading(&*of.store, &asked.id).await?.value)?;
                seen = (seen.0.max(known.reading), known.look_again);
            }
            grown = async { tail.wait_for(|last| *last > after).await.map(|_| ()) } => {
                grown.map_err(|_| StoreError::Failed("the log is closed".to_owned()))?;
            }
            () = tokio::time::sleep_until(until) => break,
        }
    }
    let is_past = way.after != way.committed;
    if answer.deliveries.is_empty() && answer.gap.is_none() && is_past {
        // Nothing but what the filter dropped: a subscription that rarely matches would else fall behind retention.
        of.commit(&asked.id, &way, way.after, false, |reading| hold.check(reading)).await?;
    }
    answer.cursor = way.after.encode();
    Ok(answer)
}

/// Commits the cursor of a Pull.
pub(in crate::subscriptions) async fn acknowledge(
    of: &Subscriptions,
    id: &str,
    stored: &Stored,
    request: AcknowledgeRequest,
) -> Result<Confirmed, Error> {
    let check = |reading: &stored::Reading| -> Result<(), Error> {
        match reading.client_id.as_str() {
            "" => Err(moved().into()),
            client_id if client_id == request.client_id => Ok(()),
            _ => Err(taken_over().into()),
        }
    };
    // Read before what it is compared with.
    let given = Cursor::decode(&request.cursor)?;
    let kept = stored::read_reading(&*of.store, id).await?;
    check(&kept.value)?;
    let (mut way, ..) = Way::begin(&*of.log, stored.filter(), &kept.value).await?;
    let bounds = of.log.bounds().await?;
    way.after = Cursor { epoch: bounds.epoch, sequence: bounds.last, fingerprint: 0 };
    let generation = kept.value.generation;
    if way.committing(&request.cursor)?.is_some() {
        let committed = of.commit(id, &way, given, true, |reading| {
            check(reading)?;
            if reading.generation != generation {
                return Err(moved().into());
            }
            Ok(())
        });
        way.committed = committed.await?.value.place();
    }
    Ok(Confirmed { cursor: way.committed.encode(), ..Confirmed::default() })
}
