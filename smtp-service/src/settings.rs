//! What the connector's process is told: where it listens, how it logs. Nothing about any connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use postern_chassis::serve::ServeSettings;
use postern_chassis::telemetry::LogSettings;

/// Postern's SMTP connector: sends mail, keeps nothing
#[derive(Parser, Debug, Clone)]
#[command(name = "smtp-service", version)]
pub struct Arguments {
    /// A settings file, TOML: its keys are the long flags' names. Flags and variables win over it
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, env = "POSTERN_LISTEN", value_name = "ADDRESS", default_value_t = DEFAULT_LISTEN)]
    pub listen: SocketAddr,
    /// How it logs.
    #[command(flatten)]
    pub log: LogSettings,
    /// How it serves.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the connector listens unless told otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7026);

/// What a connector needs that is started by a program rather than as a process.
#[derive(Args, Debug, Clone, Default)]
pub struct Settings {
    /// TLS and the grace period at a stop.
    #[command(flatten)]
    pub serve: ServeSettings,
    /// How much it holds.
    #[command(flatten)]
    pub limits: LimitSettings,
}

/// How much the connector holds at once.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
#[group(skip)]
pub struct LimitSettings {
    /// How many bytes of mails may be held at once, encoded, over all calls: at least 16777216 (16 MiB). A mail beyond
    /// is refused for now (SENDS_TOO_LARGE); a stream of mails waits
    #[arg(
        long,
        env = "POSTERN_MAX_BYTES_IN_FLIGHT",
        default_value_t = DEFAULT_BYTES_IN_FLIGHT,
        value_parser = clap::value_parser!(u64).range(LEAST_BYTES_IN_FLIGHT..=MOST_BYTES_IN_FLIGHT),
        value_name = "BYTES"
    )]
    pub max_bytes_in_flight: u64,
}

/// Three of the largest mails, and some.
const DEFAULT_BYTES_IN_FLIGHT: u64 = 512 * 1024 * 1024;
/// Room for any mail that travels inline.
const LEAST_BYTES_IN_FLIGHT: u64 = 16 * 1024 * 1024;
/// More than a machine has: what is counted by the KiB must stay countable.
const MOST_BYTES_IN_FLIGHT: u64 = 1024 * 1024 * 1024 * 1024;

impl Default for LimitSettings {
    fn default() -> Self {
        Self { max_bytes_in_flight: DEFAULT_BYTES_IN_FLIGHT }
    }
}

/// What the process does instead of serving.
#[derive(Subcommand, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Ask the running connector for its health: exits with 0 when it serves
    Healthcheck,
    /// Read all settings and say what is wrong with them, without serving
    CheckConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed_and_serving_is_the_default() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["smtp-service"]);
        assert_eq!((arguments.listen.port(), arguments.command), (7026, None));
        let arguments = Arguments::parse_from(["smtp-service", "--listen", "127.0.0.1:1", "check-config"]);
        assert_eq!((arguments.listen.port(), arguments.command), (1, Some(Command::CheckConfig)));
        assert_eq!(arguments.settings.limits, LimitSettings::default());
    }

    #[test]
    fn room_for_too_few_bytes_is_refused() {
        for (bytes, taken) in [("16777216", true), ("16777215", false), ("many", false)] {
            let parsed = Arguments::try_parse_from(["smtp-service", "--max-bytes-in-flight", bytes]);
            assert_eq!(parsed.is_ok(), taken, "{bytes}");
        }
    }
}
