//! GetEmails: each parameter, pages, bounds, folders.

use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::GetEmailsRequest;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage, subjects};

fn any() -> GetEmailsRequest {
    GetEmailsRequest::default()
}

#[tokio::test]
async fn mails_are_listed_newest_first_and_the_inbox_is_the_default() {
    let stage = Stage::set().await;
    for subject in ["first", "second", "third"] {
        stage.deliver(subject);
    }
    assert_eq!(stage.subjects(any()).await, ["third", "second", "first"]);
    assert_eq!(stage.subjects(GetEmailsRequest { top: 2, ..any() }).await, ["third", "second"]);
    assert_eq!(stage.subjects(GetEmailsRequest { skip: 2, ..any() }).await, ["first"]);
}

#[tokio::test]
async fn a_mail_is_given_with_all_that_is_known_of_it() {
    let stage = Stage::set().await;
    let id =
        stage.deliver_with("subject", "Cc: cy@x.example\r\nReply-To: re@x.example\r\nImportance: high\r\n");
    let email = stage.get_emails(any()).await.unwrap().emails.remove(0);
    assert_eq!(email.id, id);
    let from = email.from.clone().unwrap();
    assert_eq!((from.name.as_str(), from.address.as_str()), ("Bo", BO));
    assert_eq!((email.to[0].address.as_str(), email.to[0].name.as_str()), (ANN, ""));
    assert_eq!(email.cc[0].address, "cy@x.example");
    assert_eq!(email.reply_to[0].address, "re@x.example");
    assert_eq!(email.importance(), postern_proto::mail::v1::Importance::High);
    assert_eq!((email.body.trim(), email.is_html, email.is_read), ("about subject", false, false));
    assert_eq!(
        email.date_time_received.unwrap().seconds,
        stage.world.messages(ANN, "inbox")[0].received.as_second()
    );
    assert!(email.internet_message_id.starts_with('<') && !email.conversation_id.is_empty());
    assert!(!email.has_attachment && !email.body_truncated);
}

#[tokio::test]
async fn ids_stay_the_same_when_a_mail_is_moved() {
    let stage = Stage::set().await;
    let id = stage.deliver("moved");
    assert!(stage.world.move_message(ANN, &id, "archive"));
    let asked = GetEmailsRequest { folder_path: "Archive".into(), ..any() };
    assert_eq!(stage.get_emails(asked).await.unwrap().emails[0].id, id);
}

#[tokio::test]
async fn skip_tokens_lead_through_all_mails_once() {
    let stage = Stage::set().await;
    for number in 0..57 {
        stage.deliver(&format!("{number}"));
    }
    let mut asked = GetEmailsRequest { top: 30, skip: 2, ..any() };
    let first = stage.get_emails(asked.clone()).await.unwrap();
    assert_eq!(first.emails.len(), 30);
    asked.skip_token = first.skip_token;
    let second = stage.get_emails(asked.clone()).await.unwrap();
    assert_eq!((second.emails.len(), second.skip_token.as_str()), (25, ""));
    let all = [subjects(&first.emails), subjects(&second.emails)].concat();
    let expected: Vec<String> = (0..55).rev().map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn a_skip_token_belongs_to_its_request_and_leads_nowhere_else() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let stage = Stage::set().await;
    for number in 0..3 {
        stage.deliver(&format!("{number}"));
    }
    let token = stage.get_emails(GetEmailsRequest { top: 1, ..any() }).await.unwrap().skip_token;
    let held = String::from_utf8(engine.decode(&token).unwrap()).unwrap();
    let foreign = engine.encode(held.replace(stage.graph.url(), "http://127.0.0.1:1"));
    let other_list = engine.encode(held.replace("/messages?", "?"));
    for (top, token) in [(2, token), (1, foreign), (1, other_list), (1, "x".into()), (1, "e30".into())] {
        let asked = GetEmailsRequest { top, skip_token: token.clone(), ..any() };
        let refused = stage.get_emails(asked).await.unwrap_err();
        assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "skip_token");
    }
}

#[tokio::test]
async fn only_unread_mails_are_listed_where_that_is_asked_for() {
    let stage = Stage::set().await;
    for number in 0..40 {
        let id = stage.deliver(&format!("{number}"));
        stage.world.edit_message(ANN, &id, |message| message.is_read = number % 2 == 1);
    }
    let asked = GetEmailsRequest { fetch_only_unread: true, top: 3, skip: 17, ..any() };
    assert_eq!(stage.subjects(asked).await, ["4", "2", "0"]);
}

