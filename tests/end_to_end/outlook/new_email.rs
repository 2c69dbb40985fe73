//! The new-mail trigger: what is told, once, and what is not.

use std::collections::HashSet;

use http::Method;
use jiff::SignedDuration;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::connector::v1::Occurrence;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::Importance;
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_sandbox::graph::Fault;
use prost::Message as _;
use tonic::Code;

use super::stage::{ANN, BO, Stage, email};

fn any() -> NewEmailTrigger {
    NewEmailTrigger::default()
}

#[tokio::test]
async fn a_first_round_tells_nothing_old_and_a_new_mail_is_told_once() {
    let stage = Stage::set().await;
    stage.deliver_old("old");
    let mut watch = stage.watch(any());
    assert!(watch.subjects().await.is_empty());
    let id = stage.deliver("new");
    let before = watch.cursor.clone();
    let mut told = watch.look_all().await.unwrap();
    assert_eq!(told.len(), 1);
    let told = told.remove(0);
    assert_eq!(told.triggers, ["connections/ann/triggers/mail"]);
    assert_eq!(told.time, email(told.clone()).date_time_received);
    assert_eq!((email(told.clone()).id, email(told.clone()).body.trim()), (id, "about new"));
    assert!(watch.look_all().await.unwrap().is_empty());
    // The same look made again tells the same.
    watch.cursor = before;
    assert_eq!(watch.look_all().await.unwrap(), [told]);
}

#[tokio::test]
async fn a_mail_between_the_triggers_making_and_the_first_look_is_told() {
    let stage = Stage::set().await;
    stage.deliver_old("old");
    let mut watch = stage.watch(any());
    stage.deliver("between");
    assert_eq!(watch.subjects().await, ["between"]);
    assert!(watch.subjects().await.is_empty());
}

#[tokio::test]
async fn a_clock_that_differs_neither_loses_a_mail_nor_tells_an_old_one() {
    for minutes in [-30, 30] {
        let stage = Stage::set().await;
        stage.world.set_clock_ahead(SignedDuration::from_mins(minutes - 60));
        stage.deliver("old");
        stage.world.set_clock_ahead(SignedDuration::from_mins(minutes));
        let mut watch = stage.watch(any());
        watch.triggers[0].since =
            Some(prost_types::Timestamp { seconds: jiff::Timestamp::now().as_second(), nanos: 0 });
        stage.deliver("between");
        assert_eq!(watch.subjects().await, ["between"], "{minutes}");
        stage.deliver("later");
        assert_eq!(watch.subjects().await, ["later"], "{minutes}");
    }
}

#[tokio::test]
async fn a_mail_that_is_moved_in_is_told_however_old_and_one_that_is_read_is_not() {
    let stage = Stage::set().await;
    let id = stage.deliver_old("moved");
    let read = stage.deliver_old("read");
    assert!(stage.world.move_message(ANN, &id, "archive"));
    let mut watch = stage.watch(any());
    assert!(watch.subjects().await.is_empty());
    assert!(stage.world.move_message(ANN, &id, "inbox"));
    assert!(stage.world.edit_message(ANN, &read, |message| message.is_read = true));
    assert_eq!(watch.subjects().await, ["moved"]);
    stage.world.delete_message(ANN, &id);
    assert!(watch.subjects().await.is_empty());
}

