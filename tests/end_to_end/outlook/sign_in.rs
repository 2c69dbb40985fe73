//! Connections: described, validated, signed in, checked; and what a refused token comes to.

use postern_chassis::fault::{REFRESH_METADATA, reason_of, retry_after_of};
use postern_proto::connection::v1::connection::Credentials;
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckTriggerRequest, DescribeRequest, ValidateConnectionRequest,
};
use postern_proto::event::v1::{Trigger, trigger};
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{
    ClientCertificate, EventCreatedTrigger, GetEmailsRequest, NewEmailTrigger, OutlookCredentials,
};
use postern_sandbox::graph::Fault;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, Stage};

/// Puts other credentials in the place of the stage's.
fn sign_in_by(stage: &mut Stage, sign_in: Option<SignIn>) {
    let credentials = Credentials::OutlookCredentials(OutlookCredentials { sign_in });
    stage.connection.connection.as_mut().unwrap().credentials = Some(credentials);
}

fn fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

async fn validate(stage: &Stage) -> Result<(), Status> {
    let request = stage.with_connection(ValidateConnectionRequest {});
    stage.connector.clone().validate_connection(request).await.map(drop)
}

async fn check_trigger(stage: &Stage, kind: Option<trigger::Kind>) -> Result<String, Status> {
    let request = CheckTriggerRequest { trigger: Some(Trigger { kind, ..Trigger::default() }) };
    let answer = stage.connector.clone().check_trigger(stage.with_connection(request)).await?;
    Ok(answer.into_inner().watch_key)
}

#[tokio::test]
async fn the_connector_says_what_it_is() {
    let stage = Stage::set_signed_out().await;
    let said = stage.connector.clone().describe(DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(said.kind, "outlook");
    assert_eq!(
        said.services,
        ["MailService", "CalendarService", "ContactService"].map(|name| format!("postern.outlook.v1.{name}"))
    );
    assert_eq!(said.trigger_kinds, ["new_email"]);
    assert!(!said.version.is_empty());
}

#[tokio::test]
async fn a_connection_is_validated_without_asking_the_provider() {
    let mut stage = Stage::set_signed_out().await;
    validate(&stage).await.unwrap();
    stage.settings().mailbox = "me".into();
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), ["outlook.mailbox"]);
    stage.settings().mailbox = ANN.into();
    stage.settings().custom_cloud.as_mut().unwrap().allow_plaintext = false;
    let urls = ["outlook.custom_cloud.graph_url", "outlook.custom_cloud.login_url"];
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), urls);
    stage.settings().custom_cloud.as_mut().unwrap().allow_plaintext = true;
    stage.settings().custom_cloud.as_mut().unwrap().ca_certificates = "no certificate".into();
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), ["outlook.custom_cloud.ca_certificates"]);
    stage.settings().custom_cloud.as_mut().unwrap().ca_certificates.clear();
    sign_in_by(&mut stage, Some(SignIn::ClientCertificate(ClientCertificate::default())));
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), ["outlook_credentials.client_certificate"]);
    sign_in_by(&mut stage, None);
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), ["outlook_credentials"]);
    assert!(stage.graph.recorder().exchanges().is_empty());
}

#[tokio::test]
async fn a_call_without_a_connection_says_so() {
    let stage = Stage::set_signed_out().await;
    let refused = stage.mail.clone().get_emails(GetEmailsRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "CONNECTION_MISSING"));
}

