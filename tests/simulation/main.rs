//! Runs gateways, connectors, a provider, callers and subscribers in simulated time, under faults that follow from a
//! seed, and checks what Postern promises. Each seed is run in a copy of this process, and is the same run each time.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod account;
mod cable;
mod callers;
mod check;
mod journal;
mod machine;
mod provider;
mod readers;
mod user;
mod way;
mod weather;
mod world;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use postern_chance::{apart, ended};
use postern_chassis::serve::BoxError;
use postern_gateway::doors::Doors as Unguarded;
use postern_gateway::ledger::Once;
use postern_gateway::seal::KeyRing;

use weather::{COUNTED, Counts};
use world::World;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often something has panicked.
static PANICS: AtomicU64 = AtomicU64::new(0);

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

    /// Tell of each in a number, which is the same each time
    #[arg(long)]
    each: bool,

    /// How many run at a time
    #[arg(long, default_value_t = 2, value_name = "NUMBER")]
    jobs: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = begin().and_then(|keys| match arguments.seed {
        Some(seed) => one(seed, arguments.trace, &keys),
        None => all(&arguments, &keys),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes what all runs share. What a process makes once, and by chance, is made by a run of no account: else the first
/// seed that needs it would be another run than it is alone.
fn begin() -> Result<Arc<KeyRing>, BoxError> {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tell(panic);
    }));
    postern_chance::seed(0);
    let folder = std::env::temp_dir().join(format!("postern-simulation-{}", std::process::id()));
    let keys = Arc::new(keys(&folder)?);
    World::new(0, false, keys.clone())?.run()?;
    Ok(keys)
}

/// Runs a seed.
fn run(seed: u64, is_told: bool, keys: &Arc<KeyRing>) -> Result<World, BoxError> {
    postern_chance::seed(seed);
    let mut world = World::new(seed, is_told, keys.clone())?;
    world.run()?;
    // A task that panicked ended alone.
    if PANICS.load(Ordering::Relaxed) > 0 {
        world.weather.wrong("something panicked".to_owned());
    }
    Ok(world)
}

/// Runs one seed in this process.
fn one(seed: u64, is_told: bool, keys: &Arc<KeyRing>) -> Result<bool, BoxError> {
    let world = run(seed, is_told, keys)?;
    let (hash, count, wrongs) = world.weather.told();
    println!("seed {seed}: {hash:016x}, {count} steps, {}", counted(&world.weather.counts()));
    wrongs.iter().for_each(|wrong| println!("seed {seed}: {wrong}"));
    Ok(wrongs.is_empty())
}

/// Numbers with what they count.
fn counted(counts: &Counts) -> String {
    let counted = counts.iter().zip(COUNTED).map(|(count, what)| format!("{count} {what}"));
    counted.collect::<Vec<_>>().join(", ")
}

/// A key ring: the same each time, as what is digested with it is.
fn keys(path: &Path) -> Result<KeyRing, BoxError> {
    std::fs::write(path, format!("key-one {}=\n", "A".repeat(43)))?;
    let keys = KeyRing::read(path);
    std::fs::remove_file(path)?;
    Ok(keys?)
}

/// Runs many, each in a copy of this process as it stands now.
fn all(arguments: &Arguments, keys: &Arc<KeyRing>) -> Result<bool, BoxError> {
    let jobs = usize::try_from(arguments.jobs).unwrap_or(1).max(1);
    let mut seeds = arguments.first..arguments.first.saturating_add(arguments.seeds);
    let (mut copies, mut running) = (Vec::new(), Vec::new());
    let (mut failed, mut total) = (Vec::new(), Counts::default());
    loop {
        while copies.len() < jobs
            && let Some(seed) = seeds.next()
        {
            copies.push(apart(|mut tell| {
                run(seed, false, keys).is_ok_and(|world| {
                    let (hash, _, wrongs) = world.weather.told();
                    let told = [[hash].as_slice(), &world.weather.counts()].concat();
                    let told: Vec<_> = told.into_iter().flat_map(u64::to_le_bytes).collect();
                    tell.write_all(&told).is_ok() && wrongs.is_empty()
                })
            })?);
            running.push(seed);
        }
        if copies.is_empty() {
            break;
        }
        let (place, is_good) = ended(&copies)?;
        let (mut copy, seed) = (copies.remove(place), running.remove(place));
        let mut hash = [0; size_of::<u64>()];
        let mut counts = [[0; size_of::<u64>()]; COUNTED.len()];
        let told =
            copy.told.read_exact(&mut hash).and_then(|()| copy.told.read_exact(counts.as_flattened_mut()));
        if told.is_ok() {
            let counts = counts.map(u64::from_le_bytes);
            total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
        if arguments.each {
            println!("seed {seed}: {:016x}", u64::from_le_bytes(hash));
        }
        if !is_good {
            failed.push(seed);
            tell(seed)?;
        }
    }
    let (seeds, first) = (arguments.seeds, arguments.first);
    println!("{seeds} seeds from {first}, of which {} failed: {failed:?}", failed.len());
    println!("in all {}", counted(&total));
    Ok(failed.is_empty())
}

/// Tells of a seed that failed by running it alone.
fn tell(seed: u64) -> Result<(), BoxError> {
    let ran = Command::new(std::env::current_exe()?).arg("--seed").arg(seed.to_string()).output()?;
    println!("{}", String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).trim_end());
    if ran.status.success() {
        println!("seed {seed} failed among others and does not alone");
    }
    println!("again, with all that happens: postern-simulation --seed {seed} --trace");
    Ok(())
}
