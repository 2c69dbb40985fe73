//! Sends mails through lettre's own pool, and prints how many seconds that took.
//!
//! `postern-bench-lettre PORT CONNECTIONS MAILS BODY_FILE`: as many callers as connections, each sends one after the other.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures real time, and has no settings"
)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lettre::transport::smtp::PoolConfig;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, connections, mails, body] = &arguments[..] else {
        return Err("usage: postern-bench-lettre PORT CONNECTIONS MAILS BODY_FILE".into());
    };
    let (connections, mails): (u32, usize) = (connections.parse()?, mails.parse()?);
    let body: Arc<str> = std::fs::read_to_string(body)?.into();
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(port.parse()?)
        .pool_config(PoolConfig::new().max_size(connections))
        .build();
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let callers = (0..connections).map(|_| {
        let (transport, next, body) = (transport.clone(), Arc::clone(&next), Arc::clone(&body));
        tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < mails {
                let mail = Message::builder()
                    .from("sender@example.org".parse()?)
                    .to("anna@example.org".parse()?)
                    .subject("a mail of the benchmark")
                    .body(body.to_string())?;
                transport.send(mail).await?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    println!("{}", begun.elapsed().as_secs_f64());
    Ok(())
}
