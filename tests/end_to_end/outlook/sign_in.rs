//! Connections: described, validated, signed in, checked; and what a refused token comes to.

use postern_chassis::fault::{REFRESH_METADATA, reason_of, retry_after_of};
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckTriggerRequest, DescribeRequest, RefreshCredentialsRequest,
    ValidateConnectionRequest,
};
use postern_proto::event::v1::{Trigger, trigger};
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{
    ClientCertificate, EventCreatedTrigger, EventModifiedTrigger, GetEmailsRequest, NewEmailTrigger,
};
use postern_sandbox::graph::Fault;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::stage::{ANN, Stage};

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
    assert_eq!(said.trigger_kinds, ["new_email", "event_created", "event_modified", "event_starting_soon"]);
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
    stage.sign_in_by(Some(SignIn::ClientCertificate(ClientCertificate::default())));
    let certificate =
        ["certificate", "private_key"].map(|field| format!("outlook_credentials.client_certificate.{field}"));
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), certificate);
    stage.sign_in_by(Some(SignIn::ClientSecret("pasted with its line end\n".into())));
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), ["outlook_credentials.client_secret"]);
    // Without credentials a user signs in.
    stage.sign_in_by(None);
    stage.settings().scopes = vec!["Mail.Send".into(), "not one".into()];
    assert_eq!(fields(&validate(&stage).await.unwrap_err()), ["outlook.scopes[1]"]);
    stage.settings().scopes.pop();
    validate(&stage).await.unwrap();
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

/// What makes a sign-in wrong.
type Spoil = fn(&mut Stage);

#[tokio::test]
async fn a_sign_in_that_is_refused_for_good_says_which_field_is_likely_wrong_and_asks_for_no_refresh() {
    let cases: [(Spoil, &str, &str, &str); 3] = [
        (
            |stage| stage.sign_in_by(Some(SignIn::ClientSecret("wrong".into()))),
            "invalid_client",
            "AADSTS7000215",
            "outlook_credentials.client_secret",
        ),
        (
            |stage| stage.settings().client_id = "00000000-0000-4000-8000-00000000000a".into(),
            "unauthorized_client",
            "AADSTS700016",
            "outlook.client_id",
        ),
        (
            |stage| stage.settings().tenant = "elsewhere.example".into(),
            "invalid_request",
            "AADSTS90002",
            "outlook.tenant",
        ),
    ];
    for (spoil, error, code, field) in cases {
        let mut stage = Stage::set_signed_out().await;
        spoil(&mut stage);
        let refused = stage.refresh().await.unwrap_err();
        assert_eq!(
            (refused.code(), reason_of(&refused).as_str()),
            (Code::FailedPrecondition, "CONFIGURATION_REFUSED")
        );
        let told = refused.get_details_error_info().unwrap().metadata;
        assert_eq!((told["identity.error"].as_str(), told["identity.code"].as_str()), (error, code));
        assert_eq!(told["field"], field);
        assert_eq!(told["identity.trace_id"], "00000000-0000-4000-8000-000000000001");
        assert_eq!(told["identity.correlation_id"], "00000000-0000-4000-8000-000000000002");
        assert!(refused.message().contains(field), "{}", refused.message());
        assert!(!refused.metadata().contains_key(REFRESH_METADATA));
        assert_eq!(stage.graph.sign_ins().len(), 1, "it is not tried again");
        for text in ["Invalid client secret", "was not found", "Tenant not found"] {
            assert!(!format!("{refused:?}").contains(text), "the platform's own text is not shown");
        }
    }
}

#[tokio::test]
async fn what_the_platform_says_is_classified_by_its_error_alone() {
    // The number is that of a wrong secret throughout: it must not matter.
    let says = |status, error: &str| {
        let body = format!(
            r#"{{"error":"{error}","error_description":"AADSTS7000215: x","error_codes":[7000215],"trace_id":"t"}}"#
        );
        Fault::answer(status, &body)
    };
    let cases = [
        (says(400, "invalid_grant"), "CREDENTIALS_REFUSED"),
        (says(400, "interaction_required"), "CREDENTIALS_REFUSED"),
        (says(400, "consent_required"), "CREDENTIALS_REFUSED"),
        (says(400, "login_required"), "CREDENTIALS_REFUSED"),
        (says(401, "invalid_client"), "CONFIGURATION_REFUSED"),
        (says(400, "unauthorized_client"), "CONFIGURATION_REFUSED"),
        (says(400, "invalid_scope"), "CONFIGURATION_REFUSED"),
        (says(400, "invalid_resource"), "CONFIGURATION_REFUSED"),
        (says(400, "unsupported_grant_type"), "CONFIGURATION_REFUSED"),
        (says(400, "unheard_of"), "CONFIGURATION_REFUSED"),
        (says(400, "temporarily_unavailable"), "PROVIDER_UNAVAILABLE"),
        (says(400, "server_error"), "PROVIDER_UNAVAILABLE"),
        (says(500, "server_error"), "PROVIDER_UNAVAILABLE"),
        (says(429, "invalid_grant"), "PROVIDER_UNAVAILABLE"),
        (says(503, "invalid_grant"), "PROVIDER_UNAVAILABLE"),
        (Fault::answer(400, "<html>a proxy</html>"), "PROVIDER_UNAVAILABLE"),
        (Fault::answer(302, ""), "PROVIDER_UNAVAILABLE"),
        (Fault::answer(200, "{}"), "PROVIDER_UNAVAILABLE"),
        (Fault::answer(204, ""), "PROVIDER_UNAVAILABLE"),
        (Fault::Cut, "PROVIDER_UNAVAILABLE"),
        (Fault::CutInAnswer(100), "PROVIDER_UNAVAILABLE"),
    ];
    let tests = cases.map(|(fault, reason)| async move {
        let mut stage = Stage::set_signed_out().await;
        stage.graph.faults().plan(None, "/oauth2/", 3, fault.clone());
        let failed = stage.refresh().await.unwrap_err();
        assert_eq!(reason_of(&failed), reason, "{fault:?}");
        let passing = reason == "PROVIDER_UNAVAILABLE";
        assert_eq!(failed.code() == Code::Unavailable, passing, "{fault:?}");
        assert_eq!(retry_after_of(&failed).is_some(), passing, "{fault:?}");
    });
    futures_util::future::join_all(tests).await;
}

