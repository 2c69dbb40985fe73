//! A gateway with very many triggers, and the connector that is asked for them. Their records are put into the store
//! before the gateway starts.

use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postern_chassis::serve::BoxError;
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, Expect, Write};
use postern_proto::connection::v1::{Connection, connection};
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    CreateTriggerRequest, GetTriggerRequest, NudgeTriggerRequest, Trigger, TriggerState, trigger,
};
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_proto::smtp::v1::SmtpSettings;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::echo::{self, Polled};
use crate::memory::resident;
use crate::peers::{self, Peer, processor_seconds_of};

/// How many triggers a connection has.
pub(crate) const EACH: usize = 100;
/// How many records are written at once.
const WRITES: usize = 500;
/// How long it is watched what they do.
pub(crate) const WATCHED: Duration = Duration::from_secs(15);
/// How long a look may be late before it counts as not made.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the first looks of all may take.
const FIRST_PATIENCE: Duration = Duration::from_secs(400);
/// How many triggers are asked when they are due next.
const SAMPLE: usize = 4_000;
/// Calls at once.
const CALLS: usize = 16;

/// A trigger's record, as the gateway stores it.
#[derive(Clone, PartialEq, Message)]
struct TriggerRecord {
    #[prost(message, optional, tag = "1")]
    trigger: Option<Trigger>,
    #[prost(string, tag = "2")]
    watch_key: String,
}

/// A connection's record, as the gateway stores it, without credentials.
#[derive(Clone, PartialEq, Message)]
struct ConnectionRecord {
    #[prost(message, optional, tag = "1")]
    connection: Option<Connection>,
    #[prost(fixed64, tag = "3")]
    edition: u64,
}

/// A gateway with triggers, and the connector that is asked for them.
pub(crate) struct World {
    gateway: Peer,
    polled: Polled,
    stop: CancellationToken,
    count: usize,
    /// From the start of the process until it took calls.
    pub(crate) ready: Duration,
    /// From then until each trigger was looked after once.
    pub(crate) first_looks: Duration,
}

/// What looks that were due have been like.
pub(crate) struct Looks {
    /// How late each was of some.
    pub(crate) late: Vec<Duration>,
    /// What all have cost the gateway, in seconds of processor time each.
    pub(crate) processor: f64,
}

impl World {
    /// Starts a gateway with so many triggers, whose connector takes a time for each answer, and waits until each trigger
    /// was looked after once.
    ///
    /// # Errors
    /// It cannot be started, or not all were looked after in time.
    pub(crate) async fn start(
        folder: &Path,
        count: usize,
        interval: Duration,
        answer_after: Duration,
    ) -> Result<Self, BoxError> {
        fill(&folder.join("data"), count, interval).await?;
        let (stop, polled) = (CancellationToken::new(), Polled::answering_after(answer_after));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let connector = listener.local_addr()?;
        tokio::spawn(echo::serve(listener, polled.clone(), stop.clone()));
        let begun = Instant::now();
        let gateway = peers::gateway(folder, connector).await?;
        let ready = begun.elapsed();
        let begun = Instant::now();
        while polled.count() < count {
            if begun.elapsed() > FIRST_PATIENCE {
                return Err(
                    format!("{} of {count} triggers were looked after in time", polled.count()).into()
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { gateway, polled, stop, count, ready, first_looks: begun.elapsed() })
    }

    fn id(&self) -> Result<u32, BoxError> {
        self.gateway.id().ok_or_else(|| "the gateway has ended".into())
    }

    /// What the gateway holds in memory, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn memory(&self) -> Result<u64, BoxError> {
        Ok(resident(self.id()?)?.0 * 1_024)
    }

    /// The share of a core that the gateway takes while it is left alone.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) async fn processor(&self) -> Result<f64, BoxError> {
        let (begun, before) = (Instant::now(), processor_seconds_of(self.id()?)?);
        sleep(WATCHED).await;
        Ok((processor_seconds_of(self.id()?)? - before) / begun.elapsed().as_secs_f64())
    }

    async fn client(&self) -> Result<TriggerServiceClient<Channel>, BoxError> {
        let channel = Channel::from_shared(format!("http://{}", self.gateway.address))?;
        Ok(TriggerServiceClient::new(channel.connect().await?))
    }

