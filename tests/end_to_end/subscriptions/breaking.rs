//! Gateways that die and stores that fail while deliveries are out: nothing is lost, and what was confirmed holds.

use std::time::{Duration, SystemTime};

use postern_chassis::fault::retry_after_of;
use postern_gateway::store::EventLog as _;
use postern_gateway::store::sqlite::Sqlite;
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::subscription_service_client::SubscriptionServiceClient;
use postern_proto::event::v1::{EventFilter, PullRequest, Subscription};
use postern_sandbox::child;
use tonic::Code;

use super::rocky::beside;
use super::world::{
    Gateway, NAME, Subscriber, World, acks, create, cursor_of, ids, nack, ordered, shared, start,
};
use crate::outside;
use crate::store::conformance::events;
use crate::world::{connect, until};

fn expected(count: usize) -> Vec<String> {
    events("e", count).into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn what_a_gateway_that_dies_had_given_comes_back_after_its_deadline_at_another() {
    let mut world = World::start().await;
    let dying = Gateway::start_apart(world.sqlite.clone(), world.sqlite.clone(), &world.clock);
    world.gateways.push(dying);
    world.create(shared()).await;
    world.append(events("e", 5)).await;
    let mut first = world.start_at(1, start("a")).await;
    first.opened().await;
    let got = first.deliveries(5).await;
    first.settle(acks(&got[..2])).await;
    first.confirmed().await;
    world.gateways.pop().unwrap().kill();
    first.end().await;
    let mut second = world.consume_as("b").await;
    world.pass(55);
    assert!(second.is_silent().await, "it may still be worked on");
    world.pass(6);
    let again = second.deliveries(3).await;
    assert_eq!((ids(&again), again[0].attempt), (expected(5)[2..].to_vec(), 2));
    // Who had it may still ask: its time is over.
    assert_eq!(world.settle(acks(&got[2..])).await.unwrap().failures.len(), 3);
}

#[tokio::test]
async fn an_ordered_subscription_of_a_gateway_that_dies_goes_on_at_another_at_once() {
    let mut world = World::start().await;
    let dying = Gateway::start_apart(world.sqlite.clone(), world.sqlite.clone(), &world.clock);
    world.gateways.push(dying);
    world.create(ordered()).await;
    world.append(events("e", 10)).await;
    let mut first = world.start_at(1, start("a")).await;
    first.opened().await;
    let got = first.deliveries(10).await;
    first.commit(&cursor_of(&got[3])).await;
    first.confirmed().await;
    world.gateways.pop().unwrap().kill();
    assert_eq!(ids(&world.consume_as("a").await.deliveries(6).await), expected(10)[4..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_given_comes_back_after_its_deadline_and_its_acks_hold() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&folder.path().join("data")).unwrap();
    sqlite.append(events("e", 6), Vec::new()).await.unwrap();
    sqlite.close().await.unwrap();
    drop(sqlite);
    let program = outside::program("gateway");
    let begin = || child::Gateway::start(&program, &[], "127.0.0.1:0", folder.path(), "error");
    let reader = |address: String| async move {
        let channel = connect(&address).await;
        let mut reader =
            Subscriber::begin(EventServiceClient::new(channel.clone()), Say::Start(start(""))).await;
        reader.opened().await;
        (reader, channel)
    };
    let gateway = begin().await.unwrap();
    let ack_deadline = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    SubscriptionServiceClient::new(connect(gateway.address()).await)
        .create_subscription(create(Subscription { ack_deadline, ..shared() }))
        .await
        .unwrap();
    let given = SystemTime::now();
    let (mut first, _) = reader(gateway.address().to_owned()).await;
    let got = first.deliveries(6).await;
    first.settle(acks(&got[..2])).await;
    first.confirmed().await;
    first.settle(nack(&got[2], Some(0), "")).await;
    first.confirmed().await;
    let again = first.deliveries(1).await;
    assert_eq!((ids(&again), again[0].attempt), (ids(&got[2..3]), 2));
    gateway.kill().await.unwrap();
    let gateway = begin().await.unwrap();
    let (mut second, channel) = reader(gateway.address().to_owned()).await;
    let mut all = second.deliveries(4).await;
    all.sort_by_key(|delivery| {
        expected(6).into_iter().position(|id| id == ids(std::slice::from_ref(delivery))[0])
    });
    assert!(given.elapsed().unwrap() >= Duration::from_secs(10), "before its deadline");
    assert_eq!(ids(&all), expected(6)[2..]);
    assert_eq!(all.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [3, 2, 2, 2]);
    let request = postern_proto::event::v1::AcknowledgeRequest {
        subscription: NAME.into(),
        settle: Some(acks(&all)),
        ..Default::default()
    };
    let settled = EventServiceClient::new(channel).acknowledge(request).await.unwrap().into_inner();
    assert_eq!(settled.confirmed.unwrap().ack_ids.len(), 4);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_fails_ends_a_shared_stream_and_once_mended_its_deliveries_come_again_at_once() {
    let (world, way) = beside(shared()).await;
    world.append(events("e", 5)).await;
    let mut first = world.start_at(1, start("a")).await;
    first.opened().await;
    let got = first.deliveries(5).await;
    way.fail(true);
    first.settle(acks(&got[..2])).await;
    let status = first.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(retry_after_of(&status).is_some());
    assert_eq!(world.settle_at(1, acks(&got)).await.unwrap_err().code(), Code::Unavailable);
    way.fail(false);
    // Nothing was confirmed, and nothing waits for its deadline.
    let again = world.consume_as("b").await.deliveries(5).await;
    assert_eq!((ids(&again), again[0].attempt), (expected(5), 2));
}

#[tokio::test]
async fn what_others_write_while_the_store_fails_costs_no_delivery_its_place() {
    let (world, way) = beside(shared()).await;
    world.append(events("e", 3)).await;
    let mut first = world.start_at(1, start("a")).await;
    first.opened().await;
    first.deliveries(3).await;
    way.fail(true);
    // The other gateway hands out what is new, which this one hears of and cannot read.
    world.append(events("f", 2)).await;
    let pull = PullRequest { subscription: NAME.into(), ..PullRequest::default() };
    assert_eq!(world.events(0).pull(pull).await.unwrap().into_inner().deliveries.len(), 2);
    assert_eq!(first.end().await.code(), Code::Unavailable);
    way.fail(false);
    let again = world.consume_as("b").await.deliveries(3).await;
    assert_eq!((ids(&again), again[0].attempt), (expected(3), 2));
}

#[tokio::test]
async fn a_store_that_fails_ends_an_ordered_stream_and_once_mended_it_goes_on_from_what_was_confirmed() {
    let (world, way) = beside(ordered()).await;
    world.append(events("e", 5)).await;
    let mut first = world.start_at(1, start("a")).await;
    first.opened().await;
    let got = first.deliveries(5).await;
    first.commit(&cursor_of(&got[1])).await;
    first.confirmed().await;
    way.fail(true);
    first.commit(&cursor_of(&got[3])).await;
    let status = first.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    way.fail(false);
    let mut again = world.start_at(1, start("a")).await;
    again.opened().await;
    assert_eq!(ids(&again.deliveries(3).await), expected(5)[2..]);
}

#[tokio::test]
async fn an_ack_at_a_gateway_that_has_not_heard_of_its_delivery_is_confirmed_only_when_it_is_done() {
    let (world, way) = beside(shared()).await;
    world.acquaint(1).await;
    way.deafen(true);
    let mut subscriber = world.consume().await;
    world.append(events("e", 4)).await;
    let got = subscriber.deliveries(4).await;
    assert_eq!(world.settle_at(1, acks(&got[..3])).await.unwrap().ack_ids.len(), 3);
    assert_eq!(world.status().await.outstanding, 1);
    // And a nack has it come again.
    world.settle_at(1, nack(&got[3], Some(0), "")).await.unwrap();
    assert_eq!(ids(&subscriber.deliveries(1).await), ids(&got[3..]));
}

#[tokio::test]
async fn what_the_filter_drops_is_written_as_passed_over_now_and_then() {
    let world = World::start().await;
    let filter = Some(EventFilter { types: vec!["email".into()], ..EventFilter::default() });
    world.create(Subscription { filter, ..shared() }).await;
    let _subscriber = world.consume().await;
    world.append(events("e", 30)).await;
    assert_eq!(world.status().await.backlog, 30);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    until("it is passed over", || async { (world.status().await.backlog == 0).then_some(()) }).await;
    // Retention passes nothing that is still to come.
    world.trim(0).await;
    let world = World::start_in(world.stop().await, 1).await;
    assert!(world.consume().await.is_silent().await, "a gap is told");
}
