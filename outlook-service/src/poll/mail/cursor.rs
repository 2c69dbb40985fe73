//! The state of a watch between two looks, and the bytes that it travels in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::MARGIN_SECONDS;
use crate::error::Error;
use crate::graph::Failure;

/// The version of the bytes.
const VERSION: u8 = 1;
/// The largest cursor the contract allows.
const MAX_CURSOR: usize = 64 * 1024;

/// How far a watch has come. Times are the provider's, in the whole seconds that Exchange keeps, since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Watch {
    /// What is in the folder is listed, so that what comes later can be told from it.
    Listing {
        /// The page to go on with. Absent: the first.
        link: Option<String>,
        /// After a loss: what was received from here on, by the provider's clock, was perhaps not told yet.
        since: Option<i64>,
        /// When the listing began. Absent: it has not.
        #[serde(default)]
        began: Option<i64>,
    },
    /// What comes to be in the folder is told.
    Following {
        /// The page to go on with.
        link: String,
        /// When the last round began: what came before was told. It may have lasted long, and what came meanwhile is
        /// for the round after it.
        told_until: i64,
        /// When this round began. Absent: it has not.
        #[serde(default)]
        began: Option<i64>,
    },
}

impl Watch {
    /// The page to go on with. None: the first one of a new listing.
    pub(super) fn link(&self) -> Option<&str> {
        match self {
            Self::Listing { link, .. } => link.as_deref(),
            Self::Following { link, .. } => Some(link),
        }
    }

    /// Whether nothing was read yet.
    pub(super) fn is_new(&self) -> bool {
        self.link().is_none()
    }

    /// Whether what is there is listed.
    pub(super) fn is_listing(&self) -> bool {
        matches!(self, Self::Listing { .. })
    }

    /// When this round began, where it has.
    fn began(&self) -> Option<i64> {
        match self {
            Self::Listing { began, .. } | Self::Following { began, .. } => *began,
        }
    }

    /// The same round, gone on to another page by a look at `now`.
    pub(super) fn at(&self, link: String, now: Timestamp) -> Self {
        let began = self.began().or(Some(now.as_second()));
        match self {
            Self::Listing { since, .. } => Self::Listing { link: Some(link), since: *since, began },
            Self::Following { told_until, .. } => Self::Following { link, told_until: *told_until, began },
        }
    }

    /// The round after this one, which ended with a look at `now`.
    pub(super) fn ended(&self, link: String, now: Timestamp) -> Self {
        let told_until = self.began().unwrap_or_else(|| now.as_second());
        Self::Following { link, told_until, began: None }
    }

    /// All of it listed again, because Graph has forgotten the place. A listing that is begun again keeps when it first
    /// was, so that its place is another.
    pub(super) fn anew(&self) -> Self {
        match self {
            Self::Listing { since, began, .. } => Self::Listing { link: None, since: *since, began: *began },
            Self::Following { told_until, .. } => {
                Self::Listing { link: None, since: Some(told_until - MARGIN_SECONDS), began: None }
            }
        }
    }

    /// Where this is the first page of a listing after a loss: from when on nothing was perhaps told.
    pub(super) fn lost_since(&self) -> Option<i64> {
        match self {
            Self::Listing { link: None, since, .. } => *since,
            _ => None,
        }
    }

    /// Whether a mail on a page is to be told to a trigger that was made at `since`, by the provider's clock. In a
    /// listing only what was received since; of what follows all, received or moved there, unless the trigger is
    /// younger than the last round: then too it can be told only by when it was received.
    pub(super) fn tells(&self, received: Option<Timestamp>, since: Timestamp) -> bool {
        // A mail of the very second is rather told than lost.
        let since = since.as_second();
        let from = match self {
            Self::Listing { since: Some(lost), .. } => since.max(*lost),
            Self::Listing { since: None, .. } => since,
            Self::Following { told_until, .. } if *told_until >= since => return true,
            Self::Following { .. } => since,
        };
        received.is_none_or(|received| received.as_second() >= from)
    }
}

