//! Since when it is looked for what earlier runs of calls left behind: a sent copy may appear with delay, so that nothing
//! found means nothing until it was looked for long enough, in one call or over several.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// After so long nothing more appears: all the pauses of one call's looks.
pub(super) const SETTLED: Duration = Duration::from_secs(10);
/// For how long a search is remembered that nobody goes on with.
const KEPT: Duration = Duration::from_secs(600);
/// How many searches are remembered; beyond, a search begins anew with each call.
const MOST: usize = 10_000;

/// The searches of this process.
pub(super) static SEARCHES: Searches = Searches(Mutex::new(None));

/// When searches began, by their marks.
pub(super) struct Searches(Mutex<Option<HashMap<String, Instant>>>);

impl Searches {
    /// When the search for a mark began: now, unless it goes on.
    pub(super) fn begun(&self, mark: &str) -> Instant {
        let now = Instant::now();
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let searches = searches.get_or_insert_default();
        if searches.len() >= MOST {
            searches.retain(|_, begun| now.duration_since(*begun) < KEPT);
        }
        match searches.get(mark) {
            Some(begun) if now.duration_since(*begun) < KEPT => *begun,
            _ if searches.len() < MOST => *searches.entry(mark.to_owned()).insert_entry(now).get(),
            _ => now,
        }
    }

    /// Forgets a search that has come to its end.
    pub(super) fn ended(&self, mark: &str) {
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(searches) = searches.as_mut() {
            searches.remove(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_search_goes_on_over_several_calls_until_it_ends_or_is_given_up() {
        let searches = Searches(Mutex::new(None));
        let begun = searches.begun("a");
        tokio::time::advance(SETTLED).await;
        assert_eq!(searches.begun("a"), begun);
        assert_eq!(searches.begun("b"), begun + SETTLED);
        searches.ended("a");
        assert_eq!(searches.begun("a"), begun + SETTLED);
        tokio::time::advance(KEPT).await;
        assert_eq!(searches.begun("b"), begun + SETTLED + KEPT);
    }

    #[tokio::test]
    async fn searches_are_bounded() {
        let searches = Searches(Mutex::new(None));
        for number in 0..MOST + 10 {
            searches.begun(&number.to_string());
        }
        assert_eq!(searches.0.lock().unwrap().as_ref().map(HashMap::len), Some(MOST));
    }
}
