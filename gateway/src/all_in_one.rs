//! All-in-one mode: both connectors in the gateway's own process, on loopback, spoken to over the same contract as ever.
//! This file alone names them.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use postern_chassis::metrics::Tell;
use postern_chassis::serve::{BoxError, ServeSettings};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connectors::ConnectorAddress;

/// Where connectors that run inside the process listen: a free port, reached from this machine alone.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What is counted of the connectors that run in this process.
pub(crate) const METRICS: [Tell; 2] =
    [postern_smtp_service::metrics::tell, postern_outlook_service::metrics::tell];

/// The limits of the connectors, by the flags and variables that they have where they run apart.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
#[group(skip)]
pub struct Limits {
    /// How much mail is held.
    #[command(flatten)]
    pub smtp: postern_smtp_service::LimitSettings,
    /// How much is asked of Graph.
    #[command(flatten)]
    pub outlook: postern_outlook_service::LimitSettings,
}

/// Connectors that run inside the process.
pub(crate) struct AllInOne {
    addresses: Vec<ConnectorAddress>,
    running: JoinSet<()>,
    stop: CancellationToken,
}

impl AllInOne {
    /// Starts both connectors. At a stop, each gives calls in flight `stop_grace` to finish.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(limits: &Limits, stop_grace: Duration) -> Result<Self, BoxError> {
        let mut started =
            Self { addresses: Vec::new(), running: JoinSet::new(), stop: CancellationToken::new() };
        let serve = ServeSettings { stop_grace, ..Default::default() };
        let smtp = postern_smtp_service::Settings { serve: serve.clone(), limits: limits.smtp.clone() };
        started.run("smtp", |listener, stop| postern_smtp_service::serve(listener, smtp, stop)).await?;
        let limits = limits.outlook.clone();
        let outlook = postern_outlook_service::Settings { serve, limits, ..Default::default() };
        started
            .run("outlook", |listener, stop| postern_outlook_service::serve(listener, outlook, stop))
            .await?;
        Ok(started)
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> &[ConnectorAddress] {
        &self.addresses
    }

    /// Stops them, and waits until they have.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }

    async fn run<S, F>(&mut self, connector: &'static str, serve: S) -> Result<(), BoxError>
    where
        S: FnOnce(TcpListener, CancellationToken) -> F,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind(LOOPBACK).await?;
        self.addresses.push(format!("http://{}", listener.local_addr()?).parse()?);
        let serving = serve(listener, self.stop.clone());
        self.running.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(connector, %error, "a connector ended");
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_gateway_takes_the_limits_of_connectors_that_run_in_it() {
        Settings::command().debug_assert();
        let read =
            |flags: &[&str]| Settings::try_parse_from(["gateway"].iter().chain(flags)).map(|it| it.limits);
        assert_eq!(read(&[]).unwrap(), Limits::default());
        let flags = ["--max-bytes-in-flight", "16777216", "--max-concurrent-requests", "7"];
        let limits = read(&flags).unwrap();
        assert_eq!(
            (limits.smtp.max_bytes_in_flight, limits.outlook.max_concurrent_requests),
            (16_777_216, 7)
        );
        assert!(read(&["--max-bytes-in-flight", "1"]).is_err());
    }
}
