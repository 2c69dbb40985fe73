//! `skip_token`: where a list of mails goes on. It is our own text, though it holds a link of Graph's, and it belongs
//! to the request it was made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_proto::outlook::v1::GetEmailsRequest;
use prost::Message as _;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::graph::Mailbox;

/// The version of what a token holds.
const VERSION: u8 = 1;
/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// A place in a list: a page, and how many of its items are done with.
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) position: usize,
    /// How many mails are still to be passed over.
    pub(super) skip: usize,
}

#[derive(Serialize, Deserialize)]
struct Held {
    version: u8,
    url: String,
    position: usize,
    skip: usize,
    digest: String,
}

/// The token for a place in the list that a request asked for.
pub(super) fn write(asked: &GetEmailsRequest, place: &Place) -> String {
    let held = Held {
        version: VERSION,
        url: place.url.to_string(),
        position: place.position,
        skip: place.skip,
        digest: digest(asked),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&held).unwrap_or_default())
}

/// The place in a request's token.
///
/// # Errors
/// It is no token, or that of another request.
pub(super) fn read(asked: &GetEmailsRequest, mailbox: &Mailbox) -> Result<Place, Error> {
    let wrong = |problem: &str| Error::field("skip_token", problem);
    let none = || wrong("expected the skip_token of an answer");
    let text = Some(&asked.skip_token).filter(|text| text.len() <= MAX_TOKEN).ok_or_else(none)?;
    let held: Held = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).map_err(|_| none())?)
        .ok()
        .filter(|held: &Held| held.version == VERSION)
        .ok_or_else(none)?;
    if held.digest != digest(asked) {
        return Err(wrong("belongs to another request: expected the other fields unchanged"));
    }
    // A token comes from outside: it may lead to lists of messages of the configured Graph, and nowhere else.
    let url = mailbox.link(&held.url).map_err(|_| none())?;
    if !url.path().to_ascii_lowercase().ends_with("/messages") {
        return Err(none());
    }
    Ok(Place { url, position: held.position, skip: held.skip })
}

/// What the other fields of a request say, in short.
fn digest(asked: &GetEmailsRequest) -> String {
    let other = GetEmailsRequest { skip_token: String::new(), skip: 0, ..asked.clone() };
    let digest = ring::digest::digest(&ring::digest::SHA256, &other.encode_to_vec());
    URL_SAFE_NO_PAD.encode(digest.as_ref())
}
