//! Digests (SHA-256) and how they are written. Ids and keys that are stored are made of them: what they give never
//! changes.

use ring::digest::{Context, SHA256};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// The digits of [`hex`].
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The digest of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    finished(ring::digest::digest(&SHA256, bytes))
}

/// The digest over several parts, each after its length (eight bytes, big-endian), so that no two lists of parts read
/// the same.
#[must_use]
pub fn of_parts(parts: impl IntoIterator<Item: AsRef<[u8]>>) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let part = part.as_ref();
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    finished(context.finish())
}

/// Bytes as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for half in [byte >> 4, byte & 0x0f] {
            text.push(char::from(DIGITS[usize::from(half)]));
        }
    }
    text
}

fn finished(digest: ring::digest::Digest) -> [u8; DIGEST_BYTES] {
    let mut bytes = [0; DIGEST_BYTES];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_under_a_digest_is_found_by_it_for_ever() {
        assert_eq!(hex(&of(b"")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let parts = of_parts(["ab", "c"]);
        assert_eq!(hex(&parts), "601d5476e2ccfe2c87a2bba7a322659734a05749d5b5aa781f513e4912db0d5f");
        assert_eq!(of_parts([b"ab".as_slice(), b"c"]), parts);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(of_parts(["ab", "c"]), of_parts(["a", "bc"]));
        assert_ne!(of_parts(["a", ""]), of_parts(["a"]));
    }

    #[test]
    fn every_byte_is_two_digits() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let written: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&all), written);
    }
}
