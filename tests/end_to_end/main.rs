//! Postern's behaviour over real sockets, one module a part of it. Each test brings up its own world on free ports.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "this is all test code: what fails here should fail at once and say where"
)]

mod smtp;
