//! What the last hour was like, minute by minute, in a ring of counters: for people who look at the gateway itself. It is
//! filled without a lock or an allocation; the metrics are what to keep and to alert on.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_chassis::metrics::Ended;
use tokio::time::Instant;
use tonic::Code;

use crate::connectors::is_own;

/// How many minutes are remembered.
pub const MINUTES: usize = 60;
/// How long a minute is.
const MINUTE: Duration = Duration::from_secs(60);
/// The buckets of latencies: the first holds up to [`SHORTEST`], each further one twice as long, the last all beyond.
const BUCKETS: usize = 20;
/// What the first bucket holds: the others reach to two minutes.
const SHORTEST: Duration = Duration::from_micros(250);

/// The pulse of this process.
pub static PULSE: Pulse = Pulse::new();

/// When this process first took its pulse.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Counters of the last hour.
#[derive(Debug)]
pub struct Pulse {
    /// One more than is remembered: the minute that begins clears a place that nobody reads any more.
    ring: [Slot; MINUTES + 1],
}

/// What one minute was like. What is counted while its place changes to another minute may be lost: it is for people to
/// look at.
#[derive(Debug)]
struct Slot {
    /// Which minute it is, from 1 on. 0: none yet.
    minute: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    events: AtomicU64,
    latencies: [AtomicU64; BUCKETS],
}

/// One minute, to be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minute {
    /// Mails that were handed over, by the outbox too. A stream of mails counts as one.
    pub sent: u64,
    /// Tries to hand a mail over that failed.
    pub failed: u64,
    /// Events that became durable.
    pub events: u64,
    /// How many calls to connectors were timed, the outbox's among them.
    pub calls: u64,
    /// How long half of these took at most, to a factor of two. Absent: there were none.
    pub median: Option<Duration>,
    /// How long 99 of 100 took at most, to a factor of two. Absent: there were none.
    pub most: Option<Duration>,
}

impl Pulse {
    const fn new() -> Self {
        Self { ring: [const { Slot::new() }; MINUTES + 1] }
    }

    /// A mail was handed over.
    pub fn sent(&self) {
        self.count(|slot| &slot.sent, 1);
    }

    /// A mail could not be handed over.
    pub fn failed(&self) {
        self.count(|slot| &slot.failed, 1);
    }

    /// An event became durable.
    pub fn event(&self) {
        self.events(1);
    }

    /// Events became durable.
    pub fn events(&self, count: u64) {
        if count > 0 {
            self.count(|slot| &slot.events, count);
        }
    }

    /// A call to a connector took so long.
    pub fn latency(&self, took: Duration) {
        let times = took.as_micros() / SHORTEST.as_micros();
        let place = u128::BITS.saturating_sub(times.leading_zeros()).min(BUCKETS as u32 - 1);
        self.count(|slot| slot.latencies.get(place as usize).unwrap_or(&slot.latencies[0]), 1);
    }

    /// The last 60 minutes, the oldest first; the last one is not over yet.
    #[must_use]
    pub fn minutes(&self) -> [Minute; MINUTES] {
        self.minutes_before(now())
    }

    fn minutes_before(&self, now: u64) -> [Minute; MINUTES] {
        std::array::from_fn(|place| {
            let ago = (MINUTES - 1 - place) as u64;
            let minute = now.saturating_sub(ago);
            let slot = &self.ring[(minute % self.ring.len() as u64) as usize];
            if minute == 0 || slot.minute.load(Ordering::Acquire) != minute {
                return Minute::default();
            }
            slot.read()
        })
    }

    fn count(&self, counter: impl Fn(&Slot) -> &AtomicU64, more: u64) {
        counter(self.slot(now())).fetch_add(more, Ordering::Relaxed);
    }

