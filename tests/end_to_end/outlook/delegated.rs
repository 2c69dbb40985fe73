//! Acting for a user, by a refresh token that the user gave elsewhere.

use postern_chassis::fault::{REFRESH_METADATA, reason_of};
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{DelegatedToken, GetEmailsRequest};
use postern_sandbox::graph::GraphSettings;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::stage::{ANN, BO, Stage};

fn by(refresh_token: &str, client_secret: &str) -> Option<SignIn> {
    let (refresh_token, client_secret) = (refresh_token.to_owned(), client_secret.to_owned());
    Some(SignIn::DelegatedToken(DelegatedToken { refresh_token, client_secret }))
}

/// A stage on which Ann acts, signed out, and the refresh token that she gave.
async fn stage() -> (Stage, String) {
    let mut stage = Stage::set_signed_out().await;
    let token = stage.graph.refresh_tokens().give(ANN);
    stage.sign_in_by(by(&token, ""));
    stage.settings().mailbox = "me".into();
    (stage, token)
}

#[tokio::test]
async fn a_user_is_acted_for_and_each_sign_in_uses_the_newest_refresh_token() {
    let (mut stage, first) = stage().await;
    assert!(stage.wrong_fields().await.is_empty());
    stage.deliver("to me");
    for _ in 0..3 {
        stage.refresh().await.unwrap();
        assert_eq!(stage.subjects(GetEmailsRequest::default()).await, ["to me"]);
    }
    let used = stage.graph.refresh_tokens().used();
    assert_eq!(used[0], first);
    assert!(
        used[1] != used[0] && used[2] != used[1] && used[2] != used[0],
        "each is newer than the one before"
    );
    for sign_in in stage.graph.sign_ins() {
        assert_eq!((sign_in.grant_type.as_str(), sign_in.proof), ("refresh_token", "none"));
        assert_eq!(sign_in.scope, format!("offline_access {}/.default", stage.graph.url()));
    }
    let asked = stage.graph.recorder().exchanges();
    assert!(
        asked.iter().all(|exchange| exchange.url.starts_with("/v1.0/me/")),
        "the mailbox is the user's own"
    );
}

#[tokio::test]
async fn credentials_that_were_replaced_begin_anew_whatever_the_grant_keeps() {
    let (mut stage, _) = stage().await;
    stage.refresh().await.unwrap();
    let second = stage.graph.refresh_tokens().give(BO);
    stage.sign_in_by(by(&second, &GraphSettings::default().client_secret));
    stage.refresh().await.unwrap();
    assert_eq!(stage.graph.refresh_tokens().used().last(), Some(&second));
    assert_eq!(stage.graph.sign_ins().last().unwrap().proof, "secret");
}

#[tokio::test]
async fn an_answer_without_a_newer_refresh_token_leaves_the_one_before_in_force() {
    let (mut stage, first) = stage().await;
    let answer = r#"{"token_type":"Bearer","expires_in":"3599","access_token":"spent"}"#;
    stage.graph.faults().plan(None, "/oauth2/", 1, postern_sandbox::graph::Fault::answer(200, answer));
    stage.refresh().await.unwrap();
    stage.refresh().await.unwrap();
    assert_eq!(stage.graph.refresh_tokens().used(), [first]);
}

#[tokio::test]
async fn a_user_whose_token_is_worth_nothing_any_more_must_sign_in_anew() {
    for (spoil, error, code) in [
        ("revoke", "invalid_grant", "AADSTS50173"),
        ("expire", "invalid_grant", "AADSTS700082"),
        ("want", "interaction_required", "AADSTS50076"),
    ] {
        let (mut stage, _) = stage().await;
        stage.refresh().await.unwrap();
        match spoil {
            "revoke" => stage.graph.refresh_tokens().revoke(ANN),
            "expire" => stage.graph.refresh_tokens().expire(ANN),
            _ => stage.graph.refresh_tokens().want_interaction(ANN),
        }
        let refused = stage.refresh().await.unwrap_err();
        assert_eq!(
            (refused.code(), reason_of(&refused).as_str()),
            (Code::FailedPrecondition, "CREDENTIALS_REFUSED")
        );
        assert!(refused.message().contains("sign in anew"), "{}", refused.message());
        assert!(!refused.metadata().contains_key(REFRESH_METADATA));
        let told = refused.get_details_error_info().unwrap().metadata;
        assert_eq!((told["identity.error"].as_str(), told["identity.code"].as_str()), (error, code));
    }
}

#[tokio::test]
async fn a_user_reaches_what_the_user_may_and_the_field_that_is_empty_is_named() {
    let (mut stage, token) = stage().await;
    stage.refresh().await.unwrap();
    let refused =
        stage.get_emails(GetEmailsRequest { mailbox: BO.into(), ..Default::default() }).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_str()),
        (Code::FailedPrecondition, "PROVIDER_REFUSED")
    );
    stage.get_emails(GetEmailsRequest { mailbox: ANN.into(), ..Default::default() }).await.unwrap();
    stage.sign_in_by(by("", ""));
    assert_eq!(stage.wrong_fields().await, ["outlook_credentials.delegated_token.refresh_token"]);
    stage.sign_in_by(by(&token, "wrong"));
    let refused = stage.refresh().await.unwrap_err();
    let told = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(told["field"], "outlook_credentials.delegated_token.client_secret");
}

#[tokio::test]
async fn a_user_may_live_in_any_tenant_where_the_application_is_for_many() {
    let (mut stage, _) = stage().await;
    stage.settings().tenant = "organizations".into();
    assert!(stage.wrong_fields().await.is_empty());
    stage.refresh().await.unwrap();
}

#[tokio::test]
async fn an_application_by_itself_has_no_mailbox_called_me() {
    let stage = Stage::set().await;
    let asked = GetEmailsRequest { mailbox: "me".into(), ..Default::default() };
    let refused = stage.get_emails(asked).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    assert!(refused.message().starts_with("mailbox: "), "{}", refused.message());
}
