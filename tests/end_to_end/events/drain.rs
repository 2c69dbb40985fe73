//! A gateway that stops ends its streams so that their subscribers can go on.

use std::time::Duration;

use postern_chassis::fault::{reason_of, retry_after_of};
use postern_gateway::events::EventServer;
use postern_proto::event::v1::SubscribeRequest;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::world::{World, from};
use crate::store::conformance::events;

#[tokio::test]
async fn streams_end_at_a_stop_and_go_on_from_their_last_cursor() {
    let world = World::start().await;
    world.append(events("e", 5)).await;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(world.opened(from(Position::Earliest(()))).await);
    }
    let mut cursors = Vec::new();
    for subscriber in &mut subscribers {
        cursors.push(subscriber.events(5).await[4].cursor.clone());
    }
    let begun = Instant::now();
    world.stop.cancel();
    for subscriber in &mut subscribers {
        let status = subscriber.answer().await.unwrap_err();
        assert_eq!((status.code(), &*reason_of(&status)), (Code::Unavailable, "DRAINING"));
        assert!(retry_after_of(&status).is_some());
    }
    let world = World::start_in(world.stop().await).await;
    // Well within the grace period: the streams ended by themselves.
    assert!(begun.elapsed() < Duration::from_secs(8));
    world.append(events("later", 3)).await;
    for cursor in cursors {
        let mut subscriber = world.opened(from(Position::Cursor(cursor))).await;
        assert_eq!(subscriber.events(3).await[0].id, events("later", 1)[0].id);
    }
}

#[tokio::test]
async fn a_subscriber_that_comes_during_the_stop_is_sent_on() {
    let world = World::start().await;
    let stopping = CancellationToken::new();
    stopping.cancel();
    // Without a socket: a listener that stops takes no new connection, while an open one may still bring calls.
    let mut client = EventServiceClient::new(EventServer::new(world.sqlite.clone(), stopping));
    let status = client.subscribe(SubscribeRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::Unavailable, "DRAINING"));
    assert!(retry_after_of(&status).is_some());
}
