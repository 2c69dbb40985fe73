//! The query options that Graph takes (OData), read strictly: what it does not know, or not here, is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::exchange::Exchange;
use super::refusal::{self, Refusal};
use crate::world::Message;

/// The largest page.
const MAX_TOP: usize = 1_000;

/// How a filter by an extended property begins; its id and its value follow.
const WITH_PROPERTY: &str = "singleValueExtendedProperties/Any(ep: ep/id eq ";
/// What such a filter asks for. Its operator is the property's id.
const PROPERTY: &str = "singleValueExtendedProperties";

/// The options of a request.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) select: Option<Vec<String>>,
    pub(super) top: Option<usize>,
    pub(super) skip: usize,
    pub(super) filter: Vec<Condition>,
    pub(super) order: Option<(String, bool)>,
    pub(super) search: Option<Vec<String>>,
    pub(super) expand_attachments: bool,
    pub(super) skip_token: Option<String>,
    pub(super) delta_token: Option<String>,
    pub(super) change_type: Option<String>,
    pub(super) with_hidden: bool,
}

/// A comparison of `$filter`.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) field: String,
    operator: String,
    value: String,
}

/// Reads the options, of which those named are taken here.
pub(super) fn read(asked: &Exchange, taken: &[&str]) -> Result<Query, Refusal> {
    let mut query = Query::default();
    for (name, value) in &asked.options {
        if !taken.contains(&name.as_str()) {
            return Err(refusal::bad(format!("The query parameter '{name}' is not supported here.")));
        }
        let number =
            || value.parse::<usize>().map_err(|_| refusal::bad(format!("Invalid value for '{name}'.")));
        match name.as_str() {
            "$select" => query.select = Some(value.split(',').map(|field| field.trim().to_owned()).collect()),
            "$top" => query.top = Some(number()?).filter(|top| (1..=MAX_TOP).contains(top)),
            "$skip" => query.skip = number()?,
            "$filter" => query.filter = conditions(value)?,
            "$orderby" => query.order = Some(order(value)),
            "$search" => query.search = Some(terms(value)?),
            "$expand" if value == "attachments" => query.expand_attachments = true,
            "$skiptoken" => query.skip_token = Some(value.clone()),
            "$deltatoken" => query.delta_token = Some(value.clone()),
            "includeHiddenFolders" if value == "true" || value == "false" => {
                query.with_hidden = value == "true"
            }
            "changeType" => query.change_type = Some(value.clone()),
            _ => return Err(refusal::bad(format!("Invalid value for '{name}'."))),
        }
        if name == "$top" && query.top.is_none() {
            return Err(refusal::bad("The value of '$top' must be from 1 to 1000."));
        }
    }
    if query.search.is_some() {
        let other = ["$filter", "$orderby", "$skip"];
        if let Some((name, _)) = asked.options.iter().find(|(name, _)| other.contains(&name.as_str())) {
            return Err(refusal::search_with(name));
        }
    }
    if let (Some((field, _)), Some(first)) = (&query.order, query.filter.first())
        && *field != first.field
    {
        return Err(refusal::inefficient());
    }
    Ok(query)
}

fn order(value: &str) -> (String, bool) {
    match value.split_once(' ') {
        Some((field, direction)) => (field.to_owned(), direction == "desc"),
        None => (value.to_owned(), false),
    }
}

/// `field operator value` joined by `and`; a quote within a text is doubled.
fn conditions(filter: &str) -> Result<Vec<Condition>, Refusal> {
    let bad = || refusal::bad(format!("Invalid filter clause: '{filter}'."));
    let mut conditions = Vec::new();
    let mut rest = filter.trim();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(WITH_PROPERTY) {
            let (id, after) = literal(after).ok_or_else(bad)?;
            let after = after.strip_prefix(" and ep/value eq ").ok_or_else(bad)?;
            let (value, after) = literal(after).ok_or_else(bad)?;
            conditions.push(Condition { field: PROPERTY.to_owned(), operator: id, value });
            rest = after.strip_prefix(')').filter(|after| after.trim().is_empty()).ok_or_else(bad)?.trim();
            continue;
        }
        let (field, after) = rest.split_once(' ').ok_or_else(bad)?;
        let (operator, after) = after.trim_start().split_once(' ').ok_or_else(bad)?;
        let (value, after) = literal(after.trim_start()).ok_or_else(bad)?;
        if !["eq", "ge", "gt", "le", "lt"].contains(&operator) {
            return Err(bad());
        }
        conditions.push(Condition { field: field.to_owned(), operator: operator.to_owned(), value });
        rest = match after.trim_start() {
            "" => "",
            more => more.strip_prefix("and ").ok_or_else(bad)?.trim_start(),
        };
    }
    Ok(conditions)
}

