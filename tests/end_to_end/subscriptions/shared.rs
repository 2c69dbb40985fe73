//! SHARED subscriptions: each event to one of many, acknowledged by itself.

use std::collections::BTreeSet;

use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::event::v1::{ConsumeStart, Extension, Settle, Subscription, SubscriptionMode};

use super::world::{World, acks, cursor_of, ids, nack, shared, start};
use crate::store::conformance::{event, events, sized_event};
use crate::world::until;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn expected(prefix: &str, count: usize) -> BTreeSet<String> {
    events(prefix, count).into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn each_event_goes_to_one_of_the_subscribers_of_two_gateways() {
    let world = World::of(2).await;
    world.create(shared()).await;
    let mut subscribers = Vec::new();
    for number in 0..4 {
        let mut subscriber = world.start_at(number % 2, start(&format!("{number}"))).await;
        let opened = subscriber.opened().await;
        assert_eq!((opened.mode(), opened.ack_deadline), (SubscriptionMode::Shared, seconds(60)));
        subscribers.push(subscriber);
    }
    world.append(events("e", 200)).await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    for mut subscriber in subscribers {
        let told = told.clone();
        tokio::spawn(async move {
            loop {
                let got = match subscriber.answer().await {
                    Ok(Some(postern_proto::event::v1::consume_response::Kind::Deliveries(got))) => {
                        got.deliveries
                    }
                    Ok(Some(_)) => continue,
                    _ => return,
                };
                subscriber.settle(acks(&got)).await;
                told.send(ids(&got)).unwrap();
            }
        });
    }
    let mut all = Vec::new();
    while all.len() < 200 {
        all.extend(heard.recv().await.unwrap());
    }
    assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), expected("e", 200));
    assert_eq!(all.len(), 200, "one was delivered twice");
    let settled = async {
        while world.status().await.backlog > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), settled).await.unwrap();
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_confirmed_ack_holds_over_a_stop_and_what_was_not_acknowledged_comes_again() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(events("e", 10)).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(10).await;
    assert!(got.iter().all(|delivery| delivery.attempt == 1 && delivery.ack_id.len() <= 64));
    assert_eq!(world.status().await.outstanding, 10);
    subscriber.settle(acks(&got[..6])).await;
    let mut confirmed = subscriber.confirmed().await;
    assert_eq!(confirmed.ack_ids.len(), 6);
    confirmed.ack_ids.sort();
    assert!(confirmed.failures.is_empty());
    let world = World::start_in(world.stop().await, 1).await;
    let again = world.consume().await.deliveries(4).await;
    assert_eq!(ids(&again), ids(&got[6..]));
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
}

#[tokio::test]
async fn a_subscriber_that_goes_gives_what_it_has_to_others_at_once() {
    let world = World::of(2).await;
    world.create(shared()).await;
    world.append(events("e", 5)).await;
    let mut first = world.consume().await;
    let got = first.deliveries(5).await;
    let mut second = world.start_at(1, start("b")).await;
    second.opened().await;
    assert!(second.is_silent().await);
    drop(first);
    let again = second.deliveries(5).await;
    assert_eq!(ids(&again), ids(&got));
    assert_eq!(again[0].attempt, 2);
}

#[tokio::test]
async fn a_deadline_that_passes_has_the_event_delivered_again_and_the_late_ack_refused() {
    let world = World::start().await;
    world.create(Subscription { ack_deadline: seconds(20), ..shared() }).await;
    world.append(vec![event("e")]).await;
    let mut subscriber = world.consume().await;
    let first = subscriber.deliveries(1).await;
    world.pass(21);
    let second = subscriber.deliveries(1).await;
    assert_eq!((ids(&second), second[0].attempt), (ids(&first), 2));
    subscriber.settle(acks(&first)).await;
    assert_eq!(subscriber.confirmed().await.failures[0].reason, "ACK_EXPIRED");
    subscriber.settle(acks(&second)).await;
    assert_eq!(subscriber.confirmed().await.ack_ids, [second[0].ack_id.clone()]);
    // Now that it is settled, so it is for all of its deliveries.
    assert_eq!(world.settle(acks(&first)).await.unwrap().ack_ids, [first[0].ack_id.clone()]);
}

