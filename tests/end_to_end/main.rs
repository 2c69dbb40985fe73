//! Behaviour end to end: real services on free ports, the outside world faked at the wire.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "what a test leans on may fail it; clippy.toml's own leave covers test functions alone"
)]

mod outlook;
