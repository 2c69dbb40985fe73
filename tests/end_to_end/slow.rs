//! Two thousand subscribers of which two hundred never read: what they cost is bounded, and the others are served in
//! time. The server is a process of its own, so that its memory is known.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use postern_gateway::events::new_event;
use postern_gateway::store::EventLog as _;
use postern_gateway::store::sqlite::Sqlite;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind;
use postern_proto::event::v1::{
    Event, EventFilter, ListEventsRequest, StartPosition, SubscribeRequest, SubscribeResponse,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::client::Relay;
use crate::events::world::serve_log;
use crate::store::conformance::sized_event;

/// Subscribers who read, over so many connections.
const READING: usize = 1_800;
const CONNECTIONS: usize = 18;
/// Subscribers whose whole connection is no longer read, each on one of its own.
const FROZEN: usize = 100;
/// Subscribers who do not take what their connection brings, so many on each.
const IDLE: usize = 100;
const IDLE_ON_ONE: usize = 25;
/// What lies in the log for those who never read.
const STORED: usize = 768;
const STORED_BYTES: usize = 16_000;
/// What happens while all are there, for those who read.
const ROUNDS: usize = 16;
const EVENTS: usize = 4;
const PACE: Duration = Duration::from_millis(250);
/// What the subscribers may cost in all, those who never read among them. Were all kept that awaits these, it would be
/// 1.8 GB.
const COST_BYTES: u64 = 2_000 * 96 * 1024;
/// How late the hundredth of all deliveries that is latest may be, on a busy machine and without optimisation.
const LATEST: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);
/// The source of what happens while all are there.
const LIVE: &str = "connections/live";
/// Where the server finds its folder, and what its address's line begins with.
const FOLDER: &str = "POSTERN_TEST_SERVER_FOLDER";
const ADDRESS: &str = "serves at ";

/// A server in a process of its own, killed when dropped.
struct Server {
    child: Child,
    address: std::net::SocketAddr,
}

impl Server {
    async fn start(folder: &std::path::Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "slow::serves_until_it_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("it tells where it serves");
            if let Some((_, address)) = line.split_once(ADDRESS) {
                break address.parse().unwrap();
            }
        };
        // What else it prints is nobody's: its pipe stays open until it is gone.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    /// Lets happen what happens while all are there.
    async fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    }

    /// A figure of its memory in bytes: what it holds now, or what it held at the most.
    fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() * 1024
    }
}

fn endpoint(address: std::net::SocketAddr) -> Endpoint {
    // Small windows: what was not taken is to be the server's to hold. A connection's is more than its idle streams' are.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.initial_stream_window_size(65_535).initial_connection_window_size(4 << 20)
}

