//! The connector's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use postern_chassis::serve::ServeSettings;
use postern_chassis::telemetry::LogSettings;

/// The port that the connector listens on unless told otherwise.
const PORT: u16 = 7027;

/// Postern's Office 365 Outlook connector.
#[derive(Parser, Debug, Clone)]
#[command(name = "outlook-service", version)]
pub struct Settings {
    /// What to do. Absent: serve
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where to listen
    #[arg(long, env = "POSTERN_LISTEN", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))]
    pub listen: SocketAddr,
    /// A TOML file with settings, by the names of the flags
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How it logs
    #[command(flatten)]
    pub log: LogSettings,
    /// How it serves
    #[command(flatten)]
    pub serve: ServeSettings,
    /// How much it asks of Graph
    #[command(flatten)]
    pub limits: LimitSettings,
}

/// How much is asked of Graph at most, and how long callers are waited for. What is allowed is Microsoft's to say
/// (Graph: throttling limits): for an application and mailbox, 10,000 requests in ten minutes and 150 MB in five.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
#[group(skip)]
pub struct LimitSettings {
    /// How many requests to Graph run at once, over all mailboxes
    #[arg(
        long,
        env = "POSTERN_MAX_CONCURRENT_REQUESTS",
        default_value_t = Self::default().max_concurrent_requests,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
    )]
    pub max_concurrent_requests: u32,
    /// How many requests are made for a mailbox in ten minutes; fewer where other programs use the same application
    #[arg(
        long,
        env = "POSTERN_MAX_REQUESTS_PER_MAILBOX",
        default_value_t = Self::default().max_requests_per_mailbox,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
    )]
    pub max_requests_per_mailbox: u32,
    /// How many bytes are uploaded to a mailbox in five minutes; fewer where other programs use the same application
    #[arg(
        long,
        env = "POSTERN_MAX_UPLOAD_PER_MAILBOX",
        value_name = "BYTES",
        default_value_t = Self::default().max_upload_per_mailbox,
        value_parser = clap::value_parser!(u64).range(1_000_000..),
    )]
    pub max_upload_per_mailbox: u64,
    /// How long a caller may be silent within a stream that it sends
    #[arg(
        long,
        env = "POSTERN_MAX_STREAM_SILENCE",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = postern_chassis::settings::duration,
    )]
    pub max_stream_silence: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_concurrent_requests: 100,
            max_requests_per_mailbox: 10_000,
            max_upload_per_mailbox: 150_000_000,
            max_stream_silence: Duration::from_secs(60),
        }
    }
}

/// What the program can do.
#[derive(Subcommand, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Serve until told to stop
    Serve,
    /// Ask a running connector whether it serves; exit code 0 if so
    Healthcheck,
    /// Read the settings and say what is wrong with them; exit code 0 if nothing
    CheckConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            command: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            config: None,
            log: LogSettings {
                log: "info".parse().unwrap_or_default(),
                log_format: postern_chassis::telemetry::LogFormat::Text,
            },
            serve: ServeSettings::default(),
            limits: LimitSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_that_outlook_has_unless_told_otherwise() {
        let read = |arguments: &[&str]| {
            Settings::try_parse_from(["outlook-service"].iter().chain(arguments))
                .map(|settings| settings.limits)
        };
        assert_eq!(read(&[]).unwrap(), LimitSettings::default());
        let told = read(&["--max-concurrent-requests", "7", "--max-requests-per-mailbox", "5000"]).unwrap();
        assert_eq!((told.max_concurrent_requests, told.max_requests_per_mailbox), (7, 5_000));
        for (flag, wrong) in [
            ("--max-concurrent-requests", "0"),
            ("--max-requests-per-mailbox", "0"),
            ("--max-requests-per-mailbox", "many"),
            ("--max-upload-per-mailbox", "1"),
        ] {
            let refused = read(&[flag, wrong]).unwrap_err().to_string();
            assert!(refused.contains(flag) && refused.contains(wrong), "{refused}");
        }
    }
}
