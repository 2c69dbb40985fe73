//! `ListEvents`: pages of what the log keeps. A page's token is the cursor that was reached, for the same filter.

use bytes::Bytes;
use postern_proto::event::v1::{EventFilter, ListEventsRequest};

use super::begin::{Begin, begin};
use super::cursor::Cursor;
use super::filter::Filter;
use super::reading::expired;
use super::wish::Start;
use crate::error::Error;
use crate::page::Page;
use crate::store::EventLog;

/// The most bytes of a page that has more than one event: an answer is to stay under 4 MiB.
const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// How many events are looked through for one page: a filter that drops nearly all is answered in good time too.
const MOST_LOOKED_AT: usize = 20_000;
/// How much is read at once.
const READ_EVENTS: usize = 1_000;

/// `postern.event.v1.ListEventsResponse`, its events left encoded as the log holds them.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Listed {
    /// Each an encoded `postern.event.v1.Event`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) events: Vec<Bytes>,
    /// Where to go on.
    #[prost(string, tag = "2")]
    pub(super) next_page_token: String,
}

/// Lists a page.
///
/// # Errors
/// INVALID_ARGUMENT (FIELD_INVALID, CURSOR_INVALID); OUT_OF_RANGE (CURSOR_EXPIRED); storage fails.
pub(super) async fn list(log: &dyn EventLog, request: ListEventsRequest) -> Result<Listed, Error> {
    let asked = request.filter.unwrap_or_default();
    let page = Page::read(request.page_size, &request.page_token, &arguments(&asked))?;
    let mut wrong = Vec::new();
    let filter = Filter::parse(asked, &mut wrong);
    let start = match request.start {
        _ if !page.after.is_empty() => reached(&page.after)?,
        None => Start::Earliest,
        Some(start) => Start::parse("start", Some(start), &mut wrong)?,
    };
    if !wrong.is_empty() {
        return Err(Error::Fields(wrong));
    }
    let is_after = matches!(start, Start::After(..));
    let Begin { after: mut place, gap, .. } = begin(log, start).await?;
    if let Some(gap) = gap.as_ref().filter(|_| is_after) {
        return Err(expired(gap).into());
    }
    let (mut listed, mut bytes, mut looked_at) = (Listed::default(), 0, 0);
    loop {
        let left = PAGE_BYTES.saturating_sub(bytes).max(1);
        let events = log.read(place.sequence, READ_EVENTS, left).await?;
        let Some(first) = events.first() else { return Ok(listed) };
        if is_after && first.sequence > place.sequence + 1 {
            let missed = (first.sequence - 1 - place.sequence).cast_signed();
            return Err(expired(&postern_proto::event::v1::Gap { missed, ..Default::default() }).into());
        }
        for event in events {
            let next = Cursor { sequence: event.sequence, fingerprint: event.fingerprint, ..place };
            looked_at += 1;
            if filter.matches(&event) {
                let is_full = listed.events.len() >= page.size || bytes + event.encoded.len() > PAGE_BYTES;
                if is_full && !listed.events.is_empty() {
                    listed.next_page_token = page.token(&hex(&place.encode()));
                    return Ok(listed);
                }
                bytes += event.encoded.len();
                listed.events.push(event.encoded);
            }
            place = next;
        }
        if looked_at >= MOST_LOOKED_AT {
            if place.sequence < log.bounds().await?.last {
                listed.next_page_token = page.token(&hex(&place.encode()));
            }
            return Ok(listed);
        }
        // Much may be dropped before anything matches: others get their turn.
        tokio::task::consume_budget().await;
    }
}

/// What a page token is good for: the method and its filter, in a form in which no two filters are the same.
fn arguments(filter: &EventFilter) -> Vec<&str> {
    let sources = filter.sources.iter().flat_map(|source| ["source", source]);
    let types = filter.types.iter().flat_map(|event_type| ["type", event_type]);
    ["ListEvents"].into_iter().chain(sources).chain(types).collect()
}

/// The place in a page token, which was made here.
fn reached(text: &str) -> Result<Start, Error> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    let cursor = bytes.as_deref().and_then(|bytes| Cursor::decode(bytes).ok()).ok_or_else(|| {
        Error::field("page_token", "is not the next_page_token of this list: expected it unchanged")
    })?;
    Ok(Start::After(cursor, cursor.encode()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
