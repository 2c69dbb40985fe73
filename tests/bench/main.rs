//! Makes the figures in docs/numbers.md: runs Postern beside what others would use, in the same run on the same machine,
//! and prints a section in Markdown. Figures of a build without optimisation mean nothing, and it says so.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod echo;
mod forwarding;
mod load;
mod peers;

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
    /// Forwarded unary calls per second, beside nginx grpc_pass (needs nginx and h2load)
    Forwarding(forwarding::Settings),
}

fn main() -> ExitCode {
    program::run("postern-bench", run())
}

async fn run() -> Result<(), BoxError> {
    let settings: Settings = settings::load(std::env::args_os())?;
    if cfg!(debug_assertions) {
        println!("**Built without optimisation: these figures mean nothing.** Use `cargo run --release`.\n");
    }
    match settings.measure {
        Measure::Forwarding(settings) => forwarding::run(&settings).await,
    }
}
