//! The `outlook-service` program: everything it does is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern_chassis::program::run("outlook-service", postern_outlook_service::main(std::env::args_os()))
}
