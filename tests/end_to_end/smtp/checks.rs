//! What the connector tells its gateway: what it is, whether a connection is well-formed, whether it works.

use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckTriggerRequest, DescribeRequest, PollRequest, RefreshCredentialsRequest,
    ValidateConnectionRequest,
};
use postern_proto::mail::v1::Email;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{SendEmailRequest, TlsMode};
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;

use super::world::{PASSWORD, Said, USER, World, mail, refused};

#[tokio::test]
async fn it_describes_itself_without_a_connection() {
    let world = World::plain().await;
    let described = world.connector().describe(Request::new(DescribeRequest {})).await.unwrap().into_inner();
    assert_eq!(described.kind, "smtp");
    assert_eq!(described.services, ["postern.smtp.v1.SmtpService"]);
    assert!(described.trigger_kinds.is_empty() && !described.version.is_empty());
}

#[tokio::test]
async fn a_connection_is_checked_for_form_without_asking_the_server() {
    let mut world = World::start().await;
    let validate = async |world: &World| {
        world.connector().validate_connection(world.request(ValidateConnectionRequest {})).await
    };
    validate(&world).await.unwrap();
    world.stored.port = 70_000;
    world.stored.server.clear();
    let said = Said::of(&validate(&world).await.unwrap_err());
    assert_eq!((said.code, said.reason.as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    assert_eq!(said.fields, ["smtp.server", "smtp.port"]);
    assert_eq!(world.control().connections_opened(), 0);
    let sent = world.send(mail(&["bo@example.org"])).await;
    assert_eq!(refused(sent, Code::InvalidArgument, "FIELD_INVALID").fields, ["smtp.server", "smtp.port"]);
}

#[tokio::test]
async fn a_connection_that_works_is_said_to_with_what_the_server_tells_of_itself() {
    let world = World::start().await;
    let check = async || world.connector().check_connection(world.request(CheckConnectionRequest {})).await;
    let checked = check().await.unwrap().into_inner();
    assert_eq!(checked.account, USER);
    assert!(checked.details.iter().any(|line| line.contains("ESMTP")), "{:?}", checked.details);
    assert!(checked.details.iter().any(|line| line.starts_with("AUTH ")), "what it offers under TLS");
    assert!(checked.details.len() <= 16);
    // The socket is kept for the first mail; but the next check signs in anew.
    world.send(mail(&["bo@example.org"])).await.unwrap();
    assert_eq!(world.control().connections_opened(), 1);
    check().await.unwrap();
    assert_eq!(world.control().commands().iter().filter(|line| line.starts_with("AUTH")).count(), 2);
}

#[tokio::test]
async fn a_connection_that_does_not_work_is_said_not_to_and_why() {
    let mut world = World::start().await;
    let check = async |world: &World| {
        let checked = world.connector().check_connection(world.request(CheckConnectionRequest {})).await;
        let said = Said::of(&checked.unwrap_err());
        (said.code, said.reason)
    };
    world.password = "wrong".to_owned();
    assert_eq!(check(&world).await, (Code::FailedPrecondition, "CREDENTIALS_REFUSED".to_owned()));
    world.password = PASSWORD.to_owned();
    world.stored.ca_certificates.clear();
    assert_eq!(check(&world).await, (Code::FailedPrecondition, "CERTIFICATE_REFUSED".to_owned()));
    world.stored.ca_certificates = world.server.ca_certificate().to_owned();
    world.control().hide("STARTTLS");
    assert_eq!(check(&world).await, (Code::FailedPrecondition, "TLS_REQUIRED".to_owned()));
    world.stored.tls_mode = TlsMode::Implicit.into();
    assert_eq!(check(&world).await, (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn a_call_without_a_connection_is_told_what_is_missing() {
    let world = World::plain().await;
    let request = SendEmailRequest { content: Some(Content::Email(Email::default())), ..Default::default() };
    let status = world.smtp().send_email(Request::new(request)).await.unwrap_err();
    let said = Said::of(&status);
    assert_eq!((said.code, said.reason.as_str()), (Code::InvalidArgument, "CONNECTION_MISSING"));
}

#[tokio::test]
async fn what_smtp_cannot_do_is_said() {
    let world = World::plain().await;
    let mut connector = world.connector();
    let refresh =
        connector.refresh_credentials(world.request(RefreshCredentialsRequest {})).await.unwrap_err();
    let trigger = connector.check_trigger(world.request(CheckTriggerRequest::default())).await.unwrap_err();
    let poll = connector.poll(world.request(PollRequest::default())).await.unwrap_err();
    for status in [refresh, trigger, poll] {
        let said = Said::of(&status);
        assert_eq!((said.code, said.reason.as_str()), (Code::FailedPrecondition, "NOT_SERVED"));
    }
}

#[tokio::test]
async fn each_service_says_that_it_is_healthy() {
    let world = World::plain().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(world.channel());
    for service in ["", "postern.smtp.v1.SmtpService", "postern.connector.v1.ConnectorService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answered = health.check(request).await.unwrap().into_inner();
        assert_eq!(answered.status(), ServingStatus::Serving, "{service}");
    }
}
