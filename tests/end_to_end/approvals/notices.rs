//! The answer posted to who wants it: signed, tried again, and to nobody who must not be reached.

use postern_proto::approval::v1::*;
use ring::hmac;
use serde_json::Value;

use super::browser::Browser;
use super::receiver::{Posted, Receiver};
use super::stage::{OPEN, QUICK, Stage};
use super::*;

pub(crate) const SECRET: &str = "a secret of twenty-six";

fn to(receiver: &Receiver, host: &str) -> Question {
    Question { notification_url: receiver.url(host), ..question(&[CARLA]) }
}

/// Checks a notice's signature as a receiver does, and gives what it says.
pub(crate) fn verified(posted: &Posted, secret: &str) -> Value {
    let header = |name: &str| posted.headers[name].to_str().unwrap();
    let (timestamp, signature) = (header("postern-timestamp"), header("postern-signature"));
    let sent: i64 = timestamp.parse().unwrap();
    let now = jiff::Timestamp::now().as_second();
    assert!((now - sent).abs() < 60, "{sent}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [timestamp.as_bytes(), b".", &posted.body].concat();
    let code = postern_chassis::digest::hex(hmac::sign(&key, &signed).as_ref());
    assert_eq!(signature, format!("v1={code}"));
    assert_eq!(header("content-type"), "application/json");
    serde_json::from_slice(&posted.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_posted_signed_and_tried_until_it_is_taken() {
    let receiver = Receiver::start(&[(500, ""), (404, ""), (307, "/moved"), (302, "/else")]).await;
    let flags = [&OPEN[..], &QUICK, &["--notification-secret", SECRET]].concat();
    let stage = Stage::with(&flags).await;
    let url = receiver.url("localhost");
    let request = approval(to(&receiver, "localhost"));
    let sent = client(&stage.channel).send_approval_email(request).await.unwrap().into_inner();
    assert_eq!(sent.notification_url, url);
    assert!(receiver.posted().is_empty());
    Browser::new().answer(&stage.links_to(CARLA).await[0]).await.says(200, &[]);
    // Refused twice, redirected once with its method, then without, which is no answer; then taken.
    let posted = receiver.wait(5).await;
    let paths: Vec<_> = posted.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["/hook", "/hook", "/hook", "/moved", "/hook"]);
    for one in &posted {
        let said = verified(one, SECRET);
        assert_eq!((&said["id"], &said["selected_option"]), (&sent.id.clone().into(), &"Approve".into()));
        assert_eq!((&said["responder"], &said["user_email_address"]), (&CARLA.into(), &CARLA.into()));
        let approval = &said["approval"];
        assert_eq!(approval["name"], sent.resource);
        assert_eq!(approval["state"], "APPROVAL_STATE_ANSWERED");
        assert_eq!(approval["selectedOption"], "Approve");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_what_must_not_be_asked_is_not_followed() {
    let other = Receiver::start(&[]).await;
    let foul = format!("http://user:word@127.0.0.1:{}/", other.address.port());
    let round = [(308, "/round"); 4];
    let script = [&[(307, foul.as_str()), (308, "ftp://127.0.0.1/")], &round[..]].concat();
    let receiver = Receiver::start(&script).await;
    let stage = Stage::with(&[&OPEN[..], &QUICK].concat()).await;
    ask(&stage.channel, to(&receiver, "127.0.0.1")).await;
    Browser::new().answer(&stage.links_to(CARLA).await[0]).await.says(200, &[]);
    // One try each; the third is sent round until it is too often, the fourth is taken.
    let paths: Vec<_> = receiver.wait(7).await.into_iter().map(|it| it.path).collect();
    assert_eq!(paths, ["/hook", "/hook", "/hook", "/round", "/round", "/round", "/hook"]);
    assert!(other.posted().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_must_not_be_reached_is_not_whatever_was_allowed_before() {
    for host in ["localhost", "127.0.0.1"] {
        let receiver = Receiver::start(&[]).await;
        let mut stage = Stage::with(&OPEN).await;
        let name = ask(&stage.channel, to(&receiver, host)).await.name;
        let link = stage.links_to(CARLA).await.remove(0);
        let shut = [&QUICK[..], &["--allow-http-notifications"]].concat();
        stage.restart(&shut).await;
        Browser::new().answer(&link).await.says(200, &[]);
        assert_eq!(get(&stage.channel, &name).await.unwrap().state(), ApprovalState::Answered);
        // It is tried, and refused here before anything is connected; what waits is kept over a restart.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        assert!(receiver.posted().is_empty(), "{host}");
        stage.restart(&[&OPEN[..], &QUICK].concat()).await;
        let posted = receiver.wait(1).await;
        // By the secret that the key ring makes, as its command prints it.
        let data = stage.folder.path().join("data");
        let keys = postern_gateway::seal::KeyRing::read(&data.join("keys")).unwrap();
        let settings = <postern_gateway::settings::Settings as clap::Parser>::parse_from(["gateway"]);
        let digests = keys.digest_key().unwrap();
        let secret = postern_gateway::approvals::notification_secret(&settings.approvals, &digests);
        let said = verified(&posted[0], secrecy::ExposeSecret::expose_secret(&secret));
        assert_eq!(said["approval"]["name"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_nobody_takes_is_given_up() {
    let script = [(503, ""); 64];
    let receiver = Receiver::start(&script).await;
    let flags = [&OPEN[..], &QUICK, &["--notification-give-up", "400ms"]].concat();
    let mut stage = Stage::with(&flags).await;
    ask(&stage.channel, to(&receiver, "127.0.0.1")).await;
    Browser::new().answer(&stage.links_to(CARLA).await[0]).await.says(200, &[]);
    receiver.wait(2).await;
    let tried = crate::world::standing_still("tries end", 2, || receiver.posted().len()).await;
    assert!((2..=6).contains(&tried), "{tried}");
    // Not even by the next start.
    stage.restart(&flags).await;
    assert_eq!(crate::world::standing_still("no more come", tried, || receiver.posted().len()).await, tried);
}
