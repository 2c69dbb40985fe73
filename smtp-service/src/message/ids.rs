//! Message-IDs (RFC 5322, section 3.6.4): those of our mails, and those that mails refer to.

use postern_chassis::digest;

use super::fields::Problems;
use super::head::Head;

/// Bytes of the digest in a Message-ID of ours.
const ID_BYTES: usize = 16;
/// The longest Message-ID taken: it cannot fold, and must fit a line.
const MAX_ID_BYTES: usize = 900;
/// The most Message-IDs in References. Mail programs cut longer conversations themselves.
const MAX_REFERENCES: usize = 200;

/// A Message-ID: the same for the same request of the same connection, new where the request has no id.
pub(super) fn message_id(connection: &str, request_id: &str, domain: &str) -> String {
    if request_id.is_empty() {
        return format!("<{:032x}@{domain}>", fastrand::u128(..));
    }
    let id = digest::hex(&digest::of_parts([connection, request_id])[..ID_BYTES]);
    format!("<{id}@{domain}>")
}

/// The mails that a mail follows.
pub(super) struct Thread {
    in_reply_to: Option<String>,
    references: Vec<String>,
}

impl Thread {
    /// Checks what was given.
    pub(super) fn of(in_reply_to: &str, references: &[String], problems: &mut Problems) -> Self {
        let in_reply_to = Some(in_reply_to.trim()).filter(|id| !id.is_empty());
        let in_reply_to = in_reply_to.and_then(|id| problems.keep("email.in_reply_to", bracketed(id)));
        if references.len() > MAX_REFERENCES {
            problems.add("email.references", format!("are more than {MAX_REFERENCES}"));
            return Self { in_reply_to, references: Vec::new() };
        }
        let given = references.iter().enumerate();
        let given = given
            .filter_map(|(at, id)| problems.keep(&format!("email.references[{at}]"), bracketed(id)))
            .collect::<Vec<_>>();
        let references = if references.is_empty() { in_reply_to.iter().cloned().collect() } else { given };
        Self { in_reply_to, references }
    }

    /// Writes In-Reply-To and References.
    pub(super) fn write(self, head: &mut Head) {
        head.list("In-Reply-To", "", self.in_reply_to);
        head.list("References", "", self.references);
    }
}

/// A Message-ID with its angle brackets.
fn bracketed(text: &str) -> Result<String, String> {
    let text = text.trim();
    let id = text.strip_prefix('<').map_or(Some(text), |rest| rest.strip_suffix('>'));
    let right = id.filter(|id| {
        id.len() <= MAX_ID_BYTES
            && id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b','))
            && id.split_once('@').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty())
    });
    let problem =
        || format!("expected one Message-ID such as <id@host>, of at most {MAX_ID_BYTES} characters");
    right.map(|id| format!("<{id}>")).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_the_same_for_the_same_request_only() {
        let id = message_id("connections/a", "1", "example.org");
        assert_eq!(id, message_id("connections/a", "1", "example.org"));
        assert_ne!(id, message_id("connections/b", "1", "example.org"));
        assert_ne!(message_id("ab", "c", "d"), message_id("a", "bc", "d"));
        assert_ne!(message_id("a", "", "d"), message_id("a", "", "d"));
        assert!(id.starts_with('<') && id.ends_with("@example.org>"));
    }

    #[test]
    fn a_message_id_gets_its_brackets_and_nothing_else_passes() {
        assert_eq!(bracketed("a@b").unwrap(), "<a@b>");
        assert_eq!(bracketed(" <a.b+c@[192.0.2.1]> ").unwrap(), "<a.b+c@[192.0.2.1]>");
        for wrong in
            ["", "<>", "a", "<a@b", "a@b>", "a @b", "a@b c@d", "<a@b><c@d>", "ü@b", "a@b\r\nX: y", "@b", "a@"]
        {
            assert!(bracketed(wrong).is_err(), "{wrong:?}");
        }
        assert!(bracketed(&format!("{}@b", "a".repeat(MAX_ID_BYTES))).is_err());
    }
}
