//! The SMTP connector: takes mail over gRPC and hands it to the SMTP server of the connection that comes with each
//! call. It keeps sockets open between calls and nothing else; it knows neither the gateway nor any store.

mod bulk;
mod clock;
mod connection;
mod connector;
mod conversation;
mod dkim;
mod error;
mod large;
mod mailbox;
mod message;
pub mod metrics;
mod oauth;
mod pace;
mod pool;
mod pools;
mod reply;
mod room;
mod send;
mod service;
mod settings;
mod socket;
mod stage;

use std::ffi::OsString;
use std::sync::Arc;

use postern_chassis::metrics::Counted;
use postern_chassis::serve::{BoxError, MAX_MESSAGE_BYTES, edges, name_of};
use postern_chassis::{healthcheck, settings as chassis_settings, shutdown, telemetry};
use postern_proto::connector::v1::connector_service_server::ConnectorServiceServer;
use postern_proto::smtp::v1::smtp_service_server::{SmtpService, SmtpServiceServer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pools::Pools;
use crate::room::Room;
use crate::service::Service;
pub use crate::settings::{Arguments, Command, LimitSettings, Settings};

/// The process: reads settings, then serves until a signal, or does what its subcommand says.
///
/// # Errors
/// Settings that cannot be used, or a listener that failed.
pub async fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), BoxError> {
    let arguments: Arguments = chassis_settings::load(args)?;
    match arguments.command {
        Some(Command::Healthcheck) => healthcheck::run(arguments.listen, &arguments.settings.serve).await,
        Some(Command::CheckConfig) => {
            arguments.settings.serve.server()?;
            Ok(())
        }
        None => {
            telemetry::start(&arguments.log);
            let stop = shutdown::on_signal()?;
            let listener = postern_chassis::serve::bind(arguments.listen).await?;
            let address = arguments.settings.serve.metrics_listen;
            postern_chassis::metrics::serve(address, &[metrics::tell], stop.clone()).await?;
            tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");
            serve(listener, arguments.settings, stop).await
        }
    }
}

/// Serves the connector on a listener until `stop` is cancelled and calls in flight are done; then says QUIT on every
/// socket it kept.
///
/// # Errors
/// TLS files that cannot be used, or a listener that failed.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let pools = Arc::new(Pools::new());
    let mails = TaskTracker::new();
    let room = Room::new(settings.limits.max_bytes_in_flight);
    let service = Service::new(Arc::clone(&pools), room, mails.clone(), stop.clone());
    let smtp = SmtpServiceServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let connector = ConnectorServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (routes, _health) = edges(&[name_of(&smtp), name_of(&connector)]).await?;
    let routes = routes.add_service(smtp).add_service(connector).prepare();
    let routes = Counted::new(routes, "smtp-service");

    let sweeping = tokio::spawn(Arc::clone(&pools).sweep());
    let served = postern_chassis::serve::serve(listener, &settings.serve, routes, stop).await;
    sweeping.abort();
    // Mails whose callers have gone are no open calls, and yet are being handed over.
    mails.close();
    if tokio::time::timeout(settings.serve.stop_grace, mails.wait()).await.is_err() {
        tracing::warn!("mails were still being handed over at the end of the grace period");
    }
    pools.close().await;
    served
}

/// The actions in the caller's own process, without a listener and without gRPC: what is left is the sender itself, to be
/// measured. Each has sockets of its own, which close with it.
#[must_use]
pub fn in_process() -> impl SmtpService {
    let room = Room::new(Settings::default().limits.max_bytes_in_flight);
    Service::new(Arc::new(Pools::new()), room, TaskTracker::new(), CancellationToken::new())
}
