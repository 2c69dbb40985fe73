//! The SMTP connector as a process of its own.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern_chassis::program::run("smtp-service", postern_smtp_service::main(std::env::args_os()))
}
