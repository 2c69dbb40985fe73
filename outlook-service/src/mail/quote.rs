//! A plain text put above a body that is HTML or text, so that it reads the same in both.

/// The body with a text above it.
pub(super) fn above(text: &str, body: &str, is_html: bool) -> String {
    if !is_html {
        return format!("{text}\n\n{body}");
    }
    let (head, rest) = body.split_at(inside(body));
    format!("{head}<div>{}</div><br>{rest}", as_html(text))
}

/// Where the content of an HTML body begins: after the tag, where there is one.
fn inside(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    let mut from = 0;
    while let Some(found) = lower.get(from..).and_then(|rest| rest.find("<body")) {
        let after = from + found + "<body".len();
        let rest = lower.get(after..).unwrap_or_default();
        if rest.starts_with(|c: char| c == '>' || c == '/' || c.is_ascii_whitespace()) {
            return end_of_tag(rest).map_or(0, |end| after + end);
        }
        from = after;
    }
    0
}

/// Where a tag ends: at the first bracket outside of quotes.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (position, character) in tag.char_indices() {
        match (quote, character) {
            (None, '>') => return Some(position + 1),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    None
}

/// A plain text as HTML shows it: with its lines and its spaces.
fn as_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    let mut was_space = true;
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\n' | '\r' => html.push_str("<br>\n"),
            '\t' => html.push_str("&nbsp;&nbsp;&nbsp; "),
            ' ' if was_space => html.push_str("&nbsp;"),
            character => html.push(character),
        }
        was_space = matches!(character, ' ' | '\n' | '\r');
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_first_within_the_body_and_says_what_it_said() {
        let said = "<div>a &lt; b &amp; c<br>\n&nbsp;&nbsp;d</div><br>";
        for (body, expected) in [
            ("<html><BODY class=\"a>b\">q</BODY>", format!("<html><BODY class=\"a>b\">{said}q</BODY>")),
            ("<body>q", format!("<body>{said}q")),
            ("<tbodyx><bodyx>q", format!("{said}<tbodyx><bodyx>q")),
            ("<p>ä</p>", format!("{said}<p>ä</p>")),
            ("<body class='", format!("{said}<body class='")),
            ("", said.to_owned()),
        ] {
            assert_eq!(above("a < b & c\r\n  d", body, true), expected);
        }
        assert_eq!(above("a < b\n", "q", false), "a < b\n\n\nq");
    }
}
