//! A meeting in a mail: an iCalendar object (RFC 5545), looked at as far as mail needs it (RFC 6047): one whole
//! VCALENDAR whose METHOD the part says too. What it says of times and people is the calendar's.

use bytes::Bytes;
use postern_proto::mail::v1::CalendarInvitation;

use super::content::Encoding;
use super::fields::{Problems, check_text};
use super::head::{Head, parameter};
use super::text;
use super::tree::Part;

/// The longest object taken: invitations are a few kilobytes, with pictures in them some hundred.
const MAX_CONTENT_BYTES: usize = 1024 * 1024;
/// The longest method.
const MAX_METHOD_CHARS: usize = 40;
/// How long the copy's name may be.
const MAX_FILE_NAME_CHARS: usize = 255;
/// How deep components may nest: an alarm within an event within the calendar is three.
const MAX_DEPTH: usize = 16;

/// An invitation, checked.
pub(super) struct Invitation {
    content: String,
    method: String,
    file_name: String,
}

impl Invitation {
    /// Checks what was given.
    pub(super) fn of(given: &CalendarInvitation, problems: &mut Problems) -> Option<Self> {
        check_text("email.calendar.file_name", &given.file_name, MAX_FILE_NAME_CHARS, problems);
        let content = given.content.strip_prefix('\u{feff}').unwrap_or(&given.content);
        let method = problems.keep("email.calendar.content", method(content))?;
        if !given.method.is_empty() && !given.method.eq_ignore_ascii_case(&method) {
            problems.add("email.calendar.method", "is not the METHOD of the content: expected the same");
            return None;
        }
        let mut content = text::with_crlf(content).into_owned();
        if !content.ends_with("\r\n") {
            content.push_str("\r\n");
        }
        let file_name = if given.file_name.is_empty() { "invite.ics" } else { &given.file_name };
        Some(Self { content, method, file_name: file_name.to_owned() })
    }

    /// The part that mail programs show as a meeting, and the copy for those that do not.
    pub(super) fn into_parts(self) -> (Part, Part) {
        let Self { content, method, file_name } = self;
        let shown = Part::text(&format!("text/calendar; charset=utf-8; method={method}"), &content);
        let mut head = Head::new();
        head.field("Content-Type", &format!("application/ics{}", parameter("name", &file_name)));
        head.disposition("attachment", &file_name);
        (shown, Part::leaf(head, Encoding::Base64, Bytes::from(content)))
    }
}

/// The METHOD of an object, in capitals, where the object is whole.
fn method(content: &str) -> Result<String, String> {
    if content.is_empty() {
        return Err("is needed".to_owned());
    }
    if content.len() > MAX_CONTENT_BYTES {
        return Err("is longer than 1 MiB".to_owned());
    }
    if content.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t')) {
        return Err("holds a control character".to_owned());
    }
    let (mut open, mut methods, mut ended): (Vec<String>, Vec<String>, bool) =
        (Vec::new(), Vec::new(), false);
    for line in unfolded(content) {
        let (name, value) = property(&line).ok_or("has a line that is no property of iCalendar")?;
        if ended {
            return Err("goes on after END:VCALENDAR: expected one object".to_owned());
        }
        match name.as_str() {
            "BEGIN" if open.len() < MAX_DEPTH => open.push(value.to_ascii_uppercase()),
            "BEGIN" => return Err(format!("has components nested more than {MAX_DEPTH} deep")),
            "END" if open.pop().is_none_or(|begun| !begun.eq_ignore_ascii_case(value)) => {
                return Err("has an END that does not fit its BEGIN".to_owned());
            }
            "END" => ended = open.is_empty(),
            "METHOD" if open.len() == 1 => methods.push(value.to_ascii_uppercase()),
            _ => {}
        }
        if open.first().is_some_and(|first| first != "VCALENDAR") || open.is_empty() && !ended {
            return Err("does not begin with BEGIN:VCALENDAR".to_owned());
        }
    }
    if !ended {
        return Err("does not end with END:VCALENDAR".to_owned());
    }
    let is_token = |method: &String| {
        (1..=MAX_METHOD_CHARS).contains(&method.len())
            && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match methods.as_slice() {
        [] => Err("has no METHOD: expected one, such as METHOD:REQUEST".to_owned()),
        [method] if is_token(method) => Ok(method.clone()),
        [_] => Err("has a METHOD that is none: expected one such as METHOD:REQUEST".to_owned()),
        _ => Err("has more than one METHOD".to_owned()),
    }
}

/// The content lines (RFC 5545, section 3.1), unfolded, without empty ones.
fn unfolded(content: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in content.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// A property's name, in capitals, and its value, past its parameters.
fn property(line: &str) -> Option<(String, &str)> {
    let end = line.find([':', ';'])?;
    let name = &line[..end];
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return None;
    }
    let mut quoted = false;
    let colon = line[end..].find(|c| {
        quoted ^= c == '"';
        c == ':' && !quoted
    })?;
    Some((name.to_ascii_uppercase(), line[end + colon + 1..].trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(lines: &str) -> String {
        format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{lines}\r\nBEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        )
    }

    #[test]
    fn the_method_is_read_wherever_it_stands_and_however_it_is_folded() {
        for (lines, expected) in [
            ("METHOD:REQUEST", "REQUEST"),
            ("method:cancel", "CANCEL"),
            ("METH\r\n OD:RE\r\n\tPLY", "REPLY"),
            ("METHOD;X-A=\"b:c;d\":PUBLISH", "PUBLISH"),
        ] {
            assert_eq!(method(&object(lines)).as_deref(), Ok(expected), "{lines}");
            assert_eq!(method(&object(lines).replace("\r\n", "\n")).as_deref(), Ok(expected), "{lines}");
        }
        let later =
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDESCRIPTION:METHOD:CANCEL\nEND:VEVENT\nMETHOD:ADD\nEND:VCALENDAR";
        assert_eq!(method(later).as_deref(), Ok("ADD"));
    }

    #[test]
    fn what_is_no_whole_object_with_one_method_is_refused() {
        let two = object("METHOD:REQUEST").repeat(2);
        for (wrong, said) in [
            ("", "is needed"),
            ("hello", "no property"),
            (&*object("X-A:b"), "no METHOD"),
            (&*object("METHOD:REQUEST\r\nMETHOD:REQUEST"), "more than one"),
            (&*object("METHOD:"), "is none"),
            (&*object("METHOD:A\"; x=y"), "is none"),
            (&*object("METHOD:ADD\u{1}"), "control"),
            (&*two, "goes on"),
            ("BEGIN:VCALENDAR\nMETHOD:ADD\n", "does not end"),
            ("BEGIN:VEVENT\nMETHOD:ADD\nEND:VEVENT", "does not begin"),
            ("METHOD:ADD\nBEGIN:VCALENDAR\nEND:VCALENDAR", "does not begin"),
            ("BEGIN:VCALENDAR\nMETHOD:ADD\nBEGIN:VEVENT\nEND:VCALENDAR", "does not fit"),
            ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nMETHOD:ADD\nEND:VEVENT\nEND:VCALENDAR", "no METHOD"),
            (&*"BEGIN:VCALENDAR\n".repeat(20), "nested"),
        ] {
            let problem = method(wrong).unwrap_err();
            assert!(problem.contains(said), "{wrong:?}: {problem}");
        }
    }
}
