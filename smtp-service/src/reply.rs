//! Replies of an SMTP server (RFC 5321, section 4.2; enhanced codes: RFC 3463): read from lines, bounded and cleaned.

use std::borrow::Cow;

use postern_proto::mail::v1;

/// The longest line read. RFC 5321 asks for 512 octets; servers have been seen to pass it.
pub(crate) const MAX_LINE_BYTES: usize = 4 * 1024;
/// The most lines in a reply. An EHLO reply has some dozens at most.
const MAX_LINES: usize = 128;
/// How much of the text callers are shown.
const MAX_TEXT_CHARS: usize = 1_024;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The three-digit code.
    pub(crate) code: u16,
    /// The enhanced code, such as `5.1.1`, where there is one.
    pub(crate) enhanced: Option<String>,
    /// The text of each line, without codes and control characters.
    pub(crate) lines: Vec<String>,
}

/// A line that is no part of a reply, with the reason.
pub(crate) type Malformed = &'static str;

impl Reply {
    /// Done (2yz).
    pub(crate) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Go on (3yz).
    pub(crate) fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// Refused for now (4yz).
    pub(crate) fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// Refused for good (5yz).
    pub(crate) fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Whether the server closes the connection with it.
    pub(crate) fn is_closing(&self) -> bool {
        self.code == 421
    }

    /// The same reply without the lines in which the server repeats a secret: some show what they could not read.
    pub(crate) fn without(mut self, secrets: &[&str]) -> Self {
        self.lines.retain(|line| !secrets.iter().any(|secret| line.contains(secret)));
        self
    }

    /// The text for callers: the lines joined, cut at 1,024 characters.
    pub(crate) fn text(&self) -> String {
        match &self.lines[..] {
            // Most replies.
            [line] if line.len() <= MAX_TEXT_CHARS => line.clone(),
            lines => lines.join("\n").chars().take(MAX_TEXT_CHARS).collect(),
        }
    }
}

impl From<&Reply> for v1::Reply {
    fn from(reply: &Reply) -> Self {
        Self {
            code: reply.code.into(),
            enhanced_code: reply.enhanced.clone().unwrap_or_default(),
            text: reply.text(),
        }
    }
}

/// A reply whose lines are still coming.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    code: Option<u16>,
    enhanced: Option<String>,
    lines: Vec<String>,
}

impl Partial {
    /// Takes the next line, without its line end; gives the reply when it was the last.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, Malformed> {
        let (code, rest) = line.split_at_checked(3).ok_or("a line without a code")?;
        let code = match code {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err("a line without a code"),
        };
        if self.code.is_some_and(|first| first != code) {
            return Err("lines with different codes");
        }
        if self.lines.len() == MAX_LINES {
            return Err("too many lines");
        }
        self.code = Some(code);
        let (last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return Err("a code followed by neither space nor dash"),
        };
        let text = cleaned(text);
        let (enhanced, text) = split_enhanced(code, &text);
        self.enhanced = self.enhanced.take().or(enhanced.map(str::to_owned));
        self.lines.push(text.to_owned());
        Ok(last.then(|| Reply {
            code,
            enhanced: self.enhanced.take(),
            lines: std::mem::take(&mut self.lines),
        }))
    }
}

/// A line's text without control characters.
fn cleaned(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    if text.contains(char::is_control) { text.chars().filter(|c| !c.is_control()).collect() } else { text }
}

/// The enhanced code at the beginning of a text, and the rest. Its class is that of the code.
fn split_enhanced(code: u16, text: &str) -> (Option<&str>, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = first.split('.');
    let class = parts.next().is_some_and(|class| class.len() == 1 && class.parse() == Ok(code / 100));
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let numbers = parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number);
    if class && numbers && parts.next().is_none() { (Some(first), rest) } else { (None, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&[u8]]) -> Result<Reply, Malformed> {
        let mut partial = Partial::default();
        for line in lines {
            if let Some(reply) = partial.line(line)? {
                return Ok(reply);
            }
        }
        Err("unfinished")
    }

    #[test]
    fn a_reply_is_taken_apart() {
        let reply = read(&[b"550 5.1.1 no such user"]).unwrap();
        assert_eq!(
            (reply.code, reply.enhanced.as_deref(), reply.text()),
            (550, Some("5.1.1"), "no such user".into())
        );
        let reply = read(&[b"250-2.0.0 first", b"250 2.0.0 second"]).unwrap();
        assert_eq!((reply.enhanced.as_deref(), reply.text()), (Some("2.0.0"), "first\nsecond".into()));
        assert_eq!(read(&[b"250"]).unwrap().text(), "");
        // A version number is no enhanced code of class 2.
        assert_eq!(read(&[b"220 5.1.1 is our version"]).unwrap().enhanced, None);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for wrong in [&b"25"[..], b"abc hello", b"150 early", b"650 late", b"250_ok"] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
        assert!(read(&[b"250-one", b"251 two"]).is_err());
        assert_eq!(read(&[b"250-x".as_slice(); MAX_LINES + 1]), Err("too many lines"));
    }

    #[test]
    fn text_is_bounded_and_cleaned() {
        let long = [b"550 ".as_slice(), "é".repeat(2_000).as_bytes()].concat();
        assert_eq!(read(&[&long]).unwrap().text().chars().count(), MAX_TEXT_CHARS);
        assert_eq!(read(&[b"550 bell\x07 and latin-1 \xe9"]).unwrap().text(), "bell and latin-1 \u{fffd}");
    }

    #[test]
    fn whatever_bytes_come_a_reply_is_bounded_and_clean() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let alphabet = b"2345 -.\t\x00\x07abc\xc3\xa9\xff5.1.1";
        let mut whole = 0;
        for _ in 0..20_000 {
            let mut partial = Partial::default();
            let code = rng.u16(200..600).to_string();
            for _ in 0..rng.usize(1..200) {
                let mut line: Vec<u8> =
                    (0..rng.usize(..60)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
                if rng.u8(..20) > 0 {
                    let sign: &[u8] = if rng.u8(..4) == 0 { b" " } else { b"-" };
                    line = [code.as_bytes(), sign, &line].concat();
                }
                match partial.line(&line) {
                    Err(_) => break,
                    Ok(None) => {}
                    Ok(Some(reply)) => {
                        whole += 1;
                        assert!((200..600).contains(&reply.code), "seed {seed}");
                        assert!((1..=MAX_LINES).contains(&reply.lines.len()), "seed {seed}");
                        let text = reply.text();
                        assert!(text.chars().count() <= MAX_TEXT_CHARS, "seed {seed}");
                        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "seed {seed}: {text:?}");
                        let class = (reply.code / 100).to_string();
                        let in_class = reply.enhanced.is_none_or(|enhanced| enhanced.starts_with(&class));
                        assert!(in_class, "seed {seed}");
                        break;
                    }
                }
            }
        }
        assert!(whole > 1_000, "seed {seed}: {whole}");
    }
}