#[tokio::test]
async fn a_search_is_sifted_and_skipped_beyond_a_page() {
    let stage = Stage::set().await;
    for number in 0..80 {
        let id = stage.deliver(&format!("invoice {number}"));
        stage.world.edit_message(ANN, &id, |message| message.is_read = number % 2 == 1);
        stage.deliver("else");
    }
    let mut asked = GetEmailsRequest {
        search_query: "subject:invoice".into(),
        fetch_only_unread: true,
        skip: 15,
        top: 20,
        ..any()
    };
    let first = stage.get_emails(asked.clone()).await.unwrap();
    asked.skip_token = first.skip_token;
    let second = stage.get_emails(asked).await.unwrap();
    let all = [subjects(&first.emails), subjects(&second.emails)].concat();
    let expected: Vec<String> = (0..50).rev().step_by(2).map(|n| format!("invoice {}", n - 1)).collect();
    assert_eq!(first.emails.len(), 20);
    assert_eq!(all, expected);
    assert_eq!(second.skip_token, "");
}

#[tokio::test]
async fn a_search_may_hold_quotes_and_backslashes() {
    let stage = Stage::set().await;
    stage.deliver("two words");
    stage.deliver("words two");
    let asked = GetEmailsRequest { search_query: "subject:\"two words\"".into(), ..any() };
    assert_eq!(stage.subjects(asked).await, ["two words"]);
}

#[tokio::test]
async fn folders_are_found_by_path_case_aside_with_slashes_and_quotes_in_names() {
    let stage = Stage::set().await;
    for (path, subject) in [
        (&["Inbox/Out", "O'Neil \\ sons"][..], "escaped"),
        (&["Clients", "2026"], "plain"),
        (&["2026"], "same name elsewhere"),
    ] {
        let folder = stage.world.add_folder(ANN, path).unwrap();
        let id = stage.deliver(subject);
        assert!(stage.world.move_message(ANN, &id, &folder));
    }
    let inbox = stage.world.messages(ANN, "inbox");
    assert!(inbox.is_empty());
    for (path, expected) in [
        (r"Inbox\/Out/O'Neil \\ sons", "escaped"),
        ("Clients/2026", "plain"),
        ("clients/2026", "plain"),
        ("2026", "same name elsewhere"),
    ] {
        let asked = GetEmailsRequest { folder_path: path.into(), ..any() };
        assert_eq!(stage.subjects(asked).await, [expected], "{path}");
    }
}

#[tokio::test]
async fn a_folder_below_a_well_known_one_is_found() {
    let stage = Stage::set().await;
    let folder = stage.world.add_subfolder(ANN, "inbox", "Clients").unwrap();
    let id = stage.deliver("below");
    assert!(stage.world.move_message(ANN, &id, &folder));
    let asked = GetEmailsRequest { folder_path: "INBOX/Clients".into(), ..any() };
    assert_eq!(stage.subjects(asked).await, ["below"]);
}

#[tokio::test]
async fn a_folder_that_was_made_anew_is_found_again() {
    let stage = Stage::set().await;
    let asked = GetEmailsRequest { folder_path: "Clients".into(), ..any() };
    let old = stage.world.add_folder(ANN, &["Clients"]).unwrap();
    assert!(stage.subjects(asked.clone()).await.is_empty());
    assert!(stage.world.delete_folder(ANN, &old));
    let gone = stage.get_emails(asked.clone()).await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "FOLDER_NOT_FOUND"));
    let new = stage.world.add_folder(ANN, &["Clients"]).unwrap();
    assert!(stage.subjects(asked.clone()).await.is_empty());
    assert!(stage.world.delete_folder(ANN, &new));
    let newer = stage.world.add_folder(ANN, &["Clients"]).unwrap();
    let id = stage.deliver("anew");
    assert!(stage.world.move_message(ANN, &id, &newer));
    assert_eq!(stage.subjects(asked).await, ["anew"]);
}

#[tokio::test]
async fn attachments_are_given_with_their_bytes_where_that_is_asked_for() {
    let stage = Stage::set().await;
    stage.deliver_files("files", &[("a.png", None, b"first"), ("logo.png", Some("logo"), b"\0\x01\x02")]);
    let without = stage.get_emails(any()).await.unwrap().emails.remove(0);
    assert!(without.has_attachment && without.attachments.is_empty());
    let asked = GetEmailsRequest { include_attachments: true, ..any() };
    let email = stage.get_emails(asked).await.unwrap().emails.remove(0);
    let [file, logo] = email.attachments.as_slice() else { panic!("two attachments were expected") };
    assert_eq!((file.file_name.as_str(), &file.content_data[..], file.size), ("a.png", &b"first"[..], 5));
    assert_eq!(
        (file.content_type.as_str(), file.is_inline, file.content_omitted),
        ("image/png", false, false)
    );
    assert_eq!((logo.content_id.as_str(), &logo.content_data[..]), ("logo", &b"\0\x01\x02"[..]));
    assert!(logo.is_inline);
}

