//! What a Rust service uses to work with a Postern gateway: a connection that mends itself, the services of the contract,
//! errors that can be asked, retries where the errors say so, and subscriptions that go on by themselves.
//!
//! ```no_run
//! use postern_client::proto::mail::v1::Email;
//! use postern_client::proto::smtp::v1::{SendEmailRequest, send_email_request::Content};
//! use postern_client::{Client, Delivered, Settings, Start, Wish};
//!
//! # async fn example(token: String, stored: Option<Vec<u8>>) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&Settings::to("http://127.0.0.1:7025").with_token(token))?;
//!
//! // The request id makes the sending safe to repeat, hence it is repeated where that can help.
//! let request = SendEmailRequest {
//!     connection: "connections/billing-smtp".into(),
//!     request_id: "invoice-4711".into(),
//!     content: Some(Content::Email(Email {
//!         to: vec!["anna@example.org".into()],
//!         subject: "Your invoice".into(),
//!         body: "Dear Anna …".into(),
//!         ..Email::default()
//!     })),
//!     ..SendEmailRequest::default()
//! };
//! let sending = client.retrying(|client| {
//!     let request = request.clone();
//!     async move { client.smtp().send_email(request).await }
//! });
//! match sending.await {
//!     Ok(sent) => println!("{}", sent.into_inner().message_id),
//!     Err(error) if error.outcome_is_unknown() => println!("it may have been sent: {error}"),
//!     Err(error) => println!("not sent: {}", error.reason()),
//! }
//!
//! // Events, from where the last run left off.
//! let start = stored.map_or(Start::Latest, |cursor| Start::After(cursor.into()));
//! let mut events = client.subscribe(Wish::from(start).of_type("email.received"));
//! while let Some(delivered) = events.next().await {
//!     match delivered? {
//!         Delivered::Event(event) => println!("{} from {}", event.id, event.source),
//!         Delivered::Gap(gap) => println!("{} events are no longer kept", gap.missed),
//!     }
//!     // Store `events.cursor()` once that was dealt with.
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod contract;
mod dial;
mod error;
mod link;
mod pause;
mod retry;
mod sending;
mod settings;
mod subscription;
mod tls;

pub use postern_proto as proto;

pub use client::Client;
pub use error::Error;
pub use link::Link;
pub use retry::{Retry, new_request_id};
pub use sending::{Mails, Outcomes};
pub use settings::{Identity, Settings, SettingsError, Tls};
pub use subscription::{Delivered, Start, Subscription, Wish};
