//! Runs gateways, connectors, a provider, callers and subscribers in simulated time, under faults that follow from a
//! seed, and checks what Postern promises. Each seed is run in a process of its own, and is the same run each time.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod cable;
mod callers;
mod check;
mod machine;
mod provider;
mod readers;
mod way;
mod weather;
mod world;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use postern_chassis::serve::BoxError;
use postern_gateway::doors::Doors as Unguarded;
use postern_gateway::ledger::Once;
use postern_gateway::seal::KeyRing;

use weather::lock;
use world::World;

/// What clients call.
pub(crate) type Doors = Once<Unguarded>;

/// Simulates gateways under faults.
#[derive(Parser)]
struct Arguments {
    /// Run this seed alone
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Tell of all that happens in it
    #[arg(long, requires = "seed")]
    trace: bool,

    /// How many seeds to run
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    first: u64,

    /// How many run at a time
    #[arg(long, default_value_t = 2, value_name = "NUMBER")]
    jobs: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.seed {
        Some(seed) => one(seed, arguments.trace),
        None => all(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed in this process.
fn one(seed: u64, is_told: bool) -> Result<bool, BoxError> {
    let folder = std::env::temp_dir().join(format!("postern-simulation-{}", std::process::id()));
    postern_chance::seed(seed);
    let keys = keys(&folder)?;
    let mut world = World::new(seed, is_told, keys)?;
    let took = world.run()?;
    let (hash, count, wrongs) = world.weather.told();
    println!("seed {seed}: {count} steps in {} s, {hash:016x}", took.as_secs());
    wrongs.iter().for_each(|wrong| println!("seed {seed}: {wrong}"));
    Ok(wrongs.is_empty())
}

/// A key ring: the same each time, as what is digested with it is.
fn keys(path: &Path) -> Result<KeyRing, BoxError> {
    std::fs::write(path, format!("key-one {}=\n", "A".repeat(43)))?;
    let keys = KeyRing::read(path);
    std::fs::remove_file(path)?;
    Ok(keys?)
}

/// Runs many, each in a process of its own.
fn all(arguments: &Arguments) -> Result<bool, BoxError> {
    let program = std::env::current_exe()?;
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first.saturating_add(arguments.seeds);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let ran = Command::new(&program).arg("--seed").arg(seed.to_string()).output();
                    let told = match ran {
                        Ok(ran) if ran.status.success() => continue,
                        Ok(ran) => [ran.stdout, ran.stderr].concat(),
                        Err(error) => error.to_string().into_bytes(),
                    };
                    println!("{}", String::from_utf8_lossy(&told).trim_end());
                    println!("again, with all that happens: postern-simulation --seed {seed} --trace");
                    lock(&failed).push(seed);
                }
            });
        }
    });
    let failed = lock(&failed);
    println!(
        "{} seeds from {}, of which {} failed: {failed:?}",
        arguments.seeds,
        arguments.first,
        failed.len()
    );
    Ok(failed.is_empty())
}
