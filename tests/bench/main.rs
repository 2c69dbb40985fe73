//! Makes the figures in docs/numbers.md: runs Postern beside what others would use, in the same run on the same machine,
//! and prints Markdown. Figures of a build without optimisation mean nothing, and it says so.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod append;
mod batch;
mod catch_up;
mod echo;
mod fan_out;
mod figures;
mod forwarding;
mod growth;
mod idle;
mod latency;
mod load;
mod memory;
mod nudge;
mod peers;
mod plot;
mod rivals;
mod scan;
mod smtp;
mod source;
mod start;
mod subscribers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postern_chassis::serve::BoxError;
use postern_chassis::{program, settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Postern beside what others would use, and prints Markdown.
#[derive(Parser, Debug)]
#[command(name = "postern-bench", version)]
struct Settings {
    /// What to measure
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand, Debug)]
enum Measure {
    /// Everything: the whole of docs/numbers.md
    All(forwarding::Settings),
    /// Forwarded unary calls per second, beside nginx grpc_pass (needs nginx and h2load)
    Forwarding(forwarding::Settings),
    /// Mails handed over per second, beside other senders (needs what tests/bench/set_up.sh sets up)
    Smtp(smtp::Settings),
    /// From the SMTP server's 250 to the event at the subscriber, when nudged
    Nudge,
    /// From the provider's change to the event at the subscriber, pushed and polled, for mail and calendar
    Latency,
    /// Reading calls to one mailbox, one by one and put together as `$batch`
    Batch,
    /// Durable appends, beside JetStream and Redis streams (needs nats-server and redis-server)
    Append(append::Settings),
    /// One source of events to many subscribers, beside NATS and Redis (needs nats-server and redis-server)
    FanOut(fan_out::Settings),
    /// Reading a long log from its beginning, beside JetStream (needs nats-server)
    CatchUp(catch_up::Settings),
    /// Very many triggers at rest: memory, processor time, lateness of looks
    Idle(idle::Settings),
    /// What grows with what: memory and lateness over subscribers, triggers and the log's length; a plot and its figures
    Growth(growth::Settings),
    /// Start to ready of the all-in-one gateway
    Start,
    /// Memory at rest of each service
    Memory,
    /// A log of events with its service, which the measurements start
    #[command(hide = true)]
    Source(source::Settings),
}

fn main() -> ExitCode {
    program::run("postern-bench", run())
}

async fn run() -> Result<(), BoxError> {
    let settings: Settings = settings::load(std::env::args_os())?;
    let text = match settings.measure {
        Measure::All(settings) => all(&settings).await?,
        Measure::Forwarding(settings) => forwarding::section(&settings).await?,
        Measure::Smtp(settings) => smtp::section(&settings).await?,
        Measure::Nudge => nudge::section().await?,
        Measure::Latency => latency::section().await?,
        Measure::Batch => batch::section().await?,
        Measure::Append(settings) => append::section(&settings).await?,
        Measure::CatchUp(settings) => catch_up::section(&settings).await?,
        Measure::Idle(settings) => idle::section(&settings).await?,
        Measure::Growth(settings) => growth::section(&settings).await?,
        Measure::FanOut(settings) => fan_out::section(&settings).await?,
        Measure::Source(settings) => return source::run(settings).await,
        Measure::Start => start::section().await?,
        Measure::Memory => memory::section().await?,
    };
    if cfg!(debug_assertions) {
        println!("**Built without optimisation: these figures mean nothing.** Use `cargo run --release`.\n");
    }
    print!("{text}");
    Ok(())
}

/// The whole document.
async fn all(settings: &forwarding::Settings) -> Result<String, BoxError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let head = format!(
        "# Numbers\n\nMade by `cargo build --release --workspace --bins && tests/bench/set_up.sh && \
         target/release/postern-bench all`, on a machine with {cores} \
         cores, shared with others: believe the ratios, which come from one run, rather than the figures.\n"
    );
    let sections = [
        head,
        forwarding::section(settings).await?,
        smtp::section(&smtp::Settings::default()).await?,
        nudge::section().await?,
        latency::section().await?,
        append::section(&append::Settings::default()).await?,
        fan_out::section(&fan_out::Settings::default()).await?,
        catch_up::section(&catch_up::Settings::default()).await?,
        idle::section(&idle::Settings::default()).await?,
        growth::section(&growth::Settings::default()).await?,
        start::section().await?,
        memory::section().await?,
    ];
    Ok(sections.join("\n"))
}
