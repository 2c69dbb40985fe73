//! What the system says of this process, by the names that Prometheus' own clients use. On systems without /proc it says
//! nothing.

use std::fmt;
use std::fs;

use super::Page;

/// Ticks a second in which Linux tells of processor time, to every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's metrics.
pub(super) fn tell(page: &mut Page<'_>) -> fmt::Result {
    if let Some([user, system, threads, started]) = stat() {
        let seconds = (user + system) / TICKS_PER_SECOND;
        page.counter_of_seconds("process_cpu_seconds", "Processor time used, user and system", seconds)?;
        page.gauge("process_threads", "Threads", threads)?;
        if let Some(boot) = boot_time() {
            let started = boot + started / TICKS_PER_SECOND;
            page.gauge("process_start_time_seconds", "When it started, since the Unix epoch", started)?;
        }
    }
    if let Some(kibibytes) = status("VmRSS:") {
        page.gauge("process_resident_memory_bytes", "Memory that is resident", kibibytes * 1024.0)?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        #[allow(clippy::cast_precision_loss, reason = "there are not that many")]
        page.gauge("process_open_fds", "Files and sockets that are open", open.count() as f64)?;
    }
    match limit() {
        Some(most) => page.gauge("process_max_fds", "Files and sockets that may be open", most),
        None => Ok(()),
    }
}

/// User time, system time, threads and start of /proc/self/stat: the 12th, 13th, 18th and 20th value after the name, which
/// alone may hold blanks and ends with a parenthesis (proc(5)).
fn stat() -> Option<[f64; 4]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let values: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let value = |place: usize| values.get(place)?.parse().ok();
    Some([value(11)?, value(12)?, value(17)?, value(19)?])
}

fn status(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn limit() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
