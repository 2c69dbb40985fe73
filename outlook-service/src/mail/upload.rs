//! An attachment on its way up in ranges, as its bytes come. One range is held, so that what broke off within it can be
//! sent again from where Graph says that it stands.

use bytes::{Bytes, BytesMut};
use postern_proto::mail::v1::LargeAttachment;
use reqwest::Url;
use tokio::time::Instant;

use super::{attachments, compose};
use crate::graph::model::UploadSession;
use crate::graph::{Again, Failure, Mailbox, Stand, pause_after};

/// How many bytes a range has: below Graph's bound of 4 MB, and a multiple of 320 KiB, which its storage prefers.
const RANGE: usize = 12 * 320 * 1024;
/// How often a range is tried that does not get on.
const MAX_TRIES: u32 = 5;

/// An attachment on its way up.
pub(super) struct Upload<'a> {
    mailbox: &'a Mailbox,
    message: String,
    /// How many attachments the message had when this one was begun.
    before: usize,
    url: Url,
    size: u64,
    /// How many bytes Graph has.
    at: u64,
    /// What follows them.
    range: BytesMut,
    done: bool,
}

impl<'a> Upload<'a> {
    /// Begins.
    pub(super) async fn begin(
        mailbox: &'a Mailbox,
        message: &str,
        before: usize,
        file: &LargeAttachment,
    ) -> Result<Self, Failure> {
        let url = mailbox.url(&["messages", message, "attachments", "createUploadSession"]);
        // A session that nobody uses harms nobody: it may be asked for again.
        let session: UploadSession = mailbox.make(url, &compose::item(file), Again::Harmless).await?;
        let url = mailbox.upload_link(&session.upload_url)?;
        let size = u64::try_from(file.size).unwrap_or_default();
        let range = BytesMut::new();
        Ok(Self { mailbox, message: message.to_owned(), before, url, size, at: 0, range, done: false })
    }

    /// Takes the next bytes, and passes on what fills a range. The last range waits for `end`.
    pub(super) async fn take(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.range.len() == RANGE {
                self.put().await?;
            }
            let (fits, rest) = bytes.split_at(bytes.len().min(RANGE - self.range.len()));
            self.range.extend_from_slice(fits);
            bytes = rest;
        }
        Ok(())
    }

    /// Passes on the last range. The attachment is then part of the message.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.put().await?;
        if self.done || self.is_there().await? { Ok(()) } else { Err(Failure::unreadable(200)) }
    }

    async fn put(&mut self) -> Result<(), Failure> {
        let range: Bytes = self.range.split().freeze();
        let (start, end) = (self.at, self.at + range.len() as u64);
        let mut tries = 1;
        while self.at < end && !self.done {
            let rest = range.slice(usize::try_from(self.at - start).unwrap_or_default()..);
            let failure = match self.mailbox.put_range(&self.url, self.at, self.size, rest).await {
                Ok(Stand::Done) if end == self.size => {
                    self.done = true;
                    break;
                }
                Ok(Stand::At(next)) if next > self.at && next <= end => {
                    self.at = next;
                    tries = 1;
                    continue;
                }
                Ok(_) => Failure::unreadable(200),
                Err(failure) => failure,
            };
            let pause = pause_after(tries, failure.retry_after());
            // 409 and 416: the range was not the one that was waited for.
            let worth = failure.did_nothing()
                || failure.is_passing()
                || failure.is_doubtful()
                || failure.status() == Some(416)
                || (failure.is_gone() && end == self.size);
            if !worth || tries == MAX_TRIES || Instant::now() + pause >= self.mailbox.until {
                return Err(failure);
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            self.ask(start, end, failure).await?;
        }
        self.at = end;
        Ok(())
    }

    /// Finds out where the upload stands after something broke off.
    async fn ask(&mut self, start: u64, end: u64, failure: Failure) -> Result<(), Failure> {
        if failure.did_nothing() {
            return Ok(());
        }
        match self.mailbox.upload_stands(&self.url).await {
            Ok(Stand::At(next)) if (start..=end).contains(&next) => self.at = next,
            Ok(Stand::Done) if end == self.size => self.done = true,
            // A session that is complete is gone: the attachment is then there.
            Err(asked) if asked.is_gone() && end == self.size && self.is_there().await? => self.done = true,
            Err(asked) if asked.is_passing() => {}
            _ => return Err(failure),
        }
        Ok(())
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        Ok(attachments::list(self.mailbox, &self.message).await?.len() > self.before)
    }
}
