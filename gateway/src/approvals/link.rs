//! Links: what tells an approval, a recipient and an option, and nothing about any of them. Signed, so that none can be
//! guessed or changed; whether one still works lies in the approval's record.
//!
//! A link's token is URL-safe base64 of version, recipient, option, the approval's id and a code over all of these.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::record::APPROVALS;
use crate::names;

/// The layout of a token.
const VERSION: u8 = 1;
/// Bytes of the code: 128 bits, which nobody guesses.
const CODE_BYTES: usize = 16;
/// The longest token looked at.
const MAX_TOKEN: usize = 160;
/// What the key of links is derived for.
const PURPOSE: &[u8] = b"postern approval links";

/// What a link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// `approvals/{approval}`.
    pub(super) name: String,
    /// The recipient's place in the approval.
    pub(super) recipient: usize,
    /// The option's place.
    pub(super) option: usize,
}

/// Makes and reads links.
pub(super) struct Links(hmac::Key);

impl Links {
    pub(super) fn new(digests: &hmac::Key) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(digests, PURPOSE).as_ref()))
    }

    /// The token of a link.
    pub(super) fn token(&self, name: &str, recipient: u8, option: u8) -> String {
        let id = super::record::id_of(name);
        let mut bytes = vec![VERSION, recipient, option];
        bytes.extend_from_slice(id.as_bytes());
        let code = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(&code.as_ref()[..CODE_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token. `None`: it is none of ours.
    pub(super) fn read(&self, token: &str) -> Option<Link> {
        let bytes = Some(token).filter(|token| token.len() <= MAX_TOKEN)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?;
        let (told, code) = bytes.split_at_checked(bytes.len().checked_sub(CODE_BYTES)?)?;
        if !same(&hmac::sign(&self.0, told).as_ref()[..CODE_BYTES], code) {
            return None;
        }
        let [VERSION, recipient, option, id @ ..] = told else { return None };
        let id = std::str::from_utf8(id).ok().filter(|id| names::is_id(id))?;
        let name = format!("{APPROVALS}{id}");
        Some(Link { name, recipient: (*recipient).into(), option: (*option).into() })
    }

    /// The proof that a page's form was made for a link, a visit, a time and a step.
    pub(super) fn proof(&self, token: &str, visit: &str, made: u64, step: &str) -> String {
        let told = format!("form\n{token}\n{visit}\n{made}\n{step}");
        URL_SAFE_NO_PAD.encode(&hmac::sign(&self.0, told.as_bytes()).as_ref()[..CODE_BYTES])
    }
}

/// Whether two codes are the same, in a time that tells nothing of where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(secret: &[u8]) -> Links {
        Links::new(&hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    #[test]
    fn a_token_tells_its_link_and_no_changed_one_does() {
        let links = links(b"one");
        let token = links.token("approvals/a000-xyz", 3, 99);
        let expected = Link { name: "approvals/a000-xyz".into(), recipient: 3, option: 99 };
        assert_eq!(links.read(&token), Some(expected));
        for place in 0..token.len() {
            for other in ['A', 'z', '-', '!'] {
                let mut changed: Vec<char> = token.chars().collect();
                if std::mem::replace(&mut changed[place], other) == other {
                    continue;
                }
                let changed: String = changed.into_iter().collect();
                let read = links.read(&changed);
                assert!(read.is_none(), "{place} {other}: {read:?}");
            }
        }
        for wrong in ["", "AQ", &token[..token.len() - 4], &format!("{token}{token}{token}")] {
            assert_eq!(links.read(wrong), None, "{wrong}");
        }
        assert_eq!(self::links(b"two").read(&token), None);
    }

    #[test]
    fn a_proof_is_of_one_visit_at_one_time_for_one_step() {
        let links = links(b"one");
        let proof = links.proof("t", "v", 1, "answer");
        for other in [
            links.proof("u", "v", 1, "answer"),
            links.proof("t", "w", 1, "answer"),
            links.proof("t", "v", 2, "answer"),
            links.proof("t", "v", 1, "sure"),
        ] {
            assert!(!same(proof.as_bytes(), other.as_bytes()));
        }
        assert!(same(proof.as_bytes(), links.proof("t", "v", 1, "answer").as_bytes()));
        assert!(!same(b"a", b"ab"));
    }
}
