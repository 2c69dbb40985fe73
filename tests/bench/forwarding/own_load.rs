//! Load by a client of our own, for what h2load cannot do: a request id for each call, and how long one call takes that is
//! alone.

use std::net::SocketAddr;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::quantile;
use crate::load::{CALLS_AT_ONCE, CONNECTIONS};

/// Makes about `count` calls, each with a request id that was never used, and gives how many were answered a second.
///
/// # Errors
/// A call was not answered.
pub(super) async fn with_ids(
    to: SocketAddr,
    request: &SendEmailRequest,
    count: usize,
) -> Result<f64, BoxError> {
    let each = count / (CONNECTIONS * CALLS_AT_ONCE);
    let run = fastrand::u64(..);
    let mut callers = JoinSet::new();
    let begun = Instant::now();
    for connection in 0..CONNECTIONS {
        let client = SmtpServiceClient::connect(format!("http://{to}")).await?;
        for caller in 0..CALLS_AT_ONCE {
            let (mut client, request) = (client.clone(), request.clone());
            callers.spawn(async move {
                for number in 0..each {
                    let request_id = format!("{run:016x}-{connection}-{caller}-{number}");
                    client.send_email(SendEmailRequest { request_id, ..request.clone() }).await?;
                }
                Ok::<_, tonic::Status>(())
            });
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    #[allow(clippy::cast_precision_loss, reason = "there are not that many")]
    let made = (each * CONNECTIONS * CALLS_AT_ONCE) as f64;
    Ok(made / begun.elapsed().as_secs_f64())
}

/// Makes calls one after another, and gives how long half of them took at most, in microseconds.
///
/// # Errors
/// A call was not answered.
pub(super) async fn one_by_one(
    to: SocketAddr,
    request: &SendEmailRequest,
    count: usize,
) -> Result<f64, BoxError> {
    let mut client = SmtpServiceClient::connect(format!("http://{to}")).await?;
    let mut times: Vec<Duration> = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        client.send_email(request.clone()).await?;
        times.push(begun.elapsed());
    }
    Ok(quantile(&mut times, 0.5).as_secs_f64() * 1e6)
}
