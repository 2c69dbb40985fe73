//! What a desk does where somebody else has written: it takes that over as a whole, or, where storage fails, not at all.

use postern_proto::event::v1::{Gap, GapReason};

use super::{By, Desk};
use crate::error::Error;
use crate::events::begin::{Begin, begin};
use crate::events::cursor::Cursor;
use crate::events::wish::Start;
use crate::store::EventLog;
use crate::subscriptions::moved;
use crate::subscriptions::stored::{self, Reading};

/// Where a reading is in the log.
pub(super) struct Place {
    pub(super) scan: Cursor,
    /// What is no longer kept before it.
    pub(super) gap: Option<Gap>,
    /// Whether the log is another one than the reading is of.
    pub(super) is_other_log: bool,
}

impl Place {
    pub(super) async fn find(log: &dyn EventLog, reading: &Reading) -> Result<Self, Error> {
        let start = Start::After(reading.place(), reading.cursor.clone());
        let Begin { after: scan, gap, .. } = begin(log, start).await?;
        let is_other_log = gap.as_ref().is_some_and(|gap| gap.reason() == GapReason::LogReset);
        Ok(Self { scan, gap, is_other_log })
    }
}

impl Desk {
    /// Takes over what another gateway, or a caller, has written. False where storage fails for now: who waits is told, and
    /// the desk stays, since it alone knows which stream has what.
    ///
    /// # Errors
    /// The subscription was deleted.
    pub(super) async fn catch_up(&mut self) -> Result<bool, Error> {
        match self.reload().await {
            Err(error) if !matches!(error, Error::NotFound(..)) => {
                self.put_off(error).await?;
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }

    async fn reload(&mut self) -> Result<(), Error> {
        // Before it is read: what comes in between is read again.
        let looked = self.of.news.known(&self.id).look_again;
        let stored = stored::read(&*self.of.store, &self.id).await?;
        let kept = stored::read_reading(&*self.of.store, &self.id).await?;
        let is_moved = kept.value.generation != self.kept.value.generation;
        let filter_changed = self.stored.subscription.filter != stored.subscription.filter;
        let place = kept.value.place();
        let is_ahead = place.epoch != self.scan.epoch || place.sequence > self.scan.sequence;
        // A gap that was found here may have been told elsewhere, and nothing since.
        if is_moved || filter_changed || is_ahead || self.gap.is_some() {
            let Place { scan, gap, is_other_log } = Place::find(&*self.of.log, &kept.value).await?;
            (self.scan, self.gap, self.is_other_log) = (scan, gap, is_other_log);
        }
        // All of it was read: from here on nothing fails.
        (self.kept, self.looked) = (kept, looked);
        if stored.revision != self.stored.revision {
            (self.filter, self.stored) = (stored.filter(), stored);
        }
        if is_moved {
            self.life.send_modify(|life| life.moves += 1);
            self.streams.clear();
            self.held.clear();
            self.told.clear();
            for take in std::mem::take(&mut self.takes) {
                match take.by {
                    By::Stream(_) => drop(take.answer.send(Err(moved().into()))),
                    By::Pull(_) => self.takes.push_back(take),
                }
            }
        }
        Ok(())
    }
}
