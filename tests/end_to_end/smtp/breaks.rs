//! Connections that break: what is repeated, what is not, and what is told.

use std::time::Duration;

use futures_util::future::join_all;
use postern_proto::mail::v1::{Attachment, Email, RecipientState};
use postern_proto::smtp::v1::send_emails_response::Outcome;
use postern_proto::smtp::v1::{SendEmailsRequest, send_emails_request};
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::Code;

use super::world::{World, mail, refused};
use crate::ports::Port;

/// More than the sockets' buffers hold: the last of it cannot have been handed over when a break comes in its middle.
fn long_mail() -> Email {
    let attachment = Attachment {
        file_name: "long.bin".into(),
        content_data: vec![7; 3_900_000].into(),
        content_type: "application/octet-stream".into(),
        ..Default::default()
    };
    Email { attachments: vec![attachment], ..mail(&["bo@example.org"]) }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut world = World::plain().await;
    let free = Port::keep();
    world.stored.port = free.address.port().into();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((said.stage(), said.retry), ("connect", true));
}

#[tokio::test]
async fn a_break_before_the_final_dot_on_a_new_socket_is_unavailable_and_not_repeated() {
    for action in [Action::Close, Action::Reset] {
        for (stage, name) in [
            (Stage::Greeting, "greeting"),
            (Stage::Ehlo, "ehlo"),
            (Stage::StartTls, "starttls"),
            (Stage::Auth, "auth"),
            (Stage::Mail, "mail"),
        ] {
            let world = World::start().await;
            world.control().at(stage, action.clone(), Times::Once);
            let sent = world.send(mail(&["bo@example.org"])).await;
            let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
            assert_eq!((said.stage(), said.retry), (name, true), "{action:?}");
            assert_eq!(world.control().connections_opened(), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn a_break_in_the_middle_of_the_message_leaves_it_unsent() {
    for action in [Action::Close, Action::Reset, Action::HalfClose] {
        let world = World::plain().await;
        world.control().at(Stage::Body, action.clone(), Times::Once);
        let email = long_mail();
        let sent = world.send(email).await;
        let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!(said.stage(), "message", "{action:?}");
        assert!(world.server.accepted().is_empty());
    }
}

#[tokio::test]
async fn a_reason_given_in_the_middle_of_the_message_is_told() {
    let world = World::plain().await;
    world.control().at(Stage::Body, Action::ReplyAndClose("554 5.7.1 enough".into()), Times::Once);
    let email = long_mail();
    let status = world.send(email).await.unwrap_err();
    // A reset on the way may swallow the reason; then it is a break. Never is it unknown, and never OK.
    let said = super::world::Said::of(&status);
    assert!(matches!(said.code, Code::FailedPrecondition | Code::Unavailable), "{status:?}");
    assert_eq!(said.stage(), "message");
}

#[tokio::test]
async fn a_break_after_the_final_dot_is_unknown_and_never_repeated() {
    for action in [Action::Close, Action::Reset] {
        for warm in [false, true] {
            let world = World::start().await;
            if warm {
                world.send(mail(&["warm@example.org"])).await.unwrap();
            }
            world.control().at(Stage::Message, action.clone(), Times::Once);
            let sent = world.send(mail(&["bo@example.org"])).await;
            let said = refused(sent, Code::Unknown, "OUTCOME_UNKNOWN");
            assert_eq!((said.stage(), said.retry), ("message", false));
            assert_eq!(
                world.server.accepted().len(),
                1 + usize::from(warm),
                "{action:?}: the server has it once"
            );
            assert_eq!(world.control().connections_opened(), 1);
        }
    }
}

#[tokio::test]
async fn who_was_refused_before_the_outcome_became_unknown_is_told() {
    use RecipientState::{OutcomeUnknown, RefusedPermanent};
    let world = World::plain().await;
    world.control().refuse("a@example.org", "550 5.1.1 no a");
    world.control().at(Stage::Message, Action::Close, Times::Once);
    let sent = world.send(mail(&["a@example.org", "b@example.org"])).await;
    let said = refused(sent, Code::Unknown, "OUTCOME_UNKNOWN");
    let states: Vec<_> = said.recipients.unwrap().recipients.iter().map(|one| one.state()).collect();
    assert_eq!(states, [RefusedPermanent, OutcomeUnknown]);
    // On a stream the same.
    world.control().at(Stage::Message, Action::Close, Times::Once);
    let content = send_emails_request::Content::Email(mail(&["a@example.org", "b@example.org"]));
    let mails = [SendEmailsRequest { request_id: "1".into(), content: Some(content), ..Default::default() }];
    let answers = world.smtp().send_emails(world.request(tokio_stream::iter(mails))).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(Outcome::Failure(failure)) = answer.outcome else { panic!("{answer:?}") };
    let states: Vec<_> = failure.recipients.iter().map(|one| one.state()).collect();
    assert_eq!(
        (failure.reason.as_str(), states),
        ("OUTCOME_UNKNOWN", vec![RefusedPermanent, OutcomeUnknown])
    );
}

/// Long enough for a machine that has much else to do; the answer must come within it, not the deadline's own error.
const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn silence_after_the_final_dot_is_unknown_before_the_deadline_passes() {
    let world = World::plain().await;
    world.control().at(Stage::Message, Action::Silence, Times::Once);
    let sent = world.send_within(DEADLINE, mail(&["bo@example.org"])).await;
    refused(sent, Code::Unknown, "OUTCOME_UNKNOWN");
    assert_eq!(world.server.accepted().len(), 1);
}

#[tokio::test]
async fn silence_before_the_final_dot_is_unavailable_before_the_deadline_passes() {
    join_all([Stage::Greeting, Stage::Ehlo, Stage::Mail, Stage::Data].map(async |stage| {
        let world = World::plain().await;
        world.control().at(stage, Action::Silence, Times::Once);
        let sent = world.send_within(DEADLINE, mail(&["bo@example.org"])).await;
        refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert!(world.server.accepted().is_empty());
    }))
    .await;
}

#[tokio::test]
async fn a_step_takes_no_longer_than_the_connection_allows() {
    let mut world = World::plain().await;
    world.stored.command_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    world.control().at(Stage::Mail, Action::Silence, Times::Once);
    let began = tokio::time::Instant::now();
    refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    let took = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn the_answer_to_the_final_dot_may_take_longer_than_a_step() {
    let mut world = World::plain().await;
    world.stored.command_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    world.control().at(Stage::Message, Action::Delay(Duration::from_millis(1_500)), Times::Once);
    world.send(mail(&["bo@example.org"])).await.expect("a server that looks at the content takes its time");
}

#[tokio::test]
async fn a_deadline_that_passes_on_a_kept_socket_is_told_as_where_it_passed() {
    let world = World::plain().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.control().at(Stage::Mail, Action::Silence, Times::Once);
    let sent = world.send_within(DEADLINE, mail(&["bo@example.org"])).await;
    assert_eq!(refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE").stage(), "mail");
    assert_eq!(world.control().connections_opened(), 1, "there is no time left for another");
}

#[tokio::test]
async fn a_socket_that_went_stale_is_found_out_before_the_mail_is_handed_over() {
    let world = World::start().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.control().hang_up();
    world.control().all_closed().await.unwrap();
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (2, 2));
}

#[tokio::test]
async fn a_kept_socket_that_breaks_before_the_mail_is_taken_is_replaced_once() {
    for (stage, action) in [
        (Stage::Mail, Action::Close),
        (Stage::Mail, Action::Reset),
        (Stage::Mail, Action::ReplyAndClose("421 4.4.2 idle for too long".into())),
        (Stage::Data, Action::Close),
    ] {
        let world = World::plain().await;
        world.control().hide("PIPELINING");
        world.send(mail(&["bo@example.org"])).await.unwrap();
        world.control().at(stage, action.clone(), Times::Once);
        world.send(mail(&["bo@example.org"])).await.unwrap();
        assert_eq!(world.server.accepted().len(), 2, "{stage:?} {action:?}");
        assert_eq!(world.control().connections_opened(), 2, "{stage:?} {action:?}");
    }
    // Not for ever: the second break is told.
    let world = World::plain().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    world.control().at(Stage::Mail, Action::Close, Times::Always);
    refused(world.send(mail(&["bo@example.org"])).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!((world.server.accepted().len(), world.control().connections_opened()), (1, 2));
}

#[tokio::test]
async fn a_server_that_closes_with_its_refusal_is_not_spoken_to_again() {
    let world = World::plain().await;
    world.control().at(Stage::Mail, Action::ReplyAndClose("421 4.3.2 shutting down".into()), Times::Once);
    let sent = world.send(mail(&["bo@example.org"])).await;
    let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(said.metadata["smtp.code"], "421");
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert_eq!(world.control().connections_opened(), 2);
}
