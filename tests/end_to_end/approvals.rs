//! Approvals: people are asked by mail, answer on pages of the gateway, and the answer reaches who asked.

mod answers;
mod asking;
mod browser;
mod ends;
mod kills;
mod notices;
mod receiver;
mod scanners;
mod several;
mod stage;
mod waiting;

use mail_parser::MessageParser;
use postern_chassis::fault::reason_of;
use postern_proto::approval::v1::approval_service_client::ApprovalServiceClient;
use postern_proto::approval::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::world::SMTP;

pub(crate) const CARLA: &str = "carla@example.org";
pub(crate) const DAN: &str = "dan@example.org";
pub(crate) const EVE: &str = "eve@example.org";

fn client(channel: &Channel) -> ApprovalServiceClient<Channel> {
    ApprovalServiceClient::new(channel.clone())
        .max_encoding_message_size(8 * 1024 * 1024)
        .max_decoding_message_size(8 * 1024 * 1024)
}

/// A question to these.
fn question(to: &[&str]) -> Question {
    Question {
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        subject: "Buy a ladder?".into(),
        body: "It costs 80 < 90.\nPlease.".into(),
        from: "Bo Example <bo@example.org>".into(),
        ..Question::default()
    }
}

/// A request to approve something.
fn approval(question: Question) -> SendApprovalEmailRequest {
    SendApprovalEmailRequest {
        connection: SMTP.into(),
        question: Some(question),
        ..SendApprovalEmailRequest::default()
    }
}

async fn ask(channel: &Channel, question: Question) -> Approval {
    let sent = client(channel).send_approval_email(approval(question)).await.unwrap().into_inner();
    sent.approval.unwrap()
}

async fn get(channel: &Channel, name: &str) -> Result<Approval, Status> {
    let request = GetApprovalRequest { name: name.into() };
    Ok(client(channel).get_approval(request).await?.into_inner().approval.unwrap())
}

async fn cancel(channel: &Channel, name: &str) -> Result<Approval, Status> {
    let request = CancelApprovalRequest { name: name.into(), ..CancelApprovalRequest::default() };
    Ok(client(channel).cancel_approval(request).await?.into_inner().approval.unwrap())
}

/// The mail to one of the recipients, as text and as HTML.
fn read(message: &[u8]) -> (String, Option<String>) {
    let parsed = MessageParser::default().parse(message).unwrap();
    let html = parsed
        .parts
        .iter()
        .any(|part| part.is_text_html())
        .then(|| parsed.body_html(0).unwrap().into_owned());
    (parsed.body_text(0).unwrap().replace("\r\n", "\n"), html)
}

/// The links of a mail, in the order of the options.
fn links(text: &str) -> Vec<String> {
    let words = text.split_whitespace().filter(|word| word.contains("/approvals/"));
    words.map(str::to_owned).collect()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(asked: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = asked.expect_err("it should have been refused");
    assert_eq!((status.code(), reason_of(&status).as_str()), (code, reason), "{status:?}");
    status
}
