//! Strings of addresses: one may hold several, separated by `;` or `,`, each an address or a name with the address in
//! angle brackets (RFC 5322, section 3.4).

use postern_proto::mail::v1::Mailbox;

/// The longest address (RFC 5321, section 4.5.3.1, with the at sign).
const MAX_ADDRESS: usize = 320;

/// Reads the mailboxes in a string.
///
/// # Errors
/// What is wrong, in words that do not repeat the address.
pub(crate) fn parse(text: &str) -> Result<Vec<Mailbox>, String> {
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    split(text)?.into_iter().filter(|part| !part.trim().is_empty()).map(|part| one(&part)).collect()
}

/// Splits at `;` and `,` outside of quotes and angle brackets.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            ';' | ',' if !quoted && !bracketed => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    if quoted || bracketed {
        return Err("has a quote or angle bracket that is not closed".to_owned());
    }
    Ok(parts)
}

fn one(text: &str) -> Result<Mailbox, String> {
    let text = text.trim();
    let (name, address) = match text.rsplit_once('<') {
        Some((name, rest)) => (name.trim(), rest.strip_suffix('>').ok_or("expected > at its end")?.trim()),
        None => ("", text),
    };
    if !is_address(address) {
        return Err("expected an address such as bo@example.org or Bo <bo@example.org>".to_owned());
    }
    Ok(Mailbox { address: address.to_owned(), name: unquoted(name) })
}

fn unquoted(name: &str) -> String {
    let Some(inner) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) else {
        return name.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            character => text.push(character),
        }
    }
    text
}

/// Whether a text can name a mailbox in a URL: an address without anything that could be taken for a path.
pub(crate) fn names_mailbox(text: &str) -> bool {
    is_address(text) && !text.contains(|c: char| "/\\?#<>\"(),:;[]".contains(c))
}

/// Whether a text is an address: Graph has the last word, this keeps out what is certainly none.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let plain = !local.is_empty()
        && local.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"()<>[]:;@\\,\"".contains(c))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let labels = domain
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_'));
    let literal = domain.starts_with('[') && domain.ends_with(']') && !domain.contains(char::is_whitespace);
    text.len() <= MAX_ADDRESS && (quoted || plain) && (labels || literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_may_hold_several_with_names_that_hold_separators() {
        let read =
            parse(r#"a@example.org; "Bo; \"the\" Second, Jr" <bo@example.org>, Cy <cy@x.example>;"#).unwrap();
        let addresses: Vec<_> = read.iter().map(|mailbox| mailbox.address.as_str()).collect();
        assert_eq!(addresses, ["a@example.org", "bo@example.org", "cy@x.example"]);
        assert_eq!(read[1].name, r#"Bo; "the" Second, Jr"#);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in
            ["bo", "bo@", "@x", "a b@x", "Bo <bo@x", "\"Bo <bo@x>", "a@x\r\nBcc: b@x", "a..b@x", "a@x..y"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_names_a_mailbox_holds_nothing_of_a_path() {
        assert!(names_mailbox("ann+x@contoso.example"));
        for wrong in ["users/ann@x", "ann@x/../bo@x", "\"a/b\"@x", "ann@[1.2.3.4]", "a#b@x", "ann", "me", ""]
        {
            assert!(!names_mailbox(wrong), "{wrong}");
        }
    }
}
