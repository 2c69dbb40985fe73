//! Events as subscribers get them, over a real socket.

mod drain;
mod gaps;
mod pace;
mod resume;
pub(crate) mod world;

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_gateway::events::{new_event, record};
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind;
use postern_proto::event::v1::{EventFilter, SubscribeRequest};
use tonic::Code;

use self::world::{Subscriber, World, from};
use crate::store::conformance::{events, sized_event};

#[tokio::test]
async fn the_first_answer_is_opened_with_what_is_in_force() {
    let world = World::start().await;
    let mut subscriber = world.subscribe(SubscribeRequest::default()).await;
    let Kind::Opened(opened) = subscriber.next().await else { panic!("another answer") };
    assert_eq!(opened.heartbeat_interval.unwrap().seconds, 30);
    assert!(!opened.cursor.is_empty());

    let interval = Some(prost_types::Duration { seconds: 7, nanos: 0 });
    let request = SubscribeRequest { heartbeat_interval: interval, ..SubscribeRequest::default() };
    let Kind::Opened(opened) = world.subscribe(request).await.next().await else { panic!("another answer") };
    assert_eq!(opened.heartbeat_interval, interval);
}

#[tokio::test]
async fn events_come_in_the_order_of_the_log_and_as_they_were_made() {
    let world = World::start().await;
    world.append(events("before", 300)).await;
    let mut subscriber = world.opened(from(Position::Earliest(()))).await;
    let mut expected: Vec<_> = events("before", 300).into_iter().map(|event| event.id).collect();
    for number in 0..20 {
        let new = events(&format!("{number}-"), 3);
        expected.extend(new.iter().map(|event| event.id.clone()));
        world.append(new).await;
    }
    let got = subscriber.events(360).await;
    assert_eq!(got.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), expected);
    for event in got {
        assert_eq!((&*event.source, &*event.r#type), ("connections/office", "connection.state_changed"));
        assert!(event.data.is_some() && event.record_time.is_some() && event.time.is_some());
    }
}

#[tokio::test]
async fn latest_gives_what_comes_from_now_on() {
    let world = World::start().await;
    world.append(events("before", 5)).await;
    let mut subscriber = world.opened(SubscribeRequest::default()).await;
    let mut same = world.opened(from(Position::Latest(()))).await;
    world.append(events("after", 2)).await;
    for subscriber in [&mut subscriber, &mut same] {
        let got = subscriber.events(2).await;
        assert_eq!(got[0].id, events("after", 1)[0].id);
    }
}

#[tokio::test]
async fn a_batch_keeps_to_its_bounds() {
    let world = World::start().await;
    world.append(events("small", 1_000)).await;
    let large = record::MAX_EVENT_BYTES - 400;
    world.append((0..40).map(|number| sized_event(&format!("large{number}"), large)).collect()).await;
    let mut subscriber = world.opened(from(Position::Earliest(()))).await;
    let (mut count, mut sizes) = (0, BTreeSet::new());
    while count < 1_040 {
        let Kind::Batch(batch) = subscriber.next().await else { panic!("another answer") };
        assert!((1..=256).contains(&batch.events.len()));
        assert!(prost::Message::encoded_len(&batch) <= 1024 * 1024);
        count += batch.events.len();
        sizes.insert(batch.events.len());
    }
    assert!(sizes.contains(&256), "what is ready is sent together: {sizes:?}");
}

#[tokio::test]
async fn a_filter_lets_through_what_matches_each_of_its_fields() {
    let world = World::start().await;
    let kinds = [
        ("connections/office/triggers/new-mail", "email.received"),
        ("connections/office/triggers/changes", "calendar_event.modified"),
        ("connections/office", "connection.state_changed"),
        ("connections/office-2", "email.received"),
        ("connections/shop", "email.received"),
    ];
    let filters: [(&[&str], &[&str], &[usize]); 4] = [
        (&["connections/office"], &[], &[0, 1, 2]),
        (&["connections/office/triggers/new-mail", "connections/shop"], &[], &[0, 4]),
        (&[], &["email.received"], &[0, 3, 4]),
        (&["connections/office"], &["calendar_event", "email"], &[0, 1]),
    ];
    let mut subscribers = Vec::new();
    for (sources, types, _) in filters {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let filter = EventFilter { sources: texts(sources), types: texts(types) };
        let request = SubscribeRequest { filter: Some(filter), ..SubscribeRequest::default() };
        subscribers.push(world.opened(request).await);
    }
    let mut new = Vec::new();
    for round in 0..3 {
        for (source, event_type) in kinds {
            new.push(new_event(source, event_type, None, &format!("{round} {event_type}"), None, None));
        }
    }
    world.append(new).await;
    for (subscriber, (_, _, expected)) in subscribers.iter_mut().zip(filters) {
        let got = subscriber.events(expected.len() * 3).await;
        let got: Vec<_> = got.iter().map(|event| (&*event.source, &*event.r#type)).collect();
        let expected: Vec<_> = expected.iter().map(|kind| kinds[*kind]).collect();
        assert_eq!(got, expected.repeat(3));
    }
}

#[tokio::test]
async fn what_a_request_must_not_hold_is_refused_by_field() {
    let world = World::start().await;
    let filter = Some(EventFilter { sources: vec!["/".to_owned()], types: vec!["email".to_owned(); 101] });
    let heartbeat_interval = Some(prost_types::Duration { seconds: 301, nanos: 0 });
    let request = SubscribeRequest { filter, heartbeat_interval, ..SubscribeRequest::default() };
    let status = world.refused(request).await;
    assert_eq!((status.code(), &*reason_of(&status)), (Code::InvalidArgument, "FIELD_INVALID"));
    let request = from(Position::Cursor("not one".into()));
    let status = world.refused(request).await;
    assert_eq!((status.code(), &*reason_of(&status)), (Code::InvalidArgument, "CURSOR_INVALID"));
    assert_eq!(retry_after_of(&status), None);
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented() {
    let world = World::start().await;
    let mut grpc = tonic::client::Grpc::new(world.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<SubscribeRequest, SubscribeRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/postern.event.v1.EventService/Publish");
    let request = tonic::Request::new(SubscribeRequest::default());
    assert_eq!(grpc.unary(request, path, codec).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn many_subscribers_each_get_all() {
    let world = World::start().await;
    let mut subscribers = Vec::new();
    for _ in 0..50 {
        subscribers.push(world.opened(SubscribeRequest::default()).await);
    }
    let reading = subscribers.into_iter().map(|mut subscriber: Subscriber| async move {
        subscriber.events(500).await.into_iter().map(|event| event.id).collect::<Vec<_>>()
    });
    let reading = futures_util::stream::iter(reading).buffer_unordered(50).collect::<Vec<_>>();
    let appending = async {
        for group in events("e", 500).chunks(5) {
            world.append(group.to_vec()).await;
        }
    };
    let (got, ()) = tokio::join!(reading, appending);
    let expected: Vec<_> = events("e", 500).into_iter().map(|event| event.id).collect();
    assert_eq!(got.len(), 50);
    assert!(got.iter().all(|ids| *ids == expected));
}
