//! What a look bears: very many triggers, and mails that cannot be read.

use http::Method;
use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::event::v1::trigger::Kind as TriggerKind;
use postern_proto::outlook::v1::{EventCreatedTrigger, NewEmailTrigger};
use postern_sandbox::graph::Fault;
use prost::Message as _;

use super::stage::{ANN, Stage, email, subjects};

fn any() -> NewEmailTrigger {
    NewEmailTrigger::default()
}

#[tokio::test]
async fn ten_thousand_triggers_share_one_look_and_each_mail_travels_once() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    let one = watch.triggers.remove(0);
    watch.triggers = (0..10_000)
        .map(|number| {
            let mut watched = one.clone();
            let trigger = watched.trigger.as_mut().unwrap();
            trigger.name = format!("connections/ann/triggers/mail-{number}");
            let subject_filter = if number == 7 { "rare".into() } else { String::new() };
            trigger.kind = Some(TriggerKind::NewEmail(NewEmailTrigger { subject_filter, ..any() }));
            watched
        })
        .collect();
    watch.look_all().await.unwrap();
    stage.graph.recorder().clear();
    for subject in ["first", "second"] {
        let id = stage.deliver(subject);
        stage.world.edit_message(ANN, &id, |message| message.body.content = "x".repeat(100_000));
    }
    let looked = watch.look().await.unwrap();
    // One mail is events enough for a look, and there is more.
    assert!(looked.more && looked.encoded_len() < 3 * 1024 * 1024, "{}", looked.encoded_len());
    assert_eq!(looked.occurrences.len(), 1);
    assert_eq!(looked.occurrences[0].triggers.len(), 9_999);
    assert!(email(looked.occurrences[0].clone()).body_truncated);
    watch.cursor = looked.next_cursor;
    let told = watch.look_all().await.unwrap();
    assert_eq!((told.len(), told[0].triggers.len()), (1, 9_999));
    assert!(stage.graph.recorder().exchanges().len() < 8);
}

#[tokio::test]
async fn a_thousand_triggers_on_one_calendar_share_one_look_and_each_entry_travels_once() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    let one = watch.triggers.remove(0);
    watch.triggers = (0..1_000)
        .map(|number| {
            let mut watched = one.clone();
            let trigger = watched.trigger.as_mut().unwrap();
            trigger.name = format!("connections/ann/triggers/entry-{number}");
            let filter = if number == 7 { "subject eq 'rare'".to_owned() } else { String::new() };
            let asked = EventCreatedTrigger { filter, ..EventCreatedTrigger::default() };
            trigger.kind = Some(TriggerKind::EventCreated(asked));
            watched
        })
        .collect();
    watch.look_all().await.unwrap();
    stage.graph.recorder().clear();
    let time = |hour| serde_json::json!({"dateTime": format!("2030-01-01T{hour}:00:00"), "timeZone": "UTC"});
    let entry = serde_json::json!({"subject": "usual", "start": time(10), "end": time(11)});
    assert_eq!(stage.graph.perform(Method::POST, ANN, "events", &entry).0, 201);
    let told = watch.look_all().await.unwrap();
    assert_eq!((told.len(), told[0].triggers.len()), (1, 999));
    let asked = stage.graph.recorder().exchanges();
    assert!(asked.len() <= 3, "{} requests", asked.len());
}

#[tokio::test]
async fn a_mail_that_cannot_be_read_holds_up_the_others_for_some_looks_and_not_for_ever() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(NewEmailTrigger { include_attachments: true, ..any() });
    watch.look_all().await.unwrap();
    let broken = stage.deliver("broken");
    stage.deliver("whole");
    let fault = Fault::refuse(500, "ErrorInternalServerError", None);
    for id in [broken.replace('=', "%3D"), broken] {
        stage.graph.faults().plan(Some(Method::GET), &id, 100, fault.clone());
    }
    for failed_looks in 0..5 {
        watch.failed_looks = failed_looks;
        let told = watch.look().await.unwrap_err();
        assert_eq!(reason_of(&told), "PROVIDER_UNAVAILABLE");
    }
    watch.failed_looks = 5;
    let told = watch.look().await.unwrap().occurrences;
    let emails: Vec<_> = told.into_iter().map(email).collect();
    assert_eq!(subjects(&emails), ["broken", "whole"]);
    assert!(emails[0].body.is_empty() && emails[0].body_truncated && !emails[1].body_truncated);
    assert!(!emails[0].id.is_empty() && emails[0].from.is_some());
}

#[tokio::test]
async fn an_outage_of_the_provider_is_never_taken_for_the_fault_of_one_mail() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    let id = stage.deliver("waiting");
    let fault = Fault::refuse(503, "", Some("120"));
    for id in [id.replace('=', "%3D"), id] {
        stage.graph.faults().plan(Some(Method::GET), &id, 1, fault.clone());
    }
    watch.failed_looks = 100;
    assert_eq!(retry_after_of(&watch.look().await.unwrap_err()).unwrap().as_secs(), 120);
}
