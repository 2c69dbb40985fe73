//! The user of the connection: signs in by a code whenever somebody has to, at whichever gateway.

use std::sync::Arc;
use std::time::Duration;

use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{
    ConnectionState, GetConnectionRequest, GetSignInRequest, SignInKind, SignInState, StartSignInRequest,
};
use tonic::Status;

use crate::Doors;
use crate::callers::CONNECTION;
use crate::machine::Gateway;
use crate::weather::Weather;

/// How long the user waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long between two looks.
const PAUSE_MS: u64 = 2_000;

/// The user.
pub(crate) struct User {
    pub(crate) weather: Arc<Weather>,
}

impl User {
    /// Goes by one gateway until there is no luck there.
    pub(crate) async fn session(self: Arc<Self>, gateway: Gateway) {
        let ended = tokio::time::timeout(PATIENCE, self.mind(gateway)).await;
        let code = ended.map(|ended| ended.err().map(|status| status.code()));
        self.weather.trace(format_args!("user: ended {code:?}"));
    }

    async fn mind(&self, gateway: Gateway) -> Result<(), Status> {
        let mut connections = ConnectionServiceClient::new(gateway.doors);
        loop {
            tokio::time::sleep(self.weather.within(PAUSE_MS)).await;
            let asked = GetConnectionRequest { name: CONNECTION.to_owned() };
            let found = connections.get_connection(asked).await?.into_inner().connection;
            if found.is_none_or(|found| found.state() != ConnectionState::NeedsSignIn) {
                continue;
            }
            self.sign_in(&mut connections).await?;
        }
    }

    /// Signs in once, or fails to.
    pub(crate) async fn sign_in(
        &self,
        connections: &mut ConnectionServiceClient<Doors>,
    ) -> Result<(), Status> {
        let (name, kind) = (CONNECTION.to_owned(), SignInKind::DeviceCode.into());
        let asked = StartSignInRequest { name, kind, ..StartSignInRequest::default() };
        let begun = connections.start_sign_in(asked).await?.into_inner().sign_in.unwrap_or_default();
        loop {
            tokio::time::sleep(self.weather.within(PAUSE_MS)).await;
            let asked = GetSignInRequest { name: begun.name.clone() };
            let found = connections.get_sign_in(asked).await?.into_inner().sign_in.unwrap_or_default();
            if found.state() != SignInState::Pending {
                self.weather.trace(format_args!("user: {:?} {}", found.state(), found.failure_reason));
                return Ok(());
            }
        }
    }
}