    /// Watches looks as they become due.
    ///
    /// # Errors
    /// A look was not made, or the gateway does not answer.
    #[allow(clippy::cast_precision_loss, reason = "figures")]
    pub(crate) async fn looks(&self) -> Result<Looks, BoxError> {
        let client = self.client().await?;
        let step = (self.count / SAMPLE).max(1);
        let mut asked = stream::iter((0..self.count).step_by(step))
            .map(|number| {
                let mut client = client.clone();
                async move {
                    let request = GetTriggerRequest { name: name(number) };
                    let trigger = client.get_trigger(request).await?.into_inner().trigger;
                    let status = trigger.and_then(|trigger| trigger.status);
                    Ok::<_, BoxError>((name(number), status.and_then(|status| status.next_poll_time)))
                }
            })
            .buffer_unordered(CALLS);
        let mut due = Vec::new();
        while let Some(asked) = asked.next().await {
            let (name, next) = asked?;
            if let Some(next) = next.and_then(|next| SystemTime::try_from(next).ok()) {
                due.push((name, next));
            }
        }
        let now = SystemTime::now();
        due.retain(|(_, next)| *next > now);
        let first = due.iter().map(|(_, next)| *next).min().ok_or("no trigger is due")?;
        due.retain(|(_, next)| *next < first + WATCHED);
        sleep(first.duration_since(now).unwrap_or_default()).await;
        let (looks, processor) = (self.polled.looks(), processor_seconds_of(self.id()?)?);
        sleep(WATCHED).await;
        let looks = (self.polled.looks() - looks).max(1);
        let processor = (processor_seconds_of(self.id()?)? - processor) / looks as f64;
        sleep(PATIENCE).await;
        let late = due.into_iter().map(|(name, next)| {
            let made = self.polled.last_of(&name).ok_or("a trigger was never looked after")?;
            // One made in the moment between being asked and being due is not late.
            let early = |early: std::time::SystemTimeError| {
                format!("{name} was not looked after in time, but {:?} before it was due", early.duration())
                    .into()
            };
            made.duration_since(next).map_err(early)
        });
        Ok(Looks { late: late.collect::<Result<_, BoxError>>()?, processor })
    }

    /// How long some looks take to come that a caller asks for, one after the other: from the call to the connector.
    ///
    /// # Errors
    /// A look was not made, or the gateway does not answer.
    pub(crate) async fn nudged(&self, times: usize) -> Result<Vec<Duration>, BoxError> {
        let mut client = self.client().await?;
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            let name = name(fastrand::usize(..self.count));
            let begun = SystemTime::now();
            client.nudge_trigger(NudgeTriggerRequest { name: name.clone() }).await?;
            let come = self.polled.come(&name, begun);
            took.push(timeout(PATIENCE, come).await.map_err(|_| format!("{name} was not looked after"))?);
        }
        Ok(took)
    }

    /// How many triggers a second callers make, beside those that are there.
    ///
    /// # Errors
    /// One was refused.
    #[allow(clippy::cast_precision_loss, reason = "figures")]
    pub(crate) async fn made_a_second(&self, count: usize) -> Result<f64, BoxError> {
        let (client, begun) = (self.client().await?, Instant::now());
        let connections = self.count.div_ceil(EACH).max(1);
        stream::iter(0..count)
            .map(|number| {
                let mut client = client.clone();
                let request = CreateTriggerRequest {
                    connection: format!("connections/bench-{:05}", number % connections),
                    trigger_id: format!("made-{number}"),
                    trigger: Some(Trigger { kind: Some(kind()), ..Trigger::default() }),
                    ..CreateTriggerRequest::default()
                };
                async move { client.create_trigger(request).await }
            })
            .buffer_unordered(CALLS)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn connection_id(number: usize) -> String {
    format!("bench-{:05}", number / EACH)
}

fn name(number: usize) -> String {
    format!("connections/{}/triggers/new-{:03}", connection_id(number), number % EACH)
}

/// What a trigger looks for: about as much as usual ones have.
fn kind() -> trigger::Kind {
    trigger::Kind::NewEmail(NewEmailTrigger {
        folder_path: "Inbox/Orders".into(),
        from: vec!["orders@shop.example.org".into()],
        subject_filter: "Order".into(),
        ..NewEmailTrigger::default()
    })
}

/// Puts connections and triggers into a store.
async fn fill(folder: &Path, count: usize, interval: Duration) -> Result<(), BoxError> {
    let folder = folder.to_owned();
    let sqlite = tokio::task::spawn_blocking(move || Sqlite::open(&folder)).await??;
    let write = |key: String, record: Vec<u8>| Write { key, value: Some(record.into()), expect: Expect::Any };
    let mut writes = Vec::new();
    for number in 0..count {
        if number % EACH == 0 {
            let name = format!("connections/{}", connection_id(number));
            let server = SmtpSettings { server: "mail.example.org".into(), ..SmtpSettings::default() };
            let settings = Some(connection::Settings::Smtp(server));
            let connection = Some(Connection {
                name: name.clone(),
                kind: "smtp".into(),
                settings,
                ..Connection::default()
            });
            let edition = number as u64 + 1;
            writes.push(write(name, ConnectionRecord { connection, edition }.encode_to_vec()));
        }
        let name = name(number);
        let key = name.replacen("connections/", "triggers/", 1).replacen("/triggers/new", "/new", 1);
        let now = Some(SystemTime::now().into());
        let mut trigger = Trigger {
            name: name.clone(),
            interval: Some(interval.try_into()?),
            kind: Some(kind()),
            create_time: now,
            update_time: now,
            watch_time: now,
            ..Trigger::default()
        };
        trigger.set_state(TriggerState::Active);
        let record = TriggerRecord { trigger: Some(trigger), watch_key: name };
        writes.push(write(key, record.encode_to_vec()));
        if writes.len() >= WRITES {
            sqlite.append(Vec::new(), std::mem::take(&mut writes)).await?;
        }
    }
    sqlite.append(Vec::new(), writes).await?;
    Ok(sqlite.close().await?)
}
