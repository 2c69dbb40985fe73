//! Callers who send and queue mail over every death of the gateway, each request repeated under its own id until its
//! outcome is known, or told to be unknowable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_client::Client;
use postern_proto::outbox::v1::QueueEmailRequest;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use tokio_util::sync::CancellationToken;

use crate::world::{SMTP, mail};

/// How long a caller rests between two mails: the outbox is to be busy, and not ever further behind.
const REST: Duration = Duration::from_millis(15);
/// How long a caller waits for an answer before it asks again. It is the HTTP/2 client's fault where none comes: a call
/// that it takes in the moment in which its connection breaks may be forgotten until the next one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of each mail, by its request id, which is its subject too.
#[derive(Default)]
pub(super) struct Asked {
    /// Sent: its Message-ID.
    pub(super) confirmed: BTreeMap<String, String>,
    /// How many of these were asked for more than once.
    pub(super) repeated: usize,
    /// To be sent, with an outcome that nobody knows.
    pub(super) unknown: BTreeSet<String>,
    /// Queued: its name.
    pub(super) queued: BTreeMap<String, String>,
}

/// Asks until there is an answer: the gateway may die, or not be there yet, and the same request goes to whichever comes.
async fn insist<T, F: Future<Output = T>>(ask: impl Fn() -> F) -> T {
    loop {
        if let Ok(answer) = tokio::time::timeout(PATIENCE, ask()).await {
            return answer;
        }
    }
}

/// Sends mail after mail.
pub(super) async fn send(client: Client, done: CancellationToken, asked: Arc<Mutex<Asked>>) {
    for number in 0.. {
        if done.is_cancelled() {
            return;
        }
        let request_id = format!("sent-{number:05}");
        let request = SendEmailRequest {
            connection: SMTP.to_owned(),
            request_id: request_id.clone(),
            content: Some(Content::Email(mail(&request_id))),
            delivery_reports: None,
        };
        let tries = AtomicUsize::new(0);
        let sent = insist(|| {
            client.retrying(|client| {
                tries.fetch_add(1, Ordering::Relaxed);
                let request = request.clone();
                async move { client.smtp().send_email(request).await }
            })
        })
        .await;
        let mut asked = asked.lock().unwrap();
        match sent {
            Ok(response) => {
                asked.confirmed.insert(request_id, response.into_inner().message_id);
                asked.repeated += usize::from(tries.into_inner() > 1);
            }
            Err(error) if error.reason() == "OUTCOME_UNKNOWN" => {
                asked.unknown.insert(request_id);
            }
            Err(error) => panic!("{request_id}: {error:?}"),
        }
    }
}

/// Queues mail after mail.
pub(super) async fn queue(client: Client, done: CancellationToken, asked: Arc<Mutex<Asked>>) {
    for number in 0.. {
        if done.is_cancelled() {
            return;
        }
        let request_id = format!("queued-{number:05}");
        let request = QueueEmailRequest {
            connection: SMTP.to_owned(),
            request_id: request_id.clone(),
            email: Some(mail(&request_id)),
            ..QueueEmailRequest::default()
        };
        let queued = insist(|| {
            client.retrying(|client| {
                let request = request.clone();
                async move { client.outbox().queue_email(request).await }
            })
        })
        .await;
        let queued = queued.unwrap_or_else(|error| panic!("{request_id}: {error:?}"));
        let name = queued.into_inner().queued_email.unwrap().name;
        asked.lock().unwrap().queued.insert(request_id, name);
        tokio::time::sleep(REST).await;
    }
}
