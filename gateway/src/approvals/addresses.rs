//! Strings of addresses, taken apart: `"a@example.org; Bo <bo@example.org>"`. Whether an address is one that a mail can
//! be sent to is for its connector to judge.

/// The longest address (RFC 5321, section 4.5.3.1).
const MAX_ADDRESS: usize = 320;
/// The longest mailbox: an address with a display name.
const MAX_MAILBOX: usize = 1_000;

/// Somebody who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    /// As it was written, for the mail's To.
    pub(super) written: String,
    /// The address alone.
    pub(super) address: String,
}

/// Takes a string of addresses apart.
///
/// # Errors
/// What is wrong with it and what was expected.
pub(super) fn read(text: &str) -> Result<Vec<Mailbox>, String> {
    split(text)?.into_iter().map(mailbox).collect()
}

/// The parts between `;` and `,`, where these stand in no quotes, brackets or comments.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut in_angle, mut comments) = (false, false, false, 0_u32);
    for (place, character) in text.char_indices() {
        match character {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted || comments > 0 => escaped = true,
            '"' if comments == 0 => quoted = !quoted,
            _ if quoted => {}
            '(' => comments += 1,
            ')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            '<' => in_angle = true,
            '>' => in_angle = false,
            ';' | ',' if !in_angle => {
                parts.push(&text[start..place]);
                start = place + character.len_utf8();
            }
            _ => {}
        }
    }
    if quoted || in_angle || comments > 0 {
        return Err("a quote, bracket or comment has no end: expected addresses".to_owned());
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}

fn mailbox(part: &str) -> Result<Mailbox, String> {
    let written = part.trim();
    let wrong =
        || "holds what is no address: expected name@example.org or Name <name@example.org>".to_owned();
    // A comment at its end, as some programs write the name.
    let bare = match written.ends_with(')') {
        true => written.split('(').next().unwrap_or_default().trim(),
        false => written,
    };
    let address = match bare.strip_suffix('>') {
        Some(rest) => rest.rsplit_once('<').ok_or_else(wrong)?.1.trim(),
        None => bare,
    };
    let (local, domain) = address.rsplit_once('@').ok_or_else(wrong)?;
    let clean = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let is_local = quoted || (clean(local) && !local.contains(['@', '<', '>', '(', ')', '"']));
    let is_domain = clean(domain) && !domain.contains(['<', '>', '(', ')', '"']);
    let fits = address.len() <= MAX_ADDRESS && written.len() <= MAX_MAILBOX;
    if !is_local || !is_domain || !fits || written.chars().any(char::is_control) {
        return Err(wrong());
    }
    Ok(Mailbox { written: written.to_owned(), address: address.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_addresses_is_taken_apart_at_what_separates_them() {
        let text = r#"a@example.org; "Bo; the, \"second\"" <bo@example.org>,c@example.org (x, y);"#;
        let found: Vec<_> = read(text).unwrap().into_iter().map(|one| one.address).collect();
        assert_eq!(found, ["a@example.org", "bo@example.org", "c@example.org"]);
        assert!(read(text).unwrap()[1].written.starts_with("\"Bo; the"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(read("  ; ,").unwrap().is_empty());
        for wrong in
            ["a", "@b", "a@", "a b@example.org", "Bo <bo@example.org", "\"a@b", "a@b\r\nBcc: c@d", "a@b>"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read("\"a b\"@example.org").unwrap()[0].address, "\"a b\"@example.org");
    }
}
