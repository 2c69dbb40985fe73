//! Notices: an answer posted to the URL that its asker named, signed, and tried for a day. A notice lies in the store
//! until it is taken or given up, so that a stop delays it at most.

mod target;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_chassis::digest;
use postern_proto::approval::v1::Approval;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url, header};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::record::{APPROVALS, NOTICES, NoticeRecord, id_of, time};
use super::{ApprovalSettings, Inner};
use crate::contract;
use crate::store::{Commit, Expect, StoreError, Write};
use target::Targets;

/// How long a receiver may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many redirects are followed.
const MAX_HOPS: usize = 3;
/// What the secret is derived for where none is set.
const PURPOSE: &[u8] = b"postern notification secret";
/// When the notice was signed, in seconds since 1970, and its signature.
const TIMESTAMP: &str = "postern-timestamp";
const SIGNATURE: &str = "postern-signature";

/// What posts answers.
pub(super) struct Notices {
    /// Absent: the machine names no authorities to trust.
    client: Option<Client>,
    secret: hmac::Key,
    targets: Targets,
}

/// The secret that signs notices: its text is the key. The one that is set, or one made of the key ring.
#[must_use]
pub fn notification_secret(settings: &ApprovalSettings, digests: &hmac::Key) -> SecretString {
    let made = || digest::hex(hmac::sign(digests, PURPOSE).as_ref()).into();
    settings.notification_secret.clone().unwrap_or_else(made)
}

impl Notices {
    pub(super) fn new(settings: &ApprovalSettings, digests: &hmac::Key) -> Self {
        Self::with(settings, digests, |client| client)
    }

