//! Mails that are not taken at the first try.

use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::connection::Credentials;
use postern_proto::connection::v1::{Connection, DeleteConnectionRequest, UpdateConnectionRequest};
use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::RecipientState;
use postern_proto::outbox::v1::QueuedEmailState;
use postern_proto::smtp::v1::SmtpCredentials;
use postern_sandbox::graph::Fault;
use postern_sandbox::place::{ANNA, NOBODY};
use postern_sandbox::smtp::{Action, Stage, Times};
use std::time::Duration;

use super::{QUICK, comes_to, get, later, listen, queue, through, told};
use crate::world::{OUTLOOK, SMTP, World, create, mail};

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_refused_for_now_is_told_deferred_and_then_delivered() {
    let world = World::flagged(&QUICK).await;
    let mut stream = listen(&world.channel).await;
    let late = "late@example.org";
    let greylisted = Action::Reply("450 4.2.0 greylisted".into());
    world.place.smtp.control().at(Stage::Rcpt, greylisted, Times::Once);
    let mut email = mail("Greylisted");
    email.to.insert(0, late.to_owned());
    let queued = queue(&world.channel, through(SMTP, email)).await.unwrap();
    let (event_type, Kind::EmailDeferred(deferred)) = told(&mut stream).await else { panic!("another") };
    assert_eq!((event_type.as_str(), deferred.attempts), ("email.deferred", 1));
    let failure = deferred.failure.unwrap();
    assert_eq!(failure.reason, "PROVIDER_UNAVAILABLE");
    assert_eq!(failure.recipients.len(), 1);
    assert_eq!(failure.recipients[0].address, late);
    assert!(deferred.next_attempt_time.is_some());

    let now = comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
    let states: Vec<_> = now.recipients.iter().map(|it| (it.address.as_str(), it.state())).collect();
    assert_eq!(states, [(late, RecipientState::Accepted), (ANNA, RecipientState::Accepted)]);
    // Each has it once, and it is the same mail.
    let accepted = world.place.smtp.accepted();
    assert_eq!(accepted.iter().map(|it| it.to.clone()).collect::<Vec<_>>(), [[ANNA], [late]]);
    for delivery in accepted {
        let message = mail_parser::MessageParser::default().parse(&delivery.message[..]).unwrap();
        assert_eq!(format!("<{}>", message.message_id().unwrap()), now.internet_message_id);
    }
    let (event_type, Kind::EmailDelivered(delivered)) = told(&mut stream).await else { panic!("another") };
    assert_eq!((event_type.as_str(), delivered.attempts), ("email.delivered", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_recipient_refuses_for_good_fails_at_once() {
    let world = World::connected().await;
    let mut stream = listen(&world.channel).await;
    let mut email = mail("Nobody");
    email.to = vec![NOBODY.to_owned()];
    let queued = queue(&world.channel, through(SMTP, email)).await.unwrap();
    let (event_type, Kind::EmailFailed(failed)) = told(&mut stream).await else { panic!("another") };
    assert_eq!((event_type.as_str(), failed.queued_email), ("email.failed", queued.name.clone()));
    let failure = failed.failure.unwrap();
    assert_eq!(failure.reason, "MESSAGE_REFUSED");
    assert_eq!(failure.recipients[0].state(), RecipientState::RefusedPermanent);
    let now = get(&world.channel, &queued.name).await.unwrap();
    assert_eq!((now.state(), now.attempts), (QueuedEmailState::Failed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_never_taken_is_given_up_in_its_time() {
    let world = World::flagged(&["--outbox-back-off", "50ms", "--outbox-give-up", "400ms"]).await;
    let mut stream = listen(&world.channel).await;
    let late = "late@example.org";
    world.place.smtp.control().refuse(late, "450 4.2.0 greylisted");
    let mut email = mail("In vain");
    email.to.push(late.to_owned());
    queue(&world.channel, through(SMTP, email)).await.unwrap();
    let mut told_of = Vec::new();
    let delivered = loop {
        match told(&mut stream).await.1 {
            Kind::EmailDeferred(deferred) => told_of.push(deferred.attempts),
            Kind::EmailDelivered(delivered) => break delivered,
            other => panic!("{other:?}"),
        }
    };
    // What one took is delivered, though the other is given up.
    let states: Vec<_> = delivered.recipients.iter().map(|it| it.state()).collect();
    assert_eq!(states, [RecipientState::Accepted, RecipientState::RefusedTransient]);
    assert_eq!(told_of, (1..delivered.attempts).collect::<Vec<_>>());

    // With nobody who took it, it has failed: the server asks for more time than there is.
    let mut email = mail("All in vain");
    email.to = vec![late.to_owned()];
    queue(&world.channel, through(SMTP, email)).await.unwrap();
    let (event_type, Kind::EmailFailed(failed)) = told(&mut stream).await else { panic!("another") };
    assert_eq!((event_type.as_str(), failed.attempts), ("email.failed", 1));
    assert_eq!(failed.failure.unwrap().reason, "PROVIDER_UNAVAILABLE");
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_throttled_holds_its_own_mails_only() {
    let world = World::connected().await;
    let mut stream = listen(&world.channel).await;
    let throttled = Fault::refuse(429, "ApplicationThrottled", Some("3600"));
    world.place.graph.faults().plan(None, "/messages", 1, throttled);
    let first = queue(&world.channel, through(OUTLOOK, mail("Throttled"))).await.unwrap();
    let (_, Kind::EmailDeferred(deferred)) = told(&mut stream).await else { panic!("another") };
    assert_eq!(deferred.failure.unwrap().reason, "PROVIDER_THROTTLED");
    let next = std::time::SystemTime::try_from(deferred.next_attempt_time.unwrap()).unwrap();
    let wait = next.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(3_000), "the provider's hour is kept to: {wait:?}");

    let second = queue(&world.channel, through(OUTLOOK, mail("Behind it"))).await.unwrap();
    let other = queue(&world.channel, through(SMTP, mail("Elsewhere"))).await.unwrap();
    comes_to(&world.channel, &other.name, QueuedEmailState::Delivered).await;
    let second = get(&world.channel, &second.name).await.unwrap();
    assert_eq!((second.state(), second.attempts), (QueuedEmailState::Queued, 0));
    assert_eq!(get(&world.channel, &first.name).await.unwrap().attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_wait_for_credentials_go_once_these_are_right() {
    let world = World::connected().await;
    let (settings, right) = world.place.smtp_connection();
    let wrong = SmtpCredentials { password: "wrong".into(), ..SmtpCredentials::default() };
    let locked = "connections/locked";
    create(&world.channel, locked, (settings, Credentials::SmtpCredentials(wrong))).await.unwrap();
    let queued = queue(&world.channel, through(locked, mail("Patience"))).await.unwrap();
    let deferred = comes_to(&world.channel, &queued.name, QueuedEmailState::Deferred).await;
    assert_eq!(deferred.last_failure.unwrap().reason, "CREDENTIALS_REFUSED");
    let connection = Connection { name: locked.into(), credentials: Some(right), ..Connection::default() };
    let request = UpdateConnectionRequest {
        connection: Some(connection),
        update_mask: Some(prost_types::FieldMask { paths: vec!["smtp_credentials".into()] }),
        ..UpdateConnectionRequest::default()
    };
    world.connections().update_connection(request).await.unwrap();
    // Long before the 20 minutes of its back-off.
    let delivered = comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
    assert_eq!(delivered.attempts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_of_a_connection_that_is_deleted_fail_and_are_told() {
    let world = World::connected().await;
    let mut stream = listen(&world.channel).await;
    let hour = Duration::from_secs(3_600);
    let queued = queue(&world.channel, later(SMTP, mail("Too late"), hour)).await.unwrap();
    let request = DeleteConnectionRequest { name: SMTP.into(), ..DeleteConnectionRequest::default() };
    world.connections().delete_connection(request).await.unwrap();
    let (_, Kind::EmailFailed(failed)) = told(&mut stream).await else { panic!("another") };
    assert_eq!(failed.queued_email, queued.name);
    assert_eq!(failed.failure.unwrap().reason, "CONNECTION_NOT_FOUND");
    assert!(world.place.smtp.accepted().is_empty());
    let refused = queue(&world.channel, through(SMTP, mail("Later still"))).await.unwrap_err();
    assert_eq!(reason_of(&refused), "CONNECTION_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_that_breaks_off_is_not_repeated_where_nobody_can_tell() {
    let world = World::flagged(&QUICK).await;
    let mut stream = listen(&world.channel).await;
    world.place.smtp.control().at(Stage::Message, Action::Reset, Times::Once);
    queue(&world.channel, through(SMTP, mail("Perhaps"))).await.unwrap();
    let (_, Kind::EmailFailed(failed)) = told(&mut stream).await else { panic!("another") };
    assert_eq!(failed.failure.unwrap().reason, "OUTCOME_UNKNOWN");
    let next = queue(&world.channel, through(SMTP, mail("Surely"))).await.unwrap();
    comes_to(&world.channel, &next.name, QueuedEmailState::Delivered).await;
    assert_eq!(world.place.smtp.accepted().len(), 2, "each once");
}
