//! What grows with what: memory and lateness over the number of subscribers and of triggers, and over the log's length.
//! The figures are written as CSV and drawn as SVG.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use postern_chassis::serve::BoxError;
use tokio::time::{Instant, sleep};

use crate::catch_up::filled;
use crate::figures::quantile;
use crate::idle::World;
use crate::memory::resident;
use crate::plot::{self, Panel};
use crate::source::Source;
use crate::subscribers::{Subscribers, Wire};

/// How often something happens while it is looked how late it comes.
const EVERY: Duration = Duration::from_millis(10);
/// How many events are timed.
const EVENTS: u64 = 300;
/// How many looks are asked for and timed.
const NUDGES: usize = 300;
/// How long a gateway is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(2);
/// What the plot says of all panels.
const NOTE: &str =
    "Both axes by powers of ten. Each point is a process of its own; memory is what it holds resident.";
/// The interval of the triggers.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// How much is measured, and where it is put.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// The folder for the plot and its figures
    #[arg(long, default_value = "docs")]
    folder: PathBuf,
    /// How many subscribers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 500, 1_000, 2_000])]
    subscribers: Vec<usize>,
    /// How many triggers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000, 10_000, 100_000])]
    triggers: Vec<usize>,
    /// How many events the log has
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 10_000, 100_000, 1_000_000])]
    events: Vec<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("docs"),
            subscribers: vec![1, 10, 100, 500, 1_000, 2_000],
            triggers: vec![1, 100, 1_000, 10_000, 100_000],
            events: vec![1, 1_000, 10_000, 100_000, 1_000_000],
        }
    }
}

/// One thing measured.
struct Point {
    count: f64,
    /// In MiB.
    memory: f64,
    /// In milliseconds.
    time: f64,
}

/// Measures, writes the files, and gives the section.
///
/// # Errors
/// Something was not as it should be, or the files cannot be written.
#[allow(clippy::cast_precision_loss, reason = "figures")]
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let mut subscribers = Vec::new();
    for count in &settings.subscribers {
        subscribers.push(with_subscribers(*count).await?);
    }
    let mut triggers = Vec::new();
    for count in &settings.triggers {
        let folder = tempfile::tempdir()?;
        let world = World::start(folder.path(), *count, INTERVAL, Duration::ZERO).await?;
        sleep(REST).await;
        let memory = world.memory()? as f64 / 1_048_576.0;
        let mut nudged = world.nudged(NUDGES).await?;
        let time = quantile(&mut nudged, 0.99).as_secs_f64() * 1_000.0;
        triggers.push(Point { count: *count as f64, memory, time });
    }
    let mut events = Vec::new();
    for count in &settings.events {
        events.push(with_events(*count).await?);
    }
    let series = [
        ("subscribers", "An event's way, 99 of 100 within so many ms", subscribers),
        ("triggers", "A look that is asked for, 99 of 100 within so many ms", triggers),
        ("events in the log", "A subscriber's first event from the earliest, ms", events),
    ];
    let mut csv = String::from("over,count,memory_mib,time_ms\n");
    let mut panels = Vec::new();
    for (over, what, points) in &series {
        for Point { count, memory, time } in points {
            let _ = writeln!(csv, "{over},{count:.0},{memory:.1},{time:.2}");
        }
        let of = |value: fn(&Point) -> f64| points.iter().map(|point| (point.count, value(point))).collect();
        panels.push(Panel { over, what: "Memory, MiB".into(), points: of(|point| point.memory) });
        panels.push(Panel { over, what: (*what).into(), points: of(|point| point.time) });
    }
    std::fs::write(settings.folder.join("growth.csv"), csv)?;
    std::fs::write(settings.folder.join("growth.svg"), plot::svg("What grows with what", NOTE, &panels))?;
    Ok(format!(
        "## What grows with what\n\n![Memory and lateness over subscribers, triggers and the log's length](growth.svg)\n\n\
         Each point is one process, started for it; memory is its `VmRSS`. Over subscribers, a connection each: one event \
         each {} ms, {EVENTS} of them, from when it is appended until it came. Over triggers: a gateway whose triggers are \
         all at rest, {NUDGES} nudges one after the other, from the call until the connector is asked. Over events: the log and its service, until a subscriber that \
         starts at the earliest has its first event; memory after it has read all. The figures are in [growth.csv](growth.csv).\n",
        EVERY.as_millis(),
    ))
}

#[allow(clippy::cast_precision_loss, reason = "figures")]
async fn with_subscribers(count: usize) -> Result<Point, BoxError> {
    let folder = tempfile::tempdir()?;
    let mut source = Source::start(folder.path()).await?;
    let wire = Wire::Grpc { streams: 1, from_start: false };
    let subscribers = Subscribers::start(wire, source.address, count, true).await?;
    for _ in 0..EVENTS {
        source.publish(1).await?;
        sleep(EVERY).await;
    }
    subscribers.all(EVENTS).await?;
    let memory = resident(source.id().ok_or("the source has ended")?)?.0 as f64 / 1_024.0;
    let time = subscribers.late(0.99).as_secs_f64() * 1_000.0;
    source.stop().await?;
    Ok(Point { count: count as f64, memory, time })
}

#[allow(clippy::cast_precision_loss, reason = "figures")]
async fn with_events(count: u64) -> Result<Point, BoxError> {
    let folder = tempfile::tempdir()?;
    filled(folder.path(), count).await?.0.stop().await?;
    let source = Source::start(folder.path()).await?;
    let wire = Wire::Grpc { streams: 1, from_start: true };
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        Subscribers::start(wire, source.address, 1, false).await?.at_least(1).await?;
        times.push(begun.elapsed());
    }
    Subscribers::start(wire, source.address, 1, false).await?.all(count).await?;
    let memory = resident(source.id().ok_or("the source has ended")?)?.0 as f64 / 1_024.0;
    source.stop().await?;
    let time = quantile(&mut times, 0.5).as_secs_f64() * 1_000.0;
    Ok(Point { count: count as f64, memory, time })
}
