//! GetEmails: a folder's mails page by page, as far as the answer holds them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postern_proto::mail::v1::ReceivedEmail;
use postern_proto::outlook::v1::{GetEmailsRequest, GetEmailsResponse};
use reqwest::Url;

use super::{attachments, shape};
use crate::error::{Error, refuse};
use crate::folders::no_folder;
use crate::graph::model::{Attachment, Message, Page};
use crate::graph::{Failure, Mailbox, with_options};
use crate::listing::{self, Bounds, MAX_ANSWER, MAX_PAGES, Place, size_in_answer};
use crate::outlook::{Call, Outlook};

/// How many mails are listed unless told otherwise.
const TOP: usize = 10;
/// How many mails a page of Graph's holds: with their bodies, larger pages take long and much memory.
const PAGE: usize = 25;
/// How many mails have their attachments listed at once. The mailbox's gate has the last word.
const AT_ONCE: usize = 4;

/// Lists mails.
pub(super) async fn get_emails(
    outlook: &Outlook,
    call: &Call,
    asked: &GetEmailsRequest,
) -> Result<GetEmailsResponse, Error> {
    let Bounds { top, skip } = bounds(asked)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    if !asked.skip_token.is_empty() {
        let digest = digest(asked);
        let place = listing::read_token(&mailbox, "skip_token", &asked.skip_token, &digest, &["/messages"])?;
        return read(&mailbox, asked, top, place).await;
    }
    let folders = outlook.folders(call, &mailbox);
    let found = folders.find("folder_path", &asked.folder_path).await?;
    let begin = async |folder: &str| {
        let url = first_page(&mailbox, folder, asked, top, skip);
        let skip = if searches(asked) { skip } else { 0 };
        read(&mailbox, asked, top, Place { url, position: 0, skip }).await
    };
    if !found.remembered {
        return begin(&found.id).await;
    }
    // What is remembered saves the caller the wait, not the question: the folder may have been renamed, moved or deleted,
    // and another one may be where it was.
    let (listed, now) = tokio::join!(begin(&found.id), folders.find_anew("folder_path", &asked.folder_path));
    let now = now?;
    if now.id == found.id { listed } else { begin(&now.id).await }
}

fn bounds(asked: &GetEmailsRequest) -> Result<Bounds, Error> {
    let mut problems = Vec::new();
    let bounds = Bounds::read(asked.top, asked.skip, TOP, &mut problems);
    if asked.search_query.chars().any(char::is_control) {
        problems.push(("search_query".to_owned(), "holds a control character".to_owned()));
    }
    refuse(problems).map(|()| bounds)
}

/// What tells the request from others, whatever place it goes on from.
fn digest(asked: &GetEmailsRequest) -> String {
    listing::digest(&GetEmailsRequest { skip_token: String::new(), skip: 0, ..asked.clone() })
}

fn searches(asked: &GetEmailsRequest) -> bool {
    !asked.search_query.is_empty()
}

/// The first page. Graph combines a search neither with a filter nor with `$skip`: these are then done here.
fn first_page(mailbox: &Mailbox, folder: &str, asked: &GetEmailsRequest, top: usize, skip: usize) -> Url {
    let sifts = searches(asked) && (asked.fetch_only_unread || skip > 0);
    let size = if sifts { PAGE } else { top.min(PAGE) }.to_string();
    let skip = skip.to_string();
    let search = format!("\"{}\"", asked.search_query.replace('\\', r"\\").replace('"', r#"\""#));
    let mut options = vec![("$select", shape::SELECT), ("$top", &size)];
    if searches(asked) {
        options.push(("$search", &search));
    } else {
        options.push(("$orderby", "receivedDateTime desc"));
        if asked.fetch_only_unread {
            // What is ordered by must come first in the filter.
            options.push(("$filter", "receivedDateTime ge 1900-01-01T00:00:00Z and isRead eq false"));
        }
        if asked.skip > 0 {
            options.push(("$skip", &skip));
        }
    }
    with_options(mailbox.url(&["mailFolders", folder, "messages"]), &options)
}

/// Reads on from a place until there are enough mails, the answer is full, or there are no more.
async fn read(
    mailbox: &Mailbox,
    asked: &GetEmailsRequest,
    top: usize,
    mut place: Place,
) -> Result<GetEmailsResponse, Error> {
    let mut emails = Vec::new();
    let mut room = MAX_ANSWER;
    let goes_on = |emails, place: &Place| {
        let skip_token = listing::write_token(Some(place), digest(asked));
        Ok(GetEmailsResponse { emails, skip_token })
    };
    for _ in 0..MAX_PAGES {
        let page: Page<Message> =
            mailbox.read(place.url.clone()).await.map_err(|failure| refused(asked, failure))?;
        let wanted = page.value.into_iter().enumerate().skip(place.position);
        let mut wanted: Vec<_> = wanted.filter(|(_, message)| is_wanted(asked, message)).collect();
        let passed = place.skip.min(wanted.len());
        place.skip -= passed;
        let rest = wanted.split_off(passed).into_iter().take(top - emails.len() + 1);
        let with_files = rest.map(|(index, message)| with_files(mailbox, asked, index, message));
        // All are listed before content is fetched: a request that is left half done keeps its place at the gate, and
        // the fetching would wait for it for ever.
        let with_files: Vec<_> = stream::iter(with_files).buffered(AT_ONCE).try_collect().await?;
        for (index, mut email, files) in with_files {
            place.position = index;
            if emails.len() == top {
                return goes_on(emails, &place);
            }
            let size = size_in_answer(&email);
            if size > room {
                if !emails.is_empty() {
                    return goes_on(emails, &place);
                }
                shape::cut_body(&mut email, size - room);
            }
            let id = email.id.clone();
            room = room.saturating_sub(size_in_answer(&email));
            let taken = attachments::fetch(mailbox, &id, &files, &mut email.attachments, room).await?;
            // Links to files elsewhere are told whether they fit or not.
            room = room.saturating_sub(taken);
            emails.push(email);
        }
        match page.next {
            Some(next) => {
                place = Place { url: mailbox.link(&next)?, position: 0, skip: place.skip };
                if emails.len() == top {
                    return goes_on(emails, &place);
                }
            }
            None => return Ok(GetEmailsResponse { emails, skip_token: String::new() }),
        }
    }
    goes_on(emails, &place)
}

/// Whether a mail that Graph lists is one that was asked for.
fn is_wanted(asked: &GetEmailsRequest, message: &Message) -> bool {
    message.removed.is_none() && !(asked.fetch_only_unread && message.is_read == Some(true))
}

/// A mail with its attachments listed, if they are asked for.
async fn with_files(
    mailbox: &Mailbox,
    asked: &GetEmailsRequest,
    index: usize,
    message: Message,
) -> Result<(usize, ReceivedEmail, Vec<Attachment>), Error> {
    let mut email = shape::received(message);
    let mut files = Vec::new();
    if asked.include_attachments && email.has_attachment {
        files = attachments::list(mailbox, &email.id).await?;
        email.attachments = attachments::shown(&files);
        email.has_attachment = !files.is_empty();
    }
    Ok((index, email, files))
}

/// What Graph refuses of a list: the search may be at fault, or the place to go on from.
fn refused(asked: &GetEmailsRequest, failure: Failure) -> Error {
    match failure.status() {
        Some(400) if searches(asked) => Error::field("search_query", "Graph cannot make sense of it"),
        Some(400 | 410) if !asked.skip_token.is_empty() => {
            Error::field("skip_token", "Graph does not know this place any more: start anew")
        }
        _ => no_folder(failure),
    }
}
