//! Counts messages as they come over a wire, by their lengths alone: none of the three readers looks into what it
//! counts, so that what is compared is the servers. A scanner is given bytes in whatever pieces they come in.

pub(crate) mod grpc;
pub(crate) mod nats;
pub(crate) mod redis;

/// How many digits of a sent time stand at the front of what is published.
pub(crate) const TIME_DIGITS: usize = 19;

/// What a scanner has come upon.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many messages began.
    pub(crate) messages: u64,
    /// How many answers came that say that a subscription is there.
    pub(crate) confirmed: u64,
    /// When messages were sent, of those whose time was in one piece: nanoseconds since 1970. `None`: it is not asked.
    pub(crate) sent: Option<Vec<u64>>,
}

impl Found {
    /// Nothing yet. `times`: whether it is asked when messages were sent.
    pub(crate) fn new(times: bool) -> Self {
        Self { sent: times.then(Vec::new), ..Self::default() }
    }

    /// Takes in a message whose payload begins with these bytes, as far as they have come.
    fn message(&mut self, payload: &[u8]) {
        self.messages += 1;
        if let Some(times) = &mut self.sent {
            let digits = payload.get(..TIME_DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
            times.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
    }
}

/// Text up to the end of its line, which may come in pieces.
#[derive(Debug, Default)]
struct Line(Vec<u8>);

impl Line {
    /// Takes bytes up to the end of the line. Gives the line once it is whole, and the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> (Option<Vec<u8>>, &'a [u8]) {
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.0.extend_from_slice(&bytes[..end]);
                let mut line = std::mem::take(&mut self.0);
                line.truncate(line.trim_ascii_end().len());
                (Some(line), &bytes[end + 1..])
            }
            None => {
                self.0.extend_from_slice(bytes);
                (None, &[])
            }
        }
    }
}
