//! Items read, made, changed and deleted: what calendars and contacts need beyond what mail does.

use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ask, Failure, Mailbox};

/// How often a deletion is asked for that may have been done already.
const MAX_DELETES: u32 = 3;

/// Whether a request may be made again when it is not known whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It does the same once more, or nothing.
    Harmless,
    /// It might be done twice.
    Doubtful,
}

impl Mailbox {
    /// Reads JSON, with a preference.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        url: Url,
        prefer: Option<&str>,
    ) -> Result<T, Failure> {
        let prefer = prefer.map(str::to_owned);
        let ask = Ask { method: Method::GET, url, prefer, if_match: None, body: None, safe: true };
        self.run(ask).await?.json()
    }

    /// Makes an item, with a preference.
    pub(crate) async fn make<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
        prefer: Option<&str>,
        again: Again,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))?;
        let prefer = prefer.map(str::to_owned);
        let safe = again == Again::Harmless;
        let ask = Ask { method: Method::POST, url, prefer, if_match: None, body: Some(&body), safe };
        self.run(ask).await?.json()
    }

    /// Has something done with what the body says, which answers nothing.
    pub(crate) async fn act_with(&self, url: Url, body: &impl Serialize) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))?;
        let ask =
            Ask { method: Method::POST, url, prefer: None, if_match: None, body: Some(&body), safe: false };
        self.run(ask).await.map(drop)
    }

    /// Changes an item. With a change key it must still have that key; such a change is not repeated in doubt, for the
    /// first may have given the item another key.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
        prefer: Option<&str>,
        change_key: Option<&str>,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))?;
        let prefer = prefer.map(str::to_owned);
        let if_match = change_key.map(|key| format!("W/\"{key}\""));
        let safe = if_match.is_none();
        let ask = Ask { method: Method::PATCH, url, prefer, if_match, body: Some(&body), safe };
        self.run(ask).await?.json()
    }

    /// Deletes an item. One that is gone after a deletion whose answer was lost is one that was deleted.
    pub(crate) async fn remove(&self, url: Url) -> Result<(), Failure> {
        let mut doubtful = false;
        for left in (0..MAX_DELETES).rev() {
            let ask = Ask {
                method: Method::DELETE,
                url: url.clone(),
                prefer: None,
                if_match: None,
                body: None,
                safe: false,
            };
            match self.run(ask).await {
                Ok(_) => return Ok(()),
                Err(failure) if doubtful && failure.is_gone() => return Ok(()),
                Err(failure) if left > 0 && failure.is_doubtful() && failure.is_passing() => {
                    doubtful = true;
                    if !self.pause_before_repeat(failure.retry_after()).await {
                        return Err(failure);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::unreadable(0))
    }

    /// Waits before something is done again. Says no where the time of the call does not allow it.
    pub(crate) async fn pause_before_repeat(&self, asked: Option<std::time::Duration>) -> bool {
        let pause = asked.unwrap_or(super::FIRST_PAUSE) + super::FIRST_PAUSE.mul_f64(fastrand::f64());
        if tokio::time::Instant::now() + pause >= self.until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
