//! The last guard against what would break out of a message or not travel (RFC 5321, section 4.5.3.1.6): a bare CR or
//! LF, a NUL, a line that is too long. It reads a text piece by piece.

use memchr::{memchr, memchr2};

/// The longest line, without its line end.
pub(super) const MAX_LINE_BYTES: usize = 998;

/// What a text holds that cannot travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// Over 998 octets without a line end.
    #[error("a line has more than 998 octets")]
    TooLong,
    /// A line end that is no CRLF, or a NUL.
    #[error("there is a NUL, or a CR or LF that is no CRLF")]
    Bare,
}

/// A text as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The octets of the line so far, a CR at its end included.
    length: usize,
    after_cr: bool,
    /// How many lines begin with a dot.
    pub(super) dots: u64,
}

impl Lines {
    /// Reads on.
    ///
    /// # Errors
    /// What cannot travel.
    pub(super) fn read(&mut self, mut text: &[u8]) -> Result<(), Problem> {
        while !text.is_empty() {
            let end = memchr(b'\n', text);
            let (line, rest) = text.split_at(end.unwrap_or(text.len()));
            self.within(line)?;
            let Some(rest) = rest.get(1..) else { return Ok(()) };
            if !self.after_cr {
                return Err(Problem::Bare);
            }
            (self.length, self.after_cr, text) = (0, false, rest);
        }
        Ok(())
    }

    /// Reads a piece without LF.
    fn within(&mut self, piece: &[u8]) -> Result<(), Problem> {
        let Some(last) = piece.last() else { return Ok(()) };
        if self.after_cr {
            return Err(Problem::Bare);
        }
        match memchr2(b'\r', 0, piece) {
            Some(at) if at + 1 < piece.len() || piece[at] == 0 => return Err(Problem::Bare),
            _ => {}
        }
        if self.length == 0 && piece[0] == b'.' {
            self.dots += 1;
        }
        self.after_cr = *last == b'\r';
        self.length += piece.len();
        if self.length - usize::from(self.after_cr) > MAX_LINE_BYTES {
            return Err(Problem::TooLong);
        }
        Ok(())
    }

    /// Whether the text so far ends with a line end, or is empty.
    pub(super) fn is_at_start(&self) -> bool {
        self.length == 0
    }

    /// Ends the text.
    ///
    /// # Errors
    /// A CR at the end.
    pub(super) fn end(&self) -> Result<(), Problem> {
        if self.after_cr { Err(Problem::Bare) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text in pieces of every size: the answer is the same.
    fn read(text: &[u8]) -> Result<u64, Problem> {
        let whole = |size: usize| {
            let mut lines = Lines::default();
            text.chunks(size.max(1)).try_for_each(|piece| lines.read(piece))?;
            lines.end().map(|()| lines.dots)
        };
        let answer = whole(text.len());
        for size in 1..=text.len().min(5) {
            assert_eq!(whole(size), answer, "in pieces of {size}");
        }
        answer
    }

    #[test]
    fn what_could_break_out_of_the_message_does_not_pass() {
        for wrong in
            [&b"a\n.\r\n"[..], b"a\r.\r\n", b"a\n.\n", b"a\0b", b"a\r\r\n.\r\n", b"a\r", b"\n", b"\0\r\n"]
        {
            assert_eq!(read(wrong), Err(Problem::Bare), "{wrong:?}");
        }
        assert_eq!(read(&[b'a'; MAX_LINE_BYTES]), Ok(0));
        assert_eq!(read(&[&[b'a'; MAX_LINE_BYTES][..], b"\r\n"].concat()), Ok(0));
        assert_eq!(read(&[b'a'; MAX_LINE_BYTES + 1]), Err(Problem::TooLong));
    }

    #[test]
    fn dots_at_line_beginnings_are_counted() {
        assert_eq!(read(b".a\r\nb.\r\n.\r\n\r\n.."), Ok(3));
    }
}
