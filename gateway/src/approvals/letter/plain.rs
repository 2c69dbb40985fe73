//! Between text and HTML: a text as HTML shows it, and what an HTML body says as text. The text of an HTML body is for
//! reading alone: it is never shown as HTML.

/// Elements whose content nobody reads.
const UNREAD: [&str; 4] = ["head", "script", "style", "title"];
/// Elements that begin a line.
const LINES: [&str; 14] =
    ["address", "blockquote", "br", "div", "dt", "h1", "h2", "h3", "h4", "li", "ol", "table", "tr", "ul"];
/// The longest character reference.
const MAX_REFERENCE: usize = 10;

/// A text as HTML shows it, with its lines.
pub(super) fn html_of(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\n' | '\r' => html.push_str("<br>\n"),
            character => html.push(character),
        }
    }
    html
}

/// The content of an HTML body: what stands between the tags of `body`, where there are such.
pub(super) fn content_of(html: &str) -> &str {
    // Lowering ASCII alone keeps every place where it is.
    let lower = html.to_ascii_lowercase();
    let begin = lower.match_indices("<body").find_map(|(at, tag)| {
        let rest = &lower[at + tag.len()..];
        let is_tag = rest.starts_with(|c: char| c == '>' || c.is_ascii_whitespace());
        rest.find('>').filter(|_| is_tag).map(|end| at + tag.len() + end + 1)
    });
    let Some(begin) = begin else { return html };
    let end = lower[begin..].rfind("</body").map_or(html.len(), |end| begin + end);
    &html[begin..end]
}

/// What an HTML body says, as text.
pub(super) fn text_of(html: &str) -> String {
    let (mut text, mut rest) = (String::new(), html);
    while let Some(at) = rest.find(['<', '&']) {
        let (before, after) = rest.split_at(at);
        push_words(&mut text, before);
        rest = if let Some(after) = after.strip_prefix('&') {
            reference(&mut text, after)
        } else if let Some(after) = after.strip_prefix("<!--") {
            after.split_once("-->").map_or("", |(_, rest)| rest)
        } else {
            tag(&mut text, &after[1..])
        };
    }
    push_words(&mut text, rest);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut whole = String::with_capacity(text.len());
    for line in lines {
        // Of several empty lines, one.
        if !line.is_empty() || !(whole.is_empty() || whole.ends_with("\n\n")) {
            whole.push_str(line);
            whole.push('\n');
        }
    }
    whole.trim().to_owned()
}

/// Takes a tag, its opening bracket gone, and gives what comes after it.
fn tag<'a>(text: &mut String, tag: &'a str) -> &'a str {
    let is_name = |c: char| c.is_ascii_alphanumeric();
    let (closes, named) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
    let end = named.find(|c| !is_name(c)).unwrap_or(named.len());
    let name = named[..end].to_ascii_lowercase();
    if name.is_empty() && !tag.starts_with(['!', '?', '/']) {
        text.push('<');
        return tag;
    }
    let rest = tag.split_once('>').map_or("", |(_, rest)| rest);
    match name.as_str() {
        "p" => text.push_str("\n\n"),
        "td" | "th" if !closes => text.push(' '),
        line if LINES.contains(&line) && !(closes && line == "br") => {
            if !text.ends_with('\n') || line == "br" {
                text.push('\n');
            }
            if line == "li" && !closes {
                text.push_str("- ");
            }
        }
        unread if !closes && UNREAD.contains(&unread) => {
            let is_close = |at: usize| {
                rest.get(at + 2..at + 2 + unread.len()).is_some_and(|name| name.eq_ignore_ascii_case(unread))
            };
            let close = rest.match_indices("</").map(|(at, _)| at).find(|at| is_close(*at));
            return close.and_then(|at| rest[at..].split_once('>')).map_or("", |(_, rest)| rest);
        }
        _ => {}
    }
    rest
}

/// Takes a character reference, its ampersand gone, and gives what comes after it.
fn reference<'a>(text: &mut String, after: &'a str) -> &'a str {
    let end = after.bytes().take(MAX_REFERENCE).position(|byte| byte == b';');
    let character = end.and_then(|end| {
        let name = after.get(..end)?;
        let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        });
        let named = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            "nbsp" => ' ',
            _ => char::from_u32(number?).filter(|c| !c.is_control())?,
        };
        Some((named, end))
    });
    match character {
        Some((character, end)) => {
            text.push(character);
            &after[end + 1..]
        }
        None => {
            text.push('&');
            after
        }
    }
}

/// Appends words, each run of space as one.
fn push_words(text: &mut String, words: &str) {
    for character in words.chars() {
        if !character.is_whitespace() {
            text.push(character);
        } else if !text.ends_with([' ', '\n']) && !text.is_empty() {
            text.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_reads_as_text() {
        for (html, text) in [
            ("<p>One</p><p>Two &amp; <b>three</b></p>", "One\n\nTwo & three"),
            ("a<br>b<br/>c", "a\nb\nc"),
            ("<style>p { color: red }</style><ul><li>x</li><li>y</li></ul>", "- x\n- y"),
            ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "1 2\n3"),
            ("5 < 6 &lt; 7 &#65;&#x42; &unknown; &", "5 < 6 < 7 AB &unknown; &"),
            ("<!-- no --><SCRIPT>alert(1)</SCRIPT >yes", "yes"),
            ("no end <b", "no end"),
            ("<head><title>t</title>", ""),
        ] {
            assert_eq!(text_of(html), text, "{html}");
        }
    }

    #[test]
    fn the_content_of_a_body_is_found() {
        assert_eq!(content_of("<p>x</p>"), "<p>x</p>");
        assert_eq!(content_of("<HTML><Body id=1>é<p></BODY></html>"), "é<p>");
        assert_eq!(content_of("<body>open"), "open");
        assert_eq!(content_of("<bodyless>x"), "<bodyless>x");
    }

    #[test]
    fn a_text_is_shown_with_its_lines() {
        assert_eq!(html_of("a\r\n<b> \"c\" & d"), "a<br>\n&lt;b&gt; &quot;c&quot; &amp; d");
    }
}
