//! Readers of stored subscriptions go on by themselves, and what they were told is confirmed holds.

use std::time::Duration;

use postern_client::{Client, Consumed, Consumer, Settings};
use postern_proto::event::v1::{ConsumeStart, Delivery};
use tonic::Code;

use super::{Relay, dropping};
use crate::store::conformance::events;
use crate::subscriptions::world::{World, cursor_of, ids, ordered, shared, start};
use crate::world::until;

async fn read(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
        match next.expect("something in time").expect("it goes on").unwrap() {
            Consumed::Delivery(delivery) => all.push(delivery),
            Consumed::Gap(gap) => panic!("a gap: {gap:?}"),
        }
    }
    all
}

fn expected(count: usize) -> Vec<String> {
    events("e", count).into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn an_ordered_reader_goes_on_from_what_it_committed_over_a_stop_and_a_new_gateway() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 30)).await;
    let relay = Relay::before(world.gateways[0].address).await;
    let client = Client::connect(&Settings::to(relay.url())).unwrap();
    // Acknowledging frees what may be outstanding.
    let mut consumer = client.consume(ConsumeStart { max_outstanding_events: 10, ..start("") });
    let mut got = read(&mut consumer, 10).await;
    consumer.commit(cursor_of(&got[9])).await.unwrap();
    got.extend(read(&mut consumer, 10).await);
    consumer.commit(cursor_of(&got[14])).await.unwrap();
    // They were given before the stop and are not committed: they come again.
    assert_eq!(ids(&read(&mut consumer, 5).await), expected(30)[20..25]);
    let world = World::start_in(world.stop().await, 1).await;
    relay.lead_to(world.gateways[0].address);
    assert_eq!(ids(&read(&mut consumer, 10).await), expected(30)[15..25]);
    consumer.commit(cursor_of(&got[19])).await.unwrap();
    assert_eq!(world.status().await.backlog, 10);
}

#[tokio::test]
async fn an_address_that_takes_readers_and_drops_them_is_left_for_the_next() {
    let world = World::start().await;
    world.create(ordered()).await;
    world.append(events("e", 3)).await;
    let mut settings = Settings::to(format!("http://{}", world.gateways[0].address));
    settings.addresses.insert(0, dropping().await);
    let client = Client::connect(&settings).unwrap();
    let mut consumer = client.consume(start(""));
    let got = read(&mut consumer, 3).await;
    // The confirmation goes its own way.
    consumer.commit(cursor_of(&got[2])).await.unwrap();
    assert_eq!((ids(&got), world.status().await.backlog), (expected(3), 0));
}

#[tokio::test]
async fn shared_readers_settle_what_they_were_given() {
    let world = World::of(2).await;
    world.create(shared()).await;
    world.append(events("e", 10)).await;
    let client =
        |at: usize| Client::connect(&Settings::to(format!("http://{}", world.gateways[at].address))).unwrap();
    let mut first = client(0).consume(start("a"));
    let got = read(&mut first, 10).await;
    for delivery in &got[..7] {
        assert!(first.ack(delivery).await.unwrap());
    }
    drop(first);
    let mut second = client(1).consume(start("b"));
    let again = read(&mut second, 3).await;
    assert_eq!((ids(&again), again[0].attempt), (ids(&got[7..]), 2));
    assert!(!second.ack(&got[7]).await.unwrap(), "it was given to another");
}

#[tokio::test]
async fn a_shared_reader_that_was_given_a_gap_acknowledges_it_when_it_asks_for_more() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(events("gone", 3)).await;
    world.trim(0).await;
    let client = Client::connect(&Settings::to(format!("http://{}", world.gateways[0].address))).unwrap();
    for is_last in [false, true] {
        let mut consumer = client.consume(start("a"));
        let Some(Ok(Consumed::Gap(gap))) = consumer.next().await else { panic!("no gap") };
        assert_eq!(gap.missed, 3);
        if is_last {
            let more = consumer.next();
            let heard =
                until("it is heard", || async { world.status().await.last_ack_time.is_some().then_some(()) });
            tokio::select! {
                more = more => panic!("{more:?}"),
                () = heard => {}
            }
        }
        // Else it ends with the gap in hand, which is told again.
    }
    world.pass(61);
    assert_eq!(world.pull("", 0).await.unwrap().gap, None);
}

#[tokio::test]
async fn a_reader_ends_when_another_takes_over_or_there_is_nothing_to_read() {
    let world = World::start().await;
    let client = Client::connect(&Settings::to(format!("http://{}", world.gateways[0].address))).unwrap();
    let mut missing = client.consume(start("a"));
    assert_eq!(missing.next().await.unwrap().unwrap_err().code(), Code::NotFound);
    assert!(missing.next().await.is_none());
    world.create(ordered()).await;
    world.append(events("e", 1)).await;
    let mut older = client.consume(start("a"));
    let got = read(&mut older, 1).await;
    let mut newer = client.consume(start("b"));
    read(&mut newer, 1).await;
    assert_eq!(older.next().await.unwrap().unwrap_err().reason(), "SUBSCRIPTION_TAKEN_OVER");
    assert_eq!(older.commit(cursor_of(&got[0])).await.unwrap_err().reason(), "SUBSCRIPTION_TAKEN_OVER");
}
