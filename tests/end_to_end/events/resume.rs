//! Each cursor that a subscriber has seen leads on without loss.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_gateway::events::new_event;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind;
use postern_proto::event::v1::{EventFilter, SubscribeRequest};

use super::world::{World, from};
use crate::store::conformance::{event, events};

fn ids(count: std::ops::Range<usize>) -> Vec<String> {
    count.map(|number| event(&format!("e{number}")).id).collect()
}

async fn ids_after(world: &World, cursor: Bytes, count: usize) -> Vec<String> {
    let mut subscriber = world.opened(from(Position::Cursor(cursor))).await;
    subscriber.events(count).await.into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn the_cursor_of_any_event_leads_to_the_next() {
    let world = World::start().await;
    world.append(events("e", 30)).await;
    let got = world.opened(from(Position::Earliest(()))).await.events(30).await;
    for (place, event) in got.into_iter().enumerate().step_by(7) {
        assert_eq!(ids_after(&world, event.cursor, 29 - place).await, ids(place + 1..30));
    }
}

#[tokio::test]
async fn the_cursor_of_opened_leads_to_what_came_after() {
    let world = World::start().await;
    world.append(events("e", 3)).await;
    let mut subscriber = world.subscribe(SubscribeRequest::default()).await;
    let Kind::Opened(opened) = subscriber.next().await else { panic!("another answer") };
    drop(subscriber);
    world.append((3..6).map(|number| event(&format!("e{number}"))).collect()).await;
    assert_eq!(ids_after(&world, opened.cursor, 3).await, ids(3..6));
}

#[tokio::test]
async fn the_cursor_of_a_heartbeat_is_past_what_the_filter_dropped() {
    let world = World::start().await;
    let filter = Some(EventFilter { types: vec!["email".to_owned()], sources: Vec::new() });
    let heartbeat_interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let request = SubscribeRequest { filter, heartbeat_interval, ..SubscribeRequest::default() };
    let mut subscriber = world.opened(request).await;
    world.append(events("e", 3)).await;
    let Kind::Heartbeat(heartbeat) = subscriber.next().await else { panic!("another answer") };
    world.append(vec![event("e3")]).await;
    assert_eq!(ids_after(&world, heartbeat.cursor, 1).await, ids(3..4));
    world.append(vec![new_event("connections/office", "email.received", None, "m1", None, None)]).await;
    assert_eq!(subscriber.events(1).await[0].r#type, "email.received");
}

#[tokio::test]
async fn a_time_leads_to_what_became_durable_from_then_on() {
    let world = World::start().await;
    world.append(vec![event("e0")]).await;
    let between = SystemTime::now() + Duration::from_millis(1);
    while SystemTime::now() < between + Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    world.append(vec![event("e1"), event("e2")]).await;
    let mut subscriber = world.opened(from(Position::Time(between.into()))).await;
    let got: Vec<_> = subscriber.events(2).await.into_iter().map(|event| event.id).collect();
    assert_eq!(got, ids(1..3));
}

#[tokio::test]
async fn a_restart_in_between_loses_nothing() {
    let world = World::start().await;
    world.append(events("e", 5)).await;
    let cursor = world.opened(from(Position::Earliest(()))).await.events(5).await[2].cursor.clone();
    let world = World::start_in(world.stop().await).await;
    world.append((5..8).map(|number| event(&format!("e{number}"))).collect()).await;
    assert_eq!(ids_after(&world, cursor, 5).await, ids(3..8));
}
