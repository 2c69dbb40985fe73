//! Deleting entries, cancelling meetings and changes that are asked for again: done once, though answers are lost.

use http::Method;
use postern_proto::outlook::v1::{CalendarEvent, DeleteEventRequest, UpdateEventRequest};
use postern_sandbox::graph::Fault;
use serde_json::json;
use tonic::Code;

use super::agenda::{at, entry, refusal, wrong_fields};
use super::events::full;
use super::stage::{ANN, BO, Stage};

async fn delete(stage: &Stage, asked: DeleteEventRequest) -> Result<(), tonic::Status> {
    stage.calendars().delete_event(stage.with_connection(asked)).await.map(drop)
}

#[tokio::test]
async fn a_deletion_is_done_once_though_its_answer_is_lost() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    let asked = DeleteEventRequest { id: made.id.clone(), ..DeleteEventRequest::default() };
    stage.graph.faults().plan(Some(Method::DELETE), "/events/", 1, Fault::CutAfter);
    delete(&stage, asked.clone()).await.unwrap();
    assert!(stage.world.calendar_events(ANN).is_empty());
    assert!(stage.world.calendar_events(BO)[0].is_cancelled, "Bo keeps it as cancelled");
    let expected = (Code::NotFound, "ITEM_NOT_FOUND".to_owned());
    assert_eq!(refusal(delete(&stage, asked.clone())).await, expected);
    stage.calendars().delete_event(stage.as_repeat(asked.clone())).await.unwrap();
    let with_word = DeleteEventRequest { comment: "ill".into(), ..asked.clone() };
    stage.calendars().delete_event(stage.as_repeat(with_word)).await.unwrap();
    stage.graph.faults().plan(Some(Method::DELETE), "/events/", 9, Fault::Cut);
    assert_eq!(refusal(delete(&stage, asked)).await.1, "PROVIDER_UNAVAILABLE");
}

#[tokio::test]
async fn a_meeting_is_cancelled_with_a_word_to_those_invited() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    let with_word = |id: &str, mailbox: &str| DeleteEventRequest {
        id: id.into(),
        mailbox: mailbox.into(),
        comment: "ill".into(),
        ..DeleteEventRequest::default()
    };
    let theirs = stage.world.calendar_events(BO).remove(0).id;
    assert_eq!(wrong_fields(delete(&stage, with_word(&theirs, BO))).await, ["comment"]);
    let alone = stage.create_event(entry("alone", "2026-05-01T10:00:00Z")).await.unwrap();
    assert_eq!(wrong_fields(delete(&stage, with_word(&alone.id, ""))).await, ["comment"]);
    stage.graph.faults().plan(Some(Method::POST), "/cancel", 1, Fault::CutAfter);
    delete(&stage, with_word(&made.id, "")).await.unwrap();
    assert_eq!(stage.bodies("POST").pop().unwrap(), json!({"comment": "ill"}));
    assert_eq!(stage.world.calendar_events(ANN).len(), 1);
    assert!(stage.world.calendar_events(BO)[0].is_cancelled);
}

#[tokio::test]
async fn a_repeat_of_a_change_finds_that_it_was_made_and_takes_no_others_for_its_own() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    let change = |subject: &str| UpdateEventRequest {
        id: made.id.clone(),
        item: Some(CalendarEvent {
            subject: subject.into(),
            change_key: made.change_key.clone(),
            ..CalendarEvent::default()
        }),
        ..UpdateEventRequest::default()
    };
    let first = stage.calendars().update_event(stage.with_connection(change("new"))).await.unwrap();
    let again = stage.calendars().update_event(stage.as_repeat(change("new"))).await.unwrap();
    assert_eq!(again.into_inner(), first.into_inner());
    let expected = (Code::Aborted, "ITEM_CHANGED".to_owned());
    assert_eq!(refusal(stage.calendars().update_event(stage.as_repeat(change("other")))).await, expected);
    assert_eq!(refusal(stage.calendars().update_event(stage.with_connection(change("new")))).await, expected);
    assert_eq!(stage.bodies("PATCH").len(), 1);
}

#[tokio::test]
async fn a_change_that_broke_off_for_good_may_be_asked_for_again_unless_it_names_a_key() {
    let stage = Stage::set().await;
    let made = stage.create_event(full()).await.unwrap();
    stage.graph.faults().plan(Some(Method::PATCH), "/events/", 2, Fault::refuse(504, "", Some("600")));
    for (key, reason) in [("", "PROVIDER_UNAVAILABLE"), (made.change_key.as_str(), "OUTCOME_UNKNOWN")] {
        let item = CalendarEvent {
            start: at("2026-05-01T09:00:00Z"),
            change_key: key.into(),
            ..CalendarEvent::default()
        };
        assert_eq!(refusal(stage.update_event(&made.id, item, &[])).await.1, reason);
    }
}
