//! What is asked of Graph, and what may be asked again. Each is repeated where it is certain that nothing was done; in
//! doubt only what its name says may be.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::{Ask, Failure, Mailbox, pause_after};

/// How often a deletion is asked for that may have been done already.
const MAX_DELETES: u32 = 3;

/// What was read, and when Graph said so by its own clock.
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) date: Option<Timestamp>,
}

/// Whether something may be made again when it is not known whether it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// A second one is the first, or does no harm.
    Harmless,
    /// There might be two.
    Doubtful,
}

impl Mailbox {
    /// Reads JSON.
    pub(crate) async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failure> {
        self.run(Ask::new(Method::GET, url, Again::Harmless)).await?.json()
    }

    /// Reads JSON, with the time at Graph. `page`: how many items a page is to hold at most.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        url: Url,
        page: Option<usize>,
    ) -> Result<Read<T>, Failure> {
        let reply = self.run(Ask { page, ..Ask::new(Method::GET, url, Again::Harmless) }).await?;
        Ok(Read { value: reply.json()?, date: reply.date })
    }

    /// Reads bytes.
    pub(crate) async fn bytes(&self, url: Url) -> Result<Vec<u8>, Failure> {
        Ok(self.run(Ask::new(Method::GET, url, Again::Harmless)).await?.body)
    }

    /// Makes something.
    pub(crate) async fn make<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
        again: Again,
    ) -> Result<T, Failure> {
        let body = Some(written(body)?);
        self.run(Ask { body, ..Ask::new(Method::POST, url, again) }).await?.json()
    }

    /// Has something done that answers nothing, once.
    pub(crate) async fn act(&self, url: Url, body: Option<&Value>) -> Result<(), Failure> {
        let body = body.map(written).transpose()?;
        self.run(Ask { body, ..Ask::new(Method::POST, url, Again::Doubtful) }).await.map(drop)
    }

    /// Changes what the body names, which is the same when it is done twice. With a change key the item must still have
    /// that key; such a change is not repeated in doubt, for the first may have given the item another.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
        change_key: Option<&str>,
    ) -> Result<T, Failure> {
        let body = Some(written(body)?);
        let if_match = change_key.map(|key| format!("W/\"{key}\""));
        let again = if if_match.is_none() { Again::Harmless } else { Again::Doubtful };
        self.run(Ask { body, if_match, ..Ask::new(Method::PATCH, url, again) }).await?.json()
    }

    /// Deletes something. What is gone after a deletion whose answer was lost was deleted.
    pub(crate) async fn delete(&self, url: Url) -> Result<(), Failure> {
        let mut is_doubtful = false;
        let mut left = MAX_DELETES;
        loop {
            left -= 1;
            match self.delete_once(url.clone()).await {
                Ok(()) => return Ok(()),
                Err(failure) if is_doubtful && failure.is_gone() => return Ok(()),
                Err(failure) if left > 0 && failure.is_doubtful() && failure.is_passing() => {
                    is_doubtful = true;
                    if !self.pause_before_repeat(failure.retry_after()).await {
                        return Err(failure);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Deletes something whose second deletion would be another thing than the first: once.
    pub(crate) async fn delete_once(&self, url: Url) -> Result<(), Failure> {
        self.run(Ask::new(Method::DELETE, url, Again::Doubtful)).await.map(drop)
    }

    /// Waits before something is done again. Says no where the time of the call does not allow it.
    pub(crate) async fn pause_before_repeat(&self, asked: Option<Duration>) -> bool {
        let pause = pause_after(1, asked);
        if Instant::now() + pause >= self.until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))
}
