//! The Office 365 Outlook connector: mail, calendars and contacts over Microsoft Graph, as `postern.outlook.v1` and
//! `postern.connector.v1` have it. It keeps nothing that matters: all it needs comes with each call.

mod account;
mod addresses;
mod calendar;
mod connector;
mod contacts;
mod error;
mod folders;
mod graph;
mod identity;
mod ids;
mod listing;
mod mail;
mod masks;
pub mod metrics;
mod named;
mod notifications;
mod once;
mod outlook;
mod places;
mod poll;
mod settings;
mod times;
mod zones;

use std::ffi::OsString;
use std::sync::Arc;

use postern_chassis::metrics::Counted;
use postern_chassis::serve::BoxError;
use postern_chassis::{healthcheck, serve, settings as reading, shutdown, telemetry};
use postern_proto::connector::v1::connector_service_server::ConnectorServiceServer;
use postern_proto::outlook::v1::calendar_service_server::CalendarServiceServer;
use postern_proto::outlook::v1::contact_service_server::ContactServiceServer;
use postern_proto::outlook::v1::mail_service_server::MailServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;

pub use settings::{Command, LimitSettings, Settings};

/// What the program does with its arguments.
///
/// # Errors
/// Settings that cannot be used, or a service that failed.
pub async fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), BoxError> {
    let settings: Settings = reading::load(args.into_iter().collect::<Vec<_>>())?;
    match settings.command {
        Some(Command::Healthcheck) => healthcheck::run(settings.listen, &settings.serve).await,
        Some(Command::CheckConfig) => {
            settings.serve.server()?;
            Ok(())
        }
        Some(Command::Serve) | None => {
            telemetry::start(&settings.log);
            let listener = serve::bind(settings.listen).await?;
            let stop = shutdown::on_signal()?;
            let address = settings.serve.metrics_listen;
            postern_chassis::metrics::serve(address, &[metrics::tell], stop.clone()).await?;
            serve(listener, settings, stop).await
        }
    }
}

/// Serves on a listener until `stop` is cancelled.
///
/// # Errors
/// Settings that cannot be used, or a listener that failed.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    // Two rustls providers cannot be told apart by rustls itself once both are linked: say which.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outlook = Arc::new(outlook::Outlook::new(settings.limits.clone()));
    let mail = MailServiceServer::new(mail::Mail::new(Arc::clone(&outlook)))
        .max_decoding_message_size(serve::MAX_MESSAGE_BYTES);
    let calendars = CalendarServiceServer::new(calendar::Calendars::new(Arc::clone(&outlook)))
        .max_decoding_message_size(serve::MAX_MESSAGE_BYTES);
    let contacts = ContactServiceServer::new(contacts::Contacts::new(Arc::clone(&outlook)))
        .max_decoding_message_size(serve::MAX_MESSAGE_BYTES);
    let connector = ConnectorServiceServer::new(connector::Connector::new(outlook))
        .max_decoding_message_size(serve::MAX_MESSAGE_BYTES);
    let mut names = connector::SERVICES.to_vec();
    names.push(ConnectorServiceServer::<connector::Connector>::NAME);
    let (routes, _reporter) = serve::edges(&names).await?;
    let routes = routes.add_service(mail).add_service(calendars).add_service(contacts).add_service(connector);
    let routes = Counted::new(routes.prepare(), "outlook-service");
    tracing::info!(listen = %listener.local_addr()?, "outlook-service serves");
    serve::serve(listener, &settings.serve, routes, stop).await
}