/// What the bytes hold.
#[derive(Deserialize)]
struct Held {
    #[serde(flatten)]
    watch: Watch,
    /// Whose mailbox the place is in. Absent: it was not written down.
    #[serde(default)]
    user: Option<String>,
}

/// The same, to be written.
#[derive(Serialize)]
struct Holding<'a> {
    #[serde(flatten)]
    watch: &'a Watch,
    user: &'a str,
}

/// Reads a cursor. Empty: a watch that begins. A place in another mailbox than that of `user` is none: the connection's
/// was changed, and Graph's link would lead on through the one before.
///
/// # Errors
/// It is no cursor of this connector.
pub(super) fn read(bytes: &[u8], user: &str) -> Result<Watch, Error> {
    let Some((version, rest)) = bytes.split_first() else {
        return Ok(Watch::Listing { link: None, since: None, began: None });
    };
    let wrong = || Error::field("cursor", "expected the next_cursor of a look before");
    if *version != VERSION {
        return Err(wrong());
    }
    let held: Held = serde_json::from_slice(rest).map_err(|_| wrong())?;
    let is_elsewhere = held.user.is_some_and(|of| of != user);
    Ok(if is_elsewhere { held.watch.anew() } else { held.watch })
}

/// The bytes of a watch of a mailbox.
///
/// # Errors
/// Graph's link is longer than a cursor may be.
pub(super) fn write(watch: &Watch, user: &str) -> Result<bytes::Bytes, Error> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &Holding { watch, user }).map_err(|_| Failure::unreadable(200))?;
    if bytes.len() > MAX_CURSOR {
        return Err(Failure::unreadable(200).into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let watch = Watch::Following { link: "https://x".into(), told_until: 5, began: Some(9) };
        assert_eq!(read(&write(&watch, "ann").unwrap(), "ann").unwrap(), watch);
        assert!(read(b"", "ann").unwrap().is_new());
        let older = b"\x01{\"Following\":{\"link\":\"https://x\",\"told_until\":5}}";
        assert_eq!(read(older, "ann").unwrap().began(), None);
        for wrong in [&b"\x02{}"[..], b"\x01{}", b"{", b"\x01"] {
            assert!(read(wrong, "ann").is_err());
        }
    }

    #[test]
    fn a_place_in_another_mailbox_is_a_place_that_is_lost() {
        let watch = Watch::Following { link: "https://x".into(), told_until: 5_000, began: Some(9) };
        let elsewhere = read(&write(&watch, "ann").unwrap(), "bo").unwrap();
        assert_eq!(elsewhere, watch.anew());
        assert!(elsewhere.is_new() && elsewhere.lost_since().is_some());
    }

    #[test]
    fn what_came_while_a_round_lasted_is_for_the_next() {
        let first = Watch::Listing { link: None, since: None, began: None };
        let second = first.at("2".into(), at(10)).at("3".into(), at(5_000)).ended("4".into(), at(9_000));
        assert_eq!(second, Watch::Following { link: "4".into(), told_until: 10, began: None });
        let third = second.ended("5".into(), at(9_060));
        assert_eq!(third, Watch::Following { link: "5".into(), told_until: 9_060, began: None });
    }

    #[test]
    fn a_listing_tells_what_was_received_since_and_what_follows_is_told_however_old() {
        let listing = Watch::Listing { link: None, since: None, began: None };
        let since = Timestamp::from_millisecond(10_900).unwrap();
        assert!(!listing.tells(Some(at(9)), since));
        assert!(listing.tells(Some(at(10)), since));
        assert!(listing.tells(None, since));
        let lost = Watch::Listing { link: None, since: Some(20), began: None };
        assert!(!lost.tells(Some(at(15)), since) && lost.tells(Some(at(20)), since));
        let following = Watch::Following { link: String::new(), told_until: 10, began: None };
        assert!(following.tells(Some(at(1)), since));
        assert!(!following.tells(Some(at(1)), at(11)), "the trigger is younger than the last round");
    }
}
