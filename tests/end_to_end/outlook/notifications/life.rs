//! The life of a notification: renewed ahead of its end, made again when it is gone, ended when nobody needs it.

use std::time::Duration;

use http::Method;
use postern_proto::connection::v1::DeleteConnectionRequest;
use postern_proto::event::v1::{DeleteTriggerRequest, PauseTriggerRequest, ResumeTriggerRequest};
use postern_sandbox::graph::Fault;

use super::super::conformance::judge;
use super::{HOUR, asked, make, name, pushing, settled, told};
use crate::world::{OUTLOOK, World, events, mail, send, subject, subscribe, until};

async fn comes_to(what: &str, world: &World, method: &str, count: usize) {
    until(what, || async { (asked(world, method).len() >= count).then_some(()) }).await;
}

async fn subscriptions(world: &World, count: usize) {
    until("so many are told of changes", || async {
        (world.place.graph.subscriptions().count() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_ahead_of_its_end() {
    let world = World::pushed().await;
    world.place.graph.subscriptions().set_life(Duration::from_secs(10));
    make(&world, "one", HOUR).await;
    let first = pushing(&world, "one").await;
    comes_to("it is renewed", &world, "PATCH", 1).await;
    assert_eq!(world.place.graph.subscriptions().count(), 1);
    until("its life is longer", || async {
        let now = super::status(&world, "one").await.push_expire_time?;
        (now.seconds >= first.seconds + 2).then_some(())
    })
    .await;
    assert_eq!(asked(&world, "POST").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_gone_when_it_is_renewed_is_made_again_and_what_came_meanwhile_is_told() {
    let world = World::pushed().await;
    world.place.graph.subscriptions().set_life(Duration::from_secs(4));
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    let mut stream = subscribe(&world.channel, None).await;
    world.place.graph.subscriptions().forget_all();
    send(&world.channel, "", mail("unheard")).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "unheard");
    comes_to("it is made again", &world, "POST", 2).await;
    pushing(&world, "one").await;
    told(&world, &mut stream, "heard").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_wants_is_done() {
    let world = World::pushed().await;
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    let mut stream = subscribe(&world.channel, None).await;
    world.place.graph.send_lifecycle("reauthorizationRequired");
    comes_to("leave is given anew", &world, "PATCH", 1).await;

    world.place.graph.subscriptions().lose(1);
    send(&world.channel, "", mail("missed")).await.unwrap();
    until("it is in the mailbox", || async {
        (world.place.world.messages("anna@example.org", "inbox").len() == 1).then_some(())
    })
    .await;
    world.place.graph.send_lifecycle("missed");
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "missed");

    world.place.graph.send_lifecycle("subscriptionRemoved");
    comes_to("it is made again", &world, "POST", 2).await;
    subscriptions(&world, 1).await;
    told(&world, &mut stream, "pushed again").await;
    judge(&world.place.graph, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_last_trigger_and_begins_again_with_the_next() {
    let world = World::pushed().await;
    let mut triggers = world.triggers();
    for id in ["one", "two"] {
        make(&world, id, HOUR).await;
    }
    settled(&world, "one").await;
    let delete = DeleteTriggerRequest { name: name("one"), ..Default::default() };
    triggers.delete_trigger(delete).await.unwrap();
    let mut stream = subscribe(&world.channel, None).await;
    told(&world, &mut stream, "for two").await;
    assert!(asked(&world, "DELETE").is_empty());
    let pause = PauseTriggerRequest { name: name("two"), ..Default::default() };
    triggers.pause_trigger(pause).await.unwrap();
    comes_to("it is ended", &world, "DELETE", 1).await;
    subscriptions(&world, 0).await;
    send(&world.channel, "", mail("meanwhile")).await.unwrap();
    let resume = ResumeTriggerRequest { name: name("two"), ..Default::default() };
    triggers.resume_trigger(resume).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "meanwhile");
    subscriptions(&world, 1).await;
    pushing(&world, "two").await;
    told(&world, &mut stream, "afterwards").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_its_connection() {
    let world = World::pushed().await;
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    let delete = DeleteConnectionRequest { name: OUTLOOK.into(), force: true, ..Default::default() };
    world.connections().delete_connection(delete).await.unwrap();
    assert!(!asked(&world, "DELETE").is_empty());
    assert_eq!(world.place.graph.subscriptions().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_answer_was_lost_is_found_and_made_again() {
    let world = World::pushed().await;
    world.place.graph.faults().plan(Some(Method::POST), "/subscriptions", 1, Fault::CutAfter);
    make(&world, "one", HOUR).await;
    settled(&world, "one").await;
    assert_eq!(world.place.graph.subscriptions().count(), 1);
    let statuses: Vec<_> = asked(&world, "POST").iter().map(|one| one.status).collect();
    assert_eq!(statuses, [201, 409, 201]);
    assert_eq!(asked(&world, "DELETE").len(), 1);
    let mut stream = subscribe(&world.channel, None).await;
    told(&world, &mut stream, "pushed").await;
    judge(&world.place.graph, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_for_now_is_asked_again_and_polled_meanwhile() {
    let world = World::pushed().await;
    let refused = Fault::refuse(503, "", None);
    world.place.graph.faults().plan(Some(Method::POST), "/subscriptions", 1, refused);
    make(&world, "one", Duration::from_secs(1)).await;
    let mut stream = subscribe(&world.channel, None).await;
    told(&world, &mut stream, "polled").await;
    pushing(&world, "one").await;
}
