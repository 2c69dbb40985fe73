//! What a user's sign-in gave: renewed, rotated, kept while settings change, revoked, and given again.

use std::time::Duration;

use postern_proto::connection::v1::connection::Settings;
use postern_proto::connection::v1::{Connection, ConnectionState, SignInState};
use postern_proto::event::v1::{GetTriggerRequest, NudgeTriggerRequest, TriggerStatus};
use postern_proto::outlook::v1::OutlookSettings;
use postern_sandbox::place::ANNA;
use tokio::time::Instant;

use super::{ME, refusal};
use crate::world::{OUTLOOK, TRIGGER, World, events, mail, new_mail, subject, subscribe, until};

#[tokio::test]
async fn a_grant_is_renewed_by_the_refresh_token_that_came_last_also_after_other_settings() {
    let mut world = World::reached().await;
    let made = world.office(ME).await;
    world.sign_in_as(ANNA).await;
    let used = |world: &World| world.place.graph.refresh_tokens().used();
    for round in 1..=3 {
        world.place.graph.tokens().expire_all();
        assert_eq!(world.mails().await.unwrap(), 0);
        assert_eq!(used(&world).len(), round);
        world.restart().await;
    }
    // Other settings do not sign anybody out.
    let Some(Settings::Outlook(settings)) = made.settings.clone() else { panic!("other settings") };
    let settings = Settings::Outlook(OutlookSettings { max_concurrent_requests: 2, ..settings });
    let wanted = Connection { name: OUTLOOK.into(), settings: Some(settings), ..Connection::default() };
    let changed = world.update(wanted, &["outlook.max_concurrent_requests"]).await.unwrap();
    assert_eq!(changed.state(), ConnectionState::Ready);
    assert_eq!(world.mails().await.unwrap(), 0);
    let tokens = used(&world);
    assert_eq!(tokens.len(), 4);
    assert!(tokens.windows(2).all(|pair| pair[0] != pair[1]), "each is used once");

    // Another application is shown nothing of it.
    let other = OutlookSettings {
        client_id: "00000000-0000-4000-8000-00000000000a".into(),
        ..OutlookSettings::default()
    };
    let wanted = Connection {
        name: OUTLOOK.into(),
        settings: Some(Settings::Outlook(other)),
        ..Connection::default()
    };
    world.update(wanted, &["outlook.client_id"]).await.unwrap();
    assert_eq!(refusal(world.mails().await), "CREDENTIALS_REFUSED");
    assert_eq!(used(&world).len(), 4);
}

#[tokio::test]
async fn a_revoked_grant_stops_the_connection_and_signing_in_again_wakes_its_triggers() {
    let world = World::reached().await;
    world.office(ME).await;
    world.sign_in_as(ANNA).await;
    // Far longer than the test waits, as are the waits after several failures: what comes in time was woken.
    let mut request = new_mail();
    request.trigger.as_mut().unwrap().interval = Some(Duration::from_secs(3_600).try_into().unwrap());
    world.triggers().create_trigger(request).await.unwrap();
    until("the first look was made", || async { status(&world).await.last_poll_time.map(drop) }).await;

    world.place.graph.refresh_tokens().revoke(ANNA);
    world.place.graph.tokens().expire_all();
    assert_eq!(refusal(world.mails().await), "CREDENTIALS_REFUSED");
    assert_eq!(world.state(OUTLOOK).await, ConnectionState::NeedsSignIn);
    let asked = world.place.graph.sign_ins().len();
    assert_eq!(refusal(world.mails().await), "CREDENTIALS_REFUSED");
    assert_eq!(world.place.graph.sign_ins().len(), asked, "the platform is asked no more");
    for failures in 1..=3 {
        let request = NudgeTriggerRequest { name: TRIGGER.into() };
        world.triggers().nudge_trigger(request).await.unwrap();
        until("a look has failed", || async {
            (status(&world).await.consecutive_failures >= failures).then_some(())
        })
        .await;
    }
    let letter = mail("while nobody was signed in");
    let raw = format!("From: {}\r\nTo: {ANNA}\r\nSubject: {}\r\n\r\nHello\r\n", letter.from, letter.subject);
    world.place.world.deliver(&letter.from, &[ANNA.into()], raw.as_bytes());
    // Its push was of no use.
    until("what was pushed was looked after", || async {
        (status(&world).await.consecutive_failures >= 4).then_some(())
    })
    .await;

    let mut stream = subscribe(&world.channel, None).await;
    let (again, page) = world.sign_in_as(ANNA).await;
    assert_eq!(again.state(), SignInState::Succeeded, "{}", page.text);
    let signed_in = Instant::now();
    let told = events(&mut stream, 2).await;
    assert!(signed_in.elapsed() < Duration::from_secs(10), "{:?}", signed_in.elapsed());
    assert_eq!(super::turn(&told[0]), Some((ConnectionState::Ready, String::new())));
    assert_eq!(subject(&told[1]), letter.subject);
}

/// How the trigger on the office's mail fares.
async fn status(world: &World) -> TriggerStatus {
    let request = GetTriggerRequest { name: TRIGGER.into() };
    let trigger = world.triggers().get_trigger(request).await.unwrap().into_inner().trigger.unwrap();
    trigger.status.unwrap_or_default()
}
