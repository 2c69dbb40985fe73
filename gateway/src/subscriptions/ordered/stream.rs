//! One stream of an ORDERED subscription.

use std::collections::VecDeque;

use postern_proto::event::v1::consume_request::Kind;
use postern_proto::event::v1::{Confirmed, ConsumeOpened, ConsumeRequest, SubscriptionMode};
use tokio::sync::watch;

use super::{Hold, Way};
use crate::error::Error;
use crate::events::cursor::Cursor;
use crate::events::reading::draining;
use crate::metrics::Subscriber;
use crate::store::{Revision, Sequence, StoreError};
use crate::subscriptions::Subscriptions;
use crate::subscriptions::consume::{Inbound, Opening};
use crate::subscriptions::news::Known;
use crate::subscriptions::outlet::{Outlet, Worked};
use crate::subscriptions::stored::{self, Reading};
use crate::subscriptions::wire::Said;

struct Reader<'a> {
    of: &'a Subscriptions,
    opening: Opening,
    hold: Hold,
    way: Way,
    /// The revisions that this stream knows of.
    revision: Revision,
    looked: u64,
    /// What was delivered and is not committed.
    outstanding: VecDeque<(Sequence, usize)>,
    bytes: usize,
    /// Whether the next event waits for bytes to be settled.
    is_full: bool,
    /// Where a gap ends that was told: until that or more is committed, its reader may not have heard of it.
    gap_end: Option<Sequence>,
    subscriber: Subscriber,
}

/// Serves a stream until it ends; without an error where the peer has ended it.
pub(in crate::subscriptions) async fn run(
    of: &Subscriptions,
    opening: Opening,
    mut inbound: Inbound,
    outlet: &mut Outlet,
) -> Result<(), Error> {
    let mut news = of.news.follow(&opening.id);
    let looked = news.borrow_and_update().look_again;
    let kept = of.take_over(&opening.id, &opening.client_id, true).await?;
    let (way, gap, opened) = Way::begin(&*of.log, opening.stored.filter(), &kept.value).await?;
    outlet.say(Said::Opened(ConsumeOpened {
        mode: SubscriptionMode::Ordered.into(),
        cursor: opened,
        heartbeat_interval: opening.heartbeat.try_into().ok(),
        ack_deadline: None,
        client_id: opening.client_id.clone(),
    }));
    let gap_end = gap.as_ref().map(|_| way.after.sequence);
    if let Some(gap) = gap {
        outlet.say(Said::Gap(gap));
    }
    let mut reader = Reader {
        of,
        opening,
        hold: Hold::of(&kept.value),
        subscriber: Subscriber::at(way.after.sequence),
        way,
        revision: kept.revision,
        looked,
        outstanding: VecDeque::new(),
        bytes: 0,
        is_full: false,
        gap_end,
    };
    reader.serve(&mut inbound, outlet, news).await
}

