//! Lists of Graph's that are read page by page until there is enough, the answer is full, or there is no more; and
//! `skip_token`, which says where such a list goes on. It is our own text, though it holds a link of Graph's, and it
//! belongs to the request it was made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_chassis::digest;
use prost::Message;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Problems};
use crate::graph::model::Page;
use crate::graph::{Failure, Mailbox};

/// The largest answer: a gRPC client takes 4 MiB unless told otherwise.
pub(crate) const MAX_ANSWER: usize = 3 * 1024 * 1024;
/// How many items are listed unless told otherwise.
pub(crate) const TOP: usize = 256;
/// The most that may be told.
const MAX_TOP: usize = 1_000;
/// How many items a page of Graph's holds: larger pages take long and much memory.
const PAGE: usize = 100;
/// How many pages a call reads; a longer way goes on with `skip_token`.
pub(crate) const MAX_PAGES: usize = 100;
/// The version of what a token holds.
const VERSION: u8 = 1;
/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// A place in a list: a page, and how many of its items are done with.
pub(crate) struct Place {
    pub(crate) url: Url,
    pub(crate) position: usize,
    /// How many items are still to be passed over, where Graph does not do that.
    pub(crate) skip: usize,
}

#[derive(Serialize, Deserialize)]
struct Held {
    version: u8,
    url: String,
    position: usize,
    skip: usize,
    digest: String,
}

/// How many items are asked for and how many are passed over first.
pub(crate) struct Bounds {
    pub(crate) top: usize,
    pub(crate) skip: usize,
}

impl Bounds {
    /// Reads `top`, which is `usual` where nothing is told, and `skip`.
    pub(crate) fn read(top: i32, skip: i32, usual: usize, problems: &mut Problems) -> Self {
        let top = match usize::try_from(top) {
            Ok(0) => usual,
            Ok(top) if top <= MAX_TOP => top,
            _ => {
                problems.push(("top".to_owned(), format!("expected 1 to {MAX_TOP}")));
                usual
            }
        };
        let skip = usize::try_from(skip).unwrap_or_else(|_| {
            problems.push(("skip".to_owned(), "expected 0 or more".to_owned()));
            0
        });
        Self { top, skip }
    }

    /// How many items a page is to hold.
    pub(crate) fn page(&self) -> usize {
        self.top.min(PAGE)
    }
}

/// What a list consists of, and what is done with it.
pub(crate) struct Listing<'a, S, C, R> {
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) top: usize,
    /// An item in the shape of the contract. Nothing: it is left out.
    pub(crate) shape: S,
    /// Makes an item smaller by some bytes, as far as possible.
    pub(crate) cut: C,
    /// What a failure means here.
    pub(crate) refused: R,
}

impl<S, C, R> Listing<'_, S, C, R> {
    /// Reads on from a place. Gives the items and where to go on, if there is more.
    pub(crate) async fn read<T, P>(&self, mut place: Place) -> Result<(Vec<P>, Option<Place>), Error>
    where
        T: DeserializeOwned,
        P: Message,
        S: Fn(T) -> Option<P>,
        C: Fn(&mut P, usize),
        R: Fn(Failure) -> Error,
    {
        let mut items: Vec<P> = Vec::new();
        let mut room = MAX_ANSWER;
        for _ in 0..MAX_PAGES {
            let page: Page<T> = self.mailbox.read(place.url.clone()).await.map_err(&self.refused)?;
            let position = place.position;
            for (index, item) in page.value.into_iter().enumerate().skip(position) {
                place.position = index;
                let Some(mut item) = (self.shape)(item) else { continue };
                if items.len() == self.top {
                    return Ok((items, Some(place)));
                }
                if size_in_answer(&item) > room {
                    if !items.is_empty() {
                        return Ok((items, Some(place)));
                    }
                    let excess = size_in_answer(&item) - room;
                    (self.cut)(&mut item, excess);
                }
                room = room.saturating_sub(size_in_answer(&item));
                items.push(item);
            }
            let Some(next) = page.next else { return Ok((items, None)) };
            place = Place { url: self.mailbox.link(&next)?, position: 0, skip: 0 };
            if items.len() == self.top {
                return Ok((items, Some(place)));
            }
        }
        Ok((items, Some(place)))
    }
}

/// How many bytes an item takes in the answer, with its tag and length.
pub(crate) fn size_in_answer(item: &impl Message) -> usize {
    item.encoded_len() + 8
}

/// What tells a request from others, whatever place it goes on from.
pub(crate) fn digest(request: &impl Message) -> String {
    URL_SAFE_NO_PAD.encode(digest::of(&request.encode_to_vec()))
}

/// The token for a place in the list of a request with this digest.
pub(crate) fn write_token(place: Option<&Place>, digest: String) -> String {
    let Some(place) = place else { return String::new() };
    let (url, position, skip) = (place.url.to_string(), place.position, place.skip);
    let held = Held { version: VERSION, url, position, skip, digest };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&held).unwrap_or_default())
}

/// The place in a token, the field `field` of a request with this digest. `ends`: how the paths of such lists end.
///
/// # Errors
/// It is no token, or that of another request.
pub(crate) fn read_token(
    mailbox: &Mailbox,
    field: &str,
    token: &str,
    digest: &str,
    ends: &[&str],
) -> Result<Place, Error> {
    let none = || Error::field(field, "expected the token of an answer");
    let token = Some(token).filter(|token| token.len() <= MAX_TOKEN).ok_or_else(none)?;
    let held: Held = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).map_err(|_| none())?)
        .ok()
        .filter(|held: &Held| held.version == VERSION)
        .ok_or_else(none)?;
    if held.digest != digest {
        return Err(Error::field(field, "belongs to another request: expected the other fields unchanged"));
    }
    // A token comes from outside: it may lead to such lists of the configured Graph, and nowhere else.
    let url = mailbox.link(&held.url).map_err(|_| none())?;
    let path = url.path().to_ascii_lowercase();
    if !ends.iter().any(|end| path.ends_with(end)) {
        return Err(none());
    }
    Ok(Place { url, position: held.position, skip: held.skip })
}
