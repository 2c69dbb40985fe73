//! Whether reading calls that wait at a mailbox's gate should go to Graph together, as one `$batch` of up to twenty: the
//! same calls are made one by one, four at once, and with whatever waits put together. Why Postern does the former is
//! written in docs/outlook.md.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use postern_chassis::serve::BoxError;
use postern_sandbox::graph::{GraphServer, GraphSettings};
use postern_sandbox::world::World;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::figures::{Table, millis, quantile};

const MAILBOX: &str = "anna@example.org";
/// How many requests Outlook works on at once for a mailbox, those within a batch included.
const AT_ONCE: usize = 4;
/// How many requests a batch holds at most.
const MOST: usize = 20;
/// How long Graph works on a request: 60 to 150 ms for eight of ten.
const WORK: Duration = Duration::from_millis(95);
const SPREAD: f64 = 0.356;
/// How many callers call at once, and how often each.
const LOADS: [(usize, usize); 4] = [(1, 60), (8, 30), (32, 16), (128, 8)];
/// How long a request and its answer are on the way: not at all, and as far as the next region.
const WAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(30)];

/// Who asks a mailbox's Graph.
struct Client {
    http: reqwest::Client,
    token: String,
    url: String,
    way: Duration,
    places: Arc<Semaphore>,
    _graph: GraphServer,
}

/// A call that waits to be put into a batch.
type Waiting = oneshot::Sender<Result<(), String>>;

/// Measures, and gives the section.
pub(crate) async fn section() -> Result<String, BoxError> {
    let mut table = Table::new(
        "Reading calls to one mailbox, one by one and put together",
        &[
            "callers at once",
            "on the way",
            "median, one by one",
            "median, `$batch`",
            "99 of 100, one by one",
            "99 of 100, `$batch`",
        ],
    );
    let runs = LOADS.iter().flat_map(|load| WAYS.iter().map(move |way| (*load, *way)));
    for ((callers, calls), way) in runs {
        let alone = async { one_by_one(&Arc::new(Client::sign_in(way).await?), callers, calls).await };
        let together = async { put_together(&Arc::new(Client::sign_in(way).await?), callers, calls).await };
        let (mut alone, mut together) = tokio::try_join!(alone, together)?;
        let mut cells = vec![callers.to_string(), millis(way)];
        for q in [0.5, 0.99] {
            cells.extend([millis(quantile(&mut alone, q)), millis(quantile(&mut together, q))]);
        }
        table.row(&cells);
    }
    table.note(
        "Each caller calls again as soon as it has its answer. The sandbox's Graph works 60 to 150 ms on a request (log-normal, \
         eight of ten), on four of a mailbox at once whether they come alone or in a batch; the way to it is slept at the \
         caller, while it holds its place. `$batch` puts up to twenty together once more than four wait.",
    );
    Ok(table.markdown())
}

async fn one_by_one(client: &Arc<Client>, callers: usize, calls: usize) -> Result<Vec<Duration>, BoxError> {
    let all = try_join_all((0..callers).map(|_| async {
        let mut times = Vec::new();
        for _ in 0..calls {
            let begun = Instant::now();
            let _place = client.places.acquire().await?;
            client.get().await?;
            times.push(begun.elapsed());
        }
        Ok::<_, BoxError>(times)
    }));
    Ok(all.await?.concat())
}

async fn put_together(client: &Arc<Client>, callers: usize, calls: usize) -> Result<Vec<Duration>, BoxError> {
    let (enter, waiting) = mpsc::channel(callers);
    let sending = tokio::spawn(send(Arc::clone(client), waiting));
    let all = try_join_all((0..callers).map(|_| {
        let enter = enter.clone();
        async move {
            let mut times = Vec::new();
            for _ in 0..calls {
                let begun = Instant::now();
                let (answer, answered) = oneshot::channel();
                enter.send(answer).await?;
                answered.await??;
                times.push(begun.elapsed());
            }
            Ok::<_, BoxError>(times)
        }
    }));
    let times = all.await?.concat();
    drop(enter);
    sending.await??;
    Ok(times)
}

