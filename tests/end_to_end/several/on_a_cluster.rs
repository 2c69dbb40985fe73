//! Three gateways as processes on a cluster of three nats-servers, connectors apart, under load: servers and gateways are
//! killed, cut off, stopped and started again, one after another. What was acknowledged holds, and nothing is done twice.

mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postern_client::Client;
use postern_gateway::seal::KeyRing;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{Event, GetTriggerRequest};
use postern_proto::outbox::v1::{GetQueuedEmailRequest, QueuedEmail, QueuedEmailState};
use postern_sandbox::child::Gateway;
use postern_sandbox::place::Place;
use tokio::time::Instant;

use crate::client::Relay;
use crate::forward::Copy;
use crate::outside;
use crate::several::cluster::{Cluster, SERVERS};
use crate::several::in_order::{Step, check_order};
use crate::world::{OUTLOOK, SMTP, TRIGGER, connect, create, new_mail, place, until};
use load::{Load, Seen, subject_of};

/// How many gateways.
const GATEWAYS: usize = 3;

/// The gateways, each behind a door whose address stays.
struct Gateways {
    flags: Vec<String>,
    folder: tempfile::TempDir,
    doors: Vec<Relay>,
    /// `None`: it was killed.
    running: Vec<Option<Gateway>>,
}

impl Gateways {
    async fn start(cluster: &Cluster, connectors: &[&Copy]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        KeyRing::read_or_make(&keys).unwrap();
        let connectors: Vec<_> = connectors.iter().map(|copy| format!("http://{}", copy.address())).collect();
        let (store, replicas) = (cluster.addresses(), SERVERS.to_string());
        let flags = [
            ("--store", store.as_str()),
            ("--nats-replicas", &replicas),
            ("--key-file", keys.to_str().unwrap()),
            ("--connectors", &connectors.join(",")),
            ("--outbox-back-off", "200ms"),
            ("--stop-grace", "5s"),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]).collect();
        let mut all = Self { flags, folder, doors: Vec::new(), running: Vec::new() };
        for number in 0..GATEWAYS {
            all.running.push(None);
            let gateway = all.run(number).await;
            all.doors.push(Relay::before(gateway.address().parse().unwrap()).await);
            all.running[number] = Some(gateway);
        }
        all
    }

    async fn run(&self, number: usize) -> Gateway {
        let folder = self.folder.path().join(number.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        let program = outside::program("gateway");
        let started = Gateway::start(&program, &flags, "127.0.0.1:0", &folder, "error").await;
        started.unwrap_or_else(|error| panic!("a gateway did not start: {error}"))
    }

    async fn start_again(&mut self, number: usize) {
        let gateway = self.run(number).await;
        self.doors[number].lead_to(gateway.address().parse().unwrap());
        self.running[number] = Some(gateway);
    }

    fn addresses(&self) -> Vec<String> {
        self.doors.iter().map(Relay::url).collect()
    }

    /// Who looks after the trigger: only that one knows when it is due.
    async fn owner(&self) -> usize {
        until("the trigger has an owner", || async {
            let mut owners = Vec::new();
            for (number, gateway) in self.running.iter().enumerate() {
                let Some(gateway) = gateway else { continue };
                let client = Client::connect(&postern_client::Settings::to(url(gateway))).ok()?;
                let request = GetTriggerRequest { name: TRIGGER.to_owned() };
                let found = client.triggers().get_trigger(request).await.ok()?.into_inner();
                if found.trigger?.status?.next_poll_time.is_some() {
                    owners.push(number);
                }
            }
            let [owner] = owners[..] else { return None };
            Some(owner)
        })
        .await
    }
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}", gateway.address())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes about two minutes, most of which servers of NATS wait and vote"]
async fn a_cluster_that_loses_servers_and_gateways_keeps_what_it_acknowledged_and_does_nothing_twice() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let (place, smtp, outlook) =
        (place().await, Copy::start("smtp-service").await, Copy::start("outlook-service").await);
    let mut gateways = Gateways::start(&cluster, &[&smtp, &outlook]).await;
    let channel = connect(gateways.running[0].as_ref().unwrap().address()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    let mut load = Load::start(&gateways.addresses()).await;
    load.client().triggers().create_trigger(new_mail()).await.unwrap();
    load.goes_on().await;

    // Each server dies once, the leader first, and comes back.
    let first = cluster.leader("postern").await;
    for server in (first..first + SERVERS).map(|server| server % SERVERS) {
        let begun = Instant::now();
        cluster.kill(server);
        load.goes_on().await;
        println!("without the server n{server} all went on after {:?}", begun.elapsed());
        cluster.start_again(server).await;
        load.goes_on().await;
    }
    // One is cut off from the others: those who are at it are not served by it.
    let leader = cluster.leader("postern").await;
    let begun = Instant::now();
    cluster.cut_off(leader);
    load.goes_on().await;
    println!("with the leader n{leader} cut off all went on after {:?}", begun.elapsed());
    cluster.join(leader);
    load.goes_on().await;

    // Whoever looks after the trigger dies.
    let owner = gateways.owner().await;
    let died = Instant::now();
    gateways.running[owner].take().unwrap().kill().await.unwrap();
    let taken = place.smtp.accepted().len();
    until("a mail since then is told", || async {
        let later = subjects(&place).split_off(taken);
        load.seen(|seen| {
            seen.told.iter().rev().filter_map(subject_of).any(|told| later.iter().any(|it| it == told))
        })
        .then_some(())
    })
    .await;
    let replaced = died.elapsed();
    println!("the owner of the trigger was replaced after {replaced:?}");
    assert!(replaced < Duration::from_secs(10), "{replaced:?}");
    gateways.start_again(owner).await;
    load.goes_on().await;

    // One after another is stopped in good order and started again.
    let begun = Instant::now();
    for number in 0..GATEWAYS {
        let gateway = gateways.running[number].take().unwrap();
        gateway.stop().await.unwrap();
        gateways.start_again(number).await;
    }
    println!("all gateways were started anew within {:?}", begun.elapsed());
    load.goes_on().await;

    load.end_sending().await;
    let queued = settled(&load).await;
    let twice = twice(&place);
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let taken: BTreeSet<_> = subjects(&place).into_iter().collect();
    until("all mails are told of", || async {
        let told = load.seen(|seen| seen.told.iter().filter_map(subject_of).map(str::to_owned).collect());
        (taken == told).then_some(())
    })
    .await;
    let log = whole_log(load.client(), load.seen(|seen| seen.told.len())).await;
    until("all has been read", || async {
        let given = Step::Committed(log.last()?.id.clone());
        load.seen(|seen| {
            seen.told.len() == log.len() && seen.ordered.contains(&given) && seen.settled.len() == log.len()
        })
        .then_some(())
    })
    .await;
    let seen = load.end().await;
    let sent = seen.sent.len();
    println!(
        "{sent} mails sent, {} queued, {} unknown, {} events",
        queued.len(),
        seen.unknown.len(),
        log.len()
    );
    check_mails(&seen, &queued, &taken);
    check_events(&seen, &log);
    assert_eq!(check_order(&seen.ordered, &log), log.len());
}

