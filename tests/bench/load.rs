//! Load by h2load: many unary gRPC calls with one body. h2load looks at HTTP alone, so that every answer was whole is
//! told by the bytes that came.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use tokio::process::Command;
use tokio::time::timeout;

/// How many connections the load comes over.
pub(crate) const CONNECTIONS: usize = 8;
/// How many calls are under way at once on each.
pub(crate) const CALLS_AT_ONCE: usize = 16;
/// How long one run may take.
const RUN_PATIENCE: Duration = Duration::from_secs(300);

/// What calls are made.
pub(crate) struct Calls<'a> {
    /// The method's path.
    pub(crate) path: &'a str,
    /// A file with the request as it goes over the wire: a gRPC frame.
    pub(crate) body: &'a Path,
    /// How many bytes an answer has as it goes over the wire.
    pub(crate) answer_bytes: usize,
}

/// Makes `count` calls, and gives how many were answered a second.
///
/// # Errors
/// h2load failed, or not every call was answered whole.
pub(crate) async fn run(calls: &Calls<'_>, to: SocketAddr, count: usize) -> Result<f64, BoxError> {
    let running = Command::new("h2load")
        .args([
            "-c",
            &CONNECTIONS.to_string(),
            "-m",
            &CALLS_AT_ONCE.to_string(),
            "-n",
            &count.to_string(),
            "-d",
        ])
        .arg(calls.body)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg(format!("http://{to}{}", calls.path))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let told = timeout(RUN_PATIENCE, running).await.map_err(|_| "h2load did not end in time")??;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let report = Report::read(&told).ok_or_else(|| format!("h2load told something unexpected:\n{told}"))?;
    if report.succeeded != count || report.data_bytes != (count * calls.answer_bytes) as u64 {
        return Err(format!("not every call was answered whole:\n{told}").into());
    }
    Ok(report.per_second)
}

/// What h2load tells of a run.
#[derive(Debug, PartialEq)]
struct Report {
    per_second: f64,
    succeeded: usize,
    data_bytes: u64,
}

impl Report {
    fn read(told: &str) -> Option<Self> {
        let line = |start: &str| told.lines().find_map(|line| line.strip_prefix(start));
        let before = |line: &str, word: &str| -> Option<String> {
            Some(line.split_once(word)?.0.rsplit([' ', '(']).find(|part| !part.is_empty())?.to_owned())
        };
        Some(Self {
            per_second: before(line("finished in ")?, " req/s")?.parse().ok()?,
            succeeded: before(line("requests: ")?, " succeeded")?.parse().ok()?,
            data_bytes: before(line("traffic: ")?, ") data")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_h2load_is_read() {
        let told = "\nfinished in 1.23s, 32508.21 req/s, 33.10MB/s\n\
            requests: 40000 total, 40000 started, 40000 done, 39999 succeeded, 1 failed, 0 errored, 0 timeout\n\
            status codes: 40000 2xx, 0 3xx, 0 4xx, 0 5xx\n\
            traffic: 40.72MB (42701448) total, 1.41MB (1480000) headers (space savings 86.90%), 38.64MB (40520000) data\n";
        let read = Report { per_second: 32508.21, succeeded: 39999, data_bytes: 40_520_000 };
        assert_eq!(Report::read(told), Some(read));
        assert_eq!(Report::read("something else"), None);
    }
}
