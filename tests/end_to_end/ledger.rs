//! Changes made once: what a `request_id` promises, for forwarded calls and the gateway's own.

mod again;
mod streams;

use std::time::Duration;

use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::CreateConnectionRequest;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_sandbox::place::NOBODY;
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::Code;

use crate::world::{PATIENCE, SMTP, World, mail, send, until};

/// Whether the SMTP server was given the content of a message.
fn data_has_begun(world: &World) -> Option<()> {
    let commands = world.place.smtp.control().commands();
    commands.iter().any(|command| command.starts_with("DATA")).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_answer_and_sends_nothing() {
    let mut world = World::connected().await;
    let first = send(&world.channel, "invoice-1", mail("Once")).await.unwrap();
    let again = send(&world.channel, "invoice-1", mail("Once")).await.unwrap();
    assert_eq!(first, again);
    world.restart().await;
    let after_restart = send(&world.channel, "invoice-1", mail("Once")).await.unwrap();
    assert_eq!(first, after_restart);
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_request_id_each_call_sends() {
    let world = World::connected().await;
    for _ in 0..2 {
        send(&world.channel, "", mail("Each")).await.unwrap();
    }
    assert_eq!(world.place.smtp.accepted().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_another_request_is_refused() {
    let world = World::connected().await;
    send(&world.channel, "invoice-2", mail("One")).await.unwrap();
    let refused = send(&world.channel, "invoice-2", mail("Another")).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_the_same_time_share_one_sending() {
    let world = World::connected().await;
    let calls = (0..16).map(|_| {
        let channel = world.channel.clone();
        tokio::spawn(async move { send(&channel, "invoice-3", mail("Shared")).await.unwrap() })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_changed_nothing_leaves_its_id_free() {
    let world = World::connected().await;
    let mut nobody = mail("Corrected");
    nobody.to = vec![NOBODY.to_owned()];
    let refused = send(&world.channel, "invoice-4", nobody).await.unwrap_err();
    assert_eq!(reason_of(&refused), "MESSAGE_REFUSED");
    send(&world.channel, "invoice-4", mail("Corrected")).await.unwrap();
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_of_unknown_outcome_stays_unknown_and_is_not_sent_again() {
    let world = World::connected().await;
    world.place.smtp.control().at(Stage::Message, Action::Reset, Times::Once);
    for _ in 0..2 {
        let unknown = send(&world.channel, "invoice-5", mail("Perhaps")).await.unwrap_err();
        assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    }
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_finds_the_answer_later() {
    let world = World::connected().await;
    let delay = Action::Delay(Duration::from_millis(300));
    world.place.smtp.control().at(Stage::Message, delay, Times::Once);
    let request = SendEmailRequest {
        connection: SMTP.to_owned(),
        request_id: "invoice-6".to_owned(),
        content: Some(Content::Email(mail("Impatient"))),
        delivery_reports: None,
    };
    let mut client = SmtpServiceClient::new(world.channel.clone());
    let call = tokio::spawn({
        let request = request.clone();
        async move { client.send_email(request).await }
    });
    until("the message is on its way", || async { data_has_begun(&world) }).await;
    call.abort();
    let answer =
        SmtpServiceClient::new(world.channel.clone()).send_email(request).await.unwrap().into_inner();
    assert_eq!(answer.recipients.len(), 1);
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_at_any_moment_holds_up_no_repeat() {
    let world = World::connected().await;
    for number in 0..60 {
        let request_id = format!("gone-{number}");
        let sending = send(&world.channel, &request_id, mail("Gone"));
        // While the record is written, while the mail is sent, while the answer is written.
        let _ = tokio::time::timeout(Duration::from_millis(number / 3), sending).await;
        let repeat = send(&world.channel, &request_id, mail("Gone"));
        let repeat = tokio::time::timeout(PATIENCE, repeat).await;
        repeat.unwrap_or_else(|_| panic!("{request_id}: no answer")).unwrap();
    }
    assert_eq!(world.place.smtp.accepted().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_during_a_stop_is_written_down() {
    let mut world = World::connected().await;
    let delay = Action::Delay(Duration::from_millis(500));
    world.place.smtp.control().at(Stage::Message, delay, Times::Once);
    let channel = world.channel.clone();
    let call = tokio::spawn(async move { send(&channel, "invoice-7", mail("Late")).await });
    until("the message is on its way", || async { data_has_begun(&world) }).await;
    // With no caller left there is no open call that the stop would wait for.
    call.abort();
    world.restart().await;
    send(&world.channel, "invoice-7", mail("Late")).await.unwrap();
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_changes_are_made_once_too() {
    let world = World::connected().await;
    let (settings, credentials) = world.place.smtp_connection();
    let request = CreateConnectionRequest {
        request_id: "make-1".to_owned(),
        connection: Some(postern_proto::connection::v1::Connection {
            settings: Some(settings),
            credentials: Some(credentials),
            ..Default::default()
        }),
        ..CreateConnectionRequest::default()
    };
    let mut connections = world.connections();
    let first = connections.create_connection(request.clone()).await.unwrap().into_inner();
    let again = connections.create_connection(request).await.unwrap().into_inner();
    assert_eq!(first, again);
    let all = connections.list_connections(postern_proto::connection::v1::ListConnectionsRequest::default());
    assert_eq!(all.await.unwrap().into_inner().connections.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_that_is_none_is_refused() {
    let world = World::connected().await;
    for wrong in ["with a blank", &"x".repeat(129), "tab\t"] {
        let refused = send(&world.channel, wrong, mail("Never")).await.unwrap_err();
        assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    }
    assert!(world.place.smtp.accepted().is_empty());
}
