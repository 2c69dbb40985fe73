//! What becomes of watches, for the one who follows them: only the last of each is kept, however far behind that one is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::leases::Owned;
use crate::triggers::folded::Folded;
use crate::triggers::watch::WatchName;

/// What has become of a watch.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It is looked after here. One of its triggers: any will do, for what they watch is the same.
    Open(Folded),
    /// Nobody watches it any more.
    Ended,
    /// Another gateway looks after it.
    Lost,
}

/// What is new.
#[derive(Debug, Default)]
pub struct News {
    /// What has become of watches.
    pub watches: HashMap<WatchName, Standing>,
    /// Where it is set, all that is owned so is known: what is not open is watched by nobody.
    pub complete: Option<Owned>,
}

/// The news that the follower has not taken yet. Nothing is kept while nobody follows.
#[derive(Debug, Default)]
pub(super) struct Feed {
    untaken: Mutex<Option<News>>,
    told: Notify,
    /// Somebody has begun to follow: all is to be told.
    pub(super) begun: Notify,
}

impl Feed {
    /// Tells what has become of a watch.
    pub(super) fn tell(&self, watch: &WatchName, standing: impl FnOnce() -> Standing) {
        self.change(|news| {
            news.watches.insert(watch.clone(), standing());
        });
    }

    /// Tells that all that is owned is known.
    pub(super) fn complete(&self, owned: Owned) {
        self.change(|news| news.complete = Some(owned));
    }

    fn change(&self, change: impl FnOnce(&mut News)) {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = untaken.as_mut() {
            change(news);
            self.told.notify_one();
        }
    }

    /// Begins to follow.
    pub(super) fn follow(&self) {
        *self.untaken.lock().unwrap_or_else(PoisonError::into_inner) = Some(News::default());
        self.begun.notify_one();
    }

    /// Waits for news and takes them.
    pub(super) async fn next(&self) -> News {
        self.told.notified().await;
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        untaken.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
