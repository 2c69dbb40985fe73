//! What a delivery, or a gap, of a SHARED subscription is settled by. It carries no authority: it names a delivery, and tells
//! mangled ones and those of other subscriptions from its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::store::Sequence;

/// Generation, sequence and nonce, big-endian.
const BODY_BYTES: usize = 3 * 8;
/// The checksum after them.
const SUM_BYTES: usize = 6;

/// A delivery, or a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AckId {
    /// The generation of the reading that it was delivered in.
    pub(super) generation: u64,
    /// The event's place in the log; 0, where no event is: a gap.
    pub(super) sequence: Sequence,
    /// What tells it from other deliveries of the event, or from other gaps.
    pub(super) nonce: u64,
}

impl AckId {
    /// Whether it is of a gap.
    pub(super) fn is_of_gap(self) -> bool {
        self.sequence == 0
    }

    /// As subscribers get it: 40 characters.
    pub(super) fn encode(self, subscription: &str) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES + SUM_BYTES);
        for number in [self.generation, self.sequence, self.nonce] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(sum(&bytes, subscription));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what a subscriber gave. `None`: no delivery of this subscription.
    pub(super) fn decode(text: &str, subscription: &str) -> Option<Self> {
        // What is longer is none, and is not looked at.
        let bytes = URL_SAFE_NO_PAD.decode(Some(text).filter(|text| text.len() <= 64)?).ok()?;
        let (body, given) = bytes.split_at_checked(BODY_BYTES)?;
        if given != sum(body, subscription) {
            return None;
        }
        let number = |at: usize| body.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        Some(Self { generation: number(0)?, sequence: number(8)?, nonce: number(16)? })
    }
}

fn sum(body: &[u8], subscription: &str) -> [u8; SUM_BYTES] {
    let digest = digest(&SHA256, &[body, subscription.as_bytes()].concat());
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&digest.as_ref()[..SUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_id_comes_back_as_it_was_given_and_is_of_one_subscription() {
        let id = AckId { generation: 3, sequence: u64::MAX, nonce: 7 };
        let text = id.encode("billing");
        assert!(text.len() <= 64);
        assert_eq!(AckId::decode(&text, "billing"), Some(id));
        assert_eq!(AckId::decode(&text, "shipping"), None);
        for wrong in ["", "x", &text[1..], &"A".repeat(40), &"A".repeat(1_000)] {
            assert_eq!(AckId::decode(wrong, "billing"), None, "{wrong}");
        }
    }
}
