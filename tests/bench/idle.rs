//! Very many triggers at rest on one gateway: what each costs in memory, what all cost in processor time, and how late
//! looks are while they are answered at a steady rate.

mod world;

use std::time::Duration;

use clap::Args;
use postern_chassis::serve::BoxError;
use tokio::time::sleep;

use crate::figures::{Table, millis, quantile};
use world::{EACH, WATCHED};
pub(crate) use world::{Looks, World};

/// How often the triggers are looked after that are at rest, and those whose looks are timed.
const AT_REST: Duration = Duration::from_secs(3_600);
const BUSY: Duration = Duration::from_secs(60);
/// How long a provider takes for its answer to the looks that are timed.
const ANSWER_AFTER: Duration = Duration::from_millis(100);
/// How long a gateway is left alone before its memory is looked at.
const SETTLING: Duration = Duration::from_secs(5);
/// How many triggers callers make beside those that are there.
const MADE: usize = 2_000;
/// How many looks are asked for.
const NUDGES: usize = 300;
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

/// Measures, and gives the section.
///
/// # Errors
/// The gateway is not built, or did not do what it should.
#[allow(clippy::cast_precision_loss, reason = "figures")]
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let count = settings.triggers;
    let empty = World::start(tempfile::tempdir()?.path(), 0, AT_REST, Duration::ZERO).await?;
    sleep(SETTLING).await;
    let without = empty.memory()?;
    drop(empty);

    let folder = tempfile::tempdir()?;
    let world = World::start(folder.path(), count, AT_REST, Duration::ZERO).await?;
    sleep(SETTLING).await;
    let memory = world.memory()?.saturating_sub(without) as f64 / count as f64;
    let processor = world.processor().await?;
    let mut nudged = world.nudged(NUDGES).await?;
    let [middle_nudged, most_nudged] = [0.5, 0.99].map(|q| quantile(&mut nudged, q));
    let made = world.made_a_second(MADE).await?;
    let (ready, first_looks) = (world.ready, world.first_looks);
    drop(world);

    let folder = tempfile::tempdir()?;
    let world = World::start(folder.path(), count, BUSY, ANSWER_AFTER).await?;
    let Looks { mut late, processor: look } = world.looks().await?;
    drop(world);
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
    let told = |what: &str, measured: String| [what.into(), String::new(), measured, String::new()];
    table.row(&told("processor time of a look", format!("{:.0} µs", look * 1e6)));
    let waits = format!("median {}, 99 of 100 {}", millis(middle_nudged), millis(most_nudged));
    table.row(&told("until a look that is asked for", waits));
    table.row(&told("from start to ready", millis(ready)));
    table.row(&told("from ready until all were looked after", format!("{:.1} s", first_looks.as_secs_f64())));
    table.row(&told("made by callers", format!("{made:.0} triggers a second")));
    table.note(&format!(
        "On one gateway, {EACH} on each connection, no two of which watch the same; a connector in another process answers \
         each look with nothing. Memory: how much more `VmRSS` is than that of a gateway without triggers ({:.1} MiB), after \
         all were looked after once. Processor time: over {} s in which none is due, each with an interval of an hour. Late: \
         {} looks due within {} s, each trigger with an interval of {} s ({:.0} looks a second), answered after {} ms; from \
         when the gateway says that it is due until the connector is asked. Asked for: {NUDGES} nudges one after the other, \
         while all are at rest. Made: {MADE} more, 16 calls at once.",
        without as f64 / 1_048_576.0,
        WATCHED.as_secs(),
        late.len(),
        WATCHED.as_secs(),
        BUSY.as_secs(),
        count as f64 / BUSY.as_secs_f64(),
        ANSWER_AFTER.as_millis(),
    ));
    Ok(table.markdown())
}
