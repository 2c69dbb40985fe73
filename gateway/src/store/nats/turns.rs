//! How gateways that write all the time take turns: whoever wrote last knows first where the stream ends, and would be
//! the first to write there again and again.

use std::time::Duration;

use tokio::time::Instant;

/// For how long after another gateway wrote this one gives way after each write, and how much at most: it would be the
/// first to know where the stream ends, again and again.
const GIVING_WAY: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_millis(20);

/// How this gateway and others take turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The last message of this gateway.
    own: u64,
    /// When another was last seen to have written.
    others: Option<Instant>,
    /// Until when this one gives way.
    rest: Option<Instant>,
}

impl Turns {
    /// Gives way, where that is due.
    pub(super) async fn rest(&mut self) {
        if let Some(rest) = self.rest.take() {
            tokio::time::sleep_until(rest).await;
        }
    }

    /// Another gateway was seen to write.
    pub(super) fn others_wrote(&mut self) {
        self.others = Some(Instant::now());
    }

    /// A write begins behind a message.
    pub(super) fn begin(&mut self, after: u64) {
        if self.own != 0 && self.own != after {
            self.others_wrote();
        }
    }

    /// A write has taken so long.
    pub(super) fn wrote(&mut self, last: u64, took: Duration) {
        self.own = last;
        let gives_way = self.others.is_some_and(|seen| seen.elapsed() < GIVING_WAY);
        let rest = took.mul_f64(0.25 + 0.5 * fastrand::f64()).min(LONGEST_REST);
        self.rest = gives_way.then(|| Instant::now() + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_writes_alone_never_rests_and_who_is_met_rests_a_little() {
        let (mut turns, took) = (Turns::default(), Duration::from_millis(8));
        let begun = Instant::now();
        for message in 0..10 {
            turns.begin(message);
            turns.wrote(message + 1, took);
            turns.rest().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        turns.begin(12);
        turns.wrote(13, took);
        turns.rest().await;
        assert!(begun.elapsed() >= took / 4 && begun.elapsed() <= took, "{:?}", begun.elapsed());
        turns.wrote(14, Duration::from_secs(5));
        let begun = Instant::now();
        turns.rest().await;
        assert!(begun.elapsed() <= LONGEST_REST + Duration::from_millis(1), "{:?}", begun.elapsed());
        tokio::time::advance(GIVING_WAY).await;
        turns.begin(14);
        turns.wrote(15, took);
        let begun = Instant::now();
        turns.rest().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody else is there any more");
    }
}
