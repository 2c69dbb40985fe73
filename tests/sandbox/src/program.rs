//! What the sandbox's program does: shows the loop, or only runs the servers, as its arguments say.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use postern_chassis::serve::BoxError;
use postern_chassis::settings::{SettingsError, secret_file};
use postern_chassis::telemetry::{self, LogSettings};

use crate::place::{Place, PlaceSettings};
use crate::tour::{self, Target};

/// Shows Postern's whole loop: a mail sent over SMTP lands in an Outlook mailbox and comes back as an event.
///
/// Starts a small SMTP server and a small Microsoft Graph, runs a gateway against them, walks through the loop over the
/// public gRPC API, and stays up to be tried.
#[derive(Parser, Debug, Clone)]
#[command(name = "postern-sandbox", version)]
struct Settings {
    /// What to do instead of showing the loop
    #[command(subcommand)]
    command: Option<Command>,

    /// End after the loop: exit code 0 only if every step held
    #[arg(long)]
    once: bool,

    /// A gateway that runs already, such as http://gateway:7025. Absent: one is started, all-in-one
    #[arg(long, env = "POSTERN_GATEWAY", value_name = "URL")]
    gateway: Option<String>,

    /// Where the gateway that is started listens
    #[arg(long, default_value = "127.0.0.1:7025", value_name = "ADDRESS")]
    listen_gateway: SocketAddr,

    /// Where the console of the gateway that is started listens
    #[arg(long, default_value = "127.0.0.1:7028", value_name = "ADDRESS")]
    listen_console: SocketAddr,

    /// A file with a caller's token for the gateway
    #[arg(long, env = "POSTERN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Where the SMTP server listens
    #[arg(long, default_value = "127.0.0.1:7587", value_name = "ADDRESS")]
    listen_smtp: SocketAddr,

    /// Where the small Graph listens
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "ADDRESS")]
    listen_graph: SocketAddr,

    /// The host name under which the gateway reaches the sandbox. Absent: 127.0.0.1
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// A file to write when ready (with the loop: once it held): JSON that says how to connect
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// How it logs
    #[command(flatten)]
    log: LogSettings,
}

#[derive(Subcommand, Debug, Clone)]
enum Command {
    /// Run the SMTP server and the small Graph, and nothing else
    Serve,
    /// Say whether the sandbox is ready, by its --ready-file: exit code 0 when it is
    Healthcheck,
    /// Be a gateway (its own flags follow; see `gateway --help`)
    #[command(disable_help_flag = true)]
    Gateway {
        /// The gateway's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
}

/// The sandbox's program.
///
/// # Errors
/// A step of the loop that did not hold, or settings that cannot be used.
pub async fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<(), BoxError> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.get(1).is_some_and(|argument| argument == "gateway") {
        let own = std::iter::once(OsString::from("gateway")).chain(args.into_iter().skip(2));
        return postern_gateway::main(own).await;
    }
    let settings: Settings = postern_chassis::settings::load(args)?;
    telemetry::start(&settings.log);
    match settings.command {
        Some(Command::Healthcheck) => healthcheck(&settings),
        Some(Command::Serve) => serve(&settings).await,
        Some(Command::Gateway { arguments }) => postern_gateway::main(arguments).await,
        None => show(&settings).await,
    }
}

async fn start_place(settings: &Settings) -> Result<Place, BoxError> {
    if let Some(path) = &settings.ready_file {
        let _ = std::fs::remove_file(path);
    }
    Place::start(PlaceSettings {
        listen_smtp: settings.listen_smtp,
        listen_graph: settings.listen_graph,
        host: settings.host.clone(),
    })
    .await
}

fn ready(settings: &Settings, place: &Place) -> Result<(), BoxError> {
    if let Some(path) = &settings.ready_file {
        place.write_ready(path)?;
    }
    Ok(())
}

fn healthcheck(settings: &Settings) -> Result<(), BoxError> {
    let path = settings
        .ready_file
        .as_ref()
        .ok_or_else(|| SettingsError::value("--ready-file", "is needed: the file to look for"))?;
    if path.exists() { Ok(()) } else { Err(format!("{} is not there yet", path.display()).into()) }
}

async fn serve(settings: &Settings) -> Result<(), BoxError> {
    let stop = postern_chassis::shutdown::on_signal()?;
    let place = start_place(settings).await?;
    ready(settings, &place)?;
    tracing::info!(smtp = %place.smtp.address(), graph = place.graph.url(), "the sandbox is ready");
    stop.cancelled().await;
    Ok(())
}

async fn show(settings: &Settings) -> Result<(), BoxError> {
    let stop = postern_chassis::shutdown::on_signal()?;
    let place = start_place(settings).await?;
    let token = match &settings.token_file {
        Some(path) => Some(secret_file("--token-file", path)?),
        None => None,
    };
    let target = match &settings.gateway {
        Some(url) => Target::Running { url: url.clone(), token },
        None => Target::Started {
            listen: settings.listen_gateway.to_string(),
            console: settings.listen_console.to_string(),
        },
    };
    let touring = tour::run(&place, target);
    let shown = tokio::select! {
        shown = touring => shown?,
        () = stop.cancelled() => return Ok(()),
    };
    ready(settings, &place)?;
    if !settings.once {
        shown.say_what_to_try(&place)?;
        stop.cancelled().await;
    }
    shown.end().await
}
