//! What a subscriber says of deliveries, checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use postern_proto::event::v1::Settle;

use super::ack_id::AckId;
use crate::error::Error;

/// The most deliveries in one message.
const MOST: usize = 1_000;
/// How many acks and extensions are done at once: an ack of an event that was set aside removes its copy, which is a
/// write of its own.
pub(super) const ACKS_AT_ONCE: usize = 640;
/// How many nacks are done at once: each may copy its event.
const NACKS_AT_ONCE: usize = 64;
/// The longest delay of a nack.
const MAX_DELAY: Duration = Duration::from_secs(3_600);
/// How many characters of a reason are kept.
const REASON_CHARACTERS: usize = 256;
/// Within what time a delivery can be asked to be acknowledged.
pub(super) const ACK_DEADLINES: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);

/// What became of a delivery.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// Done with.
    Ack,
    /// In vain.
    Nack { delay: Option<Duration>, reason: String },
    /// Being worked on.
    Extend(Option<Duration>),
}

/// What a subscriber says, delivery by delivery; `None` where an id is of none.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked {
    pub(super) verdicts: Vec<(String, Option<(AckId, Verdict)>)>,
}

impl Checked {
    /// Checks it, and parts it into what is done at once.
    ///
    /// # Errors
    /// Each field that is wrong.
    pub(super) fn parse(settle: Settle, field: &str, id: &str) -> Result<Vec<Self>, Error> {
        let count = settle.ack_ids.len() + settle.nacks.len() + settle.extensions.len();
        if count > MOST {
            return Err(Error::field(field, format!("has {count} deliveries: expected at most {MOST}")));
        }
        let mut wrong = Vec::new();
        let known = |ack_id: String, verdict| {
            let known = AckId::decode(&ack_id, id).map(|known| (known, verdict));
            // What is none is told as it came, and no more of it than one that is.
            (ack_id.chars().take(64).collect(), known)
        };
        let mut first: Vec<_> =
            settle.ack_ids.into_iter().map(|ack_id| known(ack_id, Verdict::Ack)).collect();
        for (place, extension) in settle.extensions.into_iter().enumerate() {
            let deadline = extension.deadline.map(Duration::try_from).transpose().ok();
            match deadline.filter(|wish| wish.is_none_or(|wish| ACK_DEADLINES.contains(&wish))) {
                Some(wish) => first.push(known(extension.ack_id, Verdict::Extend(wish))),
                None => {
                    let path = format!("{field}.extensions[{place}].deadline");
                    wrong.push((path, "expected 10 s to 600 s".to_owned()));
                }
            }
        }
        let mut nacks = Vec::new();
        for (place, nack) in settle.nacks.into_iter().enumerate() {
            let delay = nack.delay.map(Duration::try_from).transpose().ok();
            match delay.filter(|wish| wish.is_none_or(|wish| wish <= MAX_DELAY)) {
                Some(delay) => {
                    let reason = nack.reason.chars().take(REASON_CHARACTERS).collect();
                    nacks.push(known(nack.ack_id, Verdict::Nack { delay, reason }));
                }
                None => {
                    let path = format!("{field}.nacks[{place}].delay");
                    wrong.push((path, "expected 0 s to 3600 s".to_owned()));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        let parts = first.chunks(ACKS_AT_ONCE).chain(nacks.chunks(NACKS_AT_ONCE));
        let mut parts: Vec<_> = parts.map(|part| Self { verdicts: part.to_vec() }).collect();
        if parts.is_empty() {
            parts.push(Self::default());
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{Extension, Nack};

    #[test]
    fn each_wrong_field_is_named() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let settle = Settle {
            nacks: vec![Nack::default(), Nack { delay: seconds(3_601), ..Nack::default() }],
            extensions: vec![Extension { deadline: seconds(9), ..Extension::default() }],
            ..Settle::default()
        };
        let Err(Error::Fields(wrong)) = Checked::parse(settle, "settle", "x") else { panic!("taken") };
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["settle.extensions[0].deadline", "settle.nacks[1].delay"]);
        let many = Settle { ack_ids: vec![String::new(); 1_001], ..Settle::default() };
        assert!(Checked::parse(many, "settle", "x").is_err());
    }

    #[test]
    fn what_is_said_is_parted_into_what_is_done_at_once() {
        let settle = Settle {
            ack_ids: vec!["a".repeat(100); 900],
            nacks: vec![Nack { reason: "é".repeat(300), ..Nack::default() }; 100],
            ..Settle::default()
        };
        let parts = Checked::parse(settle, "settle", "x").unwrap();
        assert_eq!(parts.iter().map(|part| part.verdicts.len()).collect::<Vec<_>>(), [640, 260, 64, 36]);
        assert_eq!(parts[0].verdicts[0].0.len(), 64);
    }
}
