//! A mail on its way: made as a draft that bears a mark, completed, sent. Where an answer is lost the mark, then the id,
//! tells what became of it; what is not known is said, never done twice.

use std::time::Duration;

use postern_proto::mail::v1::{Attachment, LargeAttachment};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::searches::{SEARCHES, SETTLED};
use super::upload::Upload;
use super::{attachments, compose};
use crate::error::Error;
use crate::graph::model::{Folder, Message, Page};
use crate::graph::{Again, Failure, Mailbox, with_options};
use crate::once;

/// From how many bytes on an attachment is uploaded in ranges. One request takes up to 3,145,611 bytes of it, an upload
/// session no fewer than 2,097,152 (as measured by others); Graph's documentation says 3 MB for both.
pub(super) const LARGE: usize = 3_000_000;
/// The pauses before each look for what a broken request left behind.
pub(super) const LOOKS: [u64; 5] = [0, 250, 500, 1_000, 2_000];
/// The pauses before each look for what an earlier run of the same call left behind: a sent copy may appear with delay.
const LOOKS_OF_REPEAT: [u64; 6] = [0, 500, 1_000, 2_000, 3_000, 3_500];
/// How long removing a draft may take beyond the time of its call, while its caller waits.
const REMOVAL: Duration = Duration::from_secs(2);
/// How long it may take after that: longer than any pause that Graph asks for.
const LATE_REMOVAL: Duration = Duration::from_secs(20 * 60);
/// How many drafts are to be removed later at most.
static LATE_REMOVALS: Semaphore = Semaphore::const_new(1_000);

/// A sending.
pub(super) struct Sending<'a> {
    pub(super) mailbox: &'a Mailbox,
    /// The path of the mail within the request.
    pub(super) path: &'a str,
    /// What its messages are found by.
    pub(super) mark: String,
    /// Cancelled when the caller has gone.
    pub(super) gone: &'a CancellationToken,
}

/// A message that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) internet_message_id: String,
    /// Whether an earlier run made it.
    pub(super) is_found: bool,
    /// The names of the attachments that it has and that are not accounted for yet.
    has: Vec<String>,
    /// How many attachments it has in all.
    count: usize,
}

/// What a sending begins with.
#[derive(Debug)]
pub(super) enum Begun {
    /// A draft, to be completed and sent.
    Draft(Made),
    /// The copy of a mail that was sent before.
    Sent(Made),
}