impl Reader<'_> {
    async fn serve(
        &mut self,
        inbound: &mut Inbound,
        outlet: &mut Outlet,
        mut news: watch::Receiver<Known>,
    ) -> Result<(), Error> {
        let mut tail = self.of.log.tail();
        loop {
            if self.of.stop.is_cancelled() {
                return Err(draining().into());
            }
            if outlet.is_clear() && self.has_room() {
                self.read_on(outlet).await?;
            }
            let place = self.way.after;
            let after = place.sequence;
            let wants_more = outlet.is_clear() && self.has_room();
            tokio::select! {
                biased;
                () = self.of.stop.cancelled() => {}
                known = async { news.wait_for(|known| self.is_news(*known)).await.map(|known| *known) } => {
                    self.look_again(known.unwrap_or_default()).await?;
                }
                message = inbound.message(), if outlet.may_listen() => match message {
                    Ok(Some(message)) => self.hear(message, inbound, outlet).await?,
                    // It has nothing more to say.
                    Ok(None) => return Ok(()),
                    // It cannot be read, or the peer is gone, which then does not hear of it.
                    Err(status) => return Err(status.into()),
                },
                worked = outlet.work(|| place.encode()) => match worked {
                    Worked::Told => {}
                    Worked::Beaten => self.pass_over().await?,
                    Worked::Gone => return Ok(()),
                },
                grown = async { tail.wait_for(|last| *last > after).await.map(|_| ()) }, if wants_more => {
                    grown.map_err(|_| StoreError::Failed("the log is closed".to_owned()))?;
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        !self.is_full && self.outstanding.len() < self.opening.max_events
    }

    async fn read_on(&mut self, outlet: &mut Outlet) -> Result<(), Error> {
        let events = self.opening.max_events - self.outstanding.len();
        let room = self.opening.max_bytes.saturating_sub(self.bytes);
        let next = self.way.next(&*self.of.log, events, room, self.outstanding.is_empty()).await?;
        self.is_full = next.is_full && next.deliveries.is_empty();
        self.subscriber.reach(self.way.after.sequence);
        if let Some(gap) = next.gap {
            self.gap_end = Cursor::decode(&gap.to_cursor).ok().map(|end| end.sequence);
            outlet.say(Said::Gap(gap));
        }
        self.bytes += next.places.iter().map(|(_, bytes)| bytes).sum::<usize>();
        self.outstanding.extend(next.places);
        outlet.deliver(next.deliveries);
        // Much may be dropped before anything matches: others get their turn.
        tokio::task::consume_budget().await;
        Ok(())
    }

    fn is_news(&self, known: Known) -> bool {
        known.reading > self.revision
            || known.subscription > self.opening.stored.revision
            || known.look_again > self.looked
    }

    /// Somebody else wrote: whether this stream may go on, and with which filter.
    async fn look_again(&mut self, known: Known) -> Result<(), Error> {
        self.looked = known.look_again;
        let kept = stored::read_reading(&*self.of.store, &self.opening.id).await?;
        self.hold.check(&kept.value)?;
        self.revision = kept.revision.max(known.reading);
        // The same client may commit by Acknowledge.
        let place = self.way.committed_by(&kept.value);
        if let Some(place) = place.filter(|place| place.sequence > self.way.committed.sequence) {
            self.settle_up_to(place);
        }
        let stored = stored::read(&*self.of.store, &self.opening.id).await?;
        self.way.filter = stored.filter();
        self.opening.stored = stored;
        Ok(())
    }

    /// Takes what the peer says, with what more it has said already: several commits are one write.
    async fn hear(
        &mut self,
        message: ConsumeRequest,
        inbound: &mut Inbound,
        outlet: &mut Outlet,
    ) -> Result<(), Error> {
        let mut to: Option<Cursor> = None;
        let (mut message, mut heard) = (Some(message), Ok(()));
        let mut is_confirmed_anew = false;
        while let Some(said) = message.take() {
            match said.kind {
                Some(Kind::Commit(commit)) => {
                    is_confirmed_anew = true;
                    let next = self.way.committing(&commit.cursor)?;
                    to = next.filter(|next| to.is_none_or(|to| next.sequence > to.sequence)).or(to);
                }
                Some(Kind::Start(_)) => return Err(Error::field("start", "came again: expected once")),
                Some(Kind::Settle(_)) => {
                    return Err(Error::field("settle", "is of SHARED subscriptions: expected commit"));
                }
                None => return Err(Error::field("kind", "is absent: expected commit")),
            }
            tokio::select! {
                biased;
                next = inbound.message() => match next {
                    Ok(next) => message = next,
                    // What was said before it holds all the same.
                    Err(status) => heard = Err(status),
                },
                () = std::future::ready(()) => {}
            }
        }
        if let Some(to) = to {
            self.commit(to, true).await?;
        }
        if is_confirmed_anew {
            let cursor = self.way.committed.encode();
            outlet.confirm(Confirmed { cursor, ..Confirmed::default() });
        }
        heard.map_err(Error::from)
    }

    async fn commit(&mut self, to: Cursor, is_ack: bool) -> Result<(), Error> {
        let hold = self.hold;
        let check = |reading: &Reading| hold.check(reading);
        let kept = self.of.commit(&self.opening.id, &self.way, to, is_ack, check).await?;
        self.revision = kept.revision;
        self.settle_up_to(kept.value.place());
        Ok(())
    }

    /// What is outstanding up to a place is so no longer.
    fn settle_up_to(&mut self, to: Cursor) {
        self.way.commit_up_to(to);
        self.subscriber.reach(self.way.after.sequence);
        self.is_full = false;
        self.gap_end = self.gap_end.filter(|end| *end > to.sequence);
        while let Some((sequence, bytes)) = self.outstanding.front().copied() {
            if sequence > to.sequence {
                break;
            }
            self.bytes -= bytes;
            self.outstanding.pop_front();
        }
    }

    /// Commits what the filter dropped, where nothing else is left to commit: else a subscription that rarely matches would
    /// fall behind retention.
    async fn pass_over(&mut self) -> Result<(), Error> {
        if self.outstanding.is_empty() && self.gap_end.is_none() && self.way.after != self.way.committed {
            self.commit(self.way.after, false).await?;
        }
        Ok(())
    }
}
