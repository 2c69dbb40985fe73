//! Mailboxes (RFC 5322, section 3.4) out of the strings that callers give: one string may hold several.

use lettre::Address;
use lettre::message::Mailbox;

/// The longest string of addresses taken.
const MAX_LIST_BYTES: usize = 64 * 1024;
/// The longest display name. Header lines fold, names do not make sense beyond.
const MAX_NAME_CHARS: usize = 256;

/// The mailboxes in a string, separated by `;` or `,` outside quotes and angle brackets.
///
/// # Errors
/// What is wrong, and with which of them. The text itself is not repeated.
pub(crate) fn list(text: &str) -> Result<Vec<Mailbox>, String> {
    if text.len() > MAX_LIST_BYTES {
        return Err(format!("is longer than {MAX_LIST_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    let parts: Vec<&str> = split(text)?.into_iter().filter(|part| !part.trim().is_empty()).collect();
    let several = parts.len() > 1;
    let parsed = parts.into_iter().enumerate().map(|(at, part)| {
        one(part).map_err(|problem| if several { format!("mailbox {}: {problem}", at + 1) } else { problem })
    });
    parsed.collect()
}

/// The one mailbox in a string.
///
/// # Errors
/// What is wrong, or that there is none or more than one.
pub(crate) fn single(text: &str) -> Result<Mailbox, String> {
    let mut mailboxes = list(text)?;
    match (mailboxes.pop(), mailboxes.is_empty()) {
        (Some(mailbox), true) => Ok(mailbox),
        (None, _) => Err("names nobody: expected one mailbox".to_owned()),
        _ => Err("names several: expected one mailbox".to_owned()),
    }
}

/// The mailboxes of a written header field (RFC 5322, section 3.4), on one line: as [`list`], and with comments and
/// groups, which are passed over. Names are as they are written, encoded or not.
///
/// # Errors
/// What is wrong. The text itself is not repeated.
pub(crate) fn in_header(text: &str) -> Result<Vec<Mailbox>, String> {
    let bare = without_comments(text)?;
    let parts = split(&bare)?.into_iter().map(after_group).filter(|part| !part.trim().is_empty());
    let mailbox = |part: &str| {
        let part = part.trim();
        let address =
            part.strip_suffix('>').and_then(|part| part.rsplit_once('<')).map_or(part, |(_, inner)| inner);
        address_of(address.trim()).map(|address| Mailbox::new(None, address))
    };
    parts.map(mailbox).collect()
}

/// The text without what stands in parentheses outside quotes; they nest.
fn without_comments(text: &str) -> Result<String, String> {
    let (mut out, mut depth, mut quoted, mut escaped) =
        (String::with_capacity(text.len()), 0_usize, false, false);
    for c in text.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        match c {
            '\\' if !was_escaped && (quoted || depth > 0) => escaped = true,
            '"' if !was_escaped && depth == 0 => quoted = !quoted,
            '(' if !was_escaped && !quoted => depth += 1,
            ')' if !was_escaped && !quoted => {
                depth = depth.checked_sub(1).ok_or("holds a parenthesis that closes nothing")?;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            // A tab of a fold is a blank.
            out.push(if c == '\t' { ' ' } else { c });
        }
    }
    if depth > 0 { Err("ends within a comment".to_owned()) } else { Ok(out) }
}

/// What stands after a group's name, where a group begins.
fn after_group(part: &str) -> &str {
    let (mut quoted, mut within) = (false, false);
    let colon = part.find(|c| {
        match c {
            '"' => quoted = !quoted,
            '<' | '[' if !quoted => within = true,
            '>' | ']' if !quoted => within = false,
            _ => {}
        }
        c == ':' && !quoted && !within
    });
    colon.map_or(part, |at| &part[at + 1..])
}

/// Cuts at separators.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut angled, mut escaped) = (false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted && angled => return Err("holds an angle bracket within angle brackets".to_owned()),
            '<' if !quoted => angled = true,
            '>' if !quoted => angled = false,
            ';' | ',' if !quoted && !angled => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if quoted || angled {
        return Err("ends within quotes or angle brackets".to_owned());
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// An address, or a display name with the address in angle brackets.
fn one(text: &str) -> Result<Mailbox, String> {
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, address)) => (display_name(name.trim())?, address.trim()),
        None => (None, text),
    };
    Ok(Mailbox::new(name, address_of(address)?))
}

/// A display name, out of its quotes.
fn display_name(text: &str) -> Result<Option<String>, String> {
    let name = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(quoted) => {
            let inner = quoted.strip_suffix('"').ok_or("has a display name that is not quoted as a whole")?;
            let (mut name, mut chars) = (String::new(), inner.chars());
            while let Some(c) = chars.next() {
                name.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
            name
        }
    };
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(format!("has a display name of more than {MAX_NAME_CHARS} characters"));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

/// An address. Its domain is brought to the form that every server takes (RFC 5890, A-labels).
fn address_of(text: &str) -> Result<Address, String> {
    let syntax = || "is no address: expected local-part@domain".to_owned();
    let (local, domain) = text.rsplit_once('@').ok_or_else(syntax)?;
    if text.contains(['<', '>'])
        || text.chars().any(|c| c.is_control() || c.is_whitespace()) && !local.starts_with('"')
    {
        return Err(syntax());
    }
    if domain.is_ascii() {
        return Address::new(local, domain).map_err(|_| syntax());
    }
    let domain = idna::domain_to_ascii(domain).map_err(|_| syntax())?;
    Address::new(local, domain).map_err(|_| syntax())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        list(text).unwrap().iter().map(|mailbox| mailbox.email.to_string()).collect()
    }

    #[test]
    fn a_string_may_hold_several_mailboxes() {
        assert_eq!(
            addresses("a@example.org; Bo <bo@example.org>,c@example.org;"),
            ["a@example.org", "bo@example.org", "c@example.org"]
        );
        assert_eq!(addresses(" "), Vec::<String>::new());
        let named = list(r#""Last, \"The\" First; Jr" <x@example.org>"#).unwrap();
        assert_eq!(named[0].name.as_deref(), Some(r#"Last, "The" First; Jr"#));
        let named = list("Dr. Bo Ö <bo@example.org>").unwrap();
        assert_eq!(named[0].name.as_deref(), Some("Dr. Bo Ö"));
        assert_eq!(list("<bo@example.org>").unwrap()[0].name, None);
    }

    #[test]
    fn a_written_field_may_have_comments_and_groups() {
        let found = |text: &str| -> Vec<String> {
            in_header(text).unwrap().iter().map(|mailbox| mailbox.email.to_string()).collect()
        };
        assert_eq!(
            found(
                r#"=?utf-8?Q?B=C3=B6?= <bo@example.org>, "Last, \"(First" <x@example.org> (of (old) \) fame)"#
            ),
            ["bo@example.org", "x@example.org"]
        );
        assert_eq!(
            found("Friends: a@example.org, B <b@example.org>;, c@example.org"),
            ["a@example.org", "b@example.org", "c@example.org"]
        );
        assert_eq!(found("undisclosed-recipients:;"), Vec::<String>::new());
        assert_eq!(found(" (a comment) "), Vec::<String>::new());
        assert_eq!(found("a@[IPv6:2001:db8::1],\tb@example.org"), ["a@[IPv6:2001:db8::1]", "b@example.org"]);
        for wrong in
            ["bo", "bo@example.org (", "bo@example.org)", "Bo <bo>", "a@b c@d", "\"Bo <bo@example.org>"]
        {
            assert!(in_header(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_outside_ascii_is_written_in_a_labels() {
        assert_eq!(addresses("bo@bücher.example"), ["bo@xn--bcher-kva.example"]);
        assert_eq!(addresses("bö@bücher.example"), ["bö@xn--bcher-kva.example"]);
        assert_eq!(addresses("bo@[192.0.2.1]"), ["bo@[192.0.2.1]"]);
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        for wrong in [
            "bo",
            "bo@",
            "@example.org",
            "bo@exa mple.org",
            "Bo <bo@example.org",
            "Bo <<bo@example.org>>",
            "\"Bo <bo@example.org>",
            "bo@example.org\r\nBcc: x@example.org",
            "Bo\u{7f} <bo@example.org>",
            "a@example.org, nobody",
            "bo@example.org> SIZE=1 <x@example.org",
            "a b@example.org",
            "Bo <bo@example.org> trailing",
        ] {
            assert!(list(wrong).is_err(), "{wrong:?}");
        }
        assert!(list("a@example.org, nobody").unwrap_err().starts_with("mailbox 2: "));
        assert!(single("a@example.org, b@example.org").unwrap_err().contains("several"));
        assert!(single("").unwrap_err().contains("nobody"));
    }
}
