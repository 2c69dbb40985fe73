//! What users can see of a calendar entry, field by field, so that a change can be named and Exchange's own touches,
//! which change nothing that anybody sees, can be told from it.

use postern_chassis::digest;
use postern_proto::outlook::v1::CalendarEvent;
use prost::Message;
use ring::digest::{Context, SHA256};

/// The fields that are compared, as the contract names them. Their order is kept in cursors: new ones go at the end.
pub(super) const FIELDS: [&str; 21] = [
    "subject",
    "start",
    "end",
    "is_all_day",
    "is_cancelled",
    "attendees",
    "body",
    "categories",
    "has_attachments",
    "importance",
    "location",
    "organizer",
    "recurrence",
    "is_reminder_on",
    "reminder",
    "response_status",
    "sensitivity",
    "show_as",
    "is_online_meeting",
    "online_meeting_url",
    "hide_attendees",
];

/// The look of an entry: a digest of all its fields, and a short one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Differs whenever a field does.
    pub(super) whole: u64,
    /// Which ones do: two bytes each suffice to name them.
    pub(super) each: [u16; FIELDS.len()],
}

impl Look {
    /// How an entry looks.
    pub(super) fn of(entry: &CalendarEvent) -> Self {
        let mut all = Context::new(&SHA256);
        let mut each = [0; FIELDS.len()];
        for (name, short) in FIELDS.iter().zip(&mut each) {
            let digest = digest::of(&shown(name, entry));
            let mut bytes = [0; 2];
            bytes.copy_from_slice(&digest[..2]);
            *short = u16::from_le_bytes(bytes);
            all.update(&digest);
        }
        Self { whole: first_eight(all.finish().as_ref()), each }
    }

    /// The fields in which an entry looked otherwise before.
    pub(super) fn changed_since(&self, before: &Self) -> Vec<&'static str> {
        let pairs = self.each.iter().zip(&before.each);
        FIELDS.iter().zip(pairs).filter(|(_, (now, then))| now != then).map(|(name, _)| *name).collect()
    }
}

/// The first eight bytes of a digest as a number.
pub(super) fn first_eight(digest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (byte, from) in bytes.iter_mut().zip(digest) {
        *byte = *from;
    }
    u64::from_le_bytes(bytes)
}

fn shown(name: &str, entry: &CalendarEvent) -> Vec<u8> {
    let flag = |flag: bool| vec![u8::from(flag)];
    let number = |number: i32| number.to_le_bytes().to_vec();
    let text = |text: &str| text.as_bytes().to_vec();
    let message = |message: Option<&dyn Encoded>| message.map(Encoded::bytes).unwrap_or_default();
    let end = |day: &str, at: Option<&prost_types::Timestamp>, zone: &str| match entry.is_all_day {
        true => format!("{day} {zone}").into_bytes(),
        false => at.map(|at| format!("{} {} {zone}", at.seconds, at.nanos)).unwrap_or_default().into_bytes(),
    };
    match name {
        "subject" => text(&entry.subject),
        "start" => end(&entry.start_date, entry.start.as_ref(), &entry.start_time_zone),
        "end" => end(&entry.end_date, entry.end.as_ref(), &entry.end_time_zone),
        "is_all_day" => flag(entry.is_all_day),
        "is_cancelled" => flag(entry.is_cancelled),
        "attendees" => attendees(entry),
        // Exchange puts white space about bodies as it sees fit.
        "body" => text(entry.body.trim()),
        "categories" => sorted(entry.categories.clone()),
        "has_attachments" => flag(entry.has_attachments),
        "importance" => number(entry.importance),
        "location" => message(entry.location.as_ref().map(|it| it as &dyn Encoded)),
        "organizer" => message(entry.organizer.as_ref().map(|it| it as &dyn Encoded)),
        "recurrence" => message(entry.recurrence.as_ref().map(|it| it as &dyn Encoded)),
        "is_reminder_on" => flag(entry.is_reminder_on.unwrap_or_default()),
        // How long before is of no interest as long as nobody is reminded.
        "reminder" if entry.is_reminder_on.unwrap_or_default() => number(entry.reminder.unwrap_or_default()),
        "reminder" => Vec::new(),
        "response_status" => number(entry.response_status.map(|status| status.response).unwrap_or_default()),
        "sensitivity" => number(entry.sensitivity),
        "show_as" => number(entry.show_as),
        "is_online_meeting" => flag(entry.is_online_meeting),
        "online_meeting_url" => text(&entry.online_meeting_url),
        "hide_attendees" => flag(entry.hide_attendees),
        _ => Vec::new(),
    }
}

/// Who is invited and what each answered, in whatever order Exchange gives them. When an answer came does not show.
fn attendees(entry: &CalendarEvent) -> Vec<u8> {
    let one = |attendee: &postern_proto::outlook::v1::Attendee| {
        let address = attendee.mailbox.as_ref().map(|mailbox| mailbox.address.to_lowercase());
        let answer = attendee.status.map(|status| status.response).unwrap_or_default();
        format!("{} {} {answer}", address.unwrap_or_default(), attendee.r#type)
    };
    sorted(entry.attendees.iter().map(one).collect())
}

fn sorted(mut texts: Vec<String>) -> Vec<u8> {
    texts.sort_unstable();
    texts.join("\n").into_bytes()
}

/// A message of the contract, whichever.
trait Encoded {
    fn bytes(&self) -> Vec<u8>;
}

impl<M: Message> Encoded for M {
    fn bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::Mailbox;
    use postern_proto::outlook::v1::{Attendee, Location, ResponseStatus, ResponseType};

    fn entry() -> CalendarEvent {
        let mailbox = Some(Mailbox { address: "bo@example.org".into(), ..Default::default() });
        CalendarEvent {
            subject: "Review".into(),
            attendees: vec![Attendee { mailbox, ..Default::default() }],
            ..Default::default()
        }
    }

    fn changed(change: impl FnOnce(&mut CalendarEvent)) -> Vec<&'static str> {
        let mut after = entry();
        change(&mut after);
        let (before, after) = (Look::of(&entry()), Look::of(&after));
        let changed = after.changed_since(&before);
        assert_eq!(changed.is_empty(), before.whole == after.whole);
        changed
    }

    #[test]
    fn what_users_see_is_named_when_it_changes() {
        assert_eq!(changed(|entry| entry.subject = "Retro".into()), ["subject"]);
        assert_eq!(changed(|entry| entry.location = Some(Location::default())), Vec::<&str>::new());
        let place = Location { display_name: "Here".into(), ..Default::default() };
        assert_eq!(changed(|entry| entry.location = Some(place)), ["location"]);
        let accepted =
            ResponseStatus { response: ResponseType::Accepted.into(), time: Some(Default::default()) };
        assert_eq!(changed(|entry| entry.attendees[0].status = Some(accepted)), ["attendees"]);
        let moved = changed(|entry| {
            entry.start = Some(prost_types::Timestamp { seconds: 5, nanos: 0 });
            entry.end = Some(prost_types::Timestamp { seconds: 9, nanos: 0 });
        });
        assert_eq!(moved, ["start", "end"]);
    }

    #[test]
    fn what_nobody_sees_is_no_change() {
        let touched = changed(|entry| {
            entry.change_key = "new".into();
            entry.date_time_last_modified = Some(Default::default());
            entry.id = "other".into();
            entry.body = "\r\n ".into();
            entry.web_link = "https://elsewhere.example".into();
            entry.reminder = Some(15);
        });
        assert_eq!(touched, Vec::<&str>::new());
    }
}