#[tokio::test]
async fn many_mails_of_one_second_are_each_told_once_over_many_pages() {
    let stage = Stage::set().await;
    for number in 0..30 {
        stage.deliver_old(&format!("old {number}"));
    }
    let mut watch = stage.watch(any());
    watch.max_occurrences = 7;
    assert!(watch.subjects().await.is_empty());
    for number in 0..120 {
        stage.deliver(&format!("{number}"));
    }
    let mut keys = HashSet::new();
    let mut subjects = Vec::new();
    loop {
        let looked = watch.look().await.unwrap();
        assert!(looked.occurrences.len() <= 7);
        watch.cursor = looked.next_cursor;
        for occurrence in looked.occurrences {
            assert!(keys.insert(occurrence.key.clone()));
            subjects.push(email(occurrence).subject);
        }
        if !looked.more {
            break;
        }
        // What comes during the round waits for the next.
        if subjects.len() < 21 {
            stage.deliver("during");
        }
    }
    assert_eq!(subjects, (0..120).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(watch.subjects().await.iter().all(|subject| subject == "during"));
}

#[tokio::test]
async fn a_full_folder_is_listed_in_large_pages_and_what_came_meanwhile_is_told_in_small_ones() {
    let stage = Stage::set().await;
    for number in 0..350 {
        stage.deliver_old(&format!("old {number}"));
    }
    let mut watch = stage.watch(any());
    for number in 0..10 {
        stage.deliver(&format!("{number}"));
    }
    watch.max_occurrences = 3;
    let mut subjects = Vec::new();
    for look in 0.. {
        let looked = watch.look().await.unwrap();
        assert!(looked.occurrences.len() <= 3 && look < 100);
        watch.cursor = looked.next_cursor;
        subjects.extend(looked.occurrences.into_iter().map(|occurrence| email(occurrence).subject));
        if !looked.more {
            break;
        }
    }
    assert_eq!(subjects, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
    let empty = Stage::set().await;
    for number in 0..350 {
        empty.deliver_old(&format!("old {number}"));
    }
    assert!(empty.watch(any()).subjects().await.is_empty());
    assert_eq!(empty.graph.recorder().exchanges().len(), 2, "350 mails are two pages");
}

#[tokio::test]
async fn triggers_that_share_a_watch_are_each_told_what_they_ask_for() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    let conditions = [
        ("to", NewEmailTrigger { to: vec![ANN.to_uppercase()], ..any() }),
        ("from", NewEmailTrigger { from: vec![format!("x@x.example; {BO}")], ..any() }),
        ("importance", NewEmailTrigger { importance: Importance::High.into(), ..any() }),
        ("attachment", NewEmailTrigger { fetch_only_with_attachment: true, ..any() }),
        ("subject", NewEmailTrigger { subject_filter: "INVOICE".into(), ..any() }),
        ("nobody", NewEmailTrigger { from: vec!["x@x.example".into()], ..any() }),
    ];
    watch.triggers = conditions
        .into_iter()
        .map(|(name, asked)| {
            let mut watched = stage.watch(asked).triggers.remove(0);
            watched.trigger.as_mut().unwrap().name = name.into();
            watched
        })
        .collect();
    watch.look_all().await.unwrap();
    stage.graph.recorder().clear();
    stage.deliver_with("plain", "Importance: high\r\n");
    stage.deliver("your invoice");
    stage.deliver_files("files", &[("a.png", None, b"a")]);
    stage.deliver_files("inline", &[("a.png", Some("a"), b"a")]);
    let told = watch.look_all().await.unwrap();
    let of = |name: &str| -> Vec<String> {
        let of = told.iter().filter(|occurrence| occurrence.triggers.iter().any(|told| told == name));
        of.map(|occurrence| email(occurrence.clone()).subject).collect()
    };
    assert_eq!(of("to"), ["plain", "your invoice", "files", "inline"]);
    assert_eq!(of("from"), ["plain", "your invoice", "files", "inline"]);
    assert_eq!(of("importance"), ["plain"]);
    assert_eq!(of("attachment"), ["files"]);
    assert_eq!(of("subject"), ["your invoice"]);
    assert!(of("nobody").is_empty());
    let rounds = stage.graph.recorder().exchanges();
    let delta = rounds.iter().filter(|exchange| exchange.url.contains("/delta")).count();
    assert_eq!((delta, rounds.len()), (1, 5), "page and mails are fetched once for all triggers");
}

#[tokio::test]
async fn other_folders_and_mailboxes_are_watched_where_they_are_named() {
    let stage = Stage::set().await;
    let folder = stage.world.add_subfolder(ANN, "inbox", "Clients").unwrap();
    let mut clients = stage.watch(NewEmailTrigger { folder_path: "Inbox/Clients".into(), ..any() });
    let mut bo = stage.watch(NewEmailTrigger { mailbox: BO.into(), ..any() });
    clients.look_all().await.unwrap();
    bo.look_all().await.unwrap();
    let id = stage.deliver("client");
    stage.world.move_message(ANN, &id, &folder);
    stage.world.deliver(ANN, &[BO.into()], b"Subject: to Bo\r\n\r\n");
    assert_eq!(clients.subjects().await, ["client"]);
    assert_eq!(bo.subjects().await, ["to Bo"]);
}

#[tokio::test]
async fn a_forgotten_cursor_floods_nothing_loses_nothing_and_tells_of_the_gap() {
    let stage = Stage::set().await;
    for number in 0..5 {
        stage.deliver_old(&format!("old {number}"));
    }
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    stage.deliver("before");
    let first = watch.look_all().await.unwrap();
    stage.deliver("after");
    stage.graph.forget_delta_tokens();
    let lost = watch.cursor.clone();
    let told = watch.look_all().await.unwrap();
    let gaps: Vec<&Occurrence> = told.iter().filter(|one| one.r#type == "trigger.gap").collect();
    assert_eq!(gaps.len(), 1);
    match gaps[0].data.as_ref().and_then(|data| data.kind.as_ref()) {
        Some(Kind::TriggerGap(gap)) => {
            assert_eq!(gap.reason, "PROVIDER_RESYNC");
            assert!(gap.from.unwrap().seconds <= gap.to.unwrap().seconds);
        }
        other => panic!("a gap was expected, not {other:?}"),
    }
    let emails: Vec<_> = told.iter().filter(|one| one.r#type == "email.received").collect();
    let subjects: Vec<String> = emails.iter().map(|&one| email(one.clone()).subject).collect();
    // Within the margin a mail is told again, by the same key, which the gateway's log drops.
    assert_eq!(subjects, ["before", "after"]);
    assert_eq!(emails[0].key, first[0].key);
    stage.deliver("later");
    assert_eq!(watch.subjects().await, ["later"]);
    // Asked again, the same loss has the same key.
    watch.cursor = lost;
    assert_eq!(watch.look_all().await.unwrap()[0].key, gaps[0].key);
}

#[tokio::test]
async fn a_loss_is_known_by_any_of_its_codes_and_in_the_middle_of_a_first_round_is_no_gap() {
    for (status, code) in [(410, ""), (400, "RESYNCREQUIRED"), (404, "syncStateNotFound")] {
        let stage = Stage::set().await;
        for number in 0..5 {
            stage.deliver_old(&format!("{number}"));
        }
        for number in 5..250 {
            stage.deliver_old(&format!("{number}"));
        }
        stage.deliver("new");
        let mut watch = stage.watch(any());
        stage.graph.faults().plan(
            Some(Method::GET),
            "/delta?$skiptoken",
            1,
            Fault::refuse(status, code, None),
        );
        let mut told = watch.subjects().await;
        assert!(stage.graph.faults().all_shown());
        told.extend(watch.subjects().await);
        told.dedup();
        assert_eq!(told, ["new"], "{code}");
        assert!(watch.subjects().await.is_empty());
    }
}

#[tokio::test]
async fn a_graph_that_forgets_every_place_is_not_asked_for_ever() {
    let stage = Stage::set().await;
    stage.deliver_old("1");
    let mut watch = stage.watch(any());
    stage.graph.faults().plan(Some(Method::GET), "/delta?", 100, Fault::refuse(410, "", None));
    let told = watch.look().await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    let stage = Stage::set().await;
    watch = stage.watch(any());
    for number in 0..201 {
        stage.deliver_old(&format!("{number}"));
    }
    stage.graph.faults().plan(Some(Method::GET), "$skiptoken", 100, Fault::refuse(410, "", None));
    let looked = watch.look().await.unwrap();
    assert!(!looked.more && looked.occurrences.is_empty());
}

#[tokio::test]
async fn a_folder_that_was_made_anew_is_watched_on_and_one_that_is_gone_is_told() {
    let stage = Stage::set().await;
    let folder = stage.world.add_folder(ANN, &["Clients"]).unwrap();
    let mut watch = stage.watch(NewEmailTrigger { folder_path: "Clients".into(), ..any() });
    watch.look_all().await.unwrap();
    assert!(stage.world.delete_folder(ANN, &folder));
    let gone = watch.look().await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "FOLDER_NOT_FOUND"));
    let anew = stage.world.add_folder(ANN, &["Clients"]).unwrap();
    let id = stage.deliver("anew");
    assert!(stage.world.move_message(ANN, &id, &anew));
    let told = watch.look_all().await.unwrap();
    assert_eq!(told[0].r#type, "trigger.gap");
    assert_eq!(email(told[1].clone()).subject, "anew");
}

#[tokio::test]
async fn a_mail_that_is_gone_before_it_is_fetched_is_left_out() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    let gone = stage.deliver("gone");
    stage.deliver("there");
    let fault = Fault::refuse(404, "ErrorItemNotFound", None);
    stage.graph.faults().plan(Some(Method::GET), &gone.replace('=', "%3D"), 1, fault.clone());
    stage.graph.faults().plan(Some(Method::GET), &gone, 1, fault);
    assert_eq!(watch.subjects().await, ["there"]);
}

#[tokio::test]
async fn an_event_holds_what_fits_of_body_and_attachments() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(NewEmailTrigger { include_attachments: true, ..any() });
    watch.look_all().await.unwrap();
    stage.deliver_files("small", &[("a", None, &[1; 10_000]), ("b", None, &[2; 60_000])]);
    let large = stage.deliver("large");
    stage.world.edit_message(ANN, &large, |message| message.body.content = "ü".repeat(100_000));
    let told = watch.look_all().await.unwrap();
    assert!(told.iter().all(|one| one.data.as_ref().unwrap().encoded_len() <= 60 * 1024));
    let small = email(told[0].clone());
    let sizes: Vec<usize> = small.attachments.iter().map(|file| file.content_data.len()).collect();
    assert_eq!((sizes, small.attachments[1].content_omitted), (vec![10_000, 0], true));
    let large = email(told[1].clone());
    assert!(large.body_truncated && large.body.len() > 59_000);
}