#[tokio::test]
async fn an_extension_sets_the_deadline_anew() {
    let world = World::start().await;
    world.create(Subscription { ack_deadline: seconds(20), ..shared() }).await;
    world.append(vec![event("e")]).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(1).await;
    let extension = Extension { ack_id: got[0].ack_id.clone(), deadline: seconds(100) };
    subscriber.settle(Settle { extensions: vec![extension], ..Settle::default() }).await;
    subscriber.confirmed().await;
    world.pass(90);
    assert!(subscriber.is_silent().await);
    subscriber.settle(acks(&got)).await;
    assert_eq!(subscriber.confirmed().await.ack_ids.len(), 1);
}

#[tokio::test]
async fn a_nack_has_it_delivered_again_after_its_delay() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(vec![event("e")]).await;
    let mut subscriber = world.consume().await;
    let mut got = subscriber.deliveries(1).await;
    // At once, after the delay asked for, and after one that doubles.
    for (attempt, delay, passes) in [(2, Some(0), 0), (3, Some(50), 50), (4, None, 4), (5, None, 8)] {
        subscriber.settle(nack(&got[0], delay, "busy")).await;
        assert_eq!(subscriber.confirmed().await.ack_ids.len(), 1);
        if passes > 0 {
            world.pass(passes - 2);
            assert!(subscriber.is_silent().await, "attempt {attempt}");
            world.pass(3);
        }
        got = subscriber.deliveries(1).await;
        assert_eq!(got[0].attempt, attempt);
    }
}

#[tokio::test]
async fn outstanding_events_are_bounded_and_acks_are_credit() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(events("e", 30)).await;
    let mut subscriber = world.start_at(0, ConsumeStart { max_outstanding_events: 10, ..start("a") }).await;
    subscriber.opened().await;
    let got = subscriber.deliveries(10).await;
    assert!(subscriber.is_silent().await);
    subscriber.settle(acks(&got[..3])).await;
    assert_eq!(subscriber.confirmed().await.ack_ids.len(), 3);
    subscriber.deliveries(3).await;
    assert!(subscriber.is_silent().await);
    // A slow one does not hold up another.
    assert_eq!(world.consume_as("b").await.deliveries(17).await.len(), 17);
}

#[tokio::test]
async fn outstanding_bytes_are_bounded_and_acks_are_credit() {
    let world = World::start().await;
    world.create(shared()).await;
    let sizes = [30_000, 30_000, 30_000, 60_000, 30_000];
    let sized = sizes.iter().enumerate().map(|(number, size)| sized_event(&format!("{number}"), *size));
    world.append(sized.collect()).await;
    let wish = || ConsumeStart { max_outstanding_bytes: 64 * 1024, ..start("a") };
    let mut subscriber = world.start_at(0, wish()).await;
    subscriber.opened().await;
    let got = subscriber.deliveries(2).await;
    assert!(subscriber.is_silent().await);
    subscriber.settle(acks(&got[..1])).await;
    subscriber.confirmed().await;
    let third = subscriber.deliveries(1).await;
    assert!(subscriber.is_silent().await, "60,000 bytes are outstanding");
    // Another one has room of its own, and a larger event is not passed over for one that fits.
    let mut other = world.start_at(0, wish()).await;
    other.opened().await;
    assert_eq!(other.deliveries(1).await.len(), 1);
    assert!(other.is_silent().await);
    subscriber.settle(acks([&got[1], &third[0]])).await;
    subscriber.confirmed().await;
    subscriber.deliveries(1).await;
}