fn literal(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let end = text.find(' ').unwrap_or(text.len());
        return Some((text.get(..end)?.to_owned(), text.get(end..)?));
    };
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

/// The terms of a search: words, phrases and `property:word`.
fn terms(value: &str) -> Result<Vec<String>, Refusal> {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let text = quoted.ok_or_else(|| refusal::bad("Syntax error: the search must be in double quotes."))?;
    let mut terms = Vec::new();
    let (mut term, mut phrase, mut escaped) = (String::new(), false, false);
    for character in text.chars() {
        match character {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '"' => phrase = !phrase,
            ' ' if !phrase => terms.push(std::mem::take(&mut term)),
            character => term.push(character),
        }
        escaped = false;
    }
    terms.push(term);
    terms.retain(|term| !term.is_empty());
    Ok(terms)
}

impl Condition {
    fn compare<T: PartialOrd>(&self, left: &T, right: &T) -> bool {
        match self.operator.as_str() {
            "eq" => left == right,
            "ge" => left >= right,
            "gt" => left > right,
            "le" => left <= right,
            _ => left < right,
        }
    }

    /// Whether a text meets it, case aside as Exchange compares.
    pub(super) fn holds_for_text(&self, text: &str) -> bool {
        self.compare(&text.to_lowercase(), &self.value.to_lowercase())
    }

    /// Whether a message meets it.
    pub(super) fn holds_for(&self, message: &Message) -> Result<bool, Refusal> {
        let time = |left: Timestamp| {
            let right: Timestamp =
                self.value.parse().map_err(|_| refusal::bad("Invalid date in the filter clause."))?;
            Ok(self.compare(&left, &right))
        };
        match self.field.as_str() {
            PROPERTY => Ok(message.properties.get(&self.operator) == Some(&self.value)),
            "isRead" => Ok(message.is_read.to_string() == self.value),
            "isDraft" => Ok(message.is_draft.to_string() == self.value),
            "subject" => Ok(self.holds_for_text(&message.subject)),
            "internetMessageId" => Ok(message.internet_message_id == self.value),
            "receivedDateTime" => time(message.received),
            "sentDateTime" => time(message.sent),
            field => Err(refusal::bad(format!("Could not find a property named '{field}'."))),
        }
    }
}

/// Whether a message holds all terms of a search.
pub(super) fn found(message: &Message, terms: &[String]) -> bool {
    let holds = |text: &str, word: &str| text.to_lowercase().contains(&word.to_lowercase());
    let people = |mailboxes: &[crate::world::Mailbox], word: &str| {
        mailboxes.iter().any(|mailbox| holds(&mailbox.address, word) || holds(&mailbox.name, word))
    };
    let from =
        |word: &str| message.from.as_ref().is_some_and(|from| people(std::slice::from_ref(from), word));
    terms.iter().all(|term| match term.split_once(':') {
        Some(("subject", word)) => holds(&message.subject, word),
        Some(("body", word)) => holds(&message.body.content, word),
        Some(("from", word)) => from(word),
        Some(("to", word)) => people(&message.to, word),
        _ => holds(&message.subject, term) || holds(&message.body.content, term) || from(term),
    })
}

/// A token's text from what it holds.
pub(super) fn seal<T: serde::Serialize>(held: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(held).unwrap_or_default())
}

/// What a token holds.
pub(super) fn unseal<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Percent-encodes a value for a link.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_with_quotes_doubled_and_refused_where_they_are_none() {
        let read = conditions("displayName eq 'O''Neil, and sons' and isRead eq false").unwrap();
        assert_eq!(read[0].value, "O'Neil, and sons");
        assert_eq!((read[1].field.as_str(), read[1].value.as_str()), ("isRead", "false"));
        assert!(conditions("isRead").is_err());
        assert!(conditions("isRead like 'x'").is_err());
        assert!(conditions("displayName eq 'x").is_err());
    }

    #[test]
    fn searches_are_read_into_words_and_phrases() {
        assert_eq!(terms("\"one subject:\\\"two words\\\"\"").unwrap(), ["one", "subject:two words"]);
        assert!(terms("bare").is_err());
    }
}
