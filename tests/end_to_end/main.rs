//! Postern from the outside, each file one behaviour. One binary, so that it links once.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what a test needs and cannot have ends the test; clippy takes only #[test] functions for tests"
)]

mod approvals;
mod auth;
mod client;
mod connections;
mod console;
mod disk;
mod edge;
mod events;
mod forward;
mod health;
mod invariants;
mod kills;
mod ledger;
mod metrics;
mod outbox;
mod outlook;
mod outside;
mod ports;
mod several;
mod sign_in;
mod simulation;
mod slow;
mod smtp;
mod stopping;
mod store;
mod subscriptions;
mod the_loop;
mod triggers;
mod world;
