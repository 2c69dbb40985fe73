//! What others would use, each a process of its own that sends and says how long it took.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::{Others, mails};

/// What tests/bench/set_up.sh sets up.
pub(crate) const NODEMAILER: &str = include_str!("../../tools/nodemailer.txt");
/// The version in tests/bench/lettre/Cargo.toml.
pub(crate) const LETTRE: &str = "0.11.23";
const REQUIREMENTS: &str = include_str!("../../python/requirements.txt");
const NODEMAILER_SENDER: &str = include_str!("../senders/nodemailer.js");
const AIOSMTPLIB_SENDER: &str = include_str!("../senders/aiosmtplib_sender.py");
/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A sender that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    SmtpSource,
    Nodemailer,
    Aiosmtplib,
    Lettre,
}

impl Other {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SmtpSource => "`smtp-source -d` (Postfix)",
            Self::Nodemailer => "nodemailer, its pool",
            Self::Aiosmtplib => "aiosmtplib",
            Self::Lettre => "lettre, its own pool",
        }
    }
}

/// The version that the Python environment is pinned to.
pub(super) fn aiosmtplib_version() -> &'static str {
    REQUIREMENTS.lines().find_map(|line| line.strip_prefix("aiosmtplib==")).unwrap_or("of an unknown version")
}

impl Others {
    /// Has one send so many mails, and gives how many seconds that took.
    pub(super) async fn send(
        &self,
        other: Other,
        to: SocketAddr,
        connections: u32,
        count: u32,
        body: &Path,
    ) -> Result<f64, BoxError> {
        let mut command = match other {
            Other::SmtpSource => return smtp_source(to, connections, count).await,
            Other::Nodemailer => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", &self.node_modules).args(["-e", NODEMAILER_SENDER]);
                command
            }
            Other::Aiosmtplib => {
                let mut command = Command::new(&self.python);
                command.args(["-c", AIOSMTPLIB_SENDER]);
                command
            }
            Other::Lettre => Command::new(&self.lettre),
        };
        let arguments = [to.port().to_string(), connections.to_string(), count.to_string()];
        let told = run(command.args(arguments).arg(body)).await?;
        Ok(told.trim().parse().map_err(|_| format!("it told something unexpected: {told}"))?)
    }
}

/// It tells no time; its start takes a few milliseconds and counts.
async fn smtp_source(to: SocketAddr, connections: u32, count: u32) -> Result<f64, BoxError> {
    let begun = Instant::now();
    let length = mails::body().len().to_string();
    let mut command = Command::new("smtp-source");
    command.args(["-d", "-s", &connections.to_string(), "-m", &count.to_string(), "-l", &length]);
    run(command.args(["-f", "sender@example.org", "-t", "anna@example.org", &to.to_string()])).await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn run(command: &mut Command) -> Result<String, BoxError> {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let told = timeout(PATIENCE, running).await.map_err(|_| "it did not end in time")??;
    if !told.status.success() {
        return Err(format!("{}: {}", told.status, String::from_utf8_lossy(&told.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_are_told_are_those_that_are_set_up() {
        let manifest = include_str!("../lettre/Cargo.toml");
        assert!(manifest.contains(&format!("\"={LETTRE}\"")), "{manifest}");
        assert!(NODEMAILER.starts_with("nodemailer@"));
        assert!(aiosmtplib_version().starts_with(|first: char| first.is_ascii_digit()));
    }
}