async fn open(channel: Channel, position: Position, source: &str) -> Streaming<SubscribeResponse> {
    let sources = Some(source.to_owned()).filter(|source| !source.is_empty()).into_iter().collect();
    let request = SubscribeRequest {
        filter: Some(EventFilter { sources, types: Vec::new() }),
        start: Some(StartPosition { position: Some(position) }),
        ..SubscribeRequest::default()
    };
    let mut stream = EventServiceClient::new(channel).subscribe(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().kind;
    assert!(matches!(first, Some(Kind::Opened(_))), "{first:?}");
    stream
}

/// Reads all that happens, and gives the ids and how late each was.
async fn read(mut stream: Streaming<SubscribeResponse>) -> (Vec<String>, Vec<Duration>) {
    let (mut ids, mut late) = (Vec::new(), Vec::new());
    while ids.len() < ROUNDS * EVENTS {
        if let Some(Kind::Batch(batch)) = stream.message().await.unwrap().unwrap().kind {
            let now = SystemTime::now();
            for Event { id, time, .. } in batch.events {
                let happened = SystemTime::try_from(time.unwrap()).unwrap();
                late.push(now.duration_since(happened).unwrap_or_default());
                ids.push(id);
            }
        }
    }
    (ids, late)
}

/// Places all over the log.
async fn places(channel: Channel) -> Vec<Position> {
    let mut places = Vec::new();
    let mut client = EventServiceClient::new(channel);
    let mut request = ListEventsRequest { page_size: 100, ..ListEventsRequest::default() };
    loop {
        let page = client.list_events(request.clone()).await.unwrap().into_inner();
        places.extend(page.events.into_iter().map(|event| Position::Cursor(event.cursor)));
        if page.next_page_token.is_empty() {
            return places;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_who_never_read_cost_little_and_slow_none_of_two_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path()).await;
    let at_rest = server.memory("VmRSS:");
    let places = places(endpoint(server.address).connect().await.unwrap()).await;
    assert_eq!(places.len(), STORED);
    // Each at another place of the log's first half: no two hold the same bytes.
    let place = |number: usize| places[number * STORED / 2 / (FROZEN + IDLE)].clone();

    let relay = Relay::before(server.address).await;
    let mut never = Vec::new();
    for number in 0..FROZEN {
        let channel = endpoint(relay.address()).connect().await.unwrap();
        never.push(open(channel, place(number), "").await);
    }
    relay.fall_silent();
    let mut channel = None;
    for number in 0..IDLE {
        if number % IDLE_ON_ONE == 0 {
            channel = Some(endpoint(server.address).connect().await.unwrap());
        }
        never.push(open(channel.clone().unwrap(), place(FROZEN + number), "").await);
    }
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let channel = endpoint(server.address).connect().await.unwrap();
        for _ in 0..READING / CONNECTIONS {
            reading.spawn(read(open(channel.clone(), Position::Latest(()), LIVE).await));
        }
    }
    let subscribed = server.memory("VmRSS:");

    server.go().await;
    let all = tokio::time::timeout(PATIENCE, reading.join_all()).await.expect("all were served in time");
    assert_eq!(all.len(), READING);
    let (first, _) = &all[0];
    assert!(all.iter().all(|(ids, _)| ids == first), "each got everything, once and in order");
    let mut late: Vec<_> = all.into_iter().flat_map(|(_, late)| late).collect();
    late.sort();
    let (p50, p99) = (late[late.len() / 2], late[late.len() * 99 / 100]);

    let most = server.memory("VmHWM:");
    let mebibytes = |bytes: u64| bytes / 1024 / 1024;
    println!(
        "{} subscribers, {} of whom never read: {} MiB at rest, {} MiB with all of them, {} MiB at the most; delivered \
         after {p50:.1?} (p50), {p99:.1?} (p99)",
        READING + never.len(),
        never.len(),
        mebibytes(at_rest),
        mebibytes(subscribed),
        mebibytes(most)
    );
    assert!(most - at_rest < COST_BYTES, "{} MiB", mebibytes(most - at_rest));
    assert!(p99 < LATEST, "{p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the server: the test above starts it and kills it"]
#[allow(clippy::disallowed_methods, reason = "how it is told where")]
async fn serves_until_it_is_killed() {
    let sqlite = Sqlite::open(&PathBuf::from(std::env::var_os(FOLDER).unwrap())).unwrap();
    for round in 0..STORED / 32 {
        let stored = (0..32).map(|number| sized_event(&format!("{round}-{number}"), STORED_BYTES));
        sqlite.append(stored.collect(), Vec::new()).await.unwrap();
    }
    let (address, _serving) = serve_log(sqlite.clone(), CancellationToken::new()).await;
    println!("{ADDRESS}{address}");
    assert!(told().await > 0, "who started it is gone");
    let mut rounds = tokio::time::interval(PACE);
    for round in 0..ROUNDS {
        rounds.tick().await;
        let event = |number: usize| {
            new_event(LIVE, "connection.state_changed", None, &format!("{round}-{number}"), None, None)
        };
        sqlite.append((0..EVENTS).map(event).collect(), Vec::new()).await.unwrap();
    }
    // Until it is killed, or nobody is there to do it.
    told().await;
}

/// Waits for a line, and gives how long it is: 0 where who would write it is gone.
async fn told() -> usize {
    let line = || std::io::stdin().read_line(&mut String::new()).unwrap();
    tokio::task::spawn_blocking(line).await.unwrap()
}
