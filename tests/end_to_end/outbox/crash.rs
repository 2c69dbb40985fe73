//! The gateway killed (SIGKILL) while it hands a mail over: never twice, and never in silence.

use std::path::Path;

use http::Method;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::Email;
use postern_proto::outbox::v1::QueuedEmailState;
use postern_sandbox::child::Gateway;
use postern_sandbox::graph::Fault;
use postern_sandbox::place::{BO, Place};
use postern_sandbox::smtp::{Action, Stage, Times};
use tonic::transport::Channel;

use super::{comes_to, listen, queue, through, told};
use crate::outside;
use crate::world::{OUTLOOK, SMTP, connect, create, mail, place, until};

async fn start(folder: &Path) -> (Gateway, Channel) {
    let program = outside::program("gateway");
    let gateway = Gateway::start(&program, &[], "127.0.0.1:0", folder, "error").await.unwrap();
    let channel = connect(gateway.address()).await;
    (gateway, channel)
}

async fn started() -> (Place, tempfile::TempDir, Gateway, Channel) {
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let (gateway, channel) = start(folder.path()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    (place, folder, gateway, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_in_the_middle_of_its_sending_is_told_to_be_of_unknown_outcome() {
    let (place, folder, gateway, channel) = started().await;
    place.smtp.control().at(Stage::Message, Action::Silence, Times::Once);
    let queued = queue(&channel, through(SMTP, mail("Cut"))).await.unwrap();
    until("the server has the message", || async { (place.smtp.accepted().len() == 1).then_some(()) }).await;
    gateway.kill().await.unwrap();

    let (gateway, channel) = start(folder.path()).await;
    let mut stream = listen(&channel).await;
    let (_, Kind::EmailFailed(failed)) = told(&mut stream).await else { panic!("another") };
    assert_eq!((failed.queued_email, failed.attempts), (queued.name.clone(), 1));
    assert_eq!(failed.failure.unwrap().reason, "OUTCOME_UNKNOWN");
    gateway.kill().await.unwrap();

    // Told once, and not sent again, whatever happens next.
    let (_gateway, channel) = start(folder.path()).await;
    let next = queue(&channel, through(SMTP, mail("Next"))).await.unwrap();
    comes_to(&channel, &next.name, QueuedEmailState::Delivered).await;
    let mut stream = listen(&channel).await;
    let types = [told(&mut stream).await.0, told(&mut stream).await.0];
    assert_eq!(types, ["email.failed", "email.delivered"]);
    assert_eq!(place.smtp.accepted().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_connector_can_tell_a_mail_goes_once_whether_it_had_gone_or_not() {
    for had_gone in [false, true] {
        let (place, folder, gateway, channel) = started().await;
        let cut = if had_gone { Fault::CutAfter } else { Fault::Stall };
        place.graph.faults().plan(Some(Method::POST), "/send", 1, cut);
        if had_gone {
            // The sent copy is asked for, and no answer comes before the gateway is killed.
            place.graph.faults().plan(Some(Method::GET), "/messages/", 1, Fault::Stall);
        }
        let email = Email { from: String::new(), to: vec![BO.into()], ..mail("Once") };
        let queued = queue(&channel, through(OUTLOOK, email)).await.unwrap();
        until("it is in the middle", || async { place.graph.faults().all_shown().then_some(()) }).await;
        gateway.kill().await.unwrap();
        assert_eq!(place.world.messages(BO, "inbox").len(), usize::from(had_gone));

        let (_gateway, channel) = start(folder.path()).await;
        let delivered = comes_to(&channel, &queued.name, QueuedEmailState::Delivered).await;
        assert_eq!(delivered.attempts, 1);
        assert_eq!(place.world.messages(BO, "inbox").len(), 1, "had gone: {had_gone}");
    }
}
