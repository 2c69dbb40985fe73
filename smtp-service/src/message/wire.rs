//! A message on the wire (RFC 5321, section 4.5.2): dots at line beginnings doubled, the final dot added. The last
//! guard against what would break out of the message: a bare CR or LF, a NUL, a line that is too long.

/// The longest line, without its line end (RFC 5321, section 4.5.3.1.6).
const MAX_LINE_BYTES: usize = 998;

/// The message with its dots doubled and the final dot at its end.
///
/// # Errors
/// What the message holds that cannot travel.
pub(super) fn stuffed(mut message: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    let dots = check(&message)?;
    if dots == 0 {
        message.extend_from_slice(b".\r\n");
        return Ok(message);
    }
    let mut wire = Vec::with_capacity(message.len() + dots + 3);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    Ok(wire)
}

/// Checks every line; gives how many begin with a dot.
fn check(message: &[u8]) -> Result<usize, &'static str> {
    let mut dots = 0;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\r\n").ok_or("a line ends without CR")?;
        if text.len() > MAX_LINE_BYTES {
            return Err("a line is longer than 998 bytes");
        }
        if text.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err("a line holds a bare CR or a NUL");
        }
        dots += usize::from(text.starts_with(b"."));
    }
    Ok(dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_line_beginnings_are_doubled() {
        let wire = stuffed(b".a\r\nb.\r\n.\r\n\r\n..".to_vec()).unwrap();
        assert_eq!(wire, b"..a\r\nb.\r\n..\r\n\r\n...\r\n.\r\n");
        assert_eq!(stuffed(b"a\r\n".to_vec()).unwrap(), b"a\r\n.\r\n");
    }

    #[test]
    fn what_could_break_out_of_the_message_does_not_pass() {
        for wrong in [&b"a\n.\r\n"[..], b"a\r.\r\n", b"a\n.\n", b"a\0b", b"a\r\r\n.\r\n"] {
            assert!(stuffed(wrong.to_vec()).is_err(), "{wrong:?}");
        }
        assert!(stuffed(vec![b'a'; MAX_LINE_BYTES]).is_ok());
        assert!(stuffed(vec![b'a'; MAX_LINE_BYTES + 1]).is_err());
    }
}
