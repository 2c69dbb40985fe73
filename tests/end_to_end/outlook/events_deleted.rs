//! Deleting entries and cancelling meetings: done once, though answers are lost.

use http::Method;
use postern_proto::outlook::v1::DeleteEventRequest;
use postern_sandbox::graph::Fault;
use serde_json::json;
use tonic::Code;

use super::agenda::{entry, refusal, wrong_fields};
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
