//! Bytes read as they come, for what is too large to be held.

use bytes::Bytes;
use reqwest::{Method, Response, Url};

use super::gates::Place;
use super::{Again, Ask, Failure, Mailbox, request_id};

/// An answer whose body is read on demand. It keeps its place at the mailbox's gate.
pub(crate) struct Download<'a> {
    mailbox: &'a Mailbox,
    answer: Response,
    client_request_id: String,
    _place: Place<'a>,
}

impl Mailbox {
    /// Asks for bytes, once.
    pub(crate) async fn open(&self, url: Url) -> Result<Download<'_>, Failure> {
        let place = self.gate.pass(0, self.until).await?;
        let client_request_id = request_id();
        let ask = Ask::new(Method::GET, url, Again::Harmless);
        let asked = self.send(self.request(&ask, &client_request_id), &client_request_id);
        let answer = self.in_time(&client_request_id, asked).await?;
        Ok(Download { mailbox: self, answer, client_request_id, _place: place })
    }
}

impl Download<'_> {
    /// The next bytes; none at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let id = self.client_request_id.clone();
        let read = async {
            let broken = |_| Failure::Broken { client_request_id: id.clone() };
            self.answer.chunk().await.map_err(broken)
        };
        self.mailbox.in_time(&id, read).await
    }
}
