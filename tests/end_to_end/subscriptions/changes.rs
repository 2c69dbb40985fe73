//! Subscriptions are made, listed, changed and deleted.

use postern_chassis::fault::reason_of;
use postern_gateway::events::new_event;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{
    ConsumeStart, CreateSubscriptionRequest, DeleteSubscriptionRequest, EventFilter, GetSubscriptionRequest,
    ListSubscriptionsRequest, Subscription, SubscriptionMode, UpdateSubscriptionRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::world::{NAME, World, at, create, ids, ordered, shared, start};
use crate::store::conformance::{event, events};

async fn update(world: &World, wanted: Subscription, paths: &[&str]) -> Result<Subscription, Status> {
    let update_mask =
        (!paths.is_empty()).then(|| FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    let subscription = Some(Subscription { name: NAME.into(), ..wanted });
    let request = UpdateSubscriptionRequest { subscription, update_mask, ..Default::default() };
    Ok(world.subscriptions().update_subscription(request).await?.into_inner().subscription.unwrap())
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn what_is_not_said_has_its_default() {
    let world = World::start().await;
    let made = world.create(shared()).await;
    assert_eq!((&*made.name, made.ack_deadline, made.max_attempts), (NAME, seconds(60), 10));
    assert!(!made.etag.is_empty() && made.create_time.is_some() && made.create_time == made.update_time);
    let status = world.subscriptions().create_subscription(create(shared())).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::AlreadyExists, "SUBSCRIPTION_EXISTS"));
    let request = CreateSubscriptionRequest::default();
    let made =
        world.subscriptions().create_subscription(request).await.unwrap().into_inner().subscription.unwrap();
    assert!(made.name.starts_with("subscriptions/subscription-"));
    assert_eq!((made.mode(), made.ack_deadline, made.max_attempts), (SubscriptionMode::Ordered, None, 0));
    let request = GetSubscriptionRequest { name: made.name.clone() };
    assert_eq!(
        world.subscriptions().get_subscription(request).await.unwrap().into_inner().subscription,
        Some(made)
    );
}

#[tokio::test]
async fn it_begins_where_it_is_told_to() {
    for (start, expected) in [(Position::Earliest(()), 5), (Position::Latest(()), 0)] {
        let world = World::start().await;
        world.append(events("e", 5)).await;
        let request = CreateSubscriptionRequest { start: at(start), ..create(ordered()) };
        world.subscriptions().create_subscription(request).await.unwrap();
        assert_eq!(world.status().await.backlog, expected);
        world.append(events("f", 1)).await;
        let got = world.pull("a", 0).await.unwrap().deliveries;
        assert_eq!(got.len(), usize::try_from(expected).unwrap() + 1);
    }
}

#[tokio::test]
async fn each_wrong_field_is_named() {
    let world = World::start().await;
    let long = "x".repeat(129);
    let sources = vec!["/".to_owned()];
    for (subscription, field) in [
        (Subscription { ack_deadline: seconds(9), ..shared() }, "subscription.ack_deadline"),
        (Subscription { max_attempts: 101, ..shared() }, "subscription.max_attempts"),
        (Subscription { ack_deadline: seconds(60), ..ordered() }, "subscription.ack_deadline"),
        (Subscription { max_attempts: 3, ..ordered() }, "subscription.max_attempts"),
        (Subscription { mode: 9, ..ordered() }, "subscription.mode"),
        (Subscription { display_name: long, ..ordered() }, "subscription.display_name"),
        (
            Subscription { filter: Some(EventFilter { sources, types: vec![] }), ..ordered() },
            "subscription.filter.sources[0]",
        ),
    ] {
        let status = world.subscriptions().create_subscription(create(subscription)).await.unwrap_err();
        assert_eq!(reason_of(&status), "FIELD_INVALID");
        assert!(status.message().starts_with(field), "{status:?}");
    }
}

#[tokio::test]
async fn subscriptions_are_listed_by_name_in_pages() {
    let world = World::start().await;
    for id in ["ccc", "aaa", "bbb"] {
        let request = CreateSubscriptionRequest { subscription_id: id.into(), ..create(ordered()) };
        world.subscriptions().create_subscription(request).await.unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSubscriptionsRequest { page_size: 2, page_token };
        let page = world.subscriptions().list_subscriptions(request).await.unwrap().into_inner();
        names.extend(page.subscriptions.into_iter().map(|one| one.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["subscriptions/aaa", "subscriptions/bbb", "subscriptions/ccc"]);
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let world = World::start().await;
    let made = world.create(Subscription { max_attempts: 3, ..shared() }).await;
    let wanted = Subscription { display_name: "Bills".into(), max_attempts: 5, ..Subscription::default() };
    let changed = update(&world, wanted.clone(), &["display_name"]).await.unwrap();
    assert_eq!((&*changed.display_name, changed.max_attempts), ("Bills", 3));
    assert_ne!(changed.etag, made.etag);
    let changed = update(&world, wanted, &[]).await.unwrap();
    assert_eq!((changed.max_attempts, changed.ack_deadline), (5, seconds(60)));
    let status = update(&world, Subscription { etag: made.etag, ..shared() }, &["filter"]).await.unwrap_err();
    assert_eq!((status.code(), &*reason_of(&status)), (Code::Aborted, "ETAG_MISMATCH"));
    let status = update(&world, Subscription::default(), &["status"]).await.unwrap_err();
    assert!(status.message().starts_with("update_mask"));
    let to_ordered = Subscription { mode: SubscriptionMode::Ordered.into(), ..Subscription::default() };
    let status = update(&world, to_ordered, &["mode"]).await.unwrap_err();
    assert!(status.message().starts_with("subscription.mode"), "{status:?}");
    // Acknowledging is no change by a caller.
    world.append(events("e", 1)).await;
    let got = world.pull("", 0).await.unwrap().deliveries;
    world.settle(super::world::acks(&got)).await.unwrap();
    let request = GetSubscriptionRequest { name: NAME.into() };
    let got = world.subscriptions().get_subscription(request).await.unwrap().into_inner();
    assert_eq!(got.subscription.unwrap().etag, changed.etag);
}

#[tokio::test]
async fn a_new_filter_holds_for_what_is_delivered_from_then_on() {
    let old = |key: String| event(&key);
    let wanted = |key: String| new_event("connections/office", "email.received", None, &key, None, None);
    for kind in [ordered(), shared()] {
        let world = World::of(2).await;
        let of = |event_type: &str| {
            Some(EventFilter { types: vec![event_type.to_owned()], ..EventFilter::default() })
        };
        world.create(Subscription { filter: of("connection.state_changed"), ..kind }).await;
        world.append(events("e", 2)).await;
        let wish = ConsumeStart { max_outstanding_events: 1_000, ..start("a") };
        let mut subscriber = world.start_at(1, wish).await;
        subscriber.opened().await;
        subscriber.deliveries(2).await;
        let filter = Subscription { filter: of("email"), ..Subscription::default() };
        update(&world, filter, &["filter"]).await.unwrap();
        // It is heard of at the other gateway once the first event comes that only the new one lets through.
        for number in 0.. {
            world.append(vec![old(format!("old-{number}")), wanted(format!("new-{number}"))]).await;
            let got = ids(&subscriber.deliveries_once().await);
            if (0..=number).any(|number| got.contains(&wanted(format!("new-{number}")).id)) {
                break;
            }
        }
        let last = wanted("last".to_owned());
        world.append(vec![old("later".to_owned()), last.clone()]).await;
        let mut got = Vec::new();
        while !got.contains(&last.id) {
            got.extend(ids(&subscriber.deliveries_once().await));
        }
        assert!(!got.contains(&old("later".to_owned()).id));
    }
}

#[tokio::test]
async fn deleting_ends_its_streams_and_waits_at_each_gateway() {
    for kind in [ordered(), shared()] {
        let world = World::of(2).await;
        world.create(kind.clone()).await;
        world.append(events("e", 1)).await;
        let mut streams = Vec::new();
        for gateway in if kind.mode == 0 { 0..1 } else { 0..2 } {
            let mut stream = world.start_at(gateway, start("a")).await;
            stream.opened().await;
            streams.push(stream);
        }
        let delete = DeleteSubscriptionRequest { name: NAME.into(), etag: "x".into(), ..Default::default() };
        let status = world.subscriptions().delete_subscription(delete.clone()).await.unwrap_err();
        assert_eq!(reason_of(&status), "ETAG_MISMATCH");
        let delete = DeleteSubscriptionRequest { etag: String::new(), ..delete };
        world.subscriptions().delete_subscription(delete.clone()).await.unwrap();
        for mut stream in streams {
            let status = stream.end().await;
            assert_eq!((status.code(), &*reason_of(&status)), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
        }
        let status = world.subscriptions().delete_subscription(delete).await.unwrap_err();
        assert_eq!(reason_of(&status), "SUBSCRIPTION_NOT_FOUND");
        // Made anew it begins anew.
        world.create(kind).await;
        let got = world.pull("a", 0).await.unwrap().deliveries;
        assert_eq!((ids(&got).len(), got[0].attempt < 2), (1, true));
    }
}
