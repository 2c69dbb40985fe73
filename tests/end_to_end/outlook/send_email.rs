//! SendEmail: ids, delivery, refusals, and what happens where a sending breaks off.

use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::SendEmailRequest;

use super::stage::{ANN, BO, Stage};

#[tokio::test]
async fn a_mail_is_sent_with_ids_that_find_it() {
    let mut stage = Stage::set().await;
    let asked = SendEmailRequest {
        request_id: "order-7".into(),
        email: Some(Email {
            to: vec![format!("Bo <{BO}>; nobody@elsewhere.example")],
            subject: "hello".into(),
            body: "<b>hi</b>".into(),
            is_html: true,
            ..Email::default()
        }),
        ..SendEmailRequest::default()
    };
    let request = stage.with_connection(asked);
    let sent = stage.mail.send_email(request).await.unwrap().into_inner();
    let copy = &stage.world.messages(ANN, "sentitems")[0];
    assert_eq!((&copy.id, &copy.internet_message_id), (&sent.message_id, &sent.internet_message_id));
    assert!(copy.properties.values().any(|value| value == "order-7"));
    let received = &stage.world.messages(BO, "inbox")[0];
    assert_eq!(received.internet_message_id, sent.internet_message_id);
    assert!(received.body.is_html && received.body.content == "<b>hi</b>");
    assert!(stage.world.messages(ANN, "drafts").is_empty());
}
