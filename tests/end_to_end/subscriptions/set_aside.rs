//! Events that were delivered in vain: set aside, listed, delivered again, dropped.

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::{
    DropSetAsideEventsRequest, ListSetAsideEventsRequest, ListSetAsideEventsResponse,
    ReplaySetAsideEventsRequest, Subscription,
};
use tonic::Code;

use super::world::{NAME, World, acks, ids, nack, shared};
use crate::store::conformance::{event, events};

async fn list(world: &World, page_size: i32, page_token: &str) -> ListSetAsideEventsResponse {
    let request =
        ListSetAsideEventsRequest { name: NAME.to_owned(), page_size, page_token: page_token.to_owned() };
    world.subscriptions().list_set_aside_events(request).await.unwrap().into_inner()
}

fn replay(event_ids: &[String]) -> ReplaySetAsideEventsRequest {
    let event_ids = event_ids.to_vec();
    ReplaySetAsideEventsRequest { name: NAME.to_owned(), event_ids, ..Default::default() }
}

/// A world in which so many events were set aside after two attempts, and retention has passed them.
async fn with_set_aside(count: usize) -> World {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 2, ..shared() }).await;
    world.append(events("e", count)).await;
    let mut subscriber = world.consume().await;
    for attempt in 1..=2 {
        for got in subscriber.deliveries(count).await {
            assert_eq!(got.attempt, attempt);
            subscriber.settle(nack(&got, Some(0), "no such order")).await;
        }
        let mut confirmed = 0;
        while confirmed < count {
            confirmed += subscriber.confirmed().await.ack_ids.len();
        }
    }
    world.trim(0).await;
    world
}

#[tokio::test]
async fn after_the_last_attempt_an_event_is_set_aside_with_what_was_said_of_it() {
    let world = with_set_aside(1).await;
    let status = world.status().await;
    assert_eq!((status.set_aside, status.outstanding, status.backlog), (1, 0, 0));
    let listed = list(&world, 0, "").await;
    let [aside] = listed.events.as_slice() else { panic!("{listed:?}") };
    assert_eq!(aside.event.as_ref().unwrap().id, event("e0").id);
    assert_eq!((aside.attempts, &*aside.reason), (2, "no such order"));
    assert!(aside.set_aside_time.is_some() && listed.next_page_token.is_empty());
}

#[tokio::test]
async fn deadlines_count_as_attempts_and_leave_no_reason() {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 2, ..shared() }).await;
    world.append(vec![event("e")]).await;
    let mut subscriber = world.consume().await;
    subscriber.deliveries(1).await;
    world.pass(61);
    let last = subscriber.deliveries(1).await;
    world.pass(61);
    let aside = async {
        while world.status().await.set_aside == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), aside).await.unwrap();
    assert_eq!(list(&world, 0, "").await.events[0].reason, "");
    // An ack that comes now comes too late.
    subscriber.settle(acks(&last)).await;
    assert_eq!(subscriber.confirmed().await.failures[0].reason, "ACK_EXPIRED");
}

#[tokio::test]
async fn set_aside_events_are_listed_in_pages_oldest_first() {
    let world = World::start().await;
    world.create(Subscription { max_attempts: 1, ..shared() }).await;
    world.append(events("e", 5)).await;
    let mut subscriber = world.consume().await;
    let got = subscriber.deliveries(5).await;
    for delivery in got.iter().rev() {
        subscriber.settle(nack(delivery, None, "")).await;
    }
    let mut confirmed = 0;
    while confirmed < 5 {
        confirmed += subscriber.confirmed().await.ack_ids.len();
    }
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&world, 2, &token).await;
        assert!(page.events.len() <= 2);
        listed.extend(page.events.into_iter().map(|aside| aside.event.unwrap().id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids(&got));
}

#[tokio::test]
async fn a_replayed_event_is_delivered_anew_though_retention_passed_it() {
    let world = with_set_aside(1).await;
    let replayed = world.subscriptions().replay_set_aside_events(replay(&[])).await.unwrap().into_inner();
    assert_eq!((replayed.replayed, replayed.more), (1, false));
    assert!(list(&world, 0, "").await.events.is_empty());
    assert_eq!(world.status().await.set_aside, 0);
    // Delivered in vain again it is set aside again, and once only.
    let mut subscriber = world.consume().await;
    for attempt in 1..=2 {
        let got = subscriber.deliveries(1).await;
        assert_eq!(got[0].attempt, attempt);
        subscriber.settle(nack(&got[0], Some(0), "still none")).await;
        subscriber.confirmed().await;
    }
    let listed = list(&world, 0, "").await;
    assert_eq!((listed.events.len(), &*listed.events[0].reason), (1, "still none"));
    // Acknowledged it is gone.
    world.subscriptions().replay_set_aside_events(replay(&[event("e0").id])).await.unwrap();
    let got = subscriber.deliveries(1).await;
    subscriber.settle(acks(&got)).await;
    assert_eq!(subscriber.confirmed().await.ack_ids.len(), 1);
    let status = world.status().await;
    assert_eq!((status.set_aside, status.outstanding), (0, 0));
    let status = world.subscriptions().replay_set_aside_events(replay(&[event("e0").id])).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::NotFound, "EVENT_NOT_SET_ASIDE"));
}

#[tokio::test]
async fn where_one_that_is_named_is_not_there_nothing_is_done() {
    let world = with_set_aside(1).await;
    let names = [event("e0").id, "other".to_owned()];
    let status = world.subscriptions().replay_set_aside_events(replay(&names)).await.unwrap_err();
    assert_eq!(reason_of(&status), "EVENT_NOT_SET_ASIDE");
    let drop =
        DropSetAsideEventsRequest { name: NAME.to_owned(), event_ids: names.to_vec(), ..Default::default() };
    let status = world.subscriptions().drop_set_aside_events(drop.clone()).await.unwrap_err();
    assert_eq!(reason_of(&status), "EVENT_NOT_SET_ASIDE");
    assert_eq!(world.status().await.set_aside, 1);
    let drop = DropSetAsideEventsRequest { event_ids: vec![event("e0").id], ..drop };
    let dropped = world.subscriptions().drop_set_aside_events(drop).await.unwrap().into_inner();
    assert_eq!((dropped.dropped, dropped.more), (1, false));
    assert_eq!((world.status().await.set_aside, list(&world, 0, "").await.events.len()), (0, 0));
}
