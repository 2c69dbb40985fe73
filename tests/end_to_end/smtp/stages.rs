//! Each stage of the conversation, and each way in which it can fail: what is told of it.

use postern_sandbox::smtp::{Action, Authority, SmtpSettings, Stage, Times, Tls};
use tonic::Code;

use super::world::{PASSWORD, USER, World, mail, refused};

/// The stages before the message, as callers see them.
const STAGES: [(Stage, &str); 7] = [
    (Stage::Greeting, "greeting"),
    (Stage::Ehlo, "ehlo"),
    (Stage::StartTls, "starttls"),
    (Stage::Auth, "auth"),
    (Stage::Mail, "mail"),
    (Stage::Rcpt, "rcpt"),
    (Stage::Data, "data"),
];

#[tokio::test]
async fn a_break_at_any_stage_leaves_the_mail_unsent_and_worth_a_repeat() {
    for (stage, name) in STAGES {
        for action in [Action::Close, Action::Reset] {
            let world = World::start().await;
            world.control().hide("PIPELINING");
            world.control().at(stage, action.clone(), Times::Once);
            let sent = world.send(mail(&["bo@example.org"])).await;
            let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
            assert_eq!((said.stage(), said.retry), (name, true), "{action:?}");
            assert!(world.server.accepted().is_empty());
            // The repeat works.
            world.send(mail(&["bo@example.org"])).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_refusal_for_now_at_any_stage_is_unavailable_with_the_servers_words() {
    for (stage, name) in STAGES {
        let world = World::start().await;
        world.control().at(stage, Action::Reply("451 4.3.0 come back later".into()), Times::Once);
        let sent = world.send(mail(&["bo@example.org"])).await;
        let said = refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!((said.stage(), said.retry), (name, true));
        assert_eq!(said.metadata["smtp.code"], "451");
        assert_eq!(said.metadata["smtp.enhanced_code"], "4.3.0");
        assert_eq!(said.metadata["smtp.text"], "come back later");
        assert!(world.server.accepted().is_empty());
        world.send(mail(&["bo@example.org"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_for_good_at_any_stage_is_told_as_such_with_the_servers_words() {
    for (stage, name) in STAGES {
        let world = World::start().await;
        world.control().at(stage, Action::Reply("554 5.7.1 not for you".into()), Times::Once);
        let sent = world.send(mail(&["bo@example.org"])).await;
        let reason = match stage {
            Stage::StartTls => "TLS_REQUIRED",
            Stage::Auth => "CREDENTIALS_REFUSED",
            _ => "MESSAGE_REFUSED",
        };
        let said = refused(sent, Code::FailedPrecondition, reason);
        assert_eq!((said.stage(), said.retry), (name, false));
        assert_eq!(said.metadata["smtp.code"], "554");
        assert_eq!(said.metadata["smtp.enhanced_code"], "5.7.1");
        assert_eq!(said.metadata["smtp.text"], "not for you");
        assert!(world.server.accepted().is_empty());
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_whatever_the_mode() {
    for tls in [Tls::StartTls, Tls::Implicit] {
        let authority = Some(Authority::new().unwrap().issuing_expired());
        let users = vec![(USER.to_owned(), PASSWORD.to_owned())];
        let world = World::with(SmtpSettings { tls, authority, users, ..Default::default() }).await;
        let sent = world.send(mail(&["bo@example.org"])).await;
        let status = sent.as_ref().unwrap_err().message().to_owned();
        refused(sent, Code::FailedPrecondition, "CERTIFICATE_REFUSED");
        assert!(status.to_lowercase().contains("expired"), "{status}");
        assert!(!world.control().commands().iter().any(|line| line.starts_with("AUTH")));
    }
}
