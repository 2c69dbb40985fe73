//! A user's sign-in kept up by the gateway, from the refresh token that the user gave to the day it is revoked.

use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::{ConnectionState, GetConnectionRequest};
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{DelegatedToken, GetEmailsRequest, GetEmailsResponse, OutlookCredentials};
use postern_sandbox::place::ANNA;
use tonic::{Code, Status};

use crate::world::{OUTLOOK, World, create};

async fn get_emails(world: &World) -> Result<GetEmailsResponse, Status> {
    let asked = GetEmailsRequest { connection: OUTLOOK.into(), ..GetEmailsRequest::default() };
    Ok(MailServiceClient::new(world.channel.clone()).get_emails(asked).await?.into_inner())
}

async fn state(world: &World) -> ConnectionState {
    let asked = GetConnectionRequest { name: OUTLOOK.into() };
    world.connections().get_connection(asked).await.unwrap().into_inner().connection.unwrap().state()
}

#[tokio::test]
async fn a_user_who_gave_a_refresh_token_once_is_acted_for_until_it_is_revoked() {
    let mut world = World::start().await;
    let first = world.place.graph.refresh_tokens().give(ANNA);
    let (Settings::Outlook(mut settings), _) = world.place.outlook_connection() else {
        panic!("the settings are an Outlook connection's")
    };
    settings.mailbox = "me".into();
    let token = DelegatedToken { refresh_token: first.clone(), ..DelegatedToken::default() };
    let credentials = OutlookCredentials { sign_in: Some(SignIn::DelegatedToken(token)) };
    let made = (Settings::Outlook(settings), Credentials::OutlookCredentials(credentials));
    create(&world.channel, OUTLOOK, made).await.unwrap();
    get_emails(&world).await.unwrap();

    // Each refresh uses what the one before gave, over a restart of the gateway too.
    world.place.graph.tokens().expire_all();
    get_emails(&world).await.unwrap();
    world.restart().await;
    world.place.graph.tokens().expire_all();
    get_emails(&world).await.unwrap();
    let mut used = world.place.graph.refresh_tokens().used();
    assert_eq!((used.len(), &used[0]), (3, &first));
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 3, "no refresh token is used twice");

    // What Graph wants of the next token is asked for within the same call.
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    world.place.graph.tokens().challenge(claims);
    get_emails(&world).await.unwrap();
    assert_eq!(world.place.graph.sign_ins().last().unwrap().claims, claims);
    assert_eq!(state(&world).await, ConnectionState::Ready);

    world.place.graph.refresh_tokens().revoke(ANNA);
    world.place.graph.tokens().expire_all();
    let asked = world.place.graph.sign_ins().len();
    for _ in 0..2 {
        let refused = get_emails(&world).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason_of(&refused).as_str()),
            (Code::FailedPrecondition, "CREDENTIALS_REFUSED")
        );
    }
    assert_eq!(state(&world).await, ConnectionState::NeedsSignIn);
    assert_eq!(world.place.graph.sign_ins().len(), asked + 1, "the platform is left alone from then on");
}