#[tokio::test]
async fn an_ack_id_that_is_none_is_told_so_and_holds_up_no_others() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(vec![event("e")]).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(1).await;
    let settle = Settle { ack_ids: vec!["nonsense".into(), got[0].ack_id.clone()], ..Settle::default() };
    subscriber.settle(settle).await;
    let confirmed = subscriber.confirmed().await;
    assert_eq!(confirmed.ack_ids, [got[0].ack_id.clone()]);
    assert_eq!(
        (&*confirmed.failures[0].ack_id, &*confirmed.failures[0].reason),
        ("nonsense", "ACK_ID_INVALID")
    );
}

#[tokio::test]
async fn a_gap_is_told_and_what_is_kept_goes_on() {
    let world = World::start().await;
    world.create(shared()).await;
    world.append(events("gone", 10)).await;
    world.trim(0).await;
    world.append(events("kept", 3)).await;
    let mut subscriber = world.consume().await;
    assert_eq!(subscriber.gap().await.missed, 10);
    let got = subscriber.deliveries(3).await;
    // What retention passes before it is delivered again is told too.
    world.trim(0).await;
    subscriber.settle(nack(&got[0], Some(0), "")).await;
    subscriber.confirmed().await;
    assert_eq!(subscriber.gap().await.missed, 1);
    // What is outstanding can be acknowledged all the same.
    subscriber.settle(acks(&got[1..])).await;
    assert_eq!(subscriber.confirmed().await.ack_ids.len(), 2);
}

#[tokio::test]
async fn what_is_to_be_set_aside_and_is_no_longer_kept_is_told_as_a_gap_to_who_waits() {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 1, ..shared() }).await;
    world.append(vec![event("e")]).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(1).await;
    world.trim(0).await;
    subscriber.settle(nack(&got[0], Some(0), "")).await;
    subscriber.confirmed().await;
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), subscriber.gap());
    assert_eq!(told.await.expect("at once, and not with the next event").missed, 1);
    assert_eq!(world.status().await.set_aside, 0);
}

#[tokio::test]
async fn a_gap_that_nobody_was_there_to_be_told_of_is_told_to_whoever_comes() {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 1, ..shared() }).await;
    world.append(vec![event("e")]).await;
    let got = world.pull("", 0).await.unwrap().deliveries;
    world.trim(0).await;
    world.pass(61);
    let settled = || async { (world.status().await.cursor == cursor_of(&got[0])).then_some(()) };
    until("its deadline has passed, and it is no longer kept", settled).await;
    // Longer than anything of it is kept where nobody is.
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    tokio::time::resume();
    assert_eq!(world.pull("", 0).await.unwrap().gap.map(|gap| gap.missed), Some(1));
    assert_eq!(world.pull("", 0).await.unwrap().gap, None);
}

#[tokio::test]
async fn a_stop_sends_streams_on_and_gives_back_what_they_have() {
    let world = World::of(2).await;
    world.create(shared()).await;
    world.append(events("e", 4)).await;
    let mut first = world.consume().await;
    first.deliveries(4).await;
    world.gateways[0].stop.cancel();
    let status = first.end().await;
    assert_eq!(reason_of(&status), "DRAINING");
    assert!(retry_after_of(&status).is_some());
    let mut other = world.start_at(1, start("b")).await;
    other.opened().await;
    assert_eq!(other.deliveries(4).await[0].attempt, 2);
}

#[tokio::test]
async fn a_clock_that_steps_far_ahead_loses_nothing() {
    let world = World::of(2).await;
    world.create(shared()).await;
    world.append(events("e", 5)).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(5).await;
    subscriber.settle(acks(&got[..2])).await;
    subscriber.confirmed().await;
    world.pass(400 * 24 * 3_600);
    let again = subscriber.deliveries(3).await;
    assert_eq!(ids(&again), ids(&got[2..]));
    subscriber.settle(acks(&again)).await;
    assert_eq!(subscriber.confirmed().await.ack_ids.len(), 3);
    assert_eq!(world.status().await.backlog, 0);
}
