//! Postern's gateway: keeps connections, forwards actions, watches triggers, keeps the event log and streams it.
//!
//! It knows no provider: what a connection, a trigger or an event is about is opaque to it.

pub mod all_in_one;
pub mod approvals;
pub mod auth;
pub mod connections;
pub mod connectors;
pub mod console;
pub mod contract;
pub mod doors;
pub mod error;
pub mod events;
pub mod forward;
pub mod http;
pub mod leases;
pub mod ledger;
pub mod mask;
pub mod metrics;
pub mod names;
pub mod notifications;
pub mod outbox;
pub mod page;
mod pages;
pub mod pulse;
mod requests;
pub mod seal;
pub mod serve;
pub mod settings;
pub mod store;
pub mod subscriptions;
pub mod triggers;

use std::ffi::OsString;

use postern_chassis::metrics as telling;
use postern_chassis::serve::BoxError;
use postern_chassis::{healthcheck, serve as chassis, shutdown, telemetry};

use settings::{Command, Settings};
use store::migrate::{Moved, migrate};

/// The gateway's program: reads the settings from arguments, variables and file, and does what they say.
///
/// # Errors
/// Settings that cannot be used, or the reason why serving ended.
pub async fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<(), BoxError> {
    let settings: Settings = postern_chassis::settings::load(args)?;
    match &settings.command {
        Some(Command::Healthcheck) => healthcheck::run(settings.listen, &settings.serve).await,
        Some(Command::CheckConfig) => Ok(settings.check()?),
        Some(Command::Token { name }) => print_token(name),
        Some(Command::Migrate { from, to }) => {
            telemetry::start(&settings.log);
            settings.nats.check()?;
            let told = |moved: Moved| tracing::info!(values = moved.values, events = moved.events, "copying");
            let moved = migrate(from, to, &settings.nats, told).await?;
            print_lines(&[&format!("copied {} values and {} events", moved.values, moved.events)])
        }
        Some(Command::Key) => print_lines(&[seal::new_key_line()?.as_str()]),
        Some(Command::NotificationSecret) => {
            use secrecy::ExposeSecret as _;
            let digests = serve::keys(&settings)?.digest_key()?;
            let secret = approvals::notification_secret(&settings.approvals, &digests);
            print_lines(&[secret.expose_secret()])
        }
        None => {
            settings.check()?;
            telemetry::start(&settings.log);
            let stop = shutdown::on_signal()?;
            let grpc = chassis::bind(settings.listen).await?;
            let http = match settings.http_address() {
                Some(address) => Some(http::bind(address).await?),
                None => None,
            };
            // With what is counted of the connectors, where they run in this process.
            let rooms = [&[metrics::tell as telling::Tell][..], &all_in_one::METRICS].concat();
            telling::serve(settings.serve.metrics_listen, &rooms, stop.clone()).await?;
            serve::serve(serve::Listeners { grpc, http }, settings, stop).await
        }
    }
}

/// Makes a caller's token and prints it with its line for the tokens file.
fn print_token(name: &str) -> Result<(), BoxError> {
    let (token, line) = auth::new_token(name)?;
    use secrecy::ExposeSecret as _;
    let token = format!("token: {}", token.expose_secret());
    print_lines(&[&token, &format!("line for the tokens file: {line}")])
}

/// Prints what a command was asked for.
fn print_lines(lines: &[&str]) -> Result<(), BoxError> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
