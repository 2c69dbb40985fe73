//! Sign-in by a device code, which the gateway asks about in the background.

use postern_proto::connection::v1::{ConnectionState, SignInKind, SignInState};
use postern_sandbox::graph::Fault;
use postern_sandbox::place::ANNA;
use tokio::time::Instant;

use super::{ME, MOMENT};
use crate::world::{OUTLOOK, World, until};

/// How often the platform was asked about device codes so far.
fn asked(world: &World) -> usize {
    let about = |grant: &str| grant.ends_with("device_code");
    world.place.graph.sign_ins().iter().filter(|said| about(&said.grant_type)).count()
}

#[tokio::test]
async fn a_user_types_a_code_elsewhere_and_the_gateway_finds_out() {
    let mut world = World::start().await;
    world.office(ME).await;
    let begun = world.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
    assert!(begun.verification_url.ends_with("/deviceauth") && begun.user_code.len() == 9, "{begun:?}");
    let shown = world.stands(&begun).await;
    assert_eq!((shown.state(), shown.user_code.as_str()), (SignInState::Pending, ""));
    assert_eq!(shown.verification_url, begun.verification_url);
    until("it is asked about", || async { (asked(&world) > 0).then_some(()) }).await;
    // A gateway that starts on the store goes on with it.
    world.restart().await;
    let before = asked(&world);
    until("it is asked about again", || async { (asked(&world) > before).then_some(()) }).await;
    world.place.graph.users().choose(&begun.user_code, ANNA).unwrap();
    let ended = world.ended(&begun).await;
    assert_eq!((ended.state(), ended.account.as_str()), (SignInState::Succeeded, ANNA));
    assert_eq!((world.state(OUTLOOK).await, world.mails().await.unwrap()), (ConnectionState::Ready, 0));
    let after = asked(&world);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(asked(&world), after, "it is asked about no more");
}

#[tokio::test]
async fn a_code_that_is_declined_or_expires_ends_its_sign_in() {
    let world = World::start().await;
    world.office(ME).await;
    let declined = world.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
    let expired = world.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
    world.place.graph.users().decline(&declined.user_code).unwrap();
    world.place.graph.users().expire(&expired.user_code).unwrap();
    for (begun, reason) in [(declined, "SIGN_IN_DENIED"), (expired, "SIGN_IN_EXPIRED")] {
        let ended = world.ended(&begun).await;
        assert_eq!((ended.state(), ended.failure_reason.as_str()), (SignInState::Failed, reason));
        assert!(ended.failure_message.contains("begin a new"), "{ended:?}");
    }
    assert_eq!(world.state(OUTLOOK).await, ConnectionState::NeedsSignIn);
}

#[tokio::test]
async fn a_platform_out_of_order_is_asked_again() {
    let world = World::start().await;
    world.office(ME).await;
    world.place.graph.faults().plan(None, "/v2.0/token", 1, Fault::answer(503, ""));
    let begun = world.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
    world.place.graph.users().choose(&begun.user_code, ANNA).unwrap();
    assert_eq!(world.ended(&begun).await.state(), SignInState::Succeeded);
    assert!(world.place.graph.faults().all_shown());
}

#[tokio::test]
async fn a_platform_that_is_asked_too_often_is_asked_five_seconds_later() {
    let world = World::start().await;
    world.office(ME).await;
    world.place.graph.users().slow_down();
    let begun = world.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
    let mut told = Instant::now();
    until("it was told to slow down", || {
        let (now, asked) = (Instant::now(), asked(&world));
        // As it was still to be told, then.
        told = if asked == 0 { now } else { told };
        async move { (asked == 1).then_some(()) }
    })
    .await;
    world.place.graph.users().choose(&begun.user_code, ANNA).unwrap();
    assert_eq!(world.ended(&begun).await.state(), SignInState::Succeeded);
    assert!(told.elapsed().as_secs_f64() >= 5.0, "{:?}", told.elapsed());
    assert_eq!(asked(&world), 2);
}
