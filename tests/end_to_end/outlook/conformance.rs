//! Whether what we ask and what the sandbox answers is Graph as its description has it: the traffic of a run through
//! all that the connector does is judged against that description, in both directions.

use std::process::Command;

use http::Method;
use postern_proto::connector::v1::CheckConnectionRequest;
use postern_proto::mail::v1::{Attachment, Email, Header, Importance};
use postern_proto::outlook::v1::{
    DeleteEmailRequest, GetAttachmentRequest, GetEmailsRequest, MarkAsReadRequest, NewEmailTrigger,
    ReplyToEmailRequest, SendEmailRequest,
};
use postern_sandbox::graph::{Fault, GraphServer};
use postern_sandbox::world::AttachmentKind;

use super::stage::{ANN, BO, Stage};
use crate::outside;

#[tokio::test]
async fn traffic_keeps_to_the_official_description_in_both_directions() {
    let mut stage = Stage::set().await;
    reading(&mut stage).await;
    sending(&stage).await;
    acting(&stage).await;
    watching(&stage).await;
    refused(&stage).await;
    judge(&stage.graph, 40);
}

/// Judges what a small Graph was asked and answered, which is to be more than so many exchanges.
pub(super) fn judge(graph: &GraphServer, least: usize) {
    let exchanges = graph.recorder().exchanges();
    assert!(exchanges.len() > least, "{} exchanges are too few to be judged by", exchanges.len());
    let Some(judge) = outside::judge() else {
        println!("NOT JUDGED: {} exchanges with the small Graph", exchanges.len());
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let traffic = folder.path().join("traffic.jsonl");
    graph.recorder().write_to(&traffic).unwrap();
    let written = std::fs::read_to_string(&traffic).unwrap();
    std::fs::write(&traffic, with_tls(&written)).unwrap();
    let arguments = [&judge.script, &judge.description, &traffic];
    let judged = Command::new(&judge.python).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{said}{}", String::from_utf8_lossy(&judged.stderr));
    assert!(said.contains(&format!("{} exchanges, 0 with violations", exchanges.len())), "{said}");
}

async fn reading(stage: &mut Stage) {
    let request = stage.with_connection(CheckConnectionRequest {});
    stage.connector.clone().check_connection(request).await.unwrap();
    let folder = stage.world.add_folder(ANN, &["It's / one", "Below"]).unwrap();
    for number in 0..60 {
        stage.deliver_with(&format!("invoice {number}"), "Importance: high\r\nCc: cy@x.example\r\n");
    }
    stage.deliver_files("files", &[("a.png", None, b"a"), ("b.png", Some("b"), b"b")]);
    let moved = stage.deliver("moved");
    stage.world.move_message(ANN, &moved, &folder);
    let any = GetEmailsRequest::default;
    for asked in [
        any(),
        GetEmailsRequest { top: 60, skip: 3, include_attachments: true, ..any() },
        GetEmailsRequest { fetch_only_unread: true, top: 1_000, ..any() },
        GetEmailsRequest { search_query: "subject:\"invoice\" 1".into(), skip: 2, top: 5, ..any() },
        GetEmailsRequest { folder_path: r"It's \/ one/Below".into(), ..any() },
        GetEmailsRequest { folder_path: "sentitems".into(), ..any() },
        GetEmailsRequest { mailbox: BO.into(), ..any() },
    ] {
        let first = stage.get_emails(asked.clone()).await.unwrap();
        if !first.skip_token.is_empty() {
            let asked = GetEmailsRequest { skip_token: first.skip_token, ..asked };
            stage.get_emails(asked).await.unwrap();
        }
    }
}

async fn sending(stage: &Stage) {
    let file = |name: &str, content_id: &str, bytes: usize| Attachment {
        file_name: name.into(),
        content_id: content_id.into(),
        content_type: "image/png".into(),
        content_data: vec![0; bytes].into(),
        ..Attachment::default()
    };
    for attachments in [vec![], vec![file("a", "", 1), file("b", "b", 1)], vec![file("c", "", 2_500_000)]] {
        let asked = SendEmailRequest {
            request_id: "request".into(),
            email: Some(Email {
                from: format!("Ann <{ANN}>"),
                to: vec![BO.into()],
                cc: vec!["Cy <cy@x.example>".into()],
                bcc: vec!["di@x.example".into()],
                reply_to: vec!["re@x.example".into()],
                importance: Importance::Low.into(),
                attachments,
                ..Email::default()
            }),
            ..SendEmailRequest::default()
        };
        stage.mail.clone().send_email(stage.with_connection(asked)).await.unwrap();
    }
    let asked = SendEmailRequest {
        email: Some(Email { from: BO.into(), to: vec![BO.into()], ..Email::default() }),
        ..SendEmailRequest::default()
    };
    stage.mail.clone().send_email(stage.with_connection(asked)).await.unwrap_err();
    stage.graph.faults().plan(Some(Method::POST), "/send", 1, Fault::CutAfter);
    let asked = SendEmailRequest {
        email: Some(Email { to: vec![BO.into()], ..Email::default() }),
        ..SendEmailRequest::default()
    };
    stage.mail.clone().send_email(stage.with_connection(asked)).await.unwrap();
}

async fn acting(stage: &Stage) {
    let id = stage.deliver_files("acted on", &[("a.png", None, b"a"), ("b.png", Some("b"), b"b")]);
    let mail = || stage.mail.clone();
    let asked = MarkAsReadRequest { message_id: id.clone(), ..MarkAsReadRequest::default() };
    mail().mark_as_read(stage.with_connection(asked)).await.unwrap();
    for kind in [AttachmentKind::File, AttachmentKind::Item, AttachmentKind::Reference] {
        stage.world.edit_message(ANN, &id, |message| message.attachments[0].kind = kind);
        let attachment_id = format!("{id}-att0");
        let asked = GetAttachmentRequest { message_id: id.clone(), attachment_id, ..Default::default() };
        let mut parts = mail().get_attachment(stage.with_connection(asked)).await.unwrap().into_inner();
        while parts.message().await.unwrap().is_some() {}
    }
    for reply_all in [true, false] {
        let asked = ReplyToEmailRequest {
            request_id: "it's an answer".replace(' ', "-"),
            message_id: id.clone(),
            comment: "yes".into(),
            reply_all,
            ..ReplyToEmailRequest::default()
        };
        mail().reply_to_email(stage.with_connection(asked.clone())).await.unwrap();
        mail().reply_to_email(stage.as_repeat(asked)).await.unwrap();
    }
    let header = Header { name: "x-order".into(), value: "7".into() };
    let email = Email {
        from: ANN.into(),
        sender: ANN.into(),
        to: vec![BO.into()],
        headers: vec![header],
        read_receipt_to: vec![ANN.into()],
        delivery_receipt_to: vec![ANN.into()],
        attachments: vec![Attachment {
            content_id: "large".into(),
            content_type: "image/png".into(),
            content_data: vec![0; 3_000_001].into(),
            ..Attachment::default()
        }],
        ..Email::default()
    };
    let asked = SendEmailRequest { email: Some(email), ..SendEmailRequest::default() };
    mail().send_email(stage.with_connection(asked)).await.unwrap();
    let gone = DeleteEmailRequest { message_id: "AAkANOTHING".into(), ..DeleteEmailRequest::default() };
    mail().delete_email(stage.with_connection(gone)).await.unwrap_err();
    stage.graph.faults().plan(Some(Method::DELETE), "/messages/", 1, Fault::CutAfter);
    for permanently in [false, true] {
        let asked = DeleteEmailRequest { message_id: id.clone(), permanently, ..Default::default() };
        mail().delete_email(stage.with_connection(asked)).await.unwrap();
    }
}

async fn watching(stage: &Stage) {
    let mut watch = stage.watch(NewEmailTrigger { include_attachments: true, ..NewEmailTrigger::default() });
    watch.max_occurrences = 5;
    watch.look_all().await.unwrap();
    let id = stage.deliver("told");
    stage.deliver_files("told", &[("a.png", None, b"a")]);
    stage.world.delete_message(ANN, &id);
    watch.look_all().await.unwrap();
    stage.graph.forget_delta_tokens();
    watch.look_all().await.unwrap();
    let mut below =
        stage.watch(NewEmailTrigger { folder_path: r"It's \/ one".into(), ..NewEmailTrigger::default() });
    below.look_all().await.unwrap();
}

async fn refused(stage: &Stage) {
    let any = GetEmailsRequest::default;
    stage.get_emails(GetEmailsRequest { folder_path: "Nowhere".into(), ..any() }).await.unwrap_err();
    stage.get_emails(GetEmailsRequest { mailbox: "x@x.example".into(), ..any() }).await.unwrap_err();
    stage.graph.tokens().expire_all();
    stage.get_emails(any()).await.unwrap_err();
}

/// The traffic as it is where changes are pushed over TLS: the one liberty that the small Graph takes, on this machine.
fn with_tls(traffic: &str) -> String {
    const PLAIN: &str = "http://127.0.0.1:";
    let mut parts = traffic.split(PLAIN);
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_pushed_to = part.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("/postern/");
        written.push_str(if is_pushed_to { "https://127.0.0.1:" } else { PLAIN });
        written.push_str(part);
    }
    written
}