impl Sending<'_> {
    /// Makes the draft. Where an earlier run may have made it, what it left is looked for first. What travels within the
    /// draft is accounted for.
    pub(super) async fn begin(&self, message: &Value, is_repeat: bool) -> Result<Begun, Error> {
        let mut begun = self.make(message, is_repeat).await?;
        if let Begun::Draft(made) = &mut begun {
            made.account_for(message);
        }
        Ok(begun)
    }

    async fn make(&self, message: &Value, is_repeat: bool) -> Result<Begun, Error> {
        if is_repeat && let Some(begun) = self.find_earlier().await? {
            return Ok(begun);
        }
        let failure = match self.mailbox.make(self.mailbox.url(&["messages"]), message, Again::Doubtful).await
        {
            Ok(message) => return Ok(Begun::Draft(made(message)?)),
            Err(failure) => failure,
        };
        match failure.is_doubtful() {
            true => self.find(&self.mark, &LOOKS).await.ok().flatten().ok_or_else(|| self.refused(failure)),
            false => Err(self.refused(failure)),
        }
    }

    /// Looks for what an earlier run of the same call left behind. Where the call's time is too short to be certain that
    /// there is nothing, it ends so, and the next repeat goes on.
    pub(super) async fn find_earlier(&self) -> Result<Option<Begun>, Error> {
        let since = SEARCHES.begun(&self.mark);
        let found = self.find(&self.mark, &LOOKS_OF_REPEAT).await?;
        let left = SETTLED.saturating_sub(since.elapsed());
        if found.is_none() && !left.is_zero() {
            return Err(Error::Unsettled(left));
        }
        SEARCHES.ended(&self.mark);
        Ok(found)
    }

    /// Looks for a message with a mark, a few times.
    pub(super) async fn find(&self, mark: &str, pauses: &[u64]) -> Result<Option<Begun>, Error> {
        let filter = once::bearing(compose::MARK, mark);
        let options =
            [("$filter", filter.as_str()), ("$select", "id,internetMessageId,isDraft,isRead,parentFolderId")];
        let url = with_options(self.mailbox.url(&["messages"]), &options);
        let now = Instant::now();
        // The other half of the time is for what follows.
        let latest = now + self.mailbox.until.saturating_duration_since(now) / 2;
        for pause in pauses {
            if !wait(*pause, latest).await {
                break;
            }
            let found: Page<Message> = self.mailbox.read(url.clone()).await?;
            let is_sent = |message: &&Message| message.is_draft == Some(false);
            // One who writes to oneself has two copies; the one that was sent is read.
            let copy = found.value.iter().find(|message| is_sent(message) && message.is_read == Some(true));
            if let Some(copy) = copy.or_else(|| found.value.iter().find(is_sent)) {
                return Ok(Some(Begun::Sent(made(copy.clone())?)));
            }
            if let Some(draft) = self.undeleted(found.value).await? {
                let mut made = made(draft)?;
                let listed = attachments::list(self.mailbox, &made.id).await?;
                made.count = listed.len();
                made.has = listed.into_iter().filter_map(|attachment| attachment.name).collect();
                made.is_found = true;
                return Ok(Some(Begun::Draft(made)));
            }
        }
        Ok(None)
    }

    /// The first draft that nobody has thrown away.
    async fn undeleted(&self, drafts: Vec<Message>) -> Result<Option<Message>, Failure> {
        if drafts.is_empty() {
            return Ok(None);
        }
        let bin = self.mailbox.url(&["mailFolders", "deleteditems"]);
        let bin: Folder = self.mailbox.read(with_options(bin, &[("$select", "id")])).await?;
        let stays = |draft: &Message| draft.parent_folder_id.as_ref().is_none_or(|folder| *folder != bin.id);
        Ok(drafts.into_iter().find(stays))
    }

    /// Adds an attachment, unless an earlier run did.
    pub(super) async fn attach(&self, made: &mut Made, attachment: &Attachment) -> Result<(), Error> {
        if made.has_already(compose::name(&attachment.file_name, &attachment.content_id)) {
            return Ok(());
        }
        self.stay()?;
        if attachment.content_data.len() >= LARGE {
            let file = LargeAttachment {
                file_name: attachment.file_name.clone(),
                content_id: attachment.content_id.clone(),
                content_type: attachment.content_type.clone(),
                size: i64::try_from(attachment.content_data.len()).unwrap_or(i64::MAX),
                ..LargeAttachment::default()
            };
            let mut upload = self.upload(made, &file).await?;
            upload.take(&attachment.content_data).await.map_err(|failure| self.refused(failure))?;
            upload.end().await.map_err(|failure| self.refused(failure))?;
            made.count += 1;
            return Ok(());
        }
        let url = self.mailbox.url(&["messages", &made.id, "attachments"]);
        if let Err(failure) =
            self.mailbox.make::<Value>(url, &compose::file(attachment), Again::Doubtful).await
        {
            let may_be = failure.is_doubtful();
            if !may_be || attachments::list(self.mailbox, &made.id).await?.len() <= made.count {
                return Err(self.refused(failure));
            }
        }
        made.count += 1;
        Ok(())
    }

    /// Begins the upload of an attachment.
    pub(super) async fn upload(&self, made: &Made, file: &LargeAttachment) -> Result<Upload<'_>, Error> {
        self.stay()?;
        Upload::begin(self.mailbox, &made.id, made.count, file).await.map_err(|failure| self.refused(failure))
    }

    /// Sends the draft and gives the message's ids; a draft that is not sent is removed.
    pub(super) async fn send(&self, made: Made) -> Result<(String, String), Error> {
        if let Err(gone) = self.stay() {
            self.discard(&made.id).await;
            return Err(gone);
        }
        let url = self.mailbox.url(&["messages", &made.id, "send"]);
        if let Err(failure) = self.mailbox.act(url, None).await {
            // An earlier run's sending may have got in between.
            let overtaken = made.is_found && matches!(failure.status(), Some(400 | 404 | 412));
            if !failure.is_doubtful() && !overtaken {
                self.discard(&made.id).await;
                return Err(self.refused(failure));
            }
            if !self.was_sent(&made.id).await {
                return Err(Error::OutcomeUnknown { message_id: made.id, failure });
            }
        }
        Ok((made.id, made.internet_message_id))
    }

    /// Whether a mail whose sending broke off is known to have gone: it is then no draft any more. A draft that is still
    /// one proves nothing, for the sending may be under way; nor does one that is nowhere, though its copy may yet come.
    async fn was_sent(&self, id: &str) -> bool {
        let url = with_options(self.mailbox.url(&["messages", id]), &[("$select", "isDraft")]);
        for pause in LOOKS {
            if !wait(pause, self.mailbox.until).await {
                return false;
            }
            let read = self.mailbox.read::<Message>(url.clone()).await;
            if read.is_ok_and(|read| read.is_draft == Some(false)) {
                return true;
            }
        }
        false
    }

    /// Removes a draft that will not be sent, as far as possible: where Graph asks for a pause, when that is over, though
    /// the call has ended by then.
    pub(super) async fn discard(&self, id: &str) {
        let until = self.mailbox.until.max(Instant::now() + REMOVAL);
        let mailbox = Mailbox { until, ..self.mailbox.clone() };
        let Err(failure) = remove_draft(&mailbox, id).await else { return };
        let place = match failure.is_passing() || matches!(failure, Failure::Busy) {
            true => LATE_REMOVALS.try_acquire().ok(),
            false => None,
        };
        let Some(place) = place else {
            tracing::warn!(%failure, "a draft that was not sent could not be removed");
            return;
        };
        let id = id.to_owned();
        tokio::spawn(async move {
            let _place = place;
            let mailbox = Mailbox { until: Instant::now() + LATE_REMOVAL, ..mailbox };
            if let Err(failure) = remove_draft(&mailbox, &id).await {
                tracing::warn!(%failure, "a draft that was not sent could not be removed");
            }
        });
    }

    /// What Graph refuses of a mail: its recipients may be at fault, its header fields, or its size.
    pub(super) fn refused(&self, failure: Failure) -> Error {
        const OF_SIZE: [&str; 3] =
            ["ErrorMessageSizeExceeded", "ErrorAttachmentSizeLimitExceeded", "RequestEntityTooLarge"];
        let field = |field: &str, problem: &str| Error::field(format!("{}.{field}", self.path), problem);
        match failure {
            Failure::Refused(refusal) if refusal.has_code(&["ErrorInvalidRecipients"]) => {
                field("to", "Graph refused a recipient in to, cc or bcc")
            }
            Failure::Refused(refusal) if refusal.has_code(&["InvalidInternetMessageHeaderCollection"]) => {
                field("headers", "Graph refused a header field")
            }
            Failure::Refused(refusal) if refusal.status == 413 || refusal.has_code(&OF_SIZE) => {
                Error::TooLarge(refusal)
            }
            failure => failure.into(),
        }
    }

    /// Goes on while there is somebody to go on for.
    fn stay(&self) -> Result<(), Error> {
        if self.gone.is_cancelled() { Err(Error::Abandoned) } else { Ok(()) }
    }
}

