//! Subscriptions go on by themselves: over stops, silence and retention, from the cursor that was reached.

use std::time::Duration;

use postern_client::{Client, Delivered, Settings, Start, Subscription, Wish};
use postern_gateway::store::{EventLog as _, Retention};
use tokio::time::Instant;
use tonic::Code;

use super::{Relay, dropping};
use crate::events::world::World;
use crate::store::conformance::events;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn ids(prefix: &str, count: usize) -> Vec<String> {
    events(prefix, count).into_iter().map(|event| event.id).collect()
}

fn client(url: impl Into<String>) -> Client {
    Client::connect(&Settings::to(url)).unwrap()
}

async fn next(subscription: &mut Subscription) -> Delivered {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.expect("something in time").expect("it goes on").unwrap()
}

/// The ids of the next events, each of which moves the cursor.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        match next(subscription).await {
            Delivered::Event(event) => {
                assert_eq!(subscription.cursor(), Some(&event.cursor));
                ids.push(event.id);
            }
            Delivered::Gap(gap) => panic!("a gap: {gap:?}"),
        }
    }
    ids
}

#[tokio::test]
async fn a_stop_and_a_new_gateway_are_gone_over_without_loss_or_double() {
    let world = World::start().await;
    let relay = Relay::before(world.address).await;
    let client = client(relay.url());
    let mut subscription = client.subscribe(Wish::default());
    subscription.opened().await.unwrap();
    world.append(events("before", 300)).await;
    assert_eq!(read(&mut subscription, 299).await, ids("before", 300)[..299]);

    let folder = world.stop().await;
    let world = World::start_in(folder).await;
    relay.lead_to(world.address);
    world.append(events("after", 3)).await;
    assert_eq!(read(&mut subscription, 1).await, ids("before", 300)[299..]);
    assert_eq!(read(&mut subscription, 3).await, ids("after", 3));
    assert!(subscription.last_break().is_some());

    // And who comes later, from a cursor that was stored.
    let stored = subscription.cursor().unwrap().clone();
    world.append(events("later", 2)).await;
    let mut later = client.subscribe(Wish::from(Start::After(stored)));
    assert_eq!(read(&mut later, 2).await, ids("later", 2));
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_left_after_two_and_a_half_heartbeats() {
    let world = World::start().await;
    let relay = Relay::before(world.address).await;
    // Without the help of HTTP/2: a proxy may well answer pings for a gateway that is gone.
    let keepalive_interval = Duration::from_secs(3_600);
    let client = Client::connect(&Settings { keepalive_interval, ..Settings::to(relay.url()) }).unwrap();
    let heartbeat_interval = Some(Duration::from_secs(5));
    let mut subscription = client.subscribe(Wish { heartbeat_interval, ..Wish::default() });
    subscription.opened().await.unwrap();
    let begun = Instant::now();
    relay.fall_silent();
    world.append(events("e", 3)).await;
    assert_eq!(read(&mut subscription, 3).await, ids("e", 3));
    assert!(begun.elapsed() >= Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(subscription.last_break().unwrap().message().contains("silent"));
}

#[tokio::test]
async fn an_address_that_takes_streams_and_drops_them_is_left_for_the_next() {
    let world = World::start().await;
    world.append(events("e", 3)).await;
    let mut settings = Settings::to(format!("http://{}", world.address));
    settings.addresses.insert(0, dropping().await);
    let client = Client::connect(&settings).unwrap();
    let mut subscription = client.subscribe(Wish::from(Start::Earliest));
    assert_eq!(read(&mut subscription, 3).await, ids("e", 3));
    assert!(subscription.last_break().is_some(), "the first address was tried");
}

#[tokio::test]
async fn a_gap_is_given_as_such_or_ends_the_stream_where_that_is_wished_for() {
    let world = World::start().await;
    world.append(events("gone", 10)).await;
    let client = client(format!("http://{}", world.address));
    let mut first = client.subscribe(Wish::from(Start::Earliest));
    assert_eq!(read(&mut first, 4).await, ids("gone", 4));
    let start = Start::After(first.cursor().unwrap().clone());
    let retention = Retention { age: Duration::from_secs(3_600), bytes: 0 };
    world.sqlite.trim(retention).await.unwrap();
    world.append(events("kept", 2)).await;

    let mut told = client.subscribe(Wish::from(start.clone()));
    let Delivered::Gap(gap) = next(&mut told).await else { panic!("no gap") };
    assert_eq!((gap.missed, told.cursor()), (6, Some(&gap.to_cursor)));
    assert_eq!(read(&mut told, 2).await, ids("kept", 2));

    let mut failing = client.subscribe(Wish { fails_at_gap: true, ..Wish::from(start) });
    let error = failing.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::OutOfRange, "CURSOR_EXPIRED"));
    assert_eq!(error.metadata("missed"), Some("6"));
    assert!(failing.next().await.is_none());
}

#[tokio::test]
async fn a_wish_that_is_malformed_ends_at_once_with_its_fields() {
    let world = World::start().await;
    let client = client(format!("http://{}", world.address));
    let mut refused = client.subscribe(Wish::from(Start::Latest).of_source("/"));
    let error = refused.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::InvalidArgument, "FIELD_INVALID"));
    assert!(error.field_violations()[0].field.starts_with("filter.sources"), "{error:?}");
    let mut refused = client.subscribe(Wish::from(Start::After("not one".into())));
    assert_eq!(refused.next().await.unwrap().unwrap_err().reason(), "CURSOR_INVALID");
}

#[tokio::test]
async fn who_wishes_so_is_told_that_nobody_is_there() {
    let world = World::start().await;
    let url = format!("http://{}", world.address);
    world.stop().await;
    let give_up_after = Some(Duration::from_millis(300));
    let mut subscription = client(url).subscribe(Wish { give_up_after, ..Wish::default() });
    let error = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(subscription.next().await.is_none());
}
