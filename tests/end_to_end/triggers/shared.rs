//! Triggers that watch the same share one look: what the provider sees of them, and that none misses anything by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::{
    CreateTriggerRequest, DeleteTriggerRequest, PauseTriggerRequest, ResumeTriggerRequest, Trigger,
    UpdateTriggerRequest,
};
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_sandbox::graph::Fault;
use postern_sandbox::place::ANNA;

use crate::world::triggers::{HOUR, at_rest, name, nudge, request, status};
use crate::world::{PATIENCE, World, events, mail, send, subject, subscribe, until};

fn trigger(id: &str, interval: Duration, asked: NewEmailTrigger) -> CreateTriggerRequest {
    request(id, interval, Kind::NewEmail(asked))
}

fn any() -> NewEmailTrigger {
    NewEmailTrigger::default()
}

/// How many rounds of changes the provider was asked for.
fn rounds(world: &World) -> usize {
    let exchanges = world.place.graph.recorder().exchanges();
    exchanges.iter().filter(|exchange| exchange.url.contains("/delta")).count()
}

/// Waits for a look that begins after this call.
async fn looked_anew(world: &World, id: &str) {
    for _ in 0..2 {
        let before = status(&world.channel, id).await.last_poll_time;
        nudge(&world.channel, id).await;
        until("there was a look", || async {
            (status(&world.channel, id).await.last_poll_time != before).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_triggers_on_one_folder_are_one_look_to_the_provider() {
    let world = World::connected().await;
    for number in 0..100 {
        let filter = NewEmailTrigger { subject_filter: format!("#{}", number % 2), ..any() };
        let request = trigger(&format!("mail-{number}"), HOUR, filter);
        world.triggers().create_trigger(request).await.unwrap();
    }
    looked_anew(&world, "mail-99").await;
    at_rest(&world.channel, "mail-99").await;
    world.place.graph.recorder().clear();
    let mut stream = subscribe(&world.channel, None).await;
    send(&world.channel, "", mail("about #1")).await.unwrap();
    nudge(&world.channel, "mail-0").await;
    let told = events(&mut stream, 50).await;
    let mut tellers: Vec<_> = told.iter().map(|event| event.trigger.clone()).collect();
    tellers.sort();
    let mut expected: Vec<_> = (0..50).map(|half| name(&format!("mail-{}", 2 * half + 1))).collect();
    expected.sort();
    assert_eq!(tellers, expected);
    assert_eq!(rounds(&world), 1);
    let of = |method: &str| {
        let exchanges = world.place.graph.recorder().exchanges();
        exchanges.iter().filter(|exchange| exchange.method == method).count()
    };
    assert_eq!(of("GET"), 2, "a round and the one mail");
    assert!(status(&world.channel, "mail-1").await.last_event_time.is_some());
    assert!(status(&world.channel, "mail-2").await.last_event_time.is_none());
    assert!(status(&world.channel, "mail-2").await.last_poll_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_or_is_told_twice_whoever_comes_goes_pauses_and_resumes() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    let second = Duration::from_secs(1);
    for id in ["stays", "pauses", "moves"] {
        triggers.create_trigger(trigger(id, second, any())).await.unwrap();
    }
    let mut stream = subscribe(&world.channel, None).await;
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    let mut sent = |ids: &[&str], subject: &str| {
        for id in ids {
            expected.entry(name(id)).or_default().push(subject.to_owned());
            count += 1;
        }
        mail(subject)
    };
    send(&world.channel, "", sent(&["stays", "pauses", "moves"], "one")).await.unwrap();
    looked_anew(&world, "stays").await;
    triggers.pause_trigger(PauseTriggerRequest { name: name("pauses"), ..Default::default() }).await.unwrap();
    send(&world.channel, "", sent(&["stays", "pauses", "moves"], "two")).await.unwrap();
    looked_anew(&world, "stays").await;
    // Made long ago by the provider's clock, so that only what follows is its own.
    let drafts = NewEmailTrigger { folder_path: "Drafts".into(), ..any() };
    let moved = Trigger { name: name("moves"), kind: Some(Kind::NewEmail(drafts)), ..Default::default() };
    let request = UpdateTriggerRequest { trigger: Some(moved), ..Default::default() };
    triggers.update_trigger(request).await.unwrap();
    triggers
        .create_trigger(trigger("comes", HOUR, NewEmailTrigger { subject_filter: "r".into(), ..any() }))
        .await
        .unwrap();
    send(&world.channel, "", sent(&["stays", "pauses", "comes"], "three")).await.unwrap();
    looked_anew(&world, "stays").await;
    triggers
        .resume_trigger(ResumeTriggerRequest { name: name("pauses"), ..Default::default() })
        .await
        .unwrap();
    send(&world.channel, "", sent(&["stays", "pauses", "comes"], "four")).await.unwrap();
    looked_anew(&world, "stays").await;
    triggers
        .delete_trigger(DeleteTriggerRequest { name: name("stays"), ..Default::default() })
        .await
        .unwrap();
    send(&world.channel, "", sent(&["pauses", "comes"], "fore")).await.unwrap();
    looked_anew(&world, "pauses").await;

    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events(&mut stream, count).await {
        told.entry(event.trigger.clone()).or_default().push(subject(&event));
    }
    assert_eq!(told, expected);
    let third = world.place.world.messages(ANNA, "inbox").remove(2).id;
    world.place.world.move_message(ANNA, &third, "drafts");
    let event = events(&mut stream, 1).await.remove(0);
    assert_eq!((event.trigger.clone(), subject(&event).as_str()), (name("moves"), "three"));
    // All have caught up: what watches the Inbox is one look, and what watches Drafts none of it.
    for id in ["pauses", "moves"] {
        let seldom =
            Trigger { name: name(id), interval: Some(HOUR.try_into().unwrap()), ..Default::default() };
        let request = UpdateTriggerRequest { trigger: Some(seldom), ..Default::default() };
        triggers.update_trigger(request).await.unwrap();
        looked_anew(&world, id).await;
    }
    for id in ["comes", "moves"] {
        at_rest(&world.channel, id).await;
    }
    world.place.graph.recorder().clear();
    nudge(&world.channel, "comes").await;
    until("there was a look", || async { (rounds(&world) > 0).then_some(()) }).await;
    at_rest(&world.channel, "pauses").await;
    assert_eq!(rounds(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_restart_and_tells_what_came_meanwhile_to_each() {
    let mut world = World::connected().await;
    for id in ["one", "two"] {
        world.triggers().create_trigger(trigger(id, HOUR, any())).await.unwrap();
    }
    looked_anew(&world, "one").await;
    send(&world.channel, "", mail("before")).await.unwrap();
    looked_anew(&world, "two").await;
    send(&world.channel, "", mail("meanwhile")).await.unwrap();
    world.restart().await;
    let told = status(&world.channel, "one").await;
    assert!(told.last_poll_time.is_some() && told.last_event_time.is_some());
    let mut stream = subscribe(&world.channel, None).await;
    nudge(&world.channel, "one").await;
    let told = events(&mut stream, 2).await;
    assert!(told.iter().all(|event| subject(event) == "meanwhile"), "{told:?}");
    assert_ne!(told[0].trigger, told[1].trigger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_watch_shows_in_each_of_its_triggers() {
    let world = World::connected().await;
    for id in ["one", "two"] {
        world.triggers().create_trigger(trigger(id, HOUR, any())).await.unwrap();
    }
    looked_anew(&world, "one").await;
    let refused = Fault::refuse(403, "ErrorAccessDenied", None);
    world.place.graph.faults().plan(None, "/delta", 1_000, refused);
    nudge(&world.channel, "one").await;
    for id in ["one", "two"] {
        let status = until("the failure shows", || async {
            Some(status(&world.channel, id).await).filter(|status| status.last_failure.is_some())
        });
        let status = status.await;
        assert_eq!(status.last_failure.unwrap().reason, "PROVIDER_REFUSED");
        assert!(status.consecutive_failures > 0);
    }
    world.place.graph.faults().forget();
    looked_anew(&world, "two").await;
    assert_eq!(status(&world.channel, "one").await.last_failure, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_too_large_and_a_watch_that_is_full_are_refused() {
    let world = World::connected().await;
    let wide = |bytes: usize| NewEmailTrigger { subject_filter: "x".repeat(bytes), ..any() };
    let refused = world.triggers().create_trigger(trigger("wide", HOUR, wide(70_000))).await.unwrap_err();
    assert_eq!(reason_of(&refused), "FIELD_INVALID");
    let mut reason = String::new();
    for number in 0..60 {
        let request = trigger(&format!("wide-{number}"), HOUR, wide(64_000));
        match world.triggers().create_trigger(request).await {
            Ok(_) => {}
            Err(refused) => {
                reason = reason_of(&refused);
                break;
            }
        }
    }
    assert_eq!(reason, "WATCH_FULL");
    // The look that asks for all of them is made.
    looked_anew(&world, "wide-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_or_pauses_in_the_midst_of_looks_is_told_of_all_that_follows() {
    /// How many triggers come, every second of which pauses at once and resumes.
    const COMING: usize = 8;
    /// How many mails follow when all have come.
    const FOLLOWING: usize = 10;
    let world = World::connected().await;
    let mut stream = subscribe(&world.channel, None).await;
    world.triggers().create_trigger(trigger("first", HOUR, any())).await.unwrap();
    // How many mails have been handed over for certain, and after how many there are enough.
    let (sent, enough) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let sending = async {
        for number in 0.. {
            if number == enough.load(Ordering::SeqCst) {
                return number;
            }
            send(&world.channel, "", mail(&format!("{number:03}"))).await.unwrap();
            sent.store(number + 1, Ordering::SeqCst);
            nudge(&world.channel, "first").await;
        }
        0
    };
    let coming = async {
        let mut from = vec![("first".to_owned(), 0)];
        for number in 0..COMING {
            let id = format!("later-{number}");
            // Those that are handed over until the gateway has heard of the call may come before the trigger.
            let begun = sent.load(Ordering::SeqCst) + 4;
            world.triggers().create_trigger(trigger(&id, HOUR, any())).await.unwrap();
            from.push((id.clone(), begun));
            let pause = PauseTriggerRequest { name: name(&id), ..Default::default() };
            let resume = ResumeTriggerRequest { name: name(&id), ..Default::default() };
            if number % 2 == 0 {
                world.triggers().pause_trigger(pause).await.unwrap();
                world.triggers().resume_trigger(resume).await.unwrap();
            }
        }
        enough.store(sent.load(Ordering::SeqCst) + FOLLOWING, Ordering::SeqCst);
        from
    };
    let (mails, from) = tokio::join!(sending, coming);
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    for (id, begun) in &from {
        missing.extend((*begun..mails).map(|number| (name(id), format!("{number:03}"))));
    }
    let mut ids = BTreeSet::new();
    while !missing.is_empty() {
        let next = tokio::time::timeout(PATIENCE / 2, events(&mut stream, 1)).await;
        for event in next.unwrap_or_else(|_| panic!("of {mails} mails, never told: {missing:?}")) {
            assert!(ids.insert(event.id.clone()), "told twice: {event:?}");
            missing.remove(&(event.trigger.clone(), subject(&event)));
        }
    }
}
