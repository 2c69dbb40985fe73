//! What connectors do for the outbox, asked without a gateway; and those that do nothing for it.

use postern_proto::connector::v1::{DescribeRequest, SendEmailRequest};
use postern_proto::mail::v1::{RecipientResults, RecipientState};
use tonic::Code;

use super::{assert_refused, queue, through};
use crate::edge::Fake;
use crate::smtp::world as smtp;
use crate::world::{SMTP, World};

#[tokio::test]
async fn a_server_is_given_only_those_who_are_left_of_a_mail_that_names_all() {
    let world = smtp::World::plain().await;
    let described = world.connector().describe(DescribeRequest {}).await.unwrap().into_inner();
    assert!(described.sends_email && !described.send_is_repeatable);
    let email = Some(smtp::mail(&["a@example.org", "b@example.org", "c@example.org"]));
    let asked = |only_to: &[&str]| SendEmailRequest {
        request_id: "outbox/one".into(),
        email: email.clone(),
        only_to: only_to.iter().map(|to| (*to).to_owned()).collect(),
        ..SendEmailRequest::default()
    };
    let send = async |request| world.connector().send_email(world.request(request)).await;
    let sent = send(asked(&["c@example.org", "b@example.org"])).await.unwrap().into_inner();
    let told: Vec<_> = sent.recipients.iter().map(|it| (it.address.as_str(), it.state())).collect();
    assert_eq!(
        told,
        [("b@example.org", RecipientState::Accepted), ("c@example.org", RecipientState::Accepted)]
    );
    let all = send(asked(&[])).await.unwrap().into_inner();
    assert_eq!(all.recipients.len(), 3);
    assert_eq!(all.internet_message_id, sent.internet_message_id, "the same mail");
    let accepted = world.server.accepted();
    assert_eq!(accepted[0].to, ["b@example.org", "c@example.org"]);
    assert!(String::from_utf8_lossy(&accepted[0].message).contains("a@example.org"));

    let other = send(asked(&["d@example.org"])).await;
    let refused = assert_refused(other, Code::InvalidArgument, "FIELD_INVALID");
    assert!(refused.message().starts_with("only_to[0]: "), "{}", refused.message());
    let mailbox = SendEmailRequest { mailbox: "a@example.org".into(), ..asked(&[]) };
    assert_refused(send(mailbox).await, Code::InvalidArgument, "FIELD_INVALID");

    for name in ["a", "b", "c"] {
        world.control().refuse(&format!("{name}@example.org"), "550 5.1.1 no");
    }
    let refused = assert_refused(send(asked(&[])).await, Code::FailedPrecondition, "MESSAGE_REFUSED");
    let results: RecipientResults =
        postern_chassis::fault::detail_of(&refused, "postern.mail.v1.RecipientResults").unwrap();
    assert_eq!((results.recipients.len(), results.omitted), (3, 0));
}

#[tokio::test]
async fn recipients_too_many_for_one_transaction_keep_their_places_among_those_who_are_left() {
    let world = smtp::World::plain().await;
    world.control().limit_recipients(1, "452 4.5.3 too many");
    let request = SendEmailRequest {
        email: Some(smtp::mail(&["a@example.org", "b@example.org", "c@example.org"])),
        only_to: vec!["b@example.org".into(), "c@example.org".into()],
        ..SendEmailRequest::default()
    };
    let sent = world.connector().send_email(world.request(request)).await.unwrap().into_inner();
    let told: Vec<_> = sent.recipients.iter().map(|it| (it.address.as_str(), it.state())).collect();
    assert_eq!(
        told,
        [("b@example.org", RecipientState::Accepted), ("c@example.org", RecipientState::Accepted)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_connector_sends_nothing_takes_no_mail() {
    let fake = Fake::of("smtp");
    let other = Fake::of("outlook");
    let addresses = format!("http://{},http://{}", fake.address(), other.address());
    let world = World::flagged(&["--connectors", &addresses]).await;
    let refused = queue(&world.channel, through(SMTP, crate::world::mail("x"))).await;
    assert_refused(refused, Code::FailedPrecondition, "CONNECTION_CANNOT_SEND");
}