#[tokio::test]
async fn a_sign_in_that_fails_for_now_is_tried_again_within_the_callers_time() {
    let mut stage = Stage::set_signed_out().await;
    stage.graph.faults().plan(None, "/oauth2/", 1, Fault::refuse(429, "x", Some("0.1")));
    stage.graph.faults().plan(None, "/oauth2/", 1, Fault::Cut);
    stage.refresh().await.unwrap();
    assert!(stage.graph.faults().all_shown());

    stage.graph.faults().plan(None, "/oauth2/", 1, Fault::refuse(429, "x", Some("97.5")));
    let mut request = stage.with_connection(RefreshCredentialsRequest {});
    request.set_timeout(Duration::from_secs(20));
    let failed = stage.connector.clone().refresh_credentials(request).await.unwrap_err();
    assert_eq!((failed.code(), reason_of(&failed).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
    assert_eq!(retry_after_of(&failed), Some(Duration::from_millis(97_500)));

    stage.graph.faults().plan(None, "/oauth2/", 9, Fault::Stall);
    let mut request = stage.with_connection(RefreshCredentialsRequest {});
    request.set_timeout(Duration::from_secs(1));
    let failed = stage.connector.clone().refresh_credentials(request).await.unwrap_err();
    assert_eq!((failed.code(), reason_of(&failed).as_str()), (Code::Unavailable, "PROVIDER_UNAVAILABLE"));
}

#[tokio::test]
async fn claims_that_graph_wants_are_asked_for_at_the_next_sign_in() {
    let mut stage = Stage::set().await;
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    stage.graph.tokens().challenge(claims);
    let refused = stage.get_emails(GetEmailsRequest::default()).await.unwrap_err();
    assert_eq!(reason_of(&refused), "CREDENTIALS_REFUSED");
    assert_eq!(refused.metadata().get(REFRESH_METADATA).unwrap(), "1");
    assert_eq!(stage.graph.recorder().exchanges().len(), 1, "the same token is not tried again");
    stage.refresh().await.unwrap();
    stage.get_emails(GetEmailsRequest::default()).await.unwrap();
    let asked: Vec<String> = stage.graph.sign_ins().into_iter().map(|sign_in| sign_in.claims).collect();
    assert_eq!(asked, ["", claims]);
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
    assert_eq!(of("INBOX", "").await.unwrap(), key);
    // The connection's own mailbox can be changed: who names one does not go along.
    let named = of("", ANN).await.unwrap();
    assert_ne!(named, key);
    assert_eq!(of("INBOX", &ANN.to_uppercase()).await.unwrap(), named);
    assert_ne!(of("Archive", "").await.unwrap(), key);
    assert_ne!(of("", super::stage::BO).await.unwrap(), key);
    let gone = of("Nowhere", "").await.unwrap_err();
    assert_eq!((gone.code(), reason_of(&gone).as_str()), (Code::NotFound, "FOLDER_NOT_FOUND"));
    assert_eq!(fields(&of("a//b", "").await.unwrap_err()), ["trigger.new_email.folder_path"]);
    assert_eq!(fields(&of("", "x").await.unwrap_err()), ["trigger.new_email.mailbox"]);
    let made = check_trigger(&stage, Some(trigger::Kind::EventCreated(EventCreatedTrigger::default())));
    let changed = check_trigger(&stage, Some(trigger::Kind::EventModified(EventModifiedTrigger::default())));
    let (made, changed) = (made.await.unwrap(), changed.await.unwrap());
    assert_eq!(made, changed, "new and changed entries of a calendar are found in one look");
    assert_ne!(made, key);
}
