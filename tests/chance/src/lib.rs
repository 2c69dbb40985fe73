//! Time and chance of a process that is simulated: linked into a program, it stands in for the C library's `getrandom`
//! and `clock_gettime`. Randomness comes from a seed, the monotonic clock stands still for whoever does not ask tokio,
//! and the wall clock follows tokio's paused clock, ahead or behind as each simulated machine's is.
//!
//! The order of a `HashMap` and the choices of `select!` follow from randomness too, so that one seed is one run.

mod apart;

pub use apart::{Apart, apart, ended};

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What the monotonic clock always says, in seconds.
const STANDSTILL: i64 = 1_000_000;
/// When simulated time begins, in seconds since 1970.
const BEGIN: i64 = 1_800_000_000;
/// `CLOCK_REALTIME` and `CLOCK_REALTIME_COARSE`.
const WALL: [c_int; 2] = [0, 5];

static CHANCE: AtomicU64 = AtomicU64::new(0);
/// Where the wall clock of the machine that runs now stood when its runtime began, in nanoseconds since 1970.
static MACHINE: AtomicI64 = AtomicI64::new(BEGIN * 1_000_000_000);

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Makes all that is left to chance in this process follow from a seed. To be said first.
pub fn seed(seed: u64) {
    CHANCE.store(seed, Ordering::Relaxed);
    fastrand::seed(seed);
}

/// Says that what runs from now on is a machine whose runtime began at `begin` of simulated time, and whose wall clock is
/// `ahead` of it by so many milliseconds.
pub fn enter(begin: Duration, ahead: i64) {
    let begin = i64::try_from(begin.as_nanos()).unwrap_or(i64::MAX);
    MACHINE.store(BEGIN * 1_000_000_000 + begin + ahead * 1_000_000, Ordering::Relaxed);
}

/// SplitMix64.
fn next() -> u64 {
    let mut mixed = CHANCE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How long the runtime that runs now has, by its paused clock.
#[expect(clippy::disallowed_types, reason = "the machine's own clock is what tokio's is compared with")]
fn elapsed() -> Duration {
    if IS_ASKING.replace(true) {
        return Duration::ZERO;
    }
    // A paused clock asks the machine's but once, at its begin; then that is what it counts from.
    let now = tokio::time::Instant::now().into_std();
    let begin = std::time::Instant::now();
    IS_ASKING.set(false);
    now.saturating_duration_since(begin)
}

#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

/// As of the C library: `clock_gettime(3)`.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int {
    let (seconds, nanoseconds) = if WALL.contains(&clock) {
        let passed = i64::try_from(elapsed().as_nanos()).unwrap_or(0);
        let now = MACHINE.load(Ordering::Relaxed) + passed;
        (now.div_euclid(1_000_000_000), now.rem_euclid(1_000_000_000))
    } else {
        (STANDSTILL, 0)
    };
    // SAFETY: the caller gives a place for a `timespec`, as POSIX asks of it.
    unsafe { time.write(TimeSpec { seconds, nanoseconds }) };
    0
}

/// As of the C library: `getrandom(2)`.
#[unsafe(no_mangle)]
extern "C" fn getrandom(bytes: *mut c_void, length: usize, _: c_uint) -> isize {
    for at in 0..length {
        // SAFETY: the caller gives a place for so many bytes.
        unsafe { bytes.cast::<u8>().add(at).write(next().to_le_bytes()[0]) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
