//! Requests that change what is there, and how each may be repeated.

use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ask, Failure, Mailbox};

impl Mailbox {
    /// Sets properties. Repeated: what is set twice is set.
    pub(crate) async fn set<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))?;
        let ask =
            Ask { method: Method::PATCH, url, prefer: None, if_match: None, body: Some(&body), safe: true };
        self.run(ask).await?.json()
    }

    /// Makes something of which a second one does no harm. Repeated.
    pub(crate) async fn post_again<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::unreadable(0))?;
        let ask =
            Ask { method: Method::POST, url, prefer: None, if_match: None, body: Some(&body), safe: true };
        self.run(ask).await?.json()
    }

    /// Deletes something whose second deletion would be another thing than the first. Repeated only where it is certain
    /// that nothing was done.
    pub(crate) async fn delete_once(&self, url: Url) -> Result<(), Failure> {
        self.run(Ask { method: Method::DELETE, url, prefer: None, if_match: None, body: None, safe: false })
            .await
            .map(drop)
    }
}
