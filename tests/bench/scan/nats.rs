//! NATS's client protocol, as far as a subscriber needs it.

use super::{Found, Line};

/// A connection's place in what comes.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    line: Line,
    /// Bytes of a payload, with the end of its line, that are still to come.
    skip: usize,
    /// The payload of a message with headers, as it comes: what JetStream says about the delivery itself.
    status: Option<Status>,
}

#[derive(Debug)]
struct Status {
    reply: Option<Vec<u8>>,
    bytes: Vec<u8>,
    whole: usize,
}

impl Scanner {
    /// Takes in what came. `answers` is given what must be sent back.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        found: &mut Found,
        answers: &mut Vec<u8>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if let Some(status) = &mut self.status {
                let missing = (status.whole - status.bytes.len()).min(bytes.len());
                status.bytes.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                if status.bytes.len() == status.whole {
                    if let Some(reply) = status.reply.take() {
                        // A request for flow control: it is answered by nothing, to where it says.
                        answers.extend_from_slice(b"PUB ");
                        answers.extend_from_slice(&reply);
                        answers.extend_from_slice(b" 0\r\n\r\n");
                    }
                    self.status = None;
                }
                continue;
            }
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let (line, rest) = self.line.take(bytes);
            bytes = rest;
            let Some(line) = line else { return Ok(()) };
            self.line(&line, bytes, found, answers)?;
        }
        Ok(())
    }

    fn line(
        &mut self,
        line: &[u8],
        rest: &[u8],
        found: &mut Found,
        answers: &mut Vec<u8>,
    ) -> Result<(), String> {
        if line.starts_with(b"MSG ") {
            self.skip = length(line)? + 2;
            found.message(rest);
        } else if line.starts_with(b"HMSG ") {
            // HMSG subject sid [reply] headers all
            let parts: Vec<_> = line.split(|byte| *byte == b' ').collect();
            let reply = (parts.len() == 6).then(|| parts[3].to_vec());
            self.status = Some(Status { reply, bytes: Vec::new(), whole: length(line)? + 2 });
        } else if line == b"PONG" {
            found.confirmed += 1;
        } else if line == b"PING" {
            answers.extend_from_slice(b"PONG\r\n");
        } else if line.starts_with(b"-ERR") {
            return Err(String::from_utf8_lossy(line).into_owned());
        }
        Ok(())
    }
}

/// The last word of a line, which is a payload's length.
fn length(line: &[u8]) -> Result<usize, String> {
    let start = line.iter().rposition(|byte| *byte == b' ').map_or(0, |blank| blank + 1);
    let word = std::str::from_utf8(&line[start..]).ok().and_then(|word| word.parse().ok());
    word.ok_or_else(|| format!("no length: {}", String::from_utf8_lossy(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_in_whatever_pieces_they_come() {
        let told = "INFO {}\r\nMSG bench 1 21\r\n1700000000000000000xx\r\nPING\r\n\
                    HMSG d 1 reply.to 12 12\r\nNATS/1.0 100\r\nMSG bench 1 3\r\nabc\r\n";
        for size in 1..told.len() {
            let (mut scanner, mut found, mut answers) = (Scanner::default(), Found::default(), Vec::new());
            for piece in told.as_bytes().chunks(size) {
                scanner.take(piece, &mut found, &mut answers).unwrap();
            }
            assert_eq!(found.messages, 2, "pieces of {size}");
            assert_eq!(answers, b"PONG\r\nPUB reply.to 0\r\n\r\n", "pieces of {size}");
        }
        let mut found = Found::new(true);
        Scanner::default().take(told.as_bytes(), &mut found, &mut Vec::new()).unwrap();
        assert_eq!(found.sent, Some(vec![1_700_000_000_000_000_000]));
        assert!(Scanner::default().take(b"-ERR 'no'\r\n", &mut found, &mut Vec::new()).is_err());
    }
}
