//! A gateway that is killed between an answer and its notice: the notice is posted all the same, with the same content.

use postern_sandbox::child::Gateway;

use super::browser::Browser;
use super::notices::{SECRET, verified};
use super::receiver::{Mood, Receiver};
use super::stage::{OPEN, QUICK};
use super::waiting::{next, wait};
use super::*;
use crate::outside;
use crate::ports::Port;
use crate::world::{connect, create, place, until};

/// Starts a gateway as a process on a folder, reached from outside at a port.
async fn start(folder: &std::path::Path, port: u16) -> (Gateway, Channel) {
    let (listen, url) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}/postern"));
    let own = ["--http-listen", &listen, "--public-url", &url, "--notification-secret", SECRET];
    let flags = [&own[..], &OPEN, &QUICK].concat();
    let gateway = Gateway::start(&outside::program("gateway"), &flags, "127.0.0.1:0", folder, "error").await;
    let gateway = gateway.unwrap();
    let channel = connect(gateway.address()).await;
    (gateway, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_gateway_is_killed_before_it_is_posted_is_posted_after_the_next_start() {
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let kept = Port::keep();
    let port = kept.address.port();
    let receiver = Receiver::start(&[]).await;
    receiver.turns(Mood::Silent);
    let (gateway, channel) = start(folder.path(), port).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    let asked = Question { notification_url: receiver.url("127.0.0.1"), ..question(&[CARLA]) };
    let name = ask(&channel, asked).await.name;
    let mail = until("the mail came", || async { place.smtp.accepted().pop() }).await;
    let link = links(&read(&mail.message).0).remove(0);
    let mut waiting = wait(&channel, &name).await;
    assert_eq!(next(&mut waiting).await.unwrap().unwrap().state(), ApprovalState::Pending);

    Browser::new().answer(&link).await.says(200, &["Thank you"]);
    // It is under way, and nobody has said that it arrived.
    let first = receiver.wait(1).await.remove(0);
    assert_eq!(next(&mut waiting).await.unwrap().unwrap().state(), ApprovalState::Answered);
    gateway.kill().await.unwrap();
    receiver.is_at_rest().await;
    receiver.turns(Mood::Busy);
    let (gateway, channel) = start(folder.path(), port).await;
    let second = receiver.wait(1).await.remove(0);
    // Once more, while it is tried again.
    gateway.kill().await.unwrap();
    receiver.is_at_rest().await;
    receiver.turns(Mood::Taking);
    drop(channel);
    let (_gateway, channel) = start(folder.path(), port).await;
    let third = receiver.wait(1).await.remove(0);
    for posted in [&first, &second, &third] {
        assert_eq!(posted.body, first.body, "it is the same answer, to the letter");
        let said = verified(posted, SECRET);
        assert_eq!(
            (&said["approval"]["name"], &said["selected_option"]),
            (&name.clone().into(), &"Approve".into())
        );
    }
    assert_eq!(crate::world::standing_still("it was taken", 1, || receiver.posted().len()).await, 1);
    // Who waited calls again and is told.
    let mut waiting = wait(&channel, &name).await;
    let told = next(&mut waiting).await.unwrap().unwrap();
    assert_eq!((told.state(), told.selected_option.as_str()), (ApprovalState::Answered, "Approve"));
    assert!(next(&mut waiting).await.unwrap().is_none());
}
