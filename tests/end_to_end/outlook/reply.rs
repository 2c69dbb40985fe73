//! ReplyToEmail: to whom it goes, in which conversation, and that it goes once.

use http::Method;
use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::{ReplyToEmailRequest, ReplyToEmailResponse};
use postern_sandbox::graph::Fault;
use postern_sandbox::world::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

fn answer(id: &str) -> ReplyToEmailRequest {
    ReplyToEmailRequest {
        request_id: "answer's-1".into(),
        message_id: id.into(),
        comment: "gladly".into(),
        ..ReplyToEmailRequest::default()
    }
}

async fn reply(stage: &Stage, asked: ReplyToEmailRequest) -> Result<ReplyToEmailResponse, Status> {
    Ok(stage.mail.clone().reply_to_email(stage.with_connection(asked)).await?.into_inner())
}

#[tokio::test]
async fn an_answer_goes_to_the_sender_within_the_conversation() {
    let stage = Stage::set().await;
    let id = stage.deliver_with("question", "Cc: cy@x.example\r\nMessage-ID: <q@x.example>\r\n");
    let sent = reply(&stage, answer(&id)).await.unwrap();
    let got = &stage.world.messages(BO, "inbox")[0];
    assert_eq!(got.internet_message_id, sent.internet_message_id);
    assert_eq!(got.subject, "RE: question");
    assert!(got.body.content.starts_with("gladly") && got.body.content.contains("about question"));
    assert_eq!(got.in_reply_to.as_deref(), Some("<q@x.example>"));
    assert_eq!((got.to.len(), got.cc.len()), (1, 0));
    let copy = &stage.world.messages(ANN, "sentitems")[0];
    assert_eq!(copy.id, sent.message_id);
    assert_eq!(copy.conversation_id(), stage.world.messages(ANN, "inbox")[0].conversation_id());
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}

#[tokio::test]
async fn an_answer_goes_where_the_mail_wants_it_and_to_all_where_that_is_asked_for() {
    let stage = Stage::set().await;
    let headers = "Reply-To: re@x.example\r\nCc: cy@x.example\r\n";
    let id = stage.deliver_with("list", headers);
    reply(&stage, ReplyToEmailRequest { reply_all: true, ..answer(&id) }).await.unwrap();
    let copy = &stage.world.messages(ANN, "sentitems")[0];
    let to: Vec<&str> = copy.to.iter().map(|to| to.address.as_str()).collect();
    assert_eq!(to, ["re@x.example"], "not to Ann herself, whom the mail was to");
    assert_eq!(copy.cc[0].address, "cy@x.example");
    assert!(stage.world.messages(BO, "inbox").is_empty());
}

#[tokio::test]
async fn a_repeat_finds_the_answer_that_was_sent() {
    let stage = Stage::set().await;
    let id = stage.deliver("question");
    let first = reply(&stage, answer(&id)).await.unwrap();
    let again = stage.mail.clone().reply_to_email(stage.as_repeat(answer(&id))).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(stage.world.messages(BO, "inbox").len(), 1);
}

#[tokio::test]
async fn a_repeat_sends_the_draft_that_was_left() {
    let stage = Stage::set().await;
    let id = stage.deliver("question");
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::Cut);
    assert_eq!(reason_of(&reply(&stage, answer(&id)).await.unwrap_err()), "OUTCOME_UNKNOWN");
    let again = stage.mail.clone().reply_to_email(stage.as_repeat(answer(&id))).await.unwrap().into_inner();
    assert_eq!(stage.world.messages(ANN, "sentitems")[0].id, again.message_id);
    assert_eq!(stage.world.messages(BO, "inbox").len(), 1);
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}

#[tokio::test]
async fn an_answer_that_could_not_be_marked_is_not_sent_and_its_draft_is_removed() {
    let stage = Stage::set().await;
    let id = stage.deliver("question");
    stage.graph.faults().plan(
        Some(Method::PATCH),
        "/messages",
        1,
        Fault::refuse(403, "ErrorAccessDenied", None),
    );
    assert_eq!(reason_of(&reply(&stage, answer(&id)).await.unwrap_err()), "PROVIDER_REFUSED");
    assert!(stage.world.messages(ANN, "drafts").is_empty() && stage.world.messages(BO, "inbox").is_empty());
}

#[tokio::test]
async fn what_cannot_be_answered_is_told() {
    let stage = Stage::set().await;
    let gone = reply(&stage, answer("AAkANOTHING")).await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "ITEM_NOT_FOUND"));
    let id = stage.deliver("from nobody");
    stage.world.edit_message(ANN, &id, |message| message.from = None);
    let refused = reply(&stage, answer(&id)).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "message_id");
    assert!(stage.world.messages(ANN, "drafts").is_empty());
    let wrong = ReplyToEmailRequest { comment: " \n".into(), request_id: "a b".into(), ..answer("") };
    let refused = reply(&stage, wrong).await.unwrap_err();
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<&str> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["message_id", "request_id", "comment"]);
}