/// The subjects of all mails that the server took, in order.
fn subjects(place: &Place) -> Vec<String> {
    let subject = |message: &[u8]| {
        let parsed = mail_parser::MessageParser::default().parse(message).unwrap();
        parsed.subject().unwrap().to_owned()
    };
    place.smtp.accepted().iter().map(|delivery| subject(&delivery.message)).collect()
}

fn twice(place: &Place) -> Vec<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for subject in subjects(place) {
        *counts.entry(subject).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(subject, _)| subject).collect()
}

/// Waits until all that was queued has come to its end.
async fn settled(load: &Load) -> Vec<QueuedEmail> {
    let mut all = Vec::new();
    for name in load.seen(|seen| seen.queued.keys().cloned().collect::<Vec<_>>()) {
        let settled = until("a queued mail comes to its end", || async {
            let request = GetQueuedEmailRequest { name: name.clone() };
            let got = load.client().outbox().get_queued_email(request).await.ok()?.into_inner();
            let email = got.queued_email.expect("what was queued is kept");
            [QueuedEmailState::Delivered, QueuedEmailState::Failed].contains(&email.state()).then_some(email)
        });
        all.push(settled.await);
    }
    all
}

/// The log from its beginning, as one who has not read it before sees it.
async fn whole_log(client: &Client, count: usize) -> Vec<Event> {
    use postern_client::{Delivered, Start, Wish};
    let mut subscription = client.subscribe(Wish::from(Start::Earliest));
    let mut log = Vec::new();
    while log.len() < count {
        match subscription.next().await.unwrap().unwrap() {
            Delivered::Event(event) => log.push(event),
            Delivered::Gap(gap) => panic!("a gap: {gap:?}"),
        }
    }
    log
}

/// Each request was done once, and so was each queued mail, or it was said that nobody knows.
fn check_mails(seen: &Seen, queued: &[QueuedEmail], taken: &BTreeSet<String>) {
    let lost: Vec<_> = seen.sent.difference(taken).collect();
    assert!(lost.is_empty(), "confirmed and not sent: {lost:?}");
    for email in queued {
        let subject = &seen.queued[&email.name];
        let reason = email.last_failure.as_ref().map(|failure| failure.reason.as_str());
        match email.state() {
            QueuedEmailState::Delivered => assert!(taken.contains(subject), "{subject} was not sent"),
            _ => assert_eq!(reason, Some("OUTCOME_UNKNOWN"), "{subject}"),
        }
    }
    let done = seen.sent.len() + queued.len();
    assert!(done > 20 * seen.unknown.len(), "{} of {done} are of unknown outcome", seen.unknown.len());
}

/// What was told holds: the subscriber saw the log, each occurrence once.
fn check_events(seen: &Seen, log: &[Event]) {
    let ids = |events: &[Event]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&seen.told), ids(log));
    let unique: BTreeSet<_> = ids(log).into_iter().collect();
    assert_eq!(unique.len(), log.len(), "an id is stored twice");
    let mails: Vec<_> = log.iter().filter_map(subject_of).collect();
    assert_eq!(mails.len(), mails.iter().collect::<BTreeSet<_>>().len(), "a mail has two events");
    // A queued mail's end is told once.
    let mut ends = BTreeMap::<&str, usize>::new();
    for event in log {
        let of = match event.data.as_ref().and_then(|data| data.kind.as_ref()) {
            Some(Kind::EmailDelivered(it)) => &it.queued_email,
            Some(Kind::EmailFailed(it)) => &it.queued_email,
            _ => continue,
        };
        *ends.entry(of).or_default() += 1;
    }
    assert!(ends.values().all(|count| *count == 1), "{ends:?}");
    assert_eq!(ends.len(), seen.queued.len());
}
