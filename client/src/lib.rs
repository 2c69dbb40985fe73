//! What a Rust service uses to work with a Postern gateway: a connection that mends itself, the services of the contract,
//! errors that can be asked, retries where the errors say so, and subscriptions that go on by themselves.

#![doc = include_str!("example.md")]

mod client;
mod consumer;
mod contract;
mod dial;
mod error;
mod link;
mod pause;
mod retry;
mod sending;
mod settings;
mod streams;
mod subscription;
mod tls;

pub use postern_proto as proto;

pub use client::Client;
pub use consumer::{Consumed, Consumer};
pub use error::Error;
pub use link::Link;
pub use retry::{Retry, new_request_id};
pub use sending::{Mails, Outcomes};
pub use settings::{Identity, Settings, SettingsError, Tls};
pub use subscription::{Delivered, Start, Subscription, Wish};
