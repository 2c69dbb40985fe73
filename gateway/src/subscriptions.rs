//! Stored subscriptions: reading positions over the event log that outlive their subscribers and gateways. All that lasts is
//! in the store, written on the condition that nobody else wrote, so that any gateway of a store serves any subscriber.

mod ack_id;
mod aside;
mod change;
mod clock;
mod consume;
mod gaps;
mod news;
mod ordered;
mod outlet;
mod pull;
mod seek;
mod service;
mod settle;
mod shared;
mod stored;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_chassis::fault::Fault;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;

pub use self::clock::Clock;
use self::news::News;
use self::shared::desk::{Answer, Ask};
pub(crate) use self::wire::{ConsumeAnswer, PullAnswer};
use crate::error::Error;
use crate::events::reading::draining;
use crate::store::{EventLog, Store, StoreError};

/// How many messages a desk may have waiting: who has more to say waits.
const ASKS: usize = 256;
/// How often a change that meets another one at the same time is tried.
const TRIES: usize = 20;
/// How often a desk that was just leaving is asked again.
const DESK_TRIES: usize = 3;

/// The subscriptions of a store, at one gateway.
pub struct Subscriptions {
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    stop: CancellationToken,
    clock: Clock,
    news: News,
    desks: Mutex<Desks>,
    tasks: TaskTracker,
}

/// The desks at work, each with its number.
#[derive(Default)]
struct Desks {
    open: HashMap<String, (u64, mpsc::Sender<Ask>)>,
    last: u64,
}

impl Subscriptions {
    /// Starts serving the subscriptions of a store. Once `stop` is cancelled streams end.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        log: Arc<dyn EventLog>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let changes = store.watch();
        let (news, desks, tasks) = (News::default(), Mutex::default(), TaskTracker::new());
        let new = Arc::new(Self { store, log, stop, clock, news, desks, tasks });
        let (telling, closing) = (new.clone(), new.clone());
        // Streams that end still hear of what they wait for, hence until all have.
        tokio::spawn(async move {
            tokio::select! {
                () = telling.news.run(changes) => {}
                () = telling.tasks.wait() => {}
            }
        });
        tokio::spawn(async move {
            closing.stop.cancelled().await;
            closing.desks().open.clear();
            closing.tasks.close();
        });
        new
    }

    /// Waits until all that was going on at the stop has ended: what streams had is given back by then.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }

    fn desks(&self) -> std::sync::MutexGuard<'_, Desks> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The desk of a SHARED subscription.
    fn desk(self: &Arc<Self>, id: &str) -> Result<mpsc::Sender<Ask>, Error> {
        let mut desks = self.desks();
        if self.stop.is_cancelled() {
            return Err(draining().into());
        }
        if let Some((_, desk)) = desks.open.get(id).filter(|(_, desk)| !desk.is_closed()) {
            return Ok(desk.clone());
        }
        desks.last += 1;
        let (desk, asks) = mpsc::channel(ASKS);
        let number = desks.last;
        desks.open.insert(id.to_owned(), (number, desk.clone()));
        self.tasks.spawn(shared::desk::run(self.clone(), id.to_owned(), number, asks));
        Ok(desk)
    }

    /// Takes a desk away; where its messages are given, only if there are none.
    fn leave_desk(&self, id: &str, number: u64, asks: Option<&mpsc::Receiver<Ask>>) -> bool {
        let mut desks = self.desks();
        if asks.is_some_and(|asks| !asks.is_empty()) {
            return false;
        }
        if desks.open.get(id).is_some_and(|(open, _)| *open == number) {
            desks.open.remove(id);
        }
        true
    }

    /// Asks the desk of a subscription; anew, where it was just leaving. Gives the desk that answered.
    async fn ask<T>(
        self: &Arc<Self>,
        id: &str,
        ask: impl Fn(Answer<T>) -> Ask,
    ) -> Result<(T, mpsc::Sender<Ask>), Error> {
        for _ in 0..DESK_TRIES {
            let desk = self.desk(id)?;
            let (answer, answered) = oneshot::channel();
            if desk.send(ask(answer)).await.is_ok()
                && let Ok(answered) = answered.await
            {
                return Ok((answered?, desk));
            }
        }
        Err(StoreError::Failed("the subscription's task ended".to_owned()).into())
    }

    /// Writes what `next` makes of a reading; where that is nothing, it stays. Where somebody else wrote meanwhile, it is
    /// made of what that one left.
    async fn change_reading(
        &self,
        id: &str,
        next: impl Fn(&stored::Reading) -> Result<Option<stored::Reading>, Error> + Send + Sync,
    ) -> Result<stored::Kept, Error> {
        for tried in 0..TRIES {
            let kept = stored::read_reading(&*self.store, id).await?;
            let Some(changed) = next(&kept.value)? else { return Ok(kept) };
            let write = kept.replaced(id, &changed);
            match self.store.write(write).await {
                Ok(revision) => return Ok(stored::Kept { value: changed, revision }),
                Err(StoreError::Conflict { .. }) => pause(tried).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: stored::reading_key(id) }.into())
    }
}

/// A pause after a conflict: not in step with whom it met.
async fn pause(tried: usize) {
    let most = 1_u64 << tried.min(6);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(..=most))).await;
}

/// The subscription was moved.
fn moved() -> Fault {
    let message = "the subscription was moved to another place: open it again";
    Fault::new(Code::Aborted, "SUBSCRIPTION_MOVED", message).retry_after(Duration::from_millis(100))
}

/// Somebody else reads.
fn taken_over() -> Fault {
    let message = "another subscriber reads this subscription now";
    Fault::new(Code::Aborted, "SUBSCRIPTION_TAKEN_OVER", message)
}
