//! Live events: none is lost between the page and its stream, or between two streams.

use super::stage::Stage;

/// More than a page reads of any one time.
const MANY: usize = 12_000;

#[tokio::test]
async fn what_happens_between_a_page_and_its_stream_comes() {
    let stage = Stage::with(&[]).await;
    // Of a page that shows nothing, and of one that shows something.
    for (shown, between) in [("", "connections/first"), ("connections/first", "connections/second")] {
        let page = stage.page("/console/events", "").await;
        assert!(page.contains(shown) && !page.contains(between), "{page}");
        stage.happen(between, [format!("after {shown}")]).await;
        let mut stream = stage.stream(&page, "", None).await;
        let event = stream.next("event").await.unwrap();
        assert!(event.text.contains(between) && !event.id.is_empty(), "{event:?}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_event_that_was_had_last() {
    let stage = Stage::with(&[]).await;
    let page = stage.page("/console/events", "").await;
    let mut stream = stage.stream(&page, "", None).await;
    stage.happen("connections/one", ["1".to_owned()]).await;
    let first = stream.next("event").await.unwrap();
    stage.happen("connections/two", ["2".to_owned()]).await;
    drop(stream);
    stage.happen("connections/three", ["3".to_owned()]).await;
    let mut stream = stage.stream(&page, "", Some(&first.id)).await;
    for expected in ["connections/two", "connections/three"] {
        let event = stream.next("event").await.unwrap();
        assert!(event.text.contains(expected), "{event:?}");
    }
    let wrong = stage.get("/console/events/stream?after=%21", "").await;
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn a_filter_holds_for_the_page_and_its_stream() {
    let stage = Stage::with(&[]).await;
    let happen = || async {
        stage.happen("connections/shop", ["shop".to_owned(), fastrand::u64(..).to_string()]).await;
        stage.happen("connections/office", [fastrand::u64(..).to_string()]).await;
    };
    happen().await;
    let page = stage.page("/console/events?source=connections/office", "").await;
    assert!(page.contains("· connections/office<") && !page.contains("· connections/shop<"), "{page}");
    let mut stream = stage.stream(&page, "", None).await;
    happen().await;
    let event = stream.next("event").await.unwrap();
    assert!(event.text.contains("· connections/office<"), "{event:?}");
}

#[tokio::test]
async fn the_page_begins_with_the_newest_however_many_there_are() {
    let stage = Stage::with(&[]).await;
    for from in (0..MANY).step_by(1_000) {
        stage.happen("connections/busy", (from..from + 1_000).map(|key| key.to_string())).await;
    }
    stage.happen("connections/last", ["last".to_owned()]).await;
    let page = stage.page("/console/events", "").await;
    assert!(page.contains("· connections/last<"), "the newest is there");
    assert_eq!(page.matches("· connections/busy<").count(), 49);
    // And the stream has none of these again.
    let mut stream = stage.stream(&page, "", None).await;
    stage.happen("connections/after", ["after".to_owned()]).await;
    let event = stream.next("event").await.unwrap();
    assert!(event.text.contains("· connections/after<"), "{event:?}");
}
