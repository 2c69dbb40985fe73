//! The gateway's program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern_chassis::program::run("gateway", postern_gateway::main(std::env::args_os()))
}
