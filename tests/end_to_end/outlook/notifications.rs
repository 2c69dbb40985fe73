//! Change notifications from the provider to the subscriber: what is pushed is told at once, what goes wrong on the way
//! costs time and never an event.

mod calendars;
mod door;
mod life;

use std::time::Duration;

use postern_proto::event::v1::{Event, SubscribeResponse, TriggerStatus};
use postern_sandbox::graph::Exchanged;
use tonic::Streaming;

use crate::world::triggers::{self, HOUR, name};
use crate::world::{World, events, mail, send, subject, subscribe, until};

async fn make(world: &World, id: &str, interval: Duration) {
    triggers::make(&world.channel, id, interval, triggers::mail_in("", "")).await;
}

async fn status(world: &World, id: &str) -> TriggerStatus {
    triggers::status(&world.channel, id).await
}

/// Waits until the provider pushes for a trigger, and gives the time until when it does.
async fn pushing(world: &World, id: &str) -> prost_types::Timestamp {
    until("the provider pushes", || async { status(world, id).await.push_expire_time }).await
}

/// Waits until the provider pushes for a trigger and the trigger was looked after.
async fn settled(world: &World, id: &str) {
    pushing(world, id).await;
    triggers::looked_after(&world.channel, id).await;
}

/// What was asked of subscriptions, by method.
fn asked(world: &World, method: &str) -> Vec<Exchanged> {
    let exchanges = world.place.graph.recorder().exchanges();
    let is = |one: &Exchanged| one.url.starts_with("/v1.0/subscriptions") && one.method == method;
    exchanges.into_iter().filter(is).collect()
}

async fn told(world: &World, stream: &mut Streaming<SubscribeResponse>, subject_line: &str) -> Event {
    send(&world.channel, "", mail(subject_line)).await.unwrap();
    let event = events(stream, 1).await.remove(0);
    assert_eq!(subject(&event), subject_line);
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_told_when_it_is_pushed_and_not_at_the_end_of_the_interval() {
    let world = World::pushed().await;
    make(&world, "one", HOUR).await;
    make(&world, "two", HOUR).await;
    let until = pushing(&world, "one").await;
    assert_eq!(pushing(&world, "two").await, until);
    settled(&world, "two").await;
    let mut stream = subscribe(&world.channel, None).await;
    for number in 0..3 {
        send(&world.channel, "", mail(&format!("pushed {number}"))).await.unwrap();
        let told = events(&mut stream, 2).await;
        assert!(told.iter().all(|event| subject(event) == format!("pushed {number}")), "{told:?}");
    }
    // Triggers that watch the same share what is pushed.
    assert_eq!((asked(&world, "POST").len(), world.place.graph.subscriptions().count()), (1, 1));
    let made = asked(&world, "POST").remove(0);
    assert!(made.request_header("prefer").unwrap().contains("ImmutableId"));
    let secret = made.request_body["clientState"].as_str().unwrap().to_owned();
    assert!(secret.len() >= 32 && secret.len() <= 128);
    let life = until.seconds - jiff::Timestamp::now().as_second();
    assert!(life > 6 * 86_400 && life < 7 * 86_400, "{life}");
    // The secret lies in the store sealed alone.
    let mut files = 0;
    for file in std::fs::read_dir(world.folder.path().join("data")).unwrap() {
        let path = file.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        files += 1;
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
    assert!(files > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notification_costs_the_interval_and_a_doubled_one_nothing() {
    let world = World::pushed().await;
    make(&world, "one", Duration::from_secs(1)).await;
    settled(&world, "one").await;
    let mut stream = subscribe(&world.channel, None).await;
    world.place.graph.subscriptions().lose(1);
    told(&world, &mut stream, "lost").await;
    world.place.graph.subscriptions().double();
    told(&world, &mut stream, "doubled").await;
    told(&world, &mut stream, "doubled too").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_again_goes_on_with_what_was_agreed() {
    let mut world = World::pushed().await;
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    world.restart().await;
    pushing(&world, "one").await;
    let mut stream = subscribe(&world.channel, None).await;
    told(&world, &mut stream, "after the restart").await;
    assert_eq!(asked(&world, "POST").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_push_is_polled_and_not_asked_again_and_again() {
    let world = World::pushed().await;
    world.place.graph.subscriptions().set_limit(0);
    make(&world, "one", Duration::from_secs(1)).await;
    let mut stream = subscribe(&world.channel, None).await;
    told(&world, &mut stream, "polled").await;
    told(&world, &mut stream, "polled again").await;
    assert_eq!(asked(&world, "POST").len(), 1);
    assert_eq!(status(&world, "one").await.push_expire_time, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_public_url_nothing_is_agreed() {
    let world = World::connected().await;
    make(&world, "one", Duration::from_secs(1)).await;
    let mut stream = subscribe(&world.channel, None).await;
    told(&world, &mut stream, "polled").await;
    assert!(asked(&world, "POST").is_empty());
}
