//! How much the outbox keeps, and for how long.

use std::time::Duration;

use postern_chassis::fault::retry_after_of;
use postern_proto::mail::v1::Email;
use postern_proto::outbox::v1::{QueueEmailRequest, QueuedEmailState};
use tonic::Code;

use super::{assert_refused, comes_to, get, later, queue, retry, through};
use crate::world::{SMTP, World, mail, until};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_refuses_until_mails_have_gone_over_a_restart() {
    let mut world = World::flagged(&["--outbox-max-emails", "2"]).await;
    let first = queue(&world.channel, later(SMTP, mail("1"), HOUR)).await.unwrap();
    queue(&world.channel, later(SMTP, mail("2"), HOUR)).await.unwrap();
    let full = queue(&world.channel, through(SMTP, mail("3"))).await;
    let full = assert_refused(full, Code::ResourceExhausted, "OUTBOX_FULL");
    assert!(retry_after_of(&full).is_some());
    world.restart().await;
    retry(&world.channel, &first.name).await.unwrap();
    comes_to(&world.channel, &first.name, QueuedEmailState::Delivered).await;
    until("there is room again", || async { queue(&world.channel, later(SMTP, mail("3"), HOUR)).await.ok() })
        .await;
    let full = queue(&world.channel, through(SMTP, mail("4"))).await;
    assert_refused(full, Code::ResourceExhausted, "OUTBOX_FULL");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_count_as_well_as_mails() {
    let world = World::flagged(&["--outbox-max-bytes", "100000"]).await;
    let large = || Email { body: "x".repeat(60_000), ..mail("large") };
    queue(&world.channel, later(SMTP, large(), HOUR)).await.unwrap();
    let full = queue(&world.channel, later(SMTP, large(), HOUR)).await;
    assert_refused(full, Code::ResourceExhausted, "OUTBOX_FULL");
    queue(&world.channel, later(SMTP, mail("small"), HOUR)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_mails_go_when_their_time_is_over_and_waiting_ones_stay() {
    let world = World::flagged(&["--outbox-keep", "300ms"]).await;
    let waiting = queue(&world.channel, later(SMTP, mail("Waits"), HOUR)).await.unwrap();
    let request = QueueEmailRequest { request_id: "short".into(), ..through(SMTP, mail("Goes")) };
    let gone = queue(&world.channel, request.clone()).await.unwrap();
    until("it is forgotten", || async { get(&world.channel, &gone.name).await.err() }).await;
    assert_refused(get(&world.channel, &gone.name).await, Code::NotFound, "QUEUED_EMAIL_NOT_FOUND");
    assert_eq!(get(&world.channel, &waiting.name).await.unwrap().state(), QueuedEmailState::Queued);
    assert_eq!(world.place.smtp.accepted().len(), 1);
}
