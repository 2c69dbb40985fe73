//! Sending by stream: many mails, and one whose attachment is read as it is sent.

use postern_client::{Client, Settings};
use postern_proto::mail::v1::LargeAttachment;
use postern_proto::smtp::v1::SendEmailsRequest;
use postern_proto::smtp::v1::send_emails_request::Content;
use postern_sandbox::place::NOBODY;
use tonic::Code;

use crate::world::{SMTP, World, mail};

#[tokio::test(flavor = "multi_thread")]
async fn many_mails_are_answered_each_by_its_id() {
    let world = World::connected().await;
    let client = Client::connect(&Settings::to(format!("http://{}", world.address()))).unwrap();
    let (mails, mut outcomes) = client.send_emails();
    let giving = async move {
        for number in 0..40 {
            let mut email = mail("One of many");
            if number == 7 {
                email.to = vec![NOBODY.to_owned()];
            }
            let mail = SendEmailsRequest {
                connection: SMTP.to_owned(),
                request_id: format!("mail-{number}"),
                content: Some(Content::Email(email)),
                delivery_reports: None,
            };
            assert!(mails.send(mail).await);
        }
    };
    let reading = async move {
        let (mut sent, mut refused) = (0, Vec::new());
        while let Some(outcome) = outcomes.next().await {
            match outcome.unwrap() {
                (_, Ok(_)) => sent += 1,
                (id, Err(error)) => refused.push((id, error.reason().to_owned(), error.recipients().len())),
            }
        }
        (sent, refused)
    };
    let ((), (sent, refused)) = tokio::join!(giving, reading);
    assert_eq!(sent, 39);
    assert_eq!(refused, [("mail-7".to_owned(), "MESSAGE_REFUSED".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_is_read_as_it_is_sent_and_one_too_short_sends_nothing() {
    let world = World::connected().await;
    let client = Client::connect(&Settings::to(format!("http://{}", world.address()))).unwrap();
    let bytes: Vec<u8> = (0..600_000_u32).map(|number| (number % 251) as u8).collect();
    let described = LargeAttachment {
        file_name: "report.bin".to_owned(),
        content_type: "application/octet-stream".to_owned(),
        size: 600_000,
        ..LargeAttachment::default()
    };
    let short = vec![(described.clone(), &bytes[..599_999])];
    let error = client.send_large_email(SMTP, "large-0", mail("Short"), short).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("attachments[0]"), "{error}");
    assert!(!error.outcome_is_unknown());

    let whole = vec![(described, &bytes[..])];
    client.send_large_email(SMTP, "large-1", mail("Whole"), whole).await.unwrap();
    let taken = world.place.smtp.accepted();
    assert_eq!(taken.len(), 1);
    let message = mail_parser::MessageParser::default().parse(&taken[0].message[..]).unwrap();
    assert_eq!(message.attachment(0).unwrap().contents(), bytes);
}