#[tokio::test]
async fn a_mail_with_inline_files_only_is_said_to_have_attachments() {
    let stage = Stage::set().await;
    stage.deliver_files("inline", &[("logo.png", Some("logo"), b"x")]);
    let asked = GetEmailsRequest { include_attachments: true, ..any() };
    let email = stage.get_emails(asked).await.unwrap().emails.remove(0);
    assert!(email.has_attachment);
    assert_eq!(&email.attachments[0].content_data[..], b"x");
}

#[tokio::test]
async fn an_answer_stays_below_its_bound_and_the_rest_is_had_by_skip_token() {
    use prost::Message as _;
    let stage = Stage::set().await;
    for subject in ["1", "2", "3", "4"] {
        let id = stage.deliver(subject);
        stage.world.edit_message(ANN, &id, |message| message.body.content = "x".repeat(1_200_000));
    }
    let mut asked = any();
    let mut all = Vec::new();
    loop {
        let answer = stage.get_emails(asked.clone()).await.unwrap();
        assert!(answer.encoded_len() <= 3 * 1024 * 1024 + 1024);
        all.extend(subjects(&answer.emails));
        asked.skip_token = answer.skip_token;
        if asked.skip_token.is_empty() {
            break;
        }
    }
    assert_eq!(all, ["4", "3", "2", "1"]);
}

#[tokio::test]
async fn a_mail_beyond_the_bound_alone_is_cut_and_large_attachments_are_left_out() {
    let stage = Stage::set().await;
    let large = vec![7; 2_000_000];
    let id = stage.deliver_files("large", &[("a", None, &large), ("b", None, &large), ("c", None, b"small")]);
    let asked = GetEmailsRequest { include_attachments: true, ..any() };
    let email = stage.get_emails(asked).await.unwrap().emails.remove(0);
    let omitted: Vec<bool> = email.attachments.iter().map(|attachment| attachment.content_omitted).collect();
    assert_eq!(omitted, [false, true, false]);
    assert_eq!((email.attachments[1].size, email.attachments[1].content_data.len()), (2_000_000, 0));
    stage.world.edit_message(ANN, &id, |message| message.body.content = "ü".repeat(2_000_000));
    let email = stage.get_emails(any()).await.unwrap().emails.remove(0);
    assert!(email.body_truncated && email.body.len() > 3_000_000 && email.body.chars().all(|c| c == 'ü'));
}

#[tokio::test]
async fn another_mailbox_may_be_named() {
    let stage = Stage::set().await;
    stage.world.deliver(ANN, &[BO.into()], b"Subject: for Bo\r\n\r\nhi");
    assert_eq!(stage.subjects(GetEmailsRequest { mailbox: BO.into(), ..any() }).await, ["for Bo"]);
    let asked = GetEmailsRequest { mailbox: "nobody@contoso.example".into(), ..any() };
    let gone = stage.get_emails(asked).await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "MAILBOX_NOT_FOUND"));
    let told = gone.get_details_error_info().unwrap().metadata;
    assert_eq!((told["graph.code"].as_str(), told["graph.status"].as_str()), ("ErrorInvalidUser", "404"));
    assert!(!told["graph.request_id"].is_empty() && !told["graph.client_request_id"].is_empty());
}

#[tokio::test]
async fn wrong_fields_are_named_before_graph_is_asked() {
    let stage = Stage::set().await;
    stage.graph.recorder().clear();
    for (asked, field) in [
        (GetEmailsRequest { top: -1, ..any() }, "top"),
        (GetEmailsRequest { top: 1_001, ..any() }, "top"),
        (GetEmailsRequest { skip: -1, ..any() }, "skip"),
        (GetEmailsRequest { folder_path: "a//b".into(), ..any() }, "folder_path"),
        (GetEmailsRequest { mailbox: "../x@y".into(), ..any() }, "mailbox"),
        (GetEmailsRequest { search_query: "a\nb".into(), ..any() }, "search_query"),
    ] {
        let refused = stage.get_emails(asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    assert!(stage.graph.recorder().exchanges().is_empty());
}
