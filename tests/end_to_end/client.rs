//! The client crate, as a Rust service uses it, against real gateways and against a server that says what it is told to.

mod calls;
mod consuming;
mod relay;
mod retrying;
mod scripted;
mod sending;
mod subscription;

pub(crate) use relay::{Relay, dropping};
