//! A day in the life of Postern, simulated in a minute: many mailboxes, mails and calendar changes, a provider that
//! throttles, fails, forgets and loses notifications, and processes that are killed. Afterwards the log is held against
//! what happened: all of it told once and in order, and nothing else.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod check;
mod deeds;
mod figures;
mod log;
mod plan;
mod processes;
mod stage;
mod truth;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postern_chassis::serve::BoxError;
use postern_chassis::settings::{self, duration};
use postern_chassis::{program, telemetry};
use tokio::time::{Instant, sleep};

use stage::Stage;

/// How often it is looked whether all is told.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How many faults of a day are printed.
const MOST_PRINTED: usize = 30;

/// Simulates a day and holds the event log against what happened. Exit code 0: every event told once, in order.
#[derive(Parser, Debug, Clone)]
#[command(name = "postern-day", version)]
struct Settings {
    /// The seed that decides what happens; the next day has the next one. Absent: a random one
    #[arg(long)]
    seed: Option<u64>,
    /// How many days
    #[arg(long, default_value_t = 1)]
    days: u64,
    /// How many mailboxes
    #[arg(long, default_value_t = 200)]
    mailboxes: usize,
    /// How many mails come
    #[arg(long, default_value_t = 20_000)]
    mails: usize,
    /// How many changes are made to calendars
    #[arg(long, default_value_t = 5_000)]
    changes: usize,
    /// How often a mailbox's places are forgotten
    #[arg(long, default_value_t = 40)]
    forgotten: usize,
    /// How often the gateway and the connector, in turn, are killed or stopped, and started again
    #[arg(long, default_value_t = 6)]
    restarts: usize,
    /// The share of requests to Graph that fail
    #[arg(long, default_value_t = 0.05)]
    faults: f64,
    /// How long the day lasts
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    lasts: Duration,
    /// How long from one look of a trigger to the next
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    interval: Duration,
    /// How long it may take after the day until all is told
    #[arg(long, default_value = "4m", value_parser = duration, value_name = "DURATION")]
    patience: Duration,
    /// How it logs
    #[command(flatten)]
    log: telemetry::LogSettings,
}

fn main() -> ExitCode {
    program::run("postern-day", run())
}

async fn run() -> Result<(), BoxError> {
    let settings: Settings = settings::load(std::env::args_os())?;
    telemetry::start(&settings.log);
    let first = settings.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut failed = Vec::new();
    for seed in first..first + settings.days {
        println!("seed {seed}");
        let problems = match day(&settings, seed).await {
            Ok(problems) => problems,
            Err(error) => vec![error.to_string()],
        };
        for problem in problems.iter().take(MOST_PRINTED) {
            println!("  {problem}");
        }
        if !problems.is_empty() {
            println!("FAILED: {} faults; again with --seed {seed}", problems.len());
            failed.push(seed);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("not all was told as it happened, with the seeds {failed:?}").into()),
    }
}

/// One day. Gives what went wrong.
async fn day(settings: &Settings, seed: u64) -> Result<Vec<String>, BoxError> {
    let begun = Instant::now();
    let mut stage = Stage::set(settings).await?;
    let (log, following) = log::follow(stage.postern.moment());
    let set_up = begun.elapsed();
    let plan = plan::make(settings, seed);
    stage.disturb(settings.faults, seed);

    let begun = Instant::now();
    let mut deeds = deeds::Deeds::new(settings, seed);
    let restarts = plan.restarts;
    let (world, graph) = (stage.world.clone(), stage.graph.clone());
    let doing = deeds.run(&world, &graph, plan.deeds, begun);
    let restarting = stage.postern.restart_at(begun, &restarts);
    let ((), restarted) = tokio::join!(doing, restarting);
    restarted?;
    let truth = deeds.into_truth();

    // All is told when nothing is missing; what should not be told gets two more intervals to show itself.
    let deadline = Instant::now() + settings.patience;
    let done = Instant::now();
    let mut seen = usize::MAX;
    loop {
        sleep(LOOK_INTERVAL).await;
        let events = log.events();
        if events.len() != seen {
            seen = events.len();
            let missing = check::missing(&truth, &events);
            tracing::info!(events = seen, missing, "told so far");
            if missing == 0 {
                break;
            }
        }
        if Instant::now() > deadline {
            break;
        }
    }
    let settled = done.elapsed();
    sleep(settings.interval * 2).await;
    let lasted = begun.elapsed();
    let events = log.events();
    following.abort();
    let mut problems = check::all(&truth, &events);
    problems.extend(stage::failing(&stage.postern.moment().borrow().clone()).await?);
    let stored = log::read(&stage.postern.moment().borrow().clone(), events.len()).await?;
    if stored != events.iter().map(|event| event.id.clone()).collect::<Vec<_>>() {
        problems.push("the subscriber did not see the log as it is, each event once and in order".to_owned());
    }
    let seconds = Duration::as_secs_f64;
    println!(
        "set up in {:.0} s, lived {:.0} s, all told {:.1} s later",
        seconds(&set_up),
        seconds(&settings.lasts),
        seconds(&settled)
    );
    print!("{}", figures::text(settings, &stage, &truth, &events, lasted));
    stage.postern.stop().await?;
    Ok(problems)
}
