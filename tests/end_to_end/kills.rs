//! The gateway killed (SIGKILL) at random moments of the loop, again and again: no event lost, none stored twice, no
//! mail sent twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_chassis::fault::reason_of;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{Event, StartPosition, SubscribeRequest};
use postern_sandbox::child::Gateway;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Channel;

use crate::outside;
use crate::world::{OUTLOOK, SMTP, connect, create, events, mail, new_mail, place, send, subscribe, until};

/// How often the gateway is killed.
const KILLS: usize = 50;
/// The longest it lives between two kills, once it is ready.
const LONGEST_LIFE: Duration = Duration::from_millis(400);

/// What became of each mail that was asked to be sent, by its request id.
#[derive(Default)]
struct Sent {
    confirmed: BTreeMap<String, String>,
    unknown: BTreeSet<String>,
}

/// The channel to the gateway of the moment.
type Moment = watch::Receiver<Channel>;

/// Sends mail after mail, each repeated under its own request id until its outcome is known or told to be unknowable.
async fn sender(moment: Moment, done: Arc<AtomicBool>, sent: Arc<Mutex<Sent>>) {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let request_id = format!("mail-{number:05}");
        loop {
            let channel = moment.borrow().clone();
            match send(&channel, &request_id, mail(&request_id)).await {
                Ok(response) => {
                    sent.lock().unwrap().confirmed.insert(request_id, response.message_id);
                    break;
                }
                Err(status) if reason_of(&status) == "OUTCOME_UNKNOWN" => {
                    sent.lock().unwrap().unknown.insert(request_id);
                    break;
                }
                // The gateway died, or is not there yet: the same request again, to whichever comes.
                Err(status)
                    if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) =>
                {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(status) => panic!("{request_id}: {status:?}"),
            }
        }
    }
}

/// Follows the log from its cursor over every death, and keeps what it saw, until it is aborted.
async fn subscriber(moment: Moment, seen: Arc<Mutex<Vec<Event>>>) {
    let mut position = Position::Earliest(());
    loop {
        let mut client = EventServiceClient::new(moment.borrow().clone());
        let start = Some(StartPosition { position: Some(position.clone()) });
        let Ok(response) = client.subscribe(SubscribeRequest { start, ..Default::default() }).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let mut stream = response.into_inner();
        while let Ok(Some(answer)) = stream.message().await {
            match answer.kind {
                Some(Answer::Batch(batch)) => {
                    position = Position::Cursor(batch.events.last().unwrap().cursor.clone());
                    seen.lock().unwrap().extend(batch.events);
                }
                Some(Answer::Opened(_) | Answer::Heartbeat(_)) => {}
                other => panic!("unexpected on the stream: {other:?}"),
            }
        }
    }
}

async fn start(folder: &Path) -> Gateway {
    Gateway::start(&outside::program("gateway"), &[], "127.0.0.1:0", folder, "error").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_no_event_store_none_twice_and_send_no_mail_twice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let mut gateway = start(folder.path()).await;
    let (next, moment) = watch::channel(connect(gateway.address()).await);
    create(&moment.borrow().clone(), SMTP, place.smtp_connection()).await.unwrap();
    create(&moment.borrow().clone(), OUTLOOK, place.outlook_connection()).await.unwrap();
    TriggerServiceClient::new(moment.borrow().clone()).create_trigger(new_mail()).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let (sent, seen) = (Arc::new(Mutex::new(Sent::default())), Arc::new(Mutex::new(Vec::new())));
    let sending = tokio::spawn(sender(moment.clone(), done.clone(), sent.clone()));
    let following = tokio::spawn(subscriber(moment.clone(), seen.clone()));
    for _ in 0..KILLS {
        tokio::time::sleep(LONGEST_LIFE.mul_f64(random.f64())).await;
        gateway.kill().await.unwrap();
        gateway = start(folder.path()).await;
        next.send(connect(gateway.address()).await).unwrap();
    }
    done.store(true, Ordering::Relaxed);
    sending.await.unwrap();

    // No mail twice: what the server took, by Message-ID; each confirmed one exactly once.
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in place.smtp.accepted() {
        let message = mail_parser::MessageParser::default().parse(&delivery.message[..]).unwrap();
        *taken.entry(format!("<{}>", message.message_id().unwrap())).or_default() += 1;
    }
    let twice: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let (confirmed, unknown) = {
        let sent = sent.lock().unwrap();
        (sent.confirmed.clone(), sent.unknown.len())
    };
    let lost: Vec<_> = confirmed.iter().filter(|(_, id)| !taken.contains_key(*id)).collect();
    assert!(lost.is_empty(), "confirmed and not sent: {lost:?}");

    // No event lost or stored twice: the log holds one for each mail in the mailbox.
    let channel = moment.borrow().clone();
    let mut stream = subscribe(&channel, Some(Position::Earliest(()))).await;
    let stored = events(&mut stream, taken.len()).await;
    let told: BTreeSet<_> = stored.iter().map(message_id).collect();
    assert_eq!(stored.len(), told.len(), "a mail has two events");
    assert_eq!(told, taken.keys().cloned().collect::<BTreeSet<_>>());
    let ids: BTreeSet<_> = stored.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), stored.len(), "an id is stored twice");

    // And the subscriber, over all those deaths, saw every one, in the log's order.
    until("the subscriber has seen every event", || async {
        let seen: BTreeSet<_> = seen.lock().unwrap().iter().map(|event: &Event| event.id.clone()).collect();
        (seen == ids).then_some(())
    })
    .await;
    following.abort();
    let seen: Vec<_> = seen.lock().unwrap().iter().map(|event| event.id.clone()).collect();
    assert_eq!(seen, stored.iter().map(|event| event.id.clone()).collect::<Vec<_>>());
    println!("{} mails confirmed, {unknown} of unknown outcome, {} events", confirmed.len(), stored.len());
    assert!(confirmed.len() > KILLS, "too few mails for the kills to mean anything: {}", confirmed.len());
}

fn message_id(event: &Event) -> String {
    match event.data.as_ref().and_then(|data| data.kind.as_ref()) {
        Some(Kind::NewEmail(email)) => email.internet_message_id.clone(),
        other => panic!("no mail in {other:?}"),
    }
}
