//! How long to wait: from one look to the next, and after failures.

use std::time::Duration;

use postern_proto::event::v1::Trigger;

use super::DEFAULT_INTERVAL;

/// The pace of looks that pushes ask for, in the long run: with the two or three requests of a look, well within what
/// providers take for one account.
pub(super) const GAP: Duration = Duration::from_millis(250);
/// How many looks may come at once before the pace holds.
pub(super) const BURST: u32 = 20;
/// The first wait after a failure, unless the interval is shorter. What failed is mostly well again soon: to wait for an
/// hour would tell late what happened, and of what was pushed, nothing more may come.
const FIRST_BACK_OFF: Duration = Duration::from_secs(5);
/// The longest wait after failures, however long the interval.
const MAX_BACK_OFF: Duration = Duration::from_secs(300);
/// How soon a watch that fails is looked after when its provider pushes: a flood must not undo the waits.
pub(super) const PUSHED_BACK_OFF: Duration = Duration::from_secs(2);

/// A trigger's interval.
pub(super) fn interval(trigger: &Trigger) -> Duration {
    trigger.interval.and_then(|interval| interval.try_into().ok()).unwrap_or(DEFAULT_INTERVAL)
}

/// The interval less up to a twentieth, so that watches made together drift apart and none is late.
pub(super) fn early(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - fastrand::f64() / 20.0)
}

/// How long to wait after so many failures in a row: doubled each time, up to a bound, less up to a tenth.
pub(super) fn back_off(interval: Duration, failures: u32) -> Duration {
    let first = interval.min(FIRST_BACK_OFF);
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACK_OFF).mul_f64(1.0 - fastrand::f64() / 10.0)
}
