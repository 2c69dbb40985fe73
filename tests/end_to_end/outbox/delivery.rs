//! Mails that are queued and handed over at the first try.

use std::path::Path;
use std::time::{Duration, SystemTime};

use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::{Attachment, Email, RecipientState};
use postern_proto::outbox::v1::{QueueEmailRequest, QueuedEmailState};
use postern_sandbox::place::{ANNA, BO, NOBODY};
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::Code;

use super::{assert_refused, comes_to, get, later, listen, queue, through, told};
use crate::world::{OUTLOOK, SMTP, World, mail};

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_mail_is_answered_at_once_and_told_when_it_is_delivered() {
    let world = World::connected().await;
    let mut stream = listen(&world.channel).await;
    world.place.smtp.control().at(Stage::Mail, Action::Hold, Times::Once);
    let mut email = mail("Queued");
    email.cc = vec![NOBODY.to_owned()];
    let request = QueueEmailRequest { request_id: "order-7".into(), ..through(SMTP, email) };
    let queued = queue(&world.channel, request).await.unwrap();
    assert_eq!((queued.state(), queued.attempts), (QueuedEmailState::Queued, 0));
    assert_eq!((queued.from.as_str(), queued.subject.as_str()), (BO, "Queued"));
    assert!(queued.name.starts_with("outbox/") && queued.expire_time.is_some());
    assert!(world.place.smtp.accepted().is_empty(), "answered before it is handed over");
    world.place.smtp.control().let_go();

    let (event_type, Kind::EmailDelivered(delivered)) = told(&mut stream).await else { panic!("another") };
    assert_eq!(event_type, "email.delivered");
    assert_eq!((delivered.queued_email.as_str(), delivered.attempts), (queued.name.as_str(), 1));
    assert_eq!(delivered.request_id, "order-7");
    let states: Vec<_> = delivered.recipients.iter().map(|it| (it.address.as_str(), it.state())).collect();
    assert_eq!(states, [(ANNA, RecipientState::Accepted), (NOBODY, RecipientState::RefusedPermanent)]);
    let now = get(&world.channel, &queued.name).await.unwrap();
    assert_eq!((now.state(), now.attempts), (QueuedEmailState::Delivered, 1));
    assert_eq!(now.internet_message_id, delivered.internet_message_id);
    assert!(now.settle_time.is_some() && now.expire_time.is_none() && now.next_attempt_time.is_none());
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_through_whichever_connector_its_connection_has() {
    let world = World::connected().await;
    let mut stream = listen(&world.channel).await;
    let email = Email { from: String::new(), to: vec![BO.to_owned()], ..mail("From the office") };
    let queued = queue(&world.channel, through(OUTLOOK, email)).await.unwrap();
    let (_, Kind::EmailDelivered(delivered)) = told(&mut stream).await else { panic!("another") };
    assert_eq!(delivered.queued_email, queued.name);
    assert!(!delivered.message_id.is_empty() && delivered.recipients.is_empty());
    assert_eq!(world.place.world.messages(BO, "inbox").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_mail_waits_for_its_time_over_a_restart() {
    let mut world = World::connected().await;
    let due = SystemTime::now() + Duration::from_millis(1_500);
    let request = later(SMTP, mail("Later"), Duration::from_millis(1_500));
    let queued = queue(&world.channel, request).await.unwrap();
    assert_eq!(queued.schedule_time, queued.next_attempt_time);
    world.restart().await;
    let delivered = comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
    assert!(SystemTime::try_from(delivered.settle_time.unwrap()).unwrap() >= due);
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_of_nearly_three_mib_comes_whole_and_one_beyond_is_refused() {
    let world = World::connected().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let file = |content: Vec<u8>| Attachment {
        file_name: "figures.bin".into(),
        content_type: "application/octet-stream".into(),
        content_data: content.into(),
        ..Attachment::default()
    };
    let email = Email { attachments: vec![file(content.clone())], ..mail("Large") };
    let queued = queue(&world.channel, through(SMTP, email)).await.unwrap();
    comes_to(&world.channel, &queued.name, QueuedEmailState::Delivered).await;
    let message = world.place.smtp.accepted().remove(0).message;
    let message = mail_parser::MessageParser::default().parse(&message[..]).unwrap();
    assert!(message.attachment(0).unwrap().contents() == content, "the bytes are the same");

    let email = Email { attachments: vec![file(vec![7; 3 * 1024 * 1024])], ..mail("Too large") };
    let refused = queue(&world.channel, through(SMTP, email)).await;
    let refused = assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
    assert!(refused.message().contains("email: has"), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mail_says_is_nowhere_on_disk() {
    let world = World::connected().await;
    let email = Email { body: "the-secret-of-the-body".into(), ..mail("Sealed") };
    let queued = queue(&world.channel, later(SMTP, email, Duration::from_secs(3_600))).await.unwrap();
    assert!(!on_disk(world.folder.path(), b"the-secret-of-the-body"));
    assert!(on_disk(world.folder.path(), queued.name.as_bytes()), "its record is there");
    assert!(on_disk(world.folder.path(), format!("content/{}/0", queued.name).as_bytes()));
}

/// Whether these bytes are in any file below a folder.
fn on_disk(folder: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => on_disk(&path, wanted),
            false => std::fs::read(path).unwrap().windows(wanted.len()).any(|window| window == wanted),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_queued_is_refused_by_its_field() {
    let world = World::connected().await;
    let year = Duration::from_secs(400 * 86_400);
    let nobody = Email { to: Vec::new(), ..mail("x") };
    for (request, field) in [
        (through("nonsense", mail("x")), "connection"),
        (QueueEmailRequest { email: None, ..through(SMTP, mail("x")) }, "email"),
        (through(SMTP, nobody), "email.to"),
        (later(SMTP, mail("x"), year), "schedule_time"),
        (QueueEmailRequest { mailbox: "a\nb".into(), ..through(SMTP, mail("x")) }, "mailbox"),
    ] {
        let refused = queue(&world.channel, request).await;
        let refused = assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
        assert!(refused.message().starts_with(&format!("{field}: ")), "{field}: {}", refused.message());
    }
    let refused = queue(&world.channel, through("connections/nowhere", mail("x"))).await;
    assert_refused(refused, Code::NotFound, "CONNECTION_NOT_FOUND");
    assert_refused(get(&world.channel, "outbox/nothing").await, Code::NotFound, "QUEUED_EMAIL_NOT_FOUND");
}
