//! Upload sessions: ranges of bytes, put in order to a URL that Graph gave for them. The URL is the permission: the
//! access token does not go there (attachment: createUploadSession).

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Url};
use serde::Deserialize;

use super::{Failure, Mailbox, Reply, request_id};

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// The bytes from here on are waited for.
    At(u64),
    /// All is there.
    Done,
}

#[derive(Deserialize, Default)]
struct Session {
    #[serde(default, rename = "nextExpectedRanges", alias = "NextExpectedRanges")]
    next: Vec<String>,
}

impl Mailbox {
    /// The URL of an upload session. It is its own permission, and may be anywhere; it is no less safe on the way than
    /// Graph itself.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn upload_link(&self, link: &str) -> Result<Url, Failure> {
        let url = Url::parse(link).map_err(|_| Failure::ForeignLink)?;
        let is_safe = url.scheme() == "https" || url.scheme() == self.base.scheme();
        if is_safe { Ok(url) } else { Err(Failure::ForeignLink) }
    }

    /// Puts the bytes from `from` on of `total`, once, and says where the upload then stands.
    pub(crate) async fn put_range(
        &self,
        url: &Url,
        from: u64,
        total: u64,
        bytes: Bytes,
    ) -> Result<Stand, Failure> {
        let size = bytes.len() as u64;
        let last = from + size.saturating_sub(1);
        let request = self
            .http
            .request(Method::PUT, url.clone())
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("bytes {from}-{last}/{total}"))
            .body(bytes);
        stand(&self.at_session(request, size).await?)
    }

    /// Asks where an upload stands.
    pub(crate) async fn upload_stands(&self, url: &Url) -> Result<Stand, Failure> {
        stand(&self.at_session(self.http.request(Method::GET, url.clone()), 0).await?)
    }

    async fn at_session(&self, request: RequestBuilder, upload: u64) -> Result<Reply, Failure> {
        let _place = self.gate.pass(upload, self.until).await?;
        let client_request_id = request_id();
        let request = request.header("client-request-id", &client_request_id);
        self.in_time(&client_request_id, self.reply(request, &client_request_id)).await
    }
}

/// Reads `["2097152"]`, `["2097152-"]` and `["2097152-4194303"]`.
fn stand(reply: &Reply) -> Result<Stand, Failure> {
    if reply.status == 201 {
        return Ok(Stand::Done);
    }
    let session: Session = reply.json()?;
    let next = session.next.first().and_then(|range| range.split('-').next()?.parse().ok());
    next.map(Stand::At).ok_or_else(|| Failure::unreadable(reply.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_upload_stands_is_read_however_it_is_written() {
        let read = |status, body: &str| stand(&Reply { status, date: None, body: body.into() });
        for body in [
            r#"{"nextExpectedRanges":["7"]}"#,
            r#"{"nextExpectedRanges":["7-"]}"#,
            r#"{"NextExpectedRanges":["7-9"]}"#,
        ] {
            assert!(matches!(read(200, body), Ok(Stand::At(7))), "{body}");
        }
        assert!(matches!(read(201, ""), Ok(Stand::Done)));
        assert!(read(200, r#"{"nextExpectedRanges":[]}"#).is_err());
        assert!(read(200, "").is_err());
    }
}
