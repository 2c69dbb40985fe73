//! Very many triggers at rest on one gateway: what each costs in memory, what all cost in processor time, and how late
//! looks are while they are answered at a steady rate. Their records are put into the store before the gateway starts.

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use futures_util::{StreamExt as _, stream};
use postern_chassis::serve::BoxError;
use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, Expect, Write};
use postern_proto::connection::v1::{Connection, connection};
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{GetTriggerRequest, Trigger, TriggerState, trigger};
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_proto::smtp::v1::SmtpSettings;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::echo::{self, Polled};
use crate::figures::{Table, millis, quantile};
use crate::memory::resident;
use crate::peers::{self, Peer, processor_seconds_of};

/// How many triggers a connection has.
const EACH: usize = 100;
/// How many records are written at once.
const WRITES: usize = 500;
/// How often the triggers are looked after that are at rest, and those whose looks are timed.
const AT_REST: Duration = Duration::from_secs(3_600);
const BUSY: Duration = Duration::from_secs(60);
/// How long it is watched what they do.
const WATCHED: Duration = Duration::from_secs(15);
/// How long a look may be late before it counts as not made.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the first looks of all may take.
const FIRST_PATIENCE: Duration = Duration::from_secs(300);
/// How many triggers are asked when they are due next.
const SAMPLE: usize = 4_000;
/// The goals.
const MEMORY_GOAL: f64 = 2_048.0;
const PROCESSOR_GOAL: f64 = 0.02;
const LATE_GOAL: Duration = Duration::from_secs(1);

/// How much is measured.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// How many triggers
    #[arg(long, default_value_t = 100_000)]
    triggers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { triggers: 100_000 }
    }
}

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
}

impl World {
    /// Starts a gateway with so many triggers, and waits until each was looked after once. Gives how long that took.
    ///
    /// # Errors
    /// It cannot be started, or not all were looked after in time.
    pub(crate) async fn start(
        folder: &Path,
        count: usize,
        interval: Duration,
    ) -> Result<(Self, Duration), BoxError> {
        fill(&folder.join("data"), count, interval).await?;
        let (stop, polled) = (CancellationToken::new(), Polled::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let connector = listener.local_addr()?;
        tokio::spawn(echo::serve(listener, polled.clone(), stop.clone()));
        let begun = Instant::now();
        let gateway = peers::gateway(folder, connector).await?;
        while polled.count() < count {
            if begun.elapsed() > FIRST_PATIENCE {
                return Err(
                    format!("{} of {count} triggers were looked after in time", polled.count()).into()
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok((Self { gateway, polled, stop, count }, begun.elapsed()))
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

    /// How late each of some looks was that were due.
    ///
    /// # Errors
    /// A look was not made, or the gateway does not answer.
    pub(crate) async fn late(&self) -> Result<Vec<Duration>, BoxError> {
        let channel = Channel::from_shared(format!("http://{}", self.gateway.address))?.connect().await?;
        let client = TriggerServiceClient::new(channel);
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
            .buffer_unordered(16);
        let mut due = Vec::new();
        while let Some(asked) = asked.next().await {
            let (name, next) = asked?;
            if let Some(next) = next.and_then(|next| SystemTime::try_from(next).ok()) {
                due.push((name, next));
            }
        }
        // All were looked after a moment ago: the first are due again in about an interval.
        let now = SystemTime::now();
        due.retain(|(_, next)| *next > now);
        let first = due.iter().map(|(_, next)| *next).min().ok_or("no trigger is due")?;
        due.retain(|(_, next)| *next < first + WATCHED);
        sleep(first.duration_since(now).unwrap_or_default() + WATCHED + PATIENCE).await;
        let late = due.into_iter().map(|(name, next)| {
            let made = self.polled.last(&name).ok_or("a trigger was never looked after")?;
            // One made in the moment between being asked and being due is not late.
            made.duration_since(next).map_err(|_| format!("{name} was not looked after in time").into())
        });
        late.collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Measures, and gives the section.
///
/// # Errors
/// The gateway is not built, or did not do what it should.
#[allow(clippy::cast_precision_loss, reason = "figures")]
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let count = settings.triggers;
    let (empty, _) = World::start(tempfile::tempdir()?.path(), 0, AT_REST).await?;
    sleep(Duration::from_secs(3)).await;
    let without = empty.memory()?;
    drop(empty);

    let folder = tempfile::tempdir()?;
    let (world, first) = World::start(folder.path(), count, AT_REST).await?;
    sleep(Duration::from_secs(5)).await;
    let memory = (world.memory()? - without) as f64 / count as f64;
    let (id, begun) = (world.id()?, Instant::now());
    let before = processor_seconds_of(id)?;
    sleep(WATCHED).await;
    let processor = (processor_seconds_of(id)? - before) / begun.elapsed().as_secs_f64();
    drop(world);

    let folder = tempfile::tempdir()?;
    let (world, _) = World::start(folder.path(), count, BUSY).await?;
    let mut late = world.late().await?;
    let [middle, most] = [0.5, 0.99].map(|q| quantile(&mut late, q));

    let met = |is: bool| if is { "met" } else { "**missed**" }.to_owned();
    let mut table = Table::new(&format!("{count} triggers at rest"), &["", "goal", "measured", ""]);
    let row =
        |what: &str, goal: &str, measured: String, is: bool| [what.into(), goal.into(), measured, met(is)];
    let bytes = format!("{memory:.0} bytes");
    table.row(&row("memory a trigger", "less than 2 KiB", bytes, memory < MEMORY_GOAL));
    let cores = format!("{:.2} %", processor * 100.0);
    table.row(&row("processor time", "less than 2 % of a core", cores, processor < PROCESSOR_GOAL));
    let lateness = format!("median {}, 99 of 100 {}", millis(middle), millis(most));
    table.row(&row("how late looks are", "99 of 100 less than 1 s", lateness, most < LATE_GOAL));
    table.note(&format!(
        "On one gateway, {EACH} on each connection, no two of which watch the same; a connector in another process answers \
         each look with nothing. Memory: how much more `VmRSS` is than that of a gateway without triggers ({:.1} MiB), after \
         all were looked after once, which took {:.1} s from the start of the process. Processor time: over {} s, each \
         trigger with an interval of an hour. Late: {} looks due within {} s, each trigger with an interval of {} s \
         ({:.0} looks a second), from when the gateway says that it is due until the connector is asked.",
        without as f64 / 1_048_576.0,
        first.as_secs_f64(),
        WATCHED.as_secs(),
        late.len(),
        WATCHED.as_secs(),
        BUSY.as_secs(),
        count as f64 / BUSY.as_secs_f64(),
    ));
    Ok(table.markdown())
}

fn connection_id(number: usize) -> String {
    format!("bench-{:05}", number / EACH)
}

fn name(number: usize) -> String {
    format!("connections/{}/triggers/new-{:03}", connection_id(number), number % EACH)
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
        let mut trigger = Trigger {
            name: name.clone(),
            interval: Some(interval.try_into()?),
            kind: Some(trigger::Kind::NewEmail(NewEmailTrigger::default())),
            create_time: Some(SystemTime::now().into()),
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
