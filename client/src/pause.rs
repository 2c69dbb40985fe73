//! How long to wait before something is tried again: longer each time, never quite the same, and no shorter than asked.

use std::time::Duration;

/// How far the doubling goes: beyond it no pause is reached that `longest` would let stand.
const MOST_DOUBLINGS: u32 = 20;

/// The pause after so many failures in a row, at least 1. What was asked for is kept to, and a little is added, so that
/// not all come back at once.
pub(crate) fn pause(failures: u32, first: Duration, longest: Duration, asked: Option<Duration>) -> Duration {
    let doublings = failures.saturating_sub(1).min(MOST_DOUBLINGS);
    let grown = first.saturating_mul(1 << doublings).min(longest);
    match asked {
        Some(asked) => asked + asked.min(longest).max(first).mul_f64(fastrand::f64() / 4.0),
        None => grown.mul_f64(0.5 + fastrand::f64() / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn pauses_grow_to_a_bound() {
        for (failures, most) in [(1, 100), (2, 200), (5, 1_600), (40, 30_000), (u32::MAX, 30_000)] {
            let most = Duration::from_millis(most);
            for _ in 0..100 {
                let pause = pause(failures, FIRST, LONGEST, None);
                assert!(most / 2 <= pause && pause <= most, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_to() {
        for _ in 0..100 {
            let asked = Duration::from_secs(7);
            let pause = pause(1, FIRST, LONGEST, Some(asked));
            assert!(asked <= pause && pause <= asked + asked / 4, "{pause:?}");
        }
    }
}
