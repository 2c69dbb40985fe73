//! Header fields of a caller's own: taken where they can do no harm to the message around them. It also writes the
//! fields by which a mailing list is left.

use postern_proto::mail::v1::{Header, ListUnsubscribe};

use super::fields::Problems;
use super::head::{Head, MAX_WORD_BYTES};
use crate::mailbox;

/// The longest name.
const MAX_NAME_CHARS: usize = 76;
/// The longest value.
const MAX_VALUE_BYTES: usize = 8 * 1024;
/// The most fields.
const MAX_FIELDS: usize = 100;

/// What Postern writes itself, from other fields of the request or of its own accord, and what the servers on the way
/// write: lower case.
const RESERVED: [&str; 31] = [
    "apparently-to",
    "authentication-results",
    "bcc",
    "cc",
    "date",
    "delivered-to",
    "disposition-notification-to",
    "dkim-signature",
    "domainkey-signature",
    "envelope-to",
    "from",
    "importance",
    "in-reply-to",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "message-id",
    "mime-version",
    "original-recipient",
    "received",
    "received-spf",
    "references",
    "reply-to",
    "return-path",
    "return-receipt-to",
    "sender",
    "subject",
    "to",
    "x-delivered-to",
    "x-original-to",
    "x-priority",
    "x-msmail-priority",
];
/// What the names of such fields begin with.
const RESERVED_BEGINNINGS: [&str; 3] = ["arc-", "content-", "resent-"];

/// Checks the fields and gives back the names and values to write.
pub(super) fn fields<'a>(headers: &'a [Header], problems: &mut Problems) -> Vec<(&'a str, &'a str)> {
    if headers.len() > MAX_FIELDS {
        problems.add("email.headers", format!("are more than {MAX_FIELDS}"));
        return Vec::new();
    }
    for (at, header) in headers.iter().enumerate() {
        problems.keep(&format!("email.headers[{at}].name"), check_name(&header.name));
        if header.value.len() > MAX_VALUE_BYTES || header.value.chars().any(char::is_control) {
            let problem = "expected at most 8 KiB without CR, LF and other control characters";
            problems.add(format!("email.headers[{at}].value"), problem);
        }
    }
    headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect()
}

/// Writes them.
pub(super) fn write(fields: Vec<(&str, &str)>, head: &mut Head) {
    fields.into_iter().for_each(|(name, value)| head.text(name, value, MAX_WORD_BYTES));
}

fn check_name(name: &str) -> Result<(), String> {
    let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !visible {
        return Err(format!("expected 1 to {MAX_NAME_CHARS} visible ASCII characters without a colon"));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str())
        || RESERVED_BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning))
    {
        return Err("is written by Postern or by the servers on the way: expected another one".to_owned());
    }
    Ok(())
}

/// How a list is left, as it is written.
pub(super) struct Leaving {
    ways: Vec<String>,
    one_click: bool,
}

impl Leaving {
    /// Checks what was given.
    pub(super) fn of(given: &ListUnsubscribe, problems: &mut Problems) -> Self {
        let path = "email.list_unsubscribe";
        let (url, mailto) = (given.url.trim(), given.mailto.trim());
        if url.is_empty() && mailto.is_empty() {
            problems.add(path, "expected a url, a mailto or both");
        }
        let mut ways = Vec::new();
        if !url.is_empty() {
            ways.extend(problems.keep(&format!("{path}.url"), check_url(url)));
        }
        if !mailto.is_empty() {
            ways.extend(problems.keep(&format!("{path}.mailto"), mailto_url(mailto)));
        }
        if given.one_click && url.is_empty() {
            problems.add(format!("{path}.url"), "is needed with one_click");
        }
        Self { ways, one_click: given.one_click }
    }

    /// Writes List-Unsubscribe and, where one click does it, List-Unsubscribe-Post.
    pub(super) fn write(self, head: &mut Head) {
        head.list("List-Unsubscribe", ",", self.ways);
        if self.one_click {
            head.field("List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
        }
    }
}

/// Whether a text can stand between angle brackets on a line.
fn fits_brackets(text: &str) -> bool {
    text.len() <= MAX_WORD_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'\\'))
}

fn check_url(url: &str) -> Result<String, String> {
    let host = url.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://")).map(|_| &url[8..]);
    let named = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '?', '#', ':']));
    if !named || !fits_brackets(url) {
        return Err(format!("expected an https URL of at most {MAX_WORD_BYTES} visible ASCII characters"));
    }
    Ok(format!("<{url}>"))
}

/// An address, with `mailto:` before it or not, and perhaps with fields after a question mark (RFC 6068).
fn mailto_url(text: &str) -> Result<String, String> {
    let scheme = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("mailto:"));
    let rest = scheme.map_or(text, |_| &text[7..]);
    let (address, query) =
        rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let address = mailbox::single(address)?.email.to_string();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("mailto:{address}{query}");
    if !fits_brackets(&url) {
        return Err(format!(
            "expected an address in ASCII, the whole of at most {MAX_WORD_BYTES} characters"
        ));
    }
    Ok(format!("<{url}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_ours_or_no_names_are_refused() {
        for right in ["X-Campaign", "List-Id", "Auto-Submitted", "x", ".dot", "Feedback-ID", "X-From"] {
            assert!(check_name(right).is_ok(), "{right}");
        }
        let long = "x".repeat(MAX_NAME_CHARS + 1);
        for wrong in
            ["", "a b", "a:", "ä", "a\r\nb", "a\t", &long, "FROM", "bcc", "Content-Language", "ARC-Seal"]
        {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(RESERVED.iter().all(|name| check_name(&name.to_ascii_uppercase()).is_err()));
    }

    #[test]
    fn ways_to_leave_are_checked() {
        assert_eq!(check_url("https://example.org/u?a=b").unwrap(), "<https://example.org/u?a=b>");
        for wrong in
            ["http://example.org", "https://", "https:///x", "https://a b", "https://a>", "ftp:", "https://ü"]
        {
            assert!(check_url(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(mailto_url("leave@example.org").unwrap(), "<mailto:leave@example.org>");
        assert_eq!(
            mailto_url("MAILTO:leave@bücher.example?subject=off").unwrap(),
            "<mailto:leave@xn--bcher-kva.example?subject=off>"
        );
        for wrong in ["leave", "mailto:", "a@b, c@d", "ü@example.org", "a@b?x=<y>", "a@b?x=y z"] {
            assert!(mailto_url(wrong).is_err(), "{wrong:?}");
        }
    }
}
