//! Connectors as processes, two of each kind, killed (SIGKILL) one after another under load: no call is lost that could be
//! repeated, and no mail goes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postern_chassis::fault::reason_of;
use postern_proto::mail::v1::Email;
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::outlook::v1::{GetEmailsRequest, SendEmailRequest};
use postern_sandbox::child::Gateway;
use postern_sandbox::place::BO;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::metrics;
use crate::outside;
use crate::ports::Port;
use crate::world::{OUTLOOK, SMTP, connect, create, mail, place, send, until};

/// How often a connector is killed.
const KILLS: usize = 12;
/// Callers of each kind.
const CALLERS: usize = 3;
/// The longest from when every caller has been served again to the next death.
const LONGEST_LIFE: Duration = Duration::from_millis(150);

/// A connector in a process of its own. It is killed when dropped.
pub(crate) struct Copy {
    program: &'static str,
    port: Port,
    child: Child,
}

impl Copy {
    pub(crate) async fn start(program: &'static str) -> Self {
        let port = Port::keep();
        let child = run(program, port.address).await;
        Self { program, port, child }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    async fn kill_and_start_again(&mut self) {
        self.child.kill().await.unwrap();
        self.child = run(self.program, self.port.address).await;
    }
}

async fn run(program: &'static str, address: SocketAddr) -> Child {
    let child = Command::new(outside::program(program))
        .args(["--listen", &address.to_string(), "--log", "error"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the connector listens", || async { TcpStream::connect(address).await.ok() }).await;
    child
}

/// How far the callers are.
#[derive(Clone, Default)]
struct Progress {
    done: Arc<AtomicBool>,
    /// The calls that each has had answered.
    answered: Arc<[AtomicUsize; 3 * CALLERS]>,
}

impl Progress {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn answered(&self, caller: usize) {
        self.answered[caller].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> [usize; 3 * CALLERS] {
        self.answered.each_ref().map(|answered| answered.load(Ordering::Relaxed))
    }

    /// Waits until each caller has had a call answered that began after now.
    async fn goes_on(&self) {
        let before = self.read();
        until("every caller is served again", || async {
            before.iter().zip(self.read()).all(|(before, now)| now >= before + 2).then_some(())
        })
        .await;
    }
}

/// What became of mails by SMTP.
#[derive(Default)]
struct Sent {
    confirmed: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

async fn send_by_smtp(channel: Channel, caller: usize, progress: Progress) -> Sent {
    let mut sent = Sent::default();
    for number in 0.. {
        if progress.is_done() {
            break;
        }
        let id = format!("smtp-{caller}-{number}");
        match send(&channel, &id, mail(&id)).await {
            Ok(_) => sent.confirmed.insert(id),
            Err(status) if reason_of(&status) == "OUTCOME_UNKNOWN" => sent.unknown.insert(id),
            Err(status) => panic!("{id}: {status:?}"),
        };
        progress.answered(caller);
    }
    sent
}

async fn send_by_outlook(channel: Channel, caller: usize, progress: Progress) -> BTreeSet<String> {
    let mut confirmed = BTreeSet::new();
    for number in 0.. {
        if progress.is_done() {
            break;
        }
        let id = format!("outlook-{caller}-{number}");
        let email = Email { to: vec![BO.into()], subject: id.clone(), body: "7".into(), ..Email::default() };
        let request = SendEmailRequest {
            connection: OUTLOOK.into(),
            request_id: id.clone(),
            email: Some(email),
            ..SendEmailRequest::default()
        };
        let sent = MailServiceClient::new(channel.clone()).send_email(request).await;
        sent.unwrap_or_else(|status| panic!("{id}: {status:?}"));
        confirmed.insert(id);
        progress.answered(CALLERS + caller);
    }
    confirmed
}

async fn read(channel: Channel, caller: usize, progress: Progress) {
    while !progress.is_done() {
        let request = GetEmailsRequest { connection: OUTLOOK.into(), top: 1, ..Default::default() };
        let read = MailServiceClient::new(channel.clone()).get_emails(request).await;
        read.unwrap_or_else(|status| panic!("a reading call was lost: {status:?}"));
        progress.answered(2 * CALLERS + caller);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_killed_under_load_lose_no_call_that_can_be_repeated_and_send_no_mail_twice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let mut copies = Vec::new();
    for program in ["smtp-service", "outlook-service", "smtp-service", "outlook-service"] {
        copies.push(Copy::start(program).await);
    }
    let addresses: Vec<_> = copies.iter().map(|copy| format!("http://{}", copy.address())).collect();
    let told = Port::keep();
    let (addresses, told_at) = (addresses.join(","), told.address.to_string());
    let lead = ["--connectors", &addresses, "--metrics-listen", &told_at];
    let program = outside::program("gateway");
    let gateway = Gateway::start(&program, &lead, "127.0.0.1:0", folder.path(), "error").await.unwrap();
    let channel = connect(gateway.address()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();

    let progress = Progress::default();
    let (mut by_smtp, mut by_outlook, mut reading) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for caller in 0..CALLERS {
        let channel = connect(gateway.address()).await;
        by_smtp.spawn(send_by_smtp(channel.clone(), caller, progress.clone()));
        by_outlook.spawn(send_by_outlook(channel.clone(), caller, progress.clone()));
        reading.spawn(read(channel, caller, progress.clone()));
    }
    for kill in 0..KILLS {
        progress.goes_on().await;
        tokio::time::sleep(LONGEST_LIFE.mul_f64(random.f64())).await;
        // One of a kind, then one of the other: a kind always has a copy that is alive.
        copies[kill % 4].kill_and_start_again().await;
    }
    progress.goes_on().await;
    progress.done.store(true, Ordering::Relaxed);
    reading.join_all().await;
    let outlook: BTreeSet<_> = by_outlook.join_all().await.into_iter().flatten().collect();
    let (mut confirmed, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for sent in by_smtp.join_all().await {
        confirmed.extend(sent.confirmed);
        unknown.extend(sent.unknown);
    }

    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in place.smtp.accepted() {
        let message = mail_parser::MessageParser::default().parse(&delivery.message[..]).unwrap();
        *taken.entry(message.subject().unwrap().to_owned()).or_default() += 1;
    }
    let received = place.world.messages(BO, "inbox");
    for message in received.iter().filter(|message| message.subject.starts_with("outlook-")) {
        *taken.entry(message.subject.clone()).or_default() += 1;
    }
    let twice: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let lost: Vec<_> = confirmed.union(&outlook).filter(|id| !taken.contains_key(*id)).collect();
    assert!(lost.is_empty(), "confirmed and not sent: {lost:?}");

    // All of that under deaths that calls were in the middle of.
    let page = metrics::page(told.address).await;
    let repeats = metrics::value(&page, "postern_forwarded_repeats_total{why=\"broken\"}");
    println!(
        "{} and {} mails confirmed, {} of unknown outcome, {} readings, {repeats} calls repeated",
        confirmed.len(),
        outlook.len(),
        unknown.len(),
        progress.read()[2 * CALLERS..].iter().sum::<usize>()
    );
    assert!(repeats > 0.0, "no call was in the middle of a death:\n{page}");
    let ok = |code: &str| {
        format!("service=\"postern.outlook.v1.MailService\",method=\"GetEmails\",code=\"{code}\"")
    };
    assert!(page.contains(&ok("OK")) && !page.contains(&ok("UNAVAILABLE")), "{page}");
}
