//! When streams look for more. The log grows with each commit; waking every stream for each would cost more than the
//! events: streams are woken at once after a rest, and then as often as their number allows. It knows no events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{EventLog, Sequence};

/// What waking one stream may take: about twice what it does, so that waking takes half of one core at most.
const WAKING: Duration = Duration::from_micros(20);
/// The rest between two beats, however few the streams: a hand's full of events at a high rate, and nobody's wait.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// And however many: well under what a person or a proxy would notice.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// What is told to all streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    /// There is something to read up to this place, and not beyond it until the next beat: whoever is there goes on
    /// together, and is given the same bytes.
    UpTo(Sequence),
    /// The gateway stops.
    Stopping,
    /// The log was closed.
    Closed,
}

/// Starts beating for the streams of a log, until `stop` is cancelled.
pub(super) fn start(log: &Arc<dyn EventLog>, stop: CancellationToken) -> watch::Receiver<Pulse> {
    let mut tail = log.tail();
    let last = *tail.borrow_and_update();
    let (pulse, felt) = watch::channel(Pulse::UpTo(last));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    pulse.send_replace(Pulse::Stopping);
                    return;
                }
                grown = tail.changed() => if grown.is_err() {
                    pulse.send_replace(Pulse::Closed);
                    return;
                }
            }
            pulse.send_replace(Pulse::UpTo(*tail.borrow_and_update()));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(rest(pulse.receiver_count())) => {}
            }
        }
    });
    felt
}

fn rest(streams: usize) -> Duration {
    let waking = WAKING.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX));
    waking.clamp(SHORTEST_REST, LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::new_event;
    use crate::store::sqlite::Sqlite;

    #[test]
    fn the_rest_grows_with_the_streams_within_its_bounds() {
        assert_eq!(rest(1), SHORTEST_REST);
        assert_eq!(rest(500), Duration::from_millis(10));
        assert_eq!(rest(100_000), LONGEST_REST);
    }

    #[tokio::test]
    async fn what_grew_during_a_rest_is_one_beat() {
        let folder = tempfile::tempdir().unwrap();
        let log: Arc<dyn EventLog> = Sqlite::open(folder.path()).unwrap();
        let stop = CancellationToken::new();
        let mut pulse = start(&log, stop.clone());
        // As many streams as make the rest its longest.
        let streams: Vec<_> = (0..2_000).map(|_| pulse.clone()).collect();
        let (mut beats, mut commits) = (0, 0);
        while beats < 5 {
            let event =
                new_event("connections/shop", "email.received", None, &commits.to_string(), None, None);
            log.append(vec![event], Vec::new()).await.unwrap();
            commits += 1;
            if pulse.has_changed().unwrap() {
                beats += 1;
                assert!(matches!(*pulse.borrow_and_update(), Pulse::UpTo(place) if place <= commits));
            }
        }
        drop(streams);
        // Nothing is left untold.
        let all = pulse.wait_for(|pulse| *pulse == Pulse::UpTo(commits));
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap().unwrap();
        stop.cancel();
        pulse.wait_for(|pulse| *pulse == Pulse::Stopping).await.unwrap();
    }
}
