//! The connector against real mail servers of three makes, each started for its test. What they take, they hand on to
//! the sandbox's server; what arrives there is compared with what was sent by Python's `email` package and dkimpy.

mod judged;
mod keys;
mod mails;
mod many;
mod refusals;
mod reports;
mod started;

use postern_proto::connector::v1::CheckConnectionRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{
    AuthMechanism, DkimSettings, RawEmail, SendEmailRequest, SendEmailResponse, TlsMode,
};
use tonic::Code;

use self::judged::Cases;
use self::keys::Key;
use self::started::{Make, Peer};
use super::world::{World, mail, refused};
use crate::outside;

/// A peer of this make, and a connection to it whose server hands on to the sandbox's. `None` where peers are not
/// wanted.
async fn world_of(make: Make) -> Option<(World, Peer)> {
    let programs = outside::peers()?;
    let mut world = World::plain().await;
    let peer = Peer::start(make, programs, world.server.address().port()).await;
    peer.connect(&mut world, TlsMode::Starttls);
    if make == Make::Exim {
        // It announces no 8-bit content to the next server.
        world.control().take_unannounced();
    }
    Some((world, peer))
}

/// Sends every kind of mail, and has what arrived judged.
async fn every_kind_of_mail_arrives_whole(make: Make) {
    let Some((world, peer)) = world_of(make).await else { return };
    let mut cases = Cases::new();
    let mut failures = Vec::new();
    for (name, email) in mails::all() {
        let content = Content::Email(email.clone());
        match world.send_request(SendEmailRequest { content: Some(content), ..Default::default() }).await {
            Ok(sent) => cases.sent(name, &email, &sent.message_id, &addresses(&sent)),
            Err(status) => failures.push(format!("{name}: {status:?}")),
        }
    }
    if peer.make().takes_utf8_addresses() {
        let (name, email) = mails::beyond_ascii();
        let sent = world.send(email.clone()).await.unwrap();
        cases.sent_utf8(name, &email, &sent.message_id, &addresses(&sent));
    }
    for (name, given) in mails::raw() {
        let raw = RawEmail { mime: given.clone().into(), ..Default::default() };
        let request = SendEmailRequest { content: Some(Content::Raw(raw)), ..Default::default() };
        match world.send_request(request).await {
            Ok(sent) => cases.sent_raw(name, &given, &sent.message_id, &addresses(&sent)),
            Err(status) => failures.push(format!("{name}: {status:?}")),
        }
    }
    failures.extend(cases.judge(&world.server, peer.python()).await);
    assert!(failures.is_empty(), "{}:\n{}\n{}", make.name(), failures.join("\n"), peer.log());
}

/// The recipients that the server took the mail for.
fn addresses(sent: &SendEmailResponse) -> Vec<String> {
    sent.recipients.iter().map(|recipient| recipient.address.clone()).collect()
}

/// AUTH by both mechanisms, under TLS of both kinds, and a check of the connection.
async fn it_is_spoken_to_in_every_way(make: Make) {
    let Some((mut world, peer)) = world_of(make).await else { return };
    for tls in [TlsMode::Starttls, TlsMode::Opportunistic, TlsMode::Implicit] {
        for mechanism in [AuthMechanism::Plain, AuthMechanism::Login] {
            peer.connect(&mut world, tls);
            world.stored.auth_mechanism = mechanism.into();
            let checked = world.connector().check_connection(world.request(CheckConnectionRequest {})).await;
            let details = checked.unwrap().into_inner().details;
            assert!(details.iter().any(|line| line.starts_with("SIZE")), "{details:?}");
            world.send(mail(&["bo@example.org"])).await.unwrap();
        }
    }
    world.server.delivered(6).await.unwrap();
    for tls in [TlsMode::Starttls, TlsMode::Implicit] {
        peer.connect(&mut world, tls);
        world.password = "wrong".to_owned();
        let sent = world.send(mail(&["bo@example.org"])).await;
        let said = refused(sent, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
        assert_eq!(said.metadata["smtp.code"], "535");
    }
    let other = Peer::authority();
    peer.connect(&mut world, TlsMode::Starttls);
    world.stored.ca_certificates = other.certificate().to_owned();
    refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "CERTIFICATE_REFUSED");
}

/// Signs mail with a key of each kind, and has the signatures of what arrived verified.
async fn signatures_hold_where_it_arrives(make: Make) {
    let Some((mut world, peer)) = world_of(make).await else { return };
    let mut cases = Cases::new();
    for key in [Key::rsa(), Key::ed25519()] {
        world.stored.dkim =
            Some(DkimSettings { domain: keys::DOMAIN.to_owned(), selector: key.selector().to_owned() });
        world.dkim_private_key = key.private_pem();
        for (name, email) in mails::all() {
            let sent = world.send(email.clone()).await.unwrap_or_else(|status| panic!("{name}: {status:?}"));
            cases.sent(name, &email, &sent.message_id, &addresses(&sent));
            cases.signed_by(&key);
        }
    }
    let failures = cases.judge(&world.server, peer.python()).await;
    assert!(failures.is_empty(), "{}:\n{}\n{}", make.name(), failures.join("\n"), peer.log());
}

#[tokio::test]
async fn every_kind_of_mail_arrives_whole_through_postfix() {
    every_kind_of_mail_arrives_whole(Make::Postfix).await;
}

#[tokio::test]
async fn every_kind_of_mail_arrives_whole_through_exim() {
    every_kind_of_mail_arrives_whole(Make::Exim).await;
}

#[tokio::test]
async fn every_kind_of_mail_arrives_whole_through_aiosmtpd() {
    every_kind_of_mail_arrives_whole(Make::Aiosmtpd).await;
}

#[tokio::test]
async fn postfix_is_spoken_to_in_every_way() {
    it_is_spoken_to_in_every_way(Make::Postfix).await;
}

#[tokio::test]
async fn exim_is_spoken_to_in_every_way() {
    it_is_spoken_to_in_every_way(Make::Exim).await;
}

#[tokio::test]
async fn aiosmtpd_is_spoken_to_in_every_way() {
    it_is_spoken_to_in_every_way(Make::Aiosmtpd).await;
}

#[tokio::test]
async fn signatures_hold_behind_postfix() {
    signatures_hold_where_it_arrives(Make::Postfix).await;
}

#[tokio::test]
async fn signatures_hold_behind_exim() {
    signatures_hold_where_it_arrives(Make::Exim).await;
}

#[tokio::test]
async fn signatures_hold_behind_aiosmtpd() {
    signatures_hold_where_it_arrives(Make::Aiosmtpd).await;
}
