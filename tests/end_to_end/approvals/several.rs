//! Approvals at two gateways on one NATS: whichever is answered at, whoever waits at the other is told, one of them posts,
//! and the other takes over from one that dies.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::time::Duration;

use postern_gateway::seal::KeyRing;

use super::browser::Browser;
use super::notices::{SECRET, verified};
use super::receiver::{Mood, Posted, Receiver};
use super::stage::OPEN;
use super::waiting::{next, wait};
use super::*;
use crate::several::stage::{Gateway, launch};
use crate::several::way::Way;
use crate::store::NatsEngine;
use crate::store::conformance::Engine;
use crate::world::{create, place, standing_still, until};

/// How often each answer was posted, by the approval's name.
fn counted(posted: &[Posted]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in posted {
        let name = verified(one, SECRET)["approval"]["name"].as_str().unwrap().to_owned();
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Links of the mail about a subject.
async fn links_about(place: &postern_sandbox::place::Place, subject: &str) -> Vec<String> {
    let mail = until("the mail came", || async {
        let accepted = place.smtp.accepted();
        let about = format!("Subject: {subject}\r\n");
        accepted.into_iter().find(|mail| String::from_utf8_lossy(&mail.message).contains(&about))
    });
    links(&read(&mail.await.message).0)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_posts_an_answer_and_whoever_waits_at_either_is_told() {
    let Some(engine) = NatsEngine::start().await else { return };
    let (folder, place) = (tempfile::tempdir().unwrap(), place().await);
    let keys = folder.path().join("keys");
    KeyRing::read_or_make(&keys).unwrap();
    let doors = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [0, 1].map(|own: usize| doors[own].local_addr().unwrap().to_string());
    // Links lead to the first; that they may be opened at the other is what stands before both of them would do.
    let url = format!("http://{}/postern", addresses[0]);
    let mut gateways: Vec<Gateway> = Vec::new();
    for door in &doors {
        let opened = engine.open().await;
        let own = ["--public-url", &url, "--notification-secret", SECRET, "--notification-back-off", "200ms"];
        let mut arguments: Vec<OsString> =
            [&own[..], &OPEN].concat().into_iter().map(OsString::from).collect();
        arguments.extend(["--key-file".into(), keys.clone().into()]);
        let way = Way::new(opened.store, opened.log);
        gateways.push(launch(way, arguments, Some(door.try_clone().unwrap())).await);
    }
    create(&gateways[0].channel, SMTP, place.smtp_connection()).await.unwrap();
    let receiver = Receiver::start(&[]).await;
    let asked = |number: usize| Question {
        subject: format!("Question {number:02}"),
        notification_url: receiver.url("127.0.0.1"),
        ..question(&[CARLA])
    };

    // Asked at the one, waited for at both, answered at the other.
    let mut names = Vec::new();
    for number in 0..8 {
        let (here, there) = (number % 2, 1 - number % 2);
        let name = ask(&gateways[here].channel, asked(number)).await.name;
        let mut waiting = Vec::new();
        for gateway in &gateways {
            // What the one has stored the other hears of at once, and not before.
            until("it is known there", || async { get(&gateway.channel, &name).await.ok() }).await;
            let mut stream = wait(&gateway.channel, &name).await;
            assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), ApprovalState::Pending);
            waiting.push(stream);
        }
        let link = links_about(&place, &format!("Question {number:02}")).await.remove(number % 2);
        let link = link.replace(&addresses[0], &addresses[there]);
        Browser::new().answer(&link).await.says(200, &["Thank you"]);
        let option = ["Approve", "Reject"][number % 2];
        for stream in &mut waiting {
            let told = next(stream).await.unwrap().unwrap();
            assert_eq!((told.state(), told.selected_option.as_str()), (ApprovalState::Answered, option));
            assert!(next(stream).await.unwrap().is_none());
        }
        // Answered once, wherever it is tried again.
        let again = link.replace(&addresses[there], &addresses[here]);
        Browser::new().open(&again).await.says(200, &["Already answered"]);
        names.push(name);
    }
    standing_still("each answer is posted", 8, || receiver.posted().len()).await;
    let once: BTreeMap<_, _> = names.drain(..).map(|name| (name, 1)).collect();
    assert_eq!(counted(&receiver.posted()), once, "by one gateway");

    // What the one that dies was to post the other posts, once.
    receiver.turns(Mood::Busy);
    for number in 8..12 {
        names.push(ask(&gateways[0].channel, asked(number)).await.name);
        let link = links_about(&place, &format!("Question {number:02}")).await.remove(0);
        Browser::new().answer(&link).await.says(200, &["Thank you"]);
    }
    let tried = || async {
        let tried = counted(&receiver.posted());
        names.iter().all(|name| tried.contains_key(name)).then_some(())
    };
    until("each was tried", tried).await;
    gateways.remove(0).kill();
    receiver.is_at_rest().await;
    receiver.turns(Mood::Taking);
    tokio::time::timeout(Duration::from_secs(60), async {
        while receiver.posted().len() < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the other posts what is left");
    standing_still("each answer is posted", 4, || receiver.posted().len()).await;
    let once: BTreeMap<_, _> = names.into_iter().map(|name| (name, 1)).collect();
    assert_eq!(counted(&receiver.posted()), once);
}