impl Made {
    /// Whether an attachment of this name is there already; each counts once.
    pub(super) fn has_already(&mut self, name: &str) -> bool {
        let place = self.has.iter().position(|there| there == name);
        place.map(|place| self.has.swap_remove(place)).is_some()
    }

    /// Accounts for the attachments that travelled within the draft: a draft that is new has them and no others.
    fn account_for(&mut self, message: &Value) {
        let within = message["attachments"].as_array().map_or(&[][..], Vec::as_slice);
        if !self.is_found {
            self.count = within.len();
        }
        for name in within.iter().filter_map(|attachment| attachment["name"].as_str()) {
            self.has_already(name);
        }
    }

    /// Notes that an attachment more is there.
    pub(super) fn one_more(&mut self) {
        self.count += 1;
    }
}

/// Waits, unless that would be too late.
async fn wait(milliseconds: u64, latest: Instant) -> bool {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    if until >= latest {
        return false;
    }
    tokio::time::sleep_until(until).await;
    true
}

/// A message as Graph gave it.
pub(super) fn made(message: Message) -> Result<Made, Failure> {
    if message.id.is_empty() {
        return Err(Failure::unreadable(201));
    }
    let internet_message_id = message.internet_message_id.unwrap_or_default();
    Ok(Made { id: message.id, internet_message_id, is_found: false, has: Vec::new(), count: 0 })
}

/// Removes a message, for good where that is possible: a draft that nobody wrote is of no use in Deleted Items.
async fn remove(mailbox: &Mailbox, id: &str) -> Result<(), Failure> {
    if mailbox.act(mailbox.url(&["messages", id, "permanentDelete"]), None).await.is_ok() {
        return Ok(());
    }
    match mailbox.delete(mailbox.url(&["messages", id])).await {
        Err(failure) if !failure.is_gone() => Err(failure),
        _ => Ok(()),
    }
}

/// Removes a message unless it was sent meanwhile: a repeat of the call may have found it and sent it.
async fn remove_draft(mailbox: &Mailbox, id: &str) -> Result<(), Failure> {
    let url = with_options(mailbox.url(&["messages", id]), &[("$select", "isDraft")]);
    match mailbox.read::<Message>(url).await {
        Ok(message) if message.is_draft == Some(false) => Ok(()),
        Err(failure) if failure.is_gone() => Ok(()),
        Err(failure) => Err(failure),
        Ok(_) => remove(mailbox, id).await,
    }
}