    /// The place of a minute, cleared where it is the first to take it.
    fn slot(&self, minute: u64) -> &Slot {
        let slot = &self.ring[(minute % self.ring.len() as u64) as usize];
        let before = slot.minute.load(Ordering::Acquire);
        if before != minute
            && slot.minute.compare_exchange(before, minute, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            slot.clear();
        }
        slot
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            minute: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            events: AtomicU64::new(0),
            latencies: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    fn clear(&self) {
        for counter in [&self.sent, &self.failed, &self.events].into_iter().chain(&self.latencies) {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Minute {
        let latencies = self.latencies.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let calls = latencies.iter().sum();
        Minute {
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            calls,
            median: quantile(&latencies, calls.div_ceil(2)),
            most: quantile(&latencies, calls - calls / 100),
        }
    }
}

/// The upper bound of the bucket that holds the `rank`-th shortest.
fn quantile(latencies: &[u64; BUCKETS], rank: u64) -> Option<Duration> {
    let mut seen = 0;
    let place = latencies.iter().position(|count| {
        seen += count;
        rank > 0 && seen >= rank
    })?;
    Some(SHORTEST * (1 << place))
}

/// The minute that it is, from 1 on.
fn now() -> u64 {
    BEGIN.elapsed().as_secs() / MINUTE.as_secs() + 1
}

/// Takes the pulse of a call that the gateway took: of those that connectors carry out.
pub(crate) fn heed(ended: Ended<'_>) {
    if ended.is_other || is_own(ended.service) {
        return;
    }
    match ended.code {
        _ if !sends_mail(ended.method) => {}
        Code::Ok => PULSE.sent(),
        Code::Cancelled => {}
        _ => PULSE.failed(),
    }
    if !ended.has_streams {
        PULSE.latency(ended.took);
    }
}

/// Whether an action hands a mail over: the contract calls those so.
fn sends_mail(method: &str) -> bool {
    method.starts_with("Send") || method.starts_with("Reply")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_remembered_minute_by_minute_and_no_longer() {
        let pulse = Pulse::new();
        let begin = 7;
        pulse.slot(begin).sent.fetch_add(2, Ordering::Relaxed);
        pulse.slot(begin).failed.fetch_add(1, Ordering::Relaxed);
        pulse.slot(begin + 1).events.fetch_add(5, Ordering::Relaxed);
        let minutes = pulse.minutes_before(begin + 1);
        assert_eq!((minutes[58].sent, minutes[58].failed, minutes[59].events), (2, 1, 5));
        assert_eq!(pulse.minutes_before(begin + 59)[0].sent, 2);
        assert_eq!(pulse.minutes_before(begin + 60)[0].sent, 0);
        assert_eq!(pulse.minutes_before(begin + 60)[0].events, 5);
        // Its place is taken by a later minute, which begins at nothing.
        assert_eq!(pulse.slot(begin + 61).read(), Minute::default());
    }

    #[test]
    fn latencies_are_told_to_a_factor_of_two() {
        let pulse = Pulse::new();
        for _ in 0..98 {
            pulse.latency(Duration::from_millis(3));
        }
        pulse.latency(Duration::from_secs(1));
        pulse.latency(Duration::from_secs(100_000));
        let minute = pulse.minutes()[MINUTES - 1];
        assert_eq!(minute.calls, 100);
        let (median, most) = (minute.median.unwrap(), minute.most.unwrap());
        assert!((Duration::from_millis(3)..Duration::from_millis(6)).contains(&median), "{median:?}");
        assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&most), "{most:?}");
        assert_eq!(Minute::default().median, None);
    }

    #[test]
    fn the_actions_that_send_mail_are_told_by_their_names() {
        let actions = crate::contract::pool().services().filter(|service| !is_own(service.full_name()));
        let methods: Vec<_> = actions.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let mut sending: Vec<_> = methods.iter().map(|it| it.name()).filter(|it| sends_mail(it)).collect();
        sending.sort_unstable();
        sending.dedup();
        assert_eq!(sending, ["ReplyToEmail", "SendEmail", "SendEmails", "SendLargeEmail"]);
    }
}