/// Sends what waits: alone while places suffice, else as many as there are in one batch, which takes all places.
async fn send(client: Arc<Client>, mut waiting: mpsc::Receiver<Waiting>) -> Result<(), BoxError> {
    let mut line = VecDeque::new();
    loop {
        if line.is_empty() {
            match waiting.recv().await {
                Some(first) => line.push_back(first),
                None => return Ok(()),
            }
        }
        let place = Arc::clone(&client.places).acquire_owned().await?;
        while let Ok(next) = waiting.try_recv() {
            line.push_back(next);
        }
        if line.len() <= AT_ONCE {
            let alone: Vec<Waiting> = line.drain(..1).collect();
            tokio::spawn(Arc::clone(&client).answer(alone, vec![place]));
            continue;
        }
        let others = u32::try_from(AT_ONCE - 1)?;
        let others = Arc::clone(&client.places).acquire_many_owned(others).await?;
        while let Ok(next) = waiting.try_recv() {
            line.push_back(next);
        }
        let batch: Vec<Waiting> = line.drain(..line.len().min(MOST)).collect();
        tokio::spawn(Arc::clone(&client).answer(batch, vec![place, others]));
    }
}

impl Client {
    async fn sign_in(way: Duration) -> Result<Self, BoxError> {
        let world = World::new();
        world.add_account(MAILBOX, "Anna");
        let settings = GraphSettings::default();
        let graph = GraphServer::start(settings.clone(), world).await?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &settings.client_id),
            ("client_secret", &settings.client_secret),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", graph.url(), settings.tenant);
        let answer: Value = http.post(url).form(&form).send().await?.json().await?;
        let token = answer["access_token"].as_str().ok_or("there is no token")?.to_owned();
        graph.faults().set_spread_delay(WORK, SPREAD);
        let url = format!("{}/v1.0", graph.url());
        Ok(Self { http, token, url, way, places: Arc::new(Semaphore::new(AT_ONCE)), _graph: graph })
    }

    async fn get(&self) -> Result<(), BoxError> {
        tokio::time::sleep(self.way / 2).await;
        let url = format!("{}{}", self.url, inbox());
        let answer = self.http.get(url).bearer_auth(&self.token).send().await?.error_for_status()?;
        answer.bytes().await?;
        tokio::time::sleep(self.way / 2).await;
        Ok(())
    }

    async fn batch(&self, size: usize) -> Result<(), BoxError> {
        let request = |id: usize| json!({"id": id.to_string(), "method": "GET", "url": inbox()});
        let body = json!({"requests": (0..size).map(request).collect::<Vec<_>>()});
        tokio::time::sleep(self.way / 2).await;
        let url = format!("{}/$batch", self.url);
        let answer = self.http.post(url).bearer_auth(&self.token).json(&body).send().await?;
        let answer: HashMap<String, Value> = answer.error_for_status()?.json().await?;
        tokio::time::sleep(self.way / 2).await;
        let answers = answer.get("responses").and_then(Value::as_array).ok_or("there are no answers")?;
        match answers.iter().filter(|answer| answer["status"] == 200).count() {
            good if good == size => Ok(()),
            good => Err(format!("{good} of {size} requests were answered well").into()),
        }
    }

    async fn answer(self: Arc<Self>, waiting: Vec<Waiting>, places: Vec<OwnedSemaphorePermit>) {
        let answered = if waiting.len() == 1 { self.get().await } else { self.batch(waiting.len()).await };
        drop(places);
        let answered = answered.map_err(|error| error.to_string());
        for waits in waiting {
            let _ = waits.send(answered.clone());
        }
    }
}

fn inbox() -> String {
    format!("/users/{MAILBOX}/mailFolders/inbox")
}
