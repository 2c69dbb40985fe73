//! What real servers refuse, and how it is told.

use postern_proto::mail::v1::{Email, RecipientState};
use postern_proto::smtp::v1::TlsMode;
use tonic::Code;

use super::super::world::{mail, refused};
use super::started::Make;
use super::world_of;

async fn what_is_refused_is_told_for_each(make: Make) {
    let Some((mut world, peer)) = world_of(make).await else { return };
    let email = Email {
        bcc: vec!["cy@example.org".to_owned()],
        ..mail(&["bo@example.org", "nobody@example.org", "later@example.org"])
    };
    let sent = world.send(email).await.unwrap();
    let states: Vec<_> = sent
        .recipients
        .iter()
        .map(|one| {
            let reply = one.reply.clone().unwrap();
            (one.address.as_str(), one.state(), reply.code, reply.enhanced_code)
        })
        .collect();
    use RecipientState::{Accepted, RefusedPermanent, RefusedTransient};
    assert_eq!(
        states.iter().map(|(address, state, code, _)| (*address, *state, *code)).collect::<Vec<_>>(),
        [
            ("bo@example.org", Accepted, 250),
            ("nobody@example.org", RefusedPermanent, 550),
            ("later@example.org", RefusedTransient, 450),
            ("cy@example.org", Accepted, 250),
        ]
    );
    assert_eq!((states[1].3.as_str(), states[2].3.as_str()), ("5.1.1", "4.7.1"));
    assert_eq!(sent.reply.unwrap().code, 250);
    let arrived = world.server.delivered(1).await.unwrap();
    assert_eq!(arrived[0].to, ["bo@example.org", "cy@example.org"]);

    let sent = world.send(mail(&["nobody@example.org", "Nobody <nobody@example.org>"])).await;
    let said = refused(sent, Code::FailedPrecondition, "MESSAGE_REFUSED");
    assert_eq!((said.stage(), said.metadata["smtp.code"].as_str(), said.retry), ("rcpt", "550", false));
    let recipients = said.recipients.unwrap().recipients;
    assert_eq!(recipients.len(), 1, "an address named twice is there once");
    let sent = world.send(mail(&["later@example.org", "nobody@example.org"])).await;
    assert!(refused(sent, Code::Unavailable, "PROVIDER_UNAVAILABLE").retry);

    let sent = world.send(mail(&["bö@example.org"])).await;
    if make.takes_utf8_addresses() {
        sent.unwrap();
    } else {
        let status = sent.as_ref().unwrap_err().message().to_owned();
        assert!(status.contains("SMTPUTF8"), "{status}");
        refused(sent, Code::FailedPrecondition, "MESSAGE_REFUSED");
    }

    // The socket that was refused on is as good as before, and so is the next.
    world.send(mail(&["bo@example.org"])).await.unwrap();
    peer.connect(&mut world, TlsMode::Implicit);
    let large = Email { body: "0123456789\r\n".repeat(100_000), ..mail(&["bo@example.org"]) };
    let sent = world.send(large).await;
    let said = refused(sent, Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    assert!(!said.retry);
    world.send(mail(&["bo@example.org"])).await.unwrap();
}

#[tokio::test]
async fn what_postfix_refuses_is_told_for_each() {
    what_is_refused_is_told_for_each(Make::Postfix).await;
}

#[tokio::test]
async fn what_exim_refuses_is_told_for_each() {
    what_is_refused_is_told_for_each(Make::Exim).await;
}

#[tokio::test]
async fn what_aiosmtpd_refuses_is_told_for_each() {
    what_is_refused_is_told_for_each(Make::Aiosmtpd).await;
}
