//! Upload sessions: an attachment put in ranges, in order, to a URL that is its own permission.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{HeaderValue, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::refusal::{Answer, Answered};
use super::{Shared, draft, refusal, shape};
use crate::world::Attachment;

/// The first segment of an upload's path.
pub(super) const PATH: &str = "upload";
/// The smallest and the largest file that is uploaded in ranges.
const SIZES: std::ops::RangeInclusive<usize> = 3_000_000..=150 * 1024 * 1024;
/// What a range stays below.
const MAX_RANGE: usize = 4_000_000;
/// How long a session lives.
const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// The sessions, and what was said in them.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Session>>,
    said: Mutex<Vec<Uploaded>>,
}

/// A request to an upload session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The method.
    pub method: String,
    /// Content-Range, if it was there.
    pub range: String,
    /// Whether there was an access token, which has no business there.
    pub authorized: bool,
    /// The status that was answered; 0: the connection ended first.
    pub status: u16,
}

#[derive(Debug)]
struct Session {
    address: String,
    message: String,
    file: Attachment,
    size: usize,
    expires: Timestamp,
}

impl Uploads {
    pub(super) fn said(&self) -> Vec<Uploaded> {
        lock(&self.said).clone()
    }
}

/// `createUploadSession`.
pub(super) fn begin(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    let (file, size) = draft::item(&asked.json()?)?;
    if size < *SIZES.start() {
        return Err(refusal::attachment_too_small());
    }
    let message = {
        let mut state = shared.world.lock();
        let account = state.account(address).ok_or_else(refusal::no_item)?;
        account.message(id).filter(|message| message.is_draft).cloned().ok_or_else(refusal::no_item)?
    };
    let there: usize = message.attachments.iter().map(|file| file.content.len()).sum();
    if size > *SIZES.end() || there + size > shared.limits.max_message() {
        return Err(refusal::message_too_large());
    }
    let key: String = std::iter::repeat_with(fastrand::alphanumeric).take(32).collect();
    let expires = shared.world.now().checked_add(LIFE).unwrap_or_default();
    let session = Session { address: address.to_owned(), message: message.id, file, size, expires };
    lock(&shared.uploads.sessions).insert(key.clone(), session);
    Ok(Answered::json_of(
        StatusCode::CREATED,
        json!({
            "uploadUrl": format!("{}/{PATH}/{key}?authtoken={key}", shared.url),
            "expirationDateTime": shape::time(expires),
            "nextExpectedRanges": ["0-"],
        }),
    ))
}

/// Answers a request to a session.
pub(super) fn answer(shared: &Shared, asked: &Exchange) -> Answered {
    let answered = run(shared, asked, None).unwrap_or_else(Into::into);
    note(shared, asked, answered.status.as_u16());
    answered
}

/// Takes the first bytes of a range; then the connection ends.
pub(super) fn take_part(shared: &Shared, asked: &Exchange, bytes: usize) {
    let _ = run(shared, asked, Some(bytes));
    note(shared, asked, 0);
}

fn note(shared: &Shared, asked: &Exchange, status: u16) {
    lock(&shared.uploads.said).push(Uploaded {
        method: asked.method.to_string(),
        range: header(asked, "content-range").to_owned(),
        authorized: asked.headers.contains_key("authorization"),
        status,
    });
}

fn run(shared: &Shared, asked: &Exchange, part: Option<usize>) -> Answer {
    if asked.headers.contains_key("authorization") {
        return Err(refusal::unauthorized("InvalidAudience", "The URL is its own permission."));
    }
    let key = asked.segments.get(1).map(String::as_str).unwrap_or_default();
    let mut sessions = lock(&shared.uploads.sessions);
    sessions.retain(|_, session| session.expires > shared.world.now());
    let session = sessions.get_mut(key).ok_or_else(refusal::no_session)?;
    match asked.method {
        Method::GET => Ok(Answered::ok(stands(session, "-"))),
        Method::DELETE => {
            sessions.remove(key);
            Ok(Answered::empty(StatusCode::NO_CONTENT))
        }
        Method::PUT => {
            check(asked, session)?;
            let bytes = part.map_or(asked.body.len(), |part| part.min(asked.body.len()));
            session.file.content.extend_from_slice(asked.body.get(..bytes).unwrap_or_default());
            if session.file.content.len() < session.size {
                return Ok(Answered::ok(stands(session, "")));
            }
            let Some(session) = sessions.remove(key) else { return Err(refusal::no_session()) };
            drop(sessions);
            attach(shared, session)
        }
        _ => Err(refusal::method()),
    }
}

fn check(asked: &Exchange, session: &Session) -> Result<(), refusal::Refusal> {
    if asked.body.len() >= MAX_RANGE {
        return Err(refusal::too_large());
    }
    if header(asked, "content-type") != "application/octet-stream" {
        return Err(refusal::bad("application/octet-stream is expected."));
    }
    let from = session.file.content.len();
    let last = (from + asked.body.len()).saturating_sub(1);
    let expected = format!("bytes {from}-{last}/{}", session.size);
    let right = header(asked, "content-range") == expected && !asked.body.is_empty() && last < session.size;
    if right { Ok(()) } else { Err(refusal::wrong_range()) }
}

fn attach(shared: &Shared, session: Session) -> Answer {
    let Session { address, message, mut file, .. } = session;
    let made = shared.world.change(|state| {
        let account = state.account(&address)?;
        let draft = account.message(&message).filter(|message| message.is_draft)?;
        file.id = format!("{}-att{}", draft.id, draft.attachments.len());
        let id = file.id.clone();
        account.edit(&message, |message| message.attachments.push(file)).then_some(id)
    });
    let id = made.ok_or_else(refusal::no_item)?;
    let mut answered = Answered::empty(StatusCode::CREATED);
    let place =
        format!("{}/api/v2.0/Users('{address}')/Messages('{message}')/Attachments('{id}')", shared.url);
    if let Ok(place) = HeaderValue::from_str(&place) {
        answered.headers.insert("location", place);
    }
    Ok(answered)
}

fn stands(session: &Session, dash: &str) -> Value {
    json!({
        "ExpirationDateTime": shape::time(session.expires),
        "nextExpectedRanges": [format!("{}{dash}", session.file.content.len())],
    })
}

fn header<'a>(asked: &'a Exchange, name: &str) -> &'a str {
    asked.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
