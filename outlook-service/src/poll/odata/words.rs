//! The words that conditions and orders are made of.

/// A word of a condition or an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word<'a> {
    Name(&'a str),
    Text(String),
    /// A number or a time.
    Bare(&'a str),
    Mark(char),
}

/// The words of a text, each with its place, counted in characters from 1.
pub(super) fn words(text: &str) -> Result<Vec<(usize, Word<'_>)>, String> {
    let mut words = Vec::new();
    let mut rest = text;
    let place = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
    while let Some(first) = rest.chars().next() {
        let at = place(rest);
        let taken = match first {
            _ if first.is_whitespace() => {
                rest = rest.trim_start();
                continue;
            }
            '\'' => {
                let (value, taken) = quoted(rest)
                    .ok_or_else(|| format!("lacks the quote that ends the text at character {at}"))?;
                words.push((at, Word::Text(value)));
                taken
            }
            '(' | ')' | ',' | '/' | ':' => {
                words.push((at, Word::Mark(first)));
                1
            }
            _ if first.is_ascii_digit() || first == '-' => {
                let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | ':' | '.');
                let end = rest.find(|c| !bare(c)).unwrap_or(rest.len());
                words.push((at, Word::Bare(&rest[..end])));
                end
            }
            _ if first.is_alphabetic() || matches!(first, '_' | '@') => {
                let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '.');
                let end = rest.find(|c| !name(c)).unwrap_or(rest.len());
                words.push((at, Word::Name(&rest[..end])));
                end
            }
            _ => return Err(format!("cannot be read at character {at}")),
        };
        rest = &rest[taken..];
    }
    Ok(words)
}

/// A text in quotes, a quote within it written twice; and how many bytes it takes.
fn quoted(rest: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((index, c)) = characters.next() {
        if c != '\'' {
            value.push(c);
        } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
            value.push('\'');
        } else {
            return Some((value, index + 1));
        }
    }
    None
}
