//! The outbox: mails that the gateway hands over by itself.

mod changes;
mod connectors;
mod crash;
mod delivery;
mod limits;
mod retrying;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{Event, SubscribeResponse};
use postern_proto::mail::v1::Email;
use postern_proto::outbox::v1::outbox_service_client::OutboxServiceClient;
use postern_proto::outbox::v1::{
    GetQueuedEmailRequest, QueueEmailRequest, QueuedEmail, QueuedEmailState, RetryQueuedEmailRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::world::{events, subscribe, until};

/// Back-off short enough to wait for.
const QUICK: [&str; 2] = ["--outbox-back-off", "50ms"];

fn client(channel: &Channel) -> OutboxServiceClient<Channel> {
    OutboxServiceClient::new(channel.clone()).max_encoding_message_size(8 * 1024 * 1024)
}

/// A request to queue a mail through a connection.
fn through(connection: &str, email: Email) -> QueueEmailRequest {
    QueueEmailRequest { connection: connection.into(), email: Some(email), ..QueueEmailRequest::default() }
}

/// The same for later.
fn later(connection: &str, email: Email, ahead: Duration) -> QueueEmailRequest {
    let schedule_time = Some((SystemTime::now() + ahead).into());
    QueueEmailRequest { schedule_time, ..through(connection, email) }
}

async fn queue(channel: &Channel, request: QueueEmailRequest) -> Result<QueuedEmail, Status> {
    Ok(client(channel).queue_email(request).await?.into_inner().queued_email.unwrap())
}

async fn get(channel: &Channel, name: &str) -> Result<QueuedEmail, Status> {
    let request = GetQueuedEmailRequest { name: name.into() };
    Ok(client(channel).get_queued_email(request).await?.into_inner().queued_email.unwrap())
}

async fn retry(channel: &Channel, name: &str) -> Result<QueuedEmail, Status> {
    let request = RetryQueuedEmailRequest { name: name.into(), ..RetryQueuedEmailRequest::default() };
    Ok(client(channel).retry_queued_email(request).await?.into_inner().queued_email.unwrap())
}

/// Waits until a mail is in a state.
async fn comes_to(channel: &Channel, name: &str, state: QueuedEmailState) -> QueuedEmail {
    until(&format!("{name} is {state:?}"), || async {
        get(channel, name).await.ok().filter(|email| email.state() == state)
    })
    .await
}

/// A stream of all events from the first.
struct Listening {
    stream: Streaming<SubscribeResponse>,
    /// What came with what was told.
    came: VecDeque<Event>,
}

async fn listen(channel: &Channel) -> Listening {
    let stream = subscribe(channel, Some(Position::Earliest(()))).await;
    Listening { stream, came: VecDeque::new() }
}

/// The next event of a stream: its type and what it tells.
async fn told(listening: &mut Listening) -> (String, Kind) {
    if listening.came.is_empty() {
        listening.came.extend(events(&mut listening.stream, 1).await);
    }
    kind(listening.came.pop_front().unwrap())
}

fn kind(event: Event) -> (String, Kind) {
    (event.r#type, event.data.unwrap().kind.unwrap())
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(asked: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = asked.expect_err("it should have been refused");
    assert_eq!((status.code(), reason_of(&status).as_str()), (code, reason), "{status:?}");
    status
}