#[tokio::test]
async fn a_call_without_a_grant_or_with_an_expired_token_asks_for_a_refresh() {
    let mut stage = Stage::set_signed_out().await;
    for refresh in [false, true] {
        if refresh {
            stage.refresh().await.unwrap();
            stage.get_emails(GetEmailsRequest::default()).await.unwrap();
            stage.graph.tokens().expire_all();
        }
        let refused = stage.get_emails(GetEmailsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(reason_of(&refused), "CREDENTIALS_REFUSED");
        assert_eq!(refused.metadata().get(REFRESH_METADATA).unwrap(), "1");
    }
    stage.refresh().await.unwrap();
    stage.get_emails(GetEmailsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_sign_in_that_is_refused_for_good_says_so_and_asks_for_no_refresh() {
    let mut stage = Stage::set_signed_out().await;
    sign_in_by(&mut stage, Some(SignIn::ClientSecret("wrong".into())));
    let wrong_secret = stage.refresh().await.unwrap_err();
    stage.settings().tenant = "elsewhere.example".into();
    let wrong_tenant = stage.refresh().await.unwrap_err();
    for (refused, error) in [(wrong_secret, "invalid_client"), (wrong_tenant, "invalid_request")] {
        assert_eq!(
            (refused.code(), reason_of(&refused).as_str()),
            (Code::FailedPrecondition, "CREDENTIALS_REFUSED")
        );
        assert_eq!(refused.get_details_error_info().unwrap().metadata["identity.error"], error);
        assert!(!refused.metadata().contains_key(REFRESH_METADATA));
        assert!(!format!("{refused:?}").contains("AADSTS"));
    }
}

#[tokio::test]
async fn a_sign_in_that_fails_for_now_may_be_tried_again() {
    let mut stage = Stage::set_signed_out().await;
    let busy = r#"{"error":"temporarily_unavailable","error_description":"AADSTS90033"}"#;
    for fault in [
        Fault::answer(400, busy),
        Fault::answer(503, "<html>"),
        Fault::refuse(429, "x", Some("7")),
        Fault::Cut,
        Fault::answer(200, "{}"),
    ] {
        stage.graph.faults().plan(None, "/oauth2/", 1, fault);
        let failed = stage.refresh().await.unwrap_err();
        assert_eq!((failed.code(), reason_of(&failed).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
        assert!(retry_after_of(&failed).is_some_and(|delay| delay >= Duration::from_secs(5)));
    }
    stage.refresh().await.unwrap();
}

#[tokio::test]
async fn a_connection_is_checked_at_the_provider() {
    let mut stage = Stage::set().await;
    stage.deliver("one");
    let request = stage.with_connection(CheckConnectionRequest {});
    let said = stage.connector.clone().check_connection(request).await.unwrap().into_inner();
    assert_eq!((said.account.as_str(), said.details[0].as_str()), (ANN, "Inbox: 1 mails, 1 unread"));
    stage.settings().mailbox = "nobody@contoso.example".into();
    let request = stage.with_connection(CheckConnectionRequest {});
    let gone = stage.connector.clone().check_connection(request).await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "MAILBOX_NOT_FOUND"));
}

#[tokio::test]
async fn triggers_on_the_same_folder_have_the_same_watch_key() {
    let stage = Stage::set().await;
    let of = |folder_path: &str, mailbox: &str| {
        let asked = NewEmailTrigger {
            folder_path: folder_path.into(),
            mailbox: mailbox.into(),
            ..NewEmailTrigger::default()
        };
        check_trigger(&stage, Some(trigger::Kind::NewEmail(asked)))
    };
    let key = of("", "").await.unwrap();
    assert_eq!(of("INBOX", ANN).await.unwrap(), key);
    assert_ne!(of("Archive", "").await.unwrap(), key);
    assert_ne!(of("", super::stage::BO).await.unwrap(), key);
    let gone = of("Nowhere", "").await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "FOLDER_NOT_FOUND"));
    assert_eq!(fields(&of("a//b", "").await.unwrap_err()), ["new_email.folder_path"]);
    assert_eq!(fields(&of("", "x").await.unwrap_err()), ["new_email.mailbox"]);
    let other = Some(trigger::Kind::EventCreated(EventCreatedTrigger::default()));
    let refused = check_trigger(&stage, other).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_str()),
        (Code::InvalidArgument, "TRIGGER_KIND_UNSUPPORTED")
    );
}