#[tokio::test]
async fn another_mailbox_may_answer() {
    let stage = Stage::set().await;
    let raw = format!("From: {ANN}\r\nTo: {BO}\r\nSubject: for Bo\r\n\r\nhi");
    let id = stage.world.deliver(ANN, &[BO.into()], raw.as_bytes()).remove(0);
    reply(&stage, ReplyToEmailRequest { mailbox: BO.into(), ..answer(&id) }).await.unwrap();
    assert_eq!(stage.world.messages(ANN, "inbox")[0].subject, "RE: for Bo");
}

#[tokio::test]
async fn an_answer_reads_as_it_was_written_whatever_kind_of_text_the_mail_is() {
    for is_html in [false, true] {
        let stage = Stage::set().await;
        let id = stage.deliver("question");
        let quoted = "<html><body class=\"q\"><p>asked</p></body></html>";
        stage.world.edit_message(ANN, &id, |message| {
            message.body = Body { content: quoted.into(), is_html };
        });
        let comment = "if a < b & c:\n  <b>yes</b>".to_owned();
        reply(&stage, ReplyToEmailRequest { comment: comment.clone(), ..answer(&id) }).await.unwrap();
        let got = stage.world.messages(BO, "inbox")[0].body.clone();
        assert_eq!(got.is_html, is_html);
        let expected = match is_html {
            true => "<div>if a &lt; b &amp; c:<br>\n&nbsp;&nbsp;&lt;b&gt;yes&lt;/b&gt;</div>",
            false => comment.as_str(),
        };
        let (said, asked) = (got.content.find(expected), got.content.find("<p>asked"));
        assert!(said.is_some() && said < asked, "{}", got.content);
    }
}

#[tokio::test]
async fn an_answer_whose_drafting_broke_off_is_found_and_leaves_no_other_draft() {
    for request_id in ["answer's-1", ""] {
        let stage = Stage::set().await;
        let id = stage.deliver("question");
        stage.graph.faults().plan(Some(Method::POST), "/createReply", 1, Fault::CutAfter);
        let asked = ReplyToEmailRequest { request_id: request_id.into(), ..answer(&id) };
        let sent = reply(&stage, asked).await.unwrap();
        assert_eq!(stage.world.messages(ANN, "sentitems")[0].id, sent.message_id);
        assert!(stage.world.messages(BO, "inbox")[0].body.content.contains("gladly"));
        assert!(stage.world.messages(ANN, "drafts").is_empty());
    }
}

#[tokio::test]
async fn a_repeat_completes_a_draft_that_says_nothing_yet() {
    let stage = Stage::set().await;
    let id = stage.deliver("question");
    // The first try dies between the draft and what it says, and so does the removal.
    let denied = Fault::refuse(403, "ErrorAccessDenied", None);
    stage.graph.faults().plan(Some(Method::PATCH), "/messages", 1, denied.clone());
    stage.graph.faults().plan(Some(Method::POST), "/permanentDelete", 1, denied.clone());
    stage.graph.faults().plan(Some(Method::DELETE), "/messages", 1, denied);
    reply(&stage, answer(&id)).await.unwrap_err();
    let draft = stage.world.messages(ANN, "drafts").remove(0);
    assert!(!draft.body.content.contains("gladly"));
    let again = stage.mail.clone().reply_to_email(stage.as_repeat(answer(&id))).await.unwrap().into_inner();
    assert_eq!(again.message_id, draft.id);
    assert!(stage.world.messages(BO, "inbox")[0].body.content.contains("gladly"));
}

#[tokio::test]
async fn a_graph_that_takes_no_property_of_a_new_answer_gets_it_afterwards() {
    let stage = Stage::set().await;
    let id = stage.deliver("question");
    let refused = Fault::refuse(400, "ErrorInvalidProperty", None);
    stage.graph.faults().plan(Some(Method::POST), "/createReply", 1, refused);
    let sent = reply(&stage, answer(&id)).await.unwrap();
    let again = stage.mail.clone().reply_to_email(stage.as_repeat(answer(&id))).await.unwrap().into_inner();
    assert_eq!(again, sent);
    assert_eq!(stage.world.messages(BO, "inbox").len(), 1);
}

#[tokio::test]
async fn a_mail_too_long_to_be_quoted_is_told_and_no_draft_stays() {
    let stage = Stage::set().await;
    let id = stage.deliver("question");
    stage.world.edit_message(ANN, &id, |message| message.body.content = "x".repeat(3 * 1024 * 1024));
    let refused = reply(&stage, answer(&id)).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "message_id");
    assert!(stage.world.messages(ANN, "drafts").is_empty() && stage.world.messages(BO, "inbox").is_empty());
}
