//! The sandbox's program: shows Postern's whole loop against a small world of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_chassis::program::run("postern-sandbox", postern_sandbox::program::main(std::env::args_os()))
}
