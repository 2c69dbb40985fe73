//! A connection whose mailbox is changed: its triggers go on there, and not where they were.

use std::time::Duration;

use postern_proto::connection::v1::connection::Settings;
use postern_proto::connection::v1::{Connection, UpdateConnectionRequest};
use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_sandbox::graph::Exchanged;
use postern_sandbox::place::{ANNA, BO};

use super::stage::{self, Stage, email};
use crate::world::triggers::{self, HOUR};
use crate::world::{OUTLOOK, World, events, mail, send, subject, subscribe, until};

#[tokio::test]
async fn a_watch_goes_on_in_the_new_mailbox_and_says_that_it_may_have_missed_something() {
    let mut stage = Stage::set().await;
    stage.deliver_old("old of Ann's");
    let mut before = stage.watch(NewEmailTrigger::default());
    assert!(before.subjects().await.is_empty());
    let (cursor, triggers) = (before.cursor, before.triggers);
    let to_bo = |subject: &str| {
        let raw = format!("From: {}\r\nTo: {}\r\nSubject: {subject}\r\n\r\nx\r\n", stage::ANN, stage::BO);
        stage.world.deliver(stage::ANN, &[stage::BO.into()], raw.as_bytes());
    };
    stage.world.set_clock_ahead(jiff::SignedDuration::from_hours(-1));
    to_bo("old of Bo's");
    stage.world.set_clock_ahead(jiff::SignedDuration::ZERO);
    to_bo("new of Bo's");
    stage.deliver("new of Ann's");
    if let Some(Settings::Outlook(settings)) = &mut stage.connection.connection.as_mut().unwrap().settings {
        settings.mailbox = stage::BO.into();
    }
    let mut watch = stage.watch(NewEmailTrigger::default());
    (watch.cursor, watch.triggers) = (cursor, triggers);
    let mut told = watch.look_all().await.unwrap();
    let gap = told.remove(0);
    assert!(matches!(gap.data.unwrap().kind, Some(Kind::TriggerGap(_))), "{}", gap.r#type);
    assert_eq!(told.into_iter().map(|one| email(one).subject).collect::<Vec<_>>(), ["new of Bo's"]);
    assert!(watch.subjects().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_moves_with_the_connection() {
    let world = World::pushed().await;
    let subscriptions = world.place.graph.subscriptions();
    subscriptions.set_life(Duration::from_secs(4));
    triggers::make(&world.channel, "one", HOUR, triggers::mail_in("", "")).await;
    let asked = || {
        let exchanges = world.place.graph.recorder().exchanges();
        let wanted = exchanges
            .into_iter()
            .filter(|one| one.method == "POST" && one.url.starts_with("/v1.0/subscriptions"));
        wanted.map(|one| one.request_body["resource"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("it is pushed", || async { (subscriptions.count() == 1).then_some(()) }).await;
    let Settings::Outlook(mut settings) = world.place.outlook_connection().0 else { panic!("not Outlook's") };
    settings.mailbox = BO.to_owned();
    let connection = Connection {
        name: OUTLOOK.into(),
        settings: Some(Settings::Outlook(settings)),
        ..Default::default()
    };
    let mut stream = subscribe(&world.channel, None).await;
    let update = UpdateConnectionRequest {
        connection: Some(connection),
        update_mask: Some(prost_types::FieldMask { paths: vec!["outlook".into()] }),
        ..Default::default()
    };
    world.connections().update_connection(update).await.unwrap();
    let of = |resource: &String, user: &str| resource.starts_with(&format!("users/{user}/"));
    let resources = until("it is pushed from the other", || async {
        let asked = asked();
        (of(asked.last()?, BO) && subscriptions.count() == 1).then_some(asked)
    })
    .await;
    // Once each, where the machine is not so busy that one expires.
    assert!(of(&resources[0], ANNA), "{resources:?}");
    assert!(resources.is_sorted_by_key(|resource| !of(resource, ANNA)), "{resources:?}");
    assert!(resources.iter().all(|resource| of(resource, ANNA) || of(resource, BO)), "{resources:?}");
    let ended = |one: &Exchanged| one.method == "DELETE" && one.url.starts_with("/v1.0/subscriptions");
    until("the one before is ended", || async {
        world.place.graph.recorder().exchanges().iter().any(ended).then_some(())
    })
    .await;
    // What is told first is that something may have been missed.
    assert_eq!(events(&mut stream, 1).await[0].r#type, "trigger.gap");
    let sent = Email { from: ANNA.into(), to: vec![BO.into()], ..mail("in the other") };
    send(&world.channel, "", sent).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "in the other");
}
