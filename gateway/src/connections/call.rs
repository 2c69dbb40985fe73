//! Calls of `ConnectorService` that the gateway makes itself: to the replica that a connection sticks to, to the next
//! one where that is certain to have got nothing.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use postern_chassis::fault::{Fault, REFRESH_METADATA};
use postern_chassis::opened::CONNECTION_METADATA;
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::BinaryMetadataValue;
use tonic::{Response, Status};

use super::{Opened, Room, asks_for_refresh};
use crate::connectors::{Channel, ChannelError, Connector, Replica, unavailable};
use crate::error::Error;

/// The largest answer taken from a connector: many occurrences of up to 60 KiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The error of a connector that did not answer in time.
pub(super) fn out_of_time() -> Fault {
    unavailable("it did not answer in time")
}

impl Room {
    /// Calls a method through an opened connection; where the access token was refused, once more with a new grant.
    pub(super) async fn call<Req, Res, F, Fut>(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        deadline: Instant,
        request: Req,
        method: F,
    ) -> Result<Res, Error>
    where
        Req: Clone,
        F: Fn(ConnectorServiceClient<Channel>, tonic::Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        let connector = self.connectors.for_kind(opened.kind())?;
        let name = opened.name();
        let mut answer = self.ask(&connector, name, opened.metadata(), deadline, &request, &method).await;
        if let Err(Error::Connector(status)) = &answer
            && asks_for_refresh(status)
            && self.doubts.allow(opened)
        {
            let refreshing = timeout_at(deadline, self.refresh(opened));
            let opened = refreshing.await.map_err(|_| out_of_time())??;
            answer = self.ask(&connector, name, opened.metadata(), deadline, &request, &method).await;
            if matches!(&answer, Err(Error::Connector(status)) if asks_for_refresh(status)) {
                self.doubts.note(&opened);
            }
        }
        answer.map_err(|error| match error {
            // Between gateway and connector only: who called must not take it for something to act on.
            Error::Connector(mut status) => {
                status.metadata_mut().remove(REFRESH_METADATA);
                Error::Connector(status)
            }
            other => other,
        })
    }

    /// Calls a method once.
    pub(super) async fn ask<Req, Res, F, Fut>(
        &self,
        connector: &Connector,
        name: &str,
        metadata: &BinaryMetadataValue,
        deadline: Instant,
        request: &Req,
        method: &F,
    ) -> Result<Res, Error>
    where
        Req: Clone,
        F: Fn(ConnectorServiceClient<Channel>, tonic::Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        for replica in connector.replicas_for(name) {
            let client = ConnectorServiceClient::new(replica.channel().clone());
            let client = client.max_decoding_message_size(MAX_ANSWER_BYTES);
            let mut request = tonic::Request::new(request.clone());
            request.metadata_mut().insert_bin(CONNECTION_METADATA, metadata.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            match wait(method(client, request), &replica, deadline).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) if is_not_connected(&status) => replica.mark_lost(),
                // What has a source was not said by the connector, but by the way to it.
                Ok(Err(status)) if status.source().is_some() => {
                    replica.doubt();
                    return Err(Error::Unanswered(unavailable("the call to it broke off")));
                }
                Ok(Err(status)) => return Err(status.into()),
                Err(_) => return Err(Error::Unanswered(out_of_time())),
            }
        }
        Err(unavailable("it is not reached").into())
    }
}

/// Waits for an answer until the deadline. A copy that takes long is asked meanwhile whether it is still there.
async fn wait<T>(
    asking: impl Future<Output = T>,
    replica: &Replica,
    deadline: Instant,
) -> Result<T, Elapsed> {
    let mut asking = pin!(asking);
    let suspicion = Instant::now() + replica.suspicion();
    if suspicion < deadline {
        if let Ok(answer) = timeout_at(suspicion, &mut asking).await {
            return Ok(answer);
        }
        replica.doubt();
    }
    timeout_at(deadline, asking).await
}

/// Whether a call failed before there was a connection to make it on.
fn is_not_connected(status: &Status) -> bool {
    let error = status.source().and_then(|error| error.downcast_ref::<ChannelError>());
    error.is_some_and(ChannelError::is_not_connected)
}
