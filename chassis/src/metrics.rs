//! Metrics: numbers that cost an atomic addition each, kept for the life of the process, and the page that tells them as
//! Prometheus reads it (OpenMetrics text). What is counted each room says itself.

mod calls;
mod listener;
mod page;
mod process;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

pub use calls::{Counted, Ended};
pub use listener::serve;
pub use page::{Labels, Page, Tell};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that comes and goes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Counts something for as long as the result lives.
    #[must_use]
    pub fn hold(&'static self) -> Held {
        self.add(1);
        Held(self)
    }

    /// So many more, or fewer.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that a gauge counts until it is dropped.
#[derive(Debug)]
pub struct Held(&'static Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// The upper bounds of a histogram's buckets, in seconds: from a call that only passes through to one that waits for a
/// slow provider.
pub const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How long things took: counted in buckets, without a lock.
#[derive(Debug)]
pub struct Histogram {
    /// By [`BOUNDS`]; the last is for what took longer than all of them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], micros: AtomicU64::new(0) }
    }

    /// Something took so long.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often something took as long as each bucket says, and the seconds of all together.
    #[must_use]
    pub fn read(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        (buckets, Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_duration_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new();
        for millis in [0, 1, 2, 100, 100, 61_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let (buckets, seconds) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[2], buckets[7], buckets[16]), (1, 1, 1, 2, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 6);
        assert!((seconds - 61.203).abs() < 1e-9, "{seconds}");
    }

    #[test]
    fn a_gauge_counts_what_is_held() {
        static HELD: Gauge = Gauge::new();
        let (one, two) = (HELD.hold(), HELD.hold());
        assert_eq!(HELD.get(), 2);
        drop((one, two));
        assert_eq!(HELD.get(), 0);
    }
}