    fn with(
        settings: &ApprovalSettings,
        digests: &hmac::Key,
        more: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Self {
        // Two rustls providers cannot be told apart by rustls itself once both are linked: say which.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let targets = Targets { allow_private: settings.allow_private, allow_http: settings.allow_http };
        // Each redirect is followed by hand once its target is checked; a proxy would connect unchecked.
        let builder = Client::builder()
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .https_only(!settings.allow_http)
            .dns_resolver(targets)
            .timeout(PATIENCE)
            .pool_max_idle_per_host(0);
        let client = more(builder).build();
        if client.is_err() {
            tracing::warn!("answers cannot be posted: the machine names no authorities to trust");
        }
        let secret = notification_secret(settings, digests);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        Self { client: client.ok(), secret, targets }
    }

    /// Checks a URL that answers are to be posted to. An empty one is none.
    ///
    /// # Errors
    /// What is wrong with it and what was expected.
    pub(super) async fn check(&self, url: &str) -> Result<(), String> {
        if url.is_empty() {
            return Ok(());
        }
        self.targets.check(url).await
    }

    /// Posts a body, signed. The error says what went wrong, and never where.
    async fn post(&self, url: &str, body: &[u8]) -> Result<(), String> {
        let client = self.client.as_ref().ok_or("the machine names no authorities to trust")?;
        let mut url = Url::parse(url).map_err(|_| "the URL cannot be read")?;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.sign(timestamp, body);
        for _ in 0..=MAX_HOPS {
            self.targets.allowed(&url)?;
            let request = client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/json")
                .header(TIMESTAMP, timestamp)
                .header(SIGNATURE, &signature)
                .body(body.to_vec());
            let response = request.send().await.map_err(|error| reason_of(&error))?;
            let status = response.status();
            // What it says beside its status is not read.
            match status.as_u16() {
                200..=299 => return Ok(()),
                307 | 308 => {
                    let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
                    let to = to.and_then(|to| url.join(to).ok());
                    url = to.ok_or("it redirects to nowhere")?;
                }
                status => return Err(format!("it answered {status}")),
            }
        }
        Err("it redirects too often".to_owned())
    }

    fn sign(&self, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(timestamp.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        format!("v1={}", digest::hex(context.sign().as_ref()))
    }
}

/// The error of a request in words, without its URL.
fn reason_of(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<target::NotAllowed>() {
            return error.to_string();
        }
        cause = error.source();
    }
    let reason = match () {
        () if error.is_timeout() => "it did not answer in time",
        () if error.is_connect() => "it cannot be reached",
        () => "the request failed",
    };
    reason.to_owned()
}

/// What is posted: the approval with what is wanted of it most.
pub(super) fn body(approval: &Approval) -> Vec<u8> {
    let message = contract::pool().get_message_by_name("postern.approval.v1.Approval");
    let shown = message.and_then(|message| {
        let message = DynamicMessage::decode(message, approval.encode_to_vec().as_slice()).ok()?;
        serde_json::to_value(&message).ok()
    });
    let body = json!({
        "id": id_of(&approval.name),
        "selected_option": approval.selected_option,
        "responder": approval.responder,
        "user_email_address": approval.responder,
        "approval": shown,
    });
    body.to_string().into_bytes()
}

impl Inner {
    /// Tries to post a notice, and writes down what came of it.
    pub(super) async fn post(&self, key: &str) {
        let entry = match self.store.get(key).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, key, "a notice could not be read");
                return;
            }
        };
        let Ok(mut notice) = NoticeRecord::decode(entry.value) else { return };
        let Some(guards) = self.guards(key) else { return };
        let name = format!("{APPROVALS}{}", key.strip_prefix(NOTICES).unwrap_or_default());
        let url = self.connections.unseal(&name, &notice.url);
        let url = url.as_ref().and_then(|url| std::str::from_utf8(url).ok());
        let posted = match url {
            Some(url) => self.notices.post(url, &notice.body).await,
            None => Err("the key that sealed its URL is missing".to_owned()),
        };
        notice.tries = notice.tries.saturating_add(1);
        let (name, tries, expect) = (name.as_str(), notice.tries, Expect::Revision(entry.revision));
        let due = SystemTime::now() + self.settings.pause(tries);
        let write = match posted {
            Ok(()) => {
                tracing::info!(approval.name = name, tries, "an answer was posted");
                Write { key: key.to_owned(), value: None, expect }
            }
            Err(problem) if due >= time(notice.give_up_time) => {
                tracing::error!(
                    approval.name = name,
                    tries,
                    problem,
                    "an answer could not be posted: given up"
                );
                Write { key: key.to_owned(), value: None, expect }
            }
            Err(problem) => {
                tracing::warn!(approval.name = name, tries, problem, "an answer could not be posted yet");
                notice.due_time = Some(due.into());
                notice.write(key.to_owned(), expect)
            }
        };
        match self.log.commit(Commit { writes: vec![write], guards, ..Commit::default() }).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, approval.name = name, "what became of a notice is not written down")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use clap::Parser as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A server that answers so, and how often it was asked.
    async fn server(status: StatusCode, location: String) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        let router = Router::new().fallback(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = (status, [(header::LOCATION, location.clone())]);
            async move { answer }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, asked)
    }

    #[tokio::test]
    async fn a_redirect_from_the_public_to_a_private_address_is_not_followed() {
        let settings =
            crate::settings::Settings::parse_from(["gateway", "--allow-http-notifications"]).approvals;
        let digests = hmac::Key::new(hmac::HMAC_SHA256, b"a key");
        let (private, reached) = server(StatusCode::NO_CONTENT, String::new()).await;
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
            let to = format!("http://{host}:{}/", private.port());
            let (first, asked) = server(StatusCode::TEMPORARY_REDIRECT, to).await;
            // A name that is of the public internet, as far as it is known, is answered here.
            let notices = Notices::with(&settings, &digests, |client| client.resolve("hook.example", first));
            let url = format!("http://hook.example:{}/", first.port());
            let refused = notices.post(&url, b"{}").await.unwrap_err();
            assert!(refused.contains("private, loopback or link-local"), "{host}: {refused}");
            assert_eq!((asked.load(Ordering::SeqCst), reached.load(Ordering::SeqCst)), (1, 0), "{host}");
        }
    }
}
