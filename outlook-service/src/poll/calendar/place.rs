//! How far a watch of a calendar has come, and the bytes that it travels in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::unreadable;
use crate::error::Error;

/// The version of the bytes; other kinds of watch have others.
const VERSION: u8 = 3;
/// The largest cursor the contract allows.
const MAX_CURSOR: usize = 512 * 1024;
/// After how long without a change the time is written on nevertheless: until then the same look gives the same cursor,
/// and nothing need be stored.
const STALE_SECONDS: i64 = 1_800;
/// How often the calendar is listed again.
const LISTING_SECONDS: i64 = 86_400;

/// How far a watch has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) stage: Stage,
    /// Until when the occurrences of series were told one by one, where that is asked for.
    pub(super) horizon: Option<i64>,
    /// The number of the listing, turning over.
    pub(super) round: u8,
    /// Whether entries had to be forgotten for want of room.
    pub(super) forgot: bool,
    pub(super) known: Known,
    /// Whose mailbox it is in.
    pub(super) user: String,
}

/// What is asked for. Times are the provider's, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// All entries are listed.
    Listing {
        /// The page to go on with. Absent: the first.
        link: Option<String>,
        /// When the listing began. Absent: it has not.
        began: Option<i64>,
        /// What was changed before was told. Absent: this is the first listing, nothing was told yet.
        told_until: Option<i64>,
    },
    /// What was changed lately is asked for.
    Following {
        link: Option<String>,
        began: Option<i64>,
        told_until: i64,
        /// When the last listing ended.
        listed: i64,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    stage: Stage,
    horizon: Option<i64>,
    round: u8,
    forgot: bool,
    /// Absent: it was not written down.
    #[serde(default)]
    user: Option<String>,
}

impl Stage {
    /// The page to go on with. None: the first.
    pub(super) fn link(&self) -> Option<&str> {
        match self {
            Self::Listing { link, .. } | Self::Following { link, .. } => link.as_deref(),
        }
    }

    /// What was changed before was told. None: nothing was told yet.
    pub(super) fn told_until(&self) -> Option<i64> {
        match self {
            Self::Listing { told_until, .. } => *told_until,
            Self::Following { told_until, .. } => Some(*told_until),
        }
    }

    /// Goes on to another page; the round began with a look at `now`, unless it had before.
    pub(super) fn go_on(&mut self, next: String, now: Timestamp) {
        match self {
            Self::Listing { link, began, .. } | Self::Following { link, began, .. } => {
                *link = Some(next);
                *began = began.or(Some(now.as_second()));
            }
        }
    }

    /// Goes back to the first page: Graph has forgotten where it was.
    pub(super) fn begin_again(&mut self) {
        match self {
            Self::Listing { link, .. } | Self::Following { link, .. } => *link = None,
        }
    }
}

impl Place {
    /// Ends a round with a look at `now`, in which something was found or not.
    pub(super) fn end_round(&mut self, now: Timestamp, found: bool) {
        let now = now.as_second();
        match &mut self.stage {
            Stage::Listing { began, .. } => {
                let told_until = began.unwrap_or(now);
                self.known.drop_unseen_in(self.round);
                self.stage = Stage::Following { link: None, began: None, told_until, listed: now };
            }
            Stage::Following { link, began, told_until, listed } => {
                let began = began.take().unwrap_or(now);
                *link = None;
                if now - *listed > LISTING_SECONDS {
                    self.round = self.round.wrapping_add(1);
                    self.stage = Stage::Listing { link: None, began: None, told_until: Some(began) };
                } else if found || began - *told_until > STALE_SECONDS {
                    *told_until = began;
                }
            }
        }
        self.forgot |= self.known.bound();
    }
}

/// Reads a cursor. Empty: a watch that begins. Of a place in another mailbox than that of `user` no more holds than until
/// when changes were told: the connection's was changed, and in the one of now nothing is known.
///
/// # Errors
/// It is no cursor of a calendar.
pub(super) fn read(bytes: &[u8], user: &str) -> Result<Place, Error> {
    let wrong = || Error::field("cursor", "expected the next_cursor of a look before");
    let before = if bytes.is_empty() { None } else { Some(parse(bytes, user).ok_or_else(wrong)?) };
    let told_until = match before {
        Some(place) if place.user == user => return Ok(place),
        before => before.and_then(|place| place.stage.told_until()),
    };
    let stage = Stage::Listing { link: None, began: None, told_until };
    let (known, user) = (Known::default(), user.to_owned());
    Ok(Place { stage, horizon: None, round: 0, forgot: false, known, user })
}

fn parse(bytes: &[u8], user: &str) -> Option<Place> {
    let rest = bytes.strip_prefix(&[VERSION])?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (head, known) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let Head { stage, horizon, round, forgot, user: of } = serde_json::from_slice(head).ok()?;
    let user = of.unwrap_or_else(|| user.to_owned());
    Some(Place { stage, horizon, round, forgot, known: Known::read(known)?, user })
}

/// The bytes of a watch.
///
/// # Errors
/// Graph's link is longer than a cursor may be.
pub(super) fn write(place: &Place) -> Result<bytes::Bytes, Error> {
    let Place { stage, horizon, round, forgot, known, user } = place;
    let user = Some(user.clone());
    let head = Head { stage: stage.clone(), horizon: *horizon, round: *round, forgot: *forgot, user };
    let head = serde_json::to_vec(&head).map_err(|_| unreadable())?;
    let length = u32::try_from(head.len()).map_err(|_| unreadable())?;
    let mut bytes = vec![VERSION];
    bytes.extend(length.to_le_bytes());
    bytes.extend(head);
    known.write(&mut bytes);
    if bytes.len() > MAX_CURSOR { Err(unreadable()) } else { Ok(bytes.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let mut place = read(b"", "ann").unwrap();
        place.stage.go_on("https://x".into(), at(7));
        place.horizon = Some(9);
        let bytes = write(&place).unwrap();
        assert_eq!(read(&bytes, "ann").unwrap(), place);
        for wrong in [&bytes[..4], &bytes[1..], &bytes[..bytes.len() - 1], b"\x01{}", b"\x03\xff\xff\xff\xff"]
        {
            assert!(read(wrong, "ann").is_err());
        }
    }

    #[test]
    fn in_another_mailbox_no_more_holds_than_until_when_changes_were_told() {
        let mut place = read(b"", "ann").unwrap();
        place.end_round(at(1_000), false);
        place.stage.go_on("https://x".into(), at(2_000));
        let elsewhere = read(&write(&place).unwrap(), "bo").unwrap();
        assert_eq!(elsewhere.stage, Stage::Listing { link: None, began: None, told_until: Some(1_000) });
        assert_eq!(elsewhere.user, "bo");
    }

    #[test]
    fn a_quiet_calendar_keeps_its_cursor_and_is_listed_again_once_a_day() {
        let mut place = read(b"", "ann").unwrap();
        place.end_round(at(1_000), false);
        let quiet = write(&place).unwrap();
        place.end_round(at(1_900), false);
        assert_eq!(write(&place).unwrap(), quiet);
        place.end_round(at(2_000), true);
        assert_eq!(place.stage.told_until(), Some(2_000));
        place.end_round(at(4_000), false);
        assert_eq!(place.stage.told_until(), Some(4_000));
        place.end_round(at(100_000), false);
        assert_eq!(place.stage, Stage::Listing { link: None, began: None, told_until: Some(100_000) });
        assert_eq!(place.round, 1);
    }
}