#[tokio::test]
async fn an_answer_with_many_large_mails_stays_below_the_bound_of_a_message() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    for number in 0..50 {
        let id = stage.deliver(&format!("{number}"));
        stage.world.edit_message(ANN, &id, |message| message.body.content = "x".repeat(200_000));
    }
    let looked = watch.look().await.unwrap();
    assert_eq!(looked.occurrences.len(), 50);
    assert!(looked.encoded_len() <= 3 * 1024 * 1024);
}

#[tokio::test]
async fn a_throttled_look_tells_how_long_to_wait() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    let throttled = Fault::refuse(429, "ApplicationThrottled", Some("300"));
    stage.graph.faults().plan(Some(Method::GET), "/delta", 1, throttled);
    let told = watch.look().await.unwrap_err();
    assert_eq!((told.code(), reason_of(&told).as_str()), (Code::ResourceExhausted, "PROVIDER_THROTTLED"));
    assert_eq!(retry_after_of(&told).unwrap().as_secs(), 300);
}

#[tokio::test]
async fn a_cursor_that_is_none_or_leads_elsewhere_is_refused() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    let foreign =
        String::from_utf8(watch.cursor.to_vec()).unwrap().replace(stage.graph.url(), "http://127.0.0.1:1");
    watch.cursor = foreign.into();
    assert_eq!(reason_of(&watch.look().await.unwrap_err()), "PROVIDER_UNAVAILABLE");
    watch.cursor = "nonsense".into();
    assert_eq!(reason_of(&watch.look().await.unwrap_err()), "FIELD_INVALID");
}
