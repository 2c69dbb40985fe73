//! The connector's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
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
        }
    }
}
