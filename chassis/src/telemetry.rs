//! Logs: for people or as JSON, on standard error. What may stand in them is each room's duty: never an address, a
//! subject, a body or a token.

use std::io::IsTerminal as _;
use std::str::FromStr as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a service logs.
#[derive(Args, Debug, Clone)]
pub struct LogSettings {
    /// What is logged: a level, or levels by target, such as `info,postern_gateway=debug`
    #[arg(long, env = "POSTERN_LOG", default_value = "info", value_parser = filter, value_name = "LEVELS")]
    pub log: Targets,
    /// How it is logged
    #[arg(long, env = "POSTERN_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The shape of a log line.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

fn filter(text: &str) -> Result<Targets, String> {
    Targets::from_str(text)
        .map_err(|error| format!("{error}; expected such as info or warn,postern_gateway=debug"))
}

/// Starts logging for the process. A second call does nothing: in all-in-one mode and in tests several services share
/// a process.
pub fn start(settings: &LogSettings) {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match settings.log_format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(settings.log.clone())).try_init();
}
