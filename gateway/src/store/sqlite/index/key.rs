//! What an id is known by.

use std::hash::{Hash, Hasher};

use postern_chassis::digest;

/// What an id is known by: 128 bits, high and low. Those that the gateway makes are as many in hexadecimal digits; of any
/// other they are of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite) struct Key(pub(in crate::store::sqlite) i64, pub(in crate::store::sqlite) i64);

impl Key {
    pub(in crate::store::sqlite) fn of(id: &str) -> Self {
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let digits = id.bytes().try_fold(0, |key: u128, byte| Some(key << 4 | u128::from(digit(&byte)?)));
        let bits = digits.filter(|_| id.len() == 32).unwrap_or_else(|| {
            let digest = digest::of(id.as_bytes());
            digest.iter().take(size_of::<u128>()).fold(0, |key, byte| key << 8 | u128::from(*byte))
        });
        Self::of_bits(bits)
    }

    /// The key as a number.
    pub(super) fn bits(self) -> u128 {
        u128::from(self.0.cast_unsigned()) << i64::BITS | u128::from(self.1.cast_unsigned())
    }

    /// The key of a number.
    pub(super) fn of_bits(bits: u128) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a half is what is wanted")]
        let half = |bits: u128| (bits as u64).cast_signed();
        Self(half(bits >> i64::BITS), half(bits))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Both halves are as good as random already.
        state.write_i64(self.0 ^ self.1.rotate_left(32));
    }
}

/// Takes what it is given, once, for the hash.
#[derive(Default)]
pub(super) struct AsGiven(u64);

impl Hasher for AsGiven {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum << 8 | u64::from(*byte));
    }

    fn write_i64(&mut self, number: i64) {
        self.0 = number.cast_unsigned();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_no_digits_are_told_apart_all_the_same() {
        let bits = (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
        assert_eq!(Key::of("000102030405060708090a0b0c0d0e0f"), Key(bits.0, bits.1));
        assert_eq!(Key::of("ffffffffffffffff8000000000000000"), Key(-1, i64::MIN));
        let others = ["", "0", "00", "000102030405060708090A0B0C0D0E0F", "+00102030405060708090a0b0c0d0e0f"];
        let keys: std::collections::HashSet<_> = others.into_iter().map(Key::of).collect();
        assert_eq!(keys.len(), others.len());
        assert!(!keys.contains(&Key(bits.0, bits.1)) && !keys.contains(&Key(0, 0)));
    }
}
