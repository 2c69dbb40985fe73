//! The gateway killed (SIGKILL) at random moments of the loop, again and again: no event lost, none stored twice, no
//! mail sent twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_client::{Client, Delivered, Retry, Settings, Start, Subscription, Wish};
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::start_position::Position;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_sandbox::child::Gateway;

use crate::client::Relay;
use crate::outside;
use crate::world::{OUTLOOK, SMTP, connect, create, events, mail, new_mail, place, subscribe, until};

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

/// Sends mail after mail, each repeated under its own request id until its outcome is known or told to be unknowable.
async fn sender(client: Client, done: Arc<AtomicBool>, sent: Arc<Mutex<Sent>>) {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let request_id = format!("mail-{number:05}");
        let request = SendEmailRequest {
            connection: SMTP.to_owned(),
            request_id: request_id.clone(),
            content: Some(Content::Email(mail(&request_id))),
            delivery_reports: None,
        };
        // The gateway may die, or not be there yet: the same request again, to whichever comes.
        let sending = client.retrying(|client| {
            let request = request.clone();
            async move { client.smtp().send_email(request).await }
        });
        match sending.await {
            Ok(response) => {
                sent.lock().unwrap().confirmed.insert(request_id, response.into_inner().message_id);
            }
            Err(error) if error.reason() == "OUTCOME_UNKNOWN" => {
                sent.lock().unwrap().unknown.insert(request_id);
            }
            Err(error) => panic!("{request_id}: {error:?}"),
        }
    }
}

/// Follows the log over every death, and keeps what it saw, until it is aborted.
async fn subscriber(mut subscription: Subscription, seen: Arc<Mutex<Vec<Event>>>) {
    while let Some(delivered) = subscription.next().await {
        match delivered.unwrap() {
            Delivered::Event(event) => seen.lock().unwrap().push(event),
            Delivered::Gap(gap) => panic!("a gap: {gap:?}"),
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
    let channel = connect(gateway.address()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    let relay = Relay::before(gateway.address().parse().unwrap()).await;
    let (first_pause, longest_pause) = (Duration::from_millis(2), Duration::from_millis(20));
    let retry = Retry { tries: u32::MAX, first_pause, longest_pause, ..Retry::default() };
    let client = Client::connect(&Settings { retry, ..Settings::to(relay.url()) }).unwrap();
    client.triggers().create_trigger(new_mail()).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let (sent, seen) = (Arc::new(Mutex::new(Sent::default())), Arc::new(Mutex::new(Vec::new())));
    let sending = tokio::spawn(sender(client.clone(), done.clone(), sent.clone()));
    let following = tokio::spawn(subscriber(client.subscribe(Wish::from(Start::Earliest)), seen.clone()));
    for _ in 0..KILLS {
        tokio::time::sleep(LONGEST_LIFE.mul_f64(random.f64())).await;
        gateway.kill().await.unwrap();
        gateway = start(folder.path()).await;
        relay.lead_to(gateway.address().parse().unwrap());
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
    let channel = connect(gateway.address()).await;
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
