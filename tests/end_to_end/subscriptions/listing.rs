//! ListEvents: what is kept, page by page.

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{EventFilter, ListEventsRequest, ListEventsResponse};
use tonic::{Code, Status};

use super::world::{World, at};
use crate::store::conformance::{events, sized_event};

async fn list(world: &World, request: ListEventsRequest) -> Result<ListEventsResponse, Status> {
    Ok(world.events(0).list_events(request).await?.into_inner())
}

/// All pages from a first one on, and how many there were.
async fn pages(world: &World, mut request: ListEventsRequest) -> (Vec<String>, usize) {
    let (mut ids, mut count) = (Vec::new(), 0);
    loop {
        let page = list(world, request.clone()).await.unwrap();
        ids.extend(page.events.into_iter().map(|event| event.id));
        count += 1;
        if page.next_page_token.is_empty() {
            return (ids, count);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn pages_hold_every_event_once_and_in_order() {
    let world = World::start().await;
    assert_eq!(pages(&world, ListEventsRequest::default()).await, (Vec::new(), 1));
    world.append(events("e", 100)).await;
    let expected: Vec<_> = events("e", 100).into_iter().map(|event| event.id).collect();
    for (page_size, count) in [(0, 2), (30, 4), (100, 1), (5_000, 1)] {
        let request = ListEventsRequest { page_size, ..ListEventsRequest::default() };
        assert_eq!(pages(&world, request).await, (expected.clone(), count), "{page_size}");
    }
}

#[tokio::test]
async fn it_begins_where_it_is_told_to_and_gives_what_matches() {
    let world = World::start().await;
    world.append(events("e", 10)).await;
    let all = list(&world, ListEventsRequest::default()).await.unwrap().events;
    let start = at(Position::Cursor(all[6].cursor.clone()));
    let after = list(&world, ListEventsRequest { start, ..Default::default() }).await.unwrap();
    assert_eq!(after.events, all[7..]);
    let latest = ListEventsRequest { start: at(Position::Latest(())), ..Default::default() };
    assert!(list(&world, latest).await.unwrap().events.is_empty());
    let filter = |text: &str| {
        let filter = Some(EventFilter { types: vec![text.into()], ..EventFilter::default() });
        ListEventsRequest { filter, page_size: 3, ..ListEventsRequest::default() }
    };
    assert_eq!(pages(&world, filter("connection")).await.0.len(), 10);
    assert!(pages(&world, filter("email")).await.0.is_empty());
    // A token is good for its filter only.
    let token = list(&world, filter("connection")).await.unwrap().next_page_token;
    let other = ListEventsRequest { page_token: token, ..filter("email") };
    assert!(list(&world, other).await.unwrap_err().message().starts_with("page_token"));
}

#[tokio::test]
async fn a_page_stays_under_its_bytes() {
    let world = World::start().await;
    world.append((0..100).map(|number| sized_event(&format!("{number}"), 60_000)).collect()).await;
    let first = list(&world, ListEventsRequest { page_size: 1_000, ..Default::default() }).await.unwrap();
    assert!(
        prost::Message::encoded_len(&first) < 4 * 1024 * 1024 - 1_000 && !first.next_page_token.is_empty()
    );
    let (ids, count) = pages(&world, ListEventsRequest { page_size: 1_000, ..Default::default() }).await;
    assert_eq!((ids.len(), count), (100, 2));
}

#[tokio::test]
async fn what_is_no_longer_kept_is_said() {
    let world = World::start().await;
    world.append(events("e", 10)).await;
    let first = list(&world, ListEventsRequest { page_size: 3, ..Default::default() }).await.unwrap();
    world.trim(0).await;
    world.append(events("kept", 2)).await;
    let by_token = ListEventsRequest { page_token: first.next_page_token, ..Default::default() };
    let start = at(Position::Cursor(first.events[2].cursor.clone()));
    let by_cursor = ListEventsRequest { start, ..Default::default() };
    for request in [by_token, by_cursor] {
        let status = list(&world, request).await.unwrap_err();
        assert_eq!((status.code(), &*reason_of(&status)), (Code::OutOfRange, "CURSOR_EXPIRED"));
    }
    assert_eq!(pages(&world, ListEventsRequest::default()).await.0.len(), 2);
    let negative = ListEventsRequest { page_size: -1, ..Default::default() };
    assert!(list(&world, negative).await.unwrap_err().message().starts_with("page_size"));
}
