//! The new-mail trigger where looks break off or rounds last long: nothing is lost, and no way is gone in vain.

use http::Method;
use jiff::SignedDuration;
use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_sandbox::graph::Fault;

use super::stage::{Stage, email};

fn any() -> NewEmailTrigger {
    NewEmailTrigger::default()
}

#[tokio::test]
async fn what_a_look_passed_through_before_it_failed_is_not_passed_through_again() {
    let stage = Stage::set().await;
    for number in 0..450 {
        stage.deliver_old(&number.to_string());
    }
    let mut watch = stage.watch(any());
    let refused = Fault::refuse(403, "ErrorAccessDenied", None);
    stage.graph.faults().plan(Some(Method::GET), "$skiptoken", 2, refused);
    let looked = watch.look().await.unwrap();
    assert!(looked.more && looked.occurrences.is_empty());
    watch.cursor = looked.next_cursor;
    assert_eq!(reason_of(&watch.look().await.unwrap_err()), "PROVIDER_REFUSED");
    assert!(watch.subjects().await.is_empty());
    assert_eq!(stage.graph.recorder().exchanges().len(), 5, "three pages, two of them refused once");
}

#[tokio::test]
async fn a_mailbox_that_is_not_reached_is_not_taken_for_a_mail_that_is_gone() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.look_all().await.unwrap();
    let id = stage.deliver("new");
    let away = Fault::refuse(404, "MailboxNotEnabledForRESTAPI", None);
    stage.graph.faults().plan(Some(Method::GET), &id.replace('=', "%3D"), 1, away.clone());
    stage.graph.faults().plan(Some(Method::GET), &id, 1, away);
    assert_eq!(reason_of(&watch.look().await.unwrap_err()), "MAILBOX_NOT_FOUND");
    assert_eq!(watch.subjects().await, ["new"]);
}

#[tokio::test]
async fn what_came_during_a_long_round_is_told_though_the_next_is_lost() {
    let stage = Stage::set().await;
    let mut watch = stage.watch(any());
    watch.max_occurrences = 3;
    watch.look_all().await.unwrap();
    for number in 0..5 {
        stage.deliver(&number.to_string());
    }
    let looked = watch.look().await.unwrap();
    assert!(looked.more);
    watch.cursor = looked.next_cursor;
    // The gateway stood still for a while.
    stage.world.set_clock_ahead(SignedDuration::from_hours(1));
    stage.deliver("meanwhile");
    stage.world.set_clock_ahead(SignedDuration::from_hours(8));
    let looked = watch.look().await.unwrap();
    assert!(!looked.more);
    watch.cursor = looked.next_cursor;
    stage.graph.forget_delta_tokens();
    // A provider that is ahead all of a sudden is taken for one with another clock.
    stage.world.set_clock_ahead(SignedDuration::ZERO);
    let told = watch.look_all().await.unwrap();
    let emails = told.into_iter().filter(|one| one.r#type == "email.received").map(email);
    assert!(emails.map(|email| email.subject).any(|subject| subject == "meanwhile"));
}
