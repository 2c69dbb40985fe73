//! DeleteEmail and MarkAsRead, also where the answer is lost: a second deletion is another thing than the first.

use http::Method;
use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::{DeleteEmailRequest, MarkAsReadRequest};
use postern_sandbox::graph::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

async fn delete(stage: &Stage, id: &str, permanently: bool) -> Result<(), Status> {
    let asked = DeleteEmailRequest { message_id: id.into(), permanently, ..DeleteEmailRequest::default() };
    stage.mail.clone().delete_email(stage.with_connection(asked)).await.map(drop)
}

async fn delete_again(stage: &Stage, id: &str, permanently: bool) -> Result<(), Status> {
    let asked = DeleteEmailRequest { message_id: id.into(), permanently, ..DeleteEmailRequest::default() };
    stage.mail.clone().delete_email(stage.as_repeat(asked)).await.map(drop)
}

async fn mark(stage: &Stage, id: &str, unread: bool) -> Result<(), Status> {
    let asked = MarkAsReadRequest { message_id: id.into(), unread, ..MarkAsReadRequest::default() };
    stage.mail.clone().mark_as_read(stage.with_connection(asked)).await.map(drop)
}

fn deleted(stage: &Stage) -> Vec<String> {
    stage.world.messages(ANN, "deleteditems").into_iter().map(|message| message.id).collect()
}

#[tokio::test]
async fn a_deleted_mail_goes_to_deleted_items_or_for_good() {
    let stage = Stage::set().await;
    let (soft, hard) = (stage.deliver("soft"), stage.deliver("hard"));
    delete(&stage, &soft, false).await.unwrap();
    delete(&stage, &hard, true).await.unwrap();
    assert_eq!(deleted(&stage), [soft]);
    assert!(stage.world.messages(ANN, "inbox").is_empty());
    let gone = delete(&stage, &hard, false).await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "ITEM_NOT_FOUND"));
}

#[tokio::test]
async fn a_deletion_whose_answer_is_lost_is_not_made_twice() {
    for fault in [Fault::CutAfter, Fault::Cut, Fault::refuse(503, "", None)] {
        for permanently in [false, true] {
            let stage = Stage::set().await;
            let id = stage.deliver("once");
            let method = if permanently { Method::POST } else { Method::DELETE };
            stage.graph.faults().plan(Some(method), "/messages/", 1, fault.clone());
            delete(&stage, &id, permanently).await.unwrap();
            assert!(stage.graph.faults().all_shown());
            assert_eq!(deleted(&stage).len(), usize::from(!permanently), "{fault:?} {permanently}");
            assert!(stage.world.messages(ANN, "inbox").is_empty());
        }
    }
}

#[tokio::test]
async fn a_repeat_of_a_deletion_finds_that_it_was_made() {
    let stage = Stage::set().await;
    let (soft, hard) = (stage.deliver("soft"), stage.deliver("hard"));
    for _ in 0..2 {
        delete_again(&stage, &soft, false).await.unwrap();
        delete_again(&stage, &hard, true).await.unwrap();
    }
    assert_eq!(deleted(&stage), std::slice::from_ref(&soft));
    delete_again(&stage, &soft, true).await.unwrap();
    assert!(deleted(&stage).is_empty());
}

#[tokio::test]
async fn a_mail_is_marked_as_read_and_as_unread_again() {
    let stage = Stage::set().await;
    let id = stage.deliver("mark");
    let is_read = || stage.world.messages(ANN, "inbox")[0].is_read;
    mark(&stage, &id, false).await.unwrap();
    assert!(is_read());
    stage.graph.faults().plan(Some(Method::PATCH), "/messages/", 1, Fault::CutAfter);
    mark(&stage, &id, true).await.unwrap();
    assert!(!is_read() && stage.graph.faults().all_shown());
    let gone = mark(&stage, "AAkANOTHING", false).await.unwrap_err();
    assert_eq!(reason_of(&gone), "ITEM_NOT_FOUND");
}

#[tokio::test]
async fn another_mailbox_may_be_named() {
    let stage = Stage::set().await;
    let id = stage.world.deliver(ANN, &[BO.into()], b"Subject: for Bo\r\n\r\nhi").remove(0);
    let asked = MarkAsReadRequest { message_id: id.clone(), mailbox: BO.into(), ..Default::default() };
    stage.mail.clone().mark_as_read(stage.with_connection(asked)).await.unwrap();
    assert!(stage.world.messages(BO, "inbox")[0].is_read);
    let asked = DeleteEmailRequest { message_id: id, mailbox: BO.into(), ..Default::default() };
    stage.mail.clone().delete_email(stage.with_connection(asked)).await.unwrap();
    assert!(stage.world.messages(BO, "inbox").is_empty());
}

#[tokio::test]
async fn what_is_no_id_is_named_before_graph_is_asked() {
    let stage = Stage::set().await;
    stage.graph.recorder().clear();
    let long = "a".repeat(1_025);
    for id in ["", ".", "..", "a b", "a\nb", &long] {
        for refused in
            [delete(&stage, id, false).await, delete(&stage, id, true).await, mark(&stage, id, true).await]
        {
            let refused = refused.unwrap_err();
            assert_eq!(reason_of(&refused), "FIELD_INVALID");
            assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "message_id");
        }
    }
    assert!(stage.graph.recorder().exchanges().is_empty());
    stage.graph.faults().plan(
        Some(Method::PATCH),
        "",
        1,
        Fault::refuse(400, "ErrorInvalidIdMalformed", None),
    );
    assert_eq!(reason_of(&mark(&stage, "x", true).await.unwrap_err()), "FIELD_INVALID");
}
