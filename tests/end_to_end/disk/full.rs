//! A disk without a free byte, under a gateway at work.

use std::time::Duration;

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{GetTriggerRequest, ListEventsRequest};
use postern_proto::outbox::v1::QueueEmailRequest;
use postern_proto::outbox::v1::outbox_service_client::OutboxServiceClient;
use postern_sandbox::child::Gateway;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Disk;
use crate::kills::{Doors, Listening, Load};
use crate::outside;
use crate::world::{
    OUTLOOK, PATIENCE, SMTP, TRIGGER, connect, create, events, mail, new_mail, place, send, subject,
    subscribe,
};

/// Room for a small store and its write-ahead log.
const MEBIBYTES: usize = 48;
/// How often the disk is filled under load.
const FILLINGS: usize = 6;

async fn start(disk: &Disk, flags: &[String]) -> Gateway {
    let program = outside::program("gateway");
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    Gateway::start(&program, &flags, "127.0.0.1:0", disk.folder(), "error").await.unwrap()
}

fn queue(request_id: &str) -> QueueEmailRequest {
    QueueEmailRequest {
        connection: SMTP.into(),
        request_id: request_id.into(),
        email: Some(mail(request_id)),
        ..QueueEmailRequest::default()
    }
}

#[track_caller]
fn assert_full(status: &Status) {
    assert_eq!((status.code(), reason_of(status).as_str()), (Code::Unavailable, "STORAGE_UNAVAILABLE"));
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_changes_clearly_shows_nothing_unstored_and_freed_it_goes_on_by_itself() {
    let Some(disk) = Disk::new(MEBIBYTES) else { return };
    let (place, gateway) = (place().await, start(&disk, &[]).await);
    let channel = connect(gateway.address()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    TriggerServiceClient::new(channel.clone()).create_trigger(new_mail()).await.unwrap();
    let mut stream = subscribe(&channel, Some(Position::Earliest(()))).await;
    send(&channel, "before", mail("before")).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "before");

    disk.fill();
    // A change is refused before anything of it is done; what is stored is still read.
    assert_full(&send(&channel, "sent", mail("sent")).await.unwrap_err());
    let mut outbox = OutboxServiceClient::new(channel.clone());
    assert_full(&outbox.queue_email(queue("queued")).await.unwrap_err());
    assert_full(&create(&channel, "connections/more", place.smtp_connection()).await.unwrap_err());
    assert_eq!(place.smtp.accepted().len(), 1);
    let mut reader = EventServiceClient::new(channel.clone());
    let listed = reader.list_events(ListEventsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.events.len(), 1);
    // A mail that comes meanwhile is looked at again and again, and shown to nobody.
    let raw = b"From: bo@example.org\r\nTo: anna@example.org\r\nSubject: meanwhile\r\n\r\nHello\r\n";
    place.world.deliver("bo@example.org", &["anna@example.org".to_owned()], raw);
    let mut triggers = TriggerServiceClient::new(channel.clone());
    let request = GetTriggerRequest { name: TRIGGER.to_owned() };
    let looks_that_failed = async {
        loop {
            let got = triggers.get_trigger(request.clone()).await.unwrap().into_inner();
            if got.trigger.unwrap().status.unwrap().consecutive_failures >= 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        shown = stream.message() => panic!("shown and not stored: {shown:?}"),
        failed = tokio::time::timeout(PATIENCE, looks_that_failed) => failed.expect("looks fail"),
    }

    disk.free();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "meanwhile");
    send(&channel, "sent", mail("sent")).await.unwrap();
    let queued = outbox.queue_email(queue("queued")).await.unwrap().into_inner().queued_email.unwrap();
    let all = place.smtp.delivered(3).await.unwrap();
    assert_eq!(all.len(), 3, "each once");

    // Killed while it is full, it starts all the same: what is stored is read, and changes are refused until there is room.
    disk.fill();
    gateway.kill().await.unwrap();
    let gateway = start(&disk, &[]).await;
    let channel = connect(gateway.address()).await;
    let mut reader = EventServiceClient::new(channel.clone());
    let listed = reader.list_events(ListEventsRequest::default()).await.unwrap().into_inner();
    assert!(listed.events.len() >= 3, "{listed:?}");
    assert_full(&send(&channel, "later", mail("later")).await.unwrap_err());
    disk.free();
    send(&channel, "later", mail("later")).await.unwrap();
    // Known by its request id: nothing is sent again.
    send(&channel, "sent", mail("sent")).await.unwrap();
    let again = OutboxServiceClient::new(channel.clone()).queue_email(queue("queued")).await.unwrap();
    assert_eq!(again.into_inner().queued_email.unwrap().name, queued.name);
    let mut stream = subscribe(&channel, Some(Position::Earliest(()))).await;
    let told = events(&mut stream, 6).await;
    let told: std::collections::BTreeSet<_> = told.iter().map(|event| event.id.clone()).collect();
    assert_eq!(told.len(), 6, "five mails that came, and one that was delivered");
    assert_eq!(place.smtp.accepted().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_again_and_again_under_load_loses_nothing_acknowledged_and_does_nothing_twice() {
    let Some(disk) = Disk::new(MEBIBYTES) else { return };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let doors = Doors::new().await;
    let flags = doors.flags();
    let mut gateway = start(&disk, &flags).await;
    let mut load = Load::begin(doors, Listening::of(&gateway)).await;
    for round in 0..FILLINGS {
        // Callers wait as long as they were asked to where it was full.
        load.goes_on().await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        disk.fill();
        tokio::time::sleep(Duration::from_millis(random.u64(20..300))).await;
        let shown = load.shown();
        if round % 3 == 2 {
            // And the power goes with it.
            gateway.kill().await.unwrap();
            load.look(&disk.data(), shown);
            disk.free();
            gateway = start(&disk, &flags).await;
            load.doors.lead_to(Listening::of(&gateway));
        } else {
            load.look(&disk.data(), shown);
            disk.free();
        }
    }
    load.finish(&disk.data()).await;
    gateway.kill().await.unwrap();
}
