//! Redis's protocol (RESP2), as far as a subscriber and whoever appends to a stream need it.

use super::{Found, Line};

/// A connection's place in what comes.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    line: Line,
    /// Bytes of a bulk string, with the end of its line, that are still to come.
    skip: usize,
    /// Parts of an array that are still to come.
    left: usize,
}

impl Scanner {
    /// Takes in what came: each array whose last part is a text is a message (the answer to a subscription ends with a
    /// number), and so is each text by itself (the answer to an append).
    pub(crate) fn take(&mut self, mut bytes: &[u8], found: &mut Found) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let (line, rest) = self.line.take(bytes);
            bytes = rest;
            let Some(line) = line else { return Ok(()) };
            let number = || {
                let digits =
                    std::str::from_utf8(&line[1..]).ok().and_then(|digits| digits.parse::<usize>().ok());
                digits.ok_or_else(|| format!("no length: {}", String::from_utf8_lossy(&line)))
            };
            match line.first() {
                Some(b'*') => self.left = number()?,
                Some(b'$') => {
                    self.skip = number()? + 2;
                    self.left = self.left.saturating_sub(1);
                    if self.left == 0 {
                        found.message(bytes);
                    }
                }
                Some(b'-') => return Err(String::from_utf8_lossy(&line).into_owned()),
                _ => {
                    self.left = self.left.saturating_sub(1);
                    found.confirmed += u64::from(self.left == 0);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_in_whatever_pieces_they_come() {
        let told = "*3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n\
                    *3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$19\r\n1700000000000000000\r\n$3\r\n1-0\r\n";
        for size in 1..told.len() {
            let (mut scanner, mut found) = (Scanner::default(), Found::default());
            for piece in told.as_bytes().chunks(size) {
                scanner.take(piece, &mut found).unwrap();
            }
            assert_eq!(found.messages, 2, "pieces of {size}");
        }
        let mut found = Found::new(true);
        Scanner::default().take(told.as_bytes(), &mut found).unwrap();
        assert_eq!((found.sent.clone(), found.confirmed), (Some(vec![1_700_000_000_000_000_000]), 1));
        assert!(Scanner::default().take(b"-ERR no\r\n", &mut found).is_err());
    }
}
