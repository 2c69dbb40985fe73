//! How times and names are shown to people.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// The months as they are shown.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// How long ago something was or how soon it will be, to about two digits. Empty: no time is known.
pub(crate) fn when(time: Option<&Timestamp>) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(*time).ok()) else { return String::new() };
    match SystemTime::now().duration_since(time) {
        Ok(ago) if ago < Duration::from_secs(2) => "just now".to_owned(),
        Ok(ago) => format!("{} ago", length(ago)),
        Err(ahead) if ahead.duration() < Duration::from_secs(1) => "now".to_owned(),
        Err(ahead) => format!("in {}", length(ahead.duration())),
    }
}

/// A time to the second, UTC. Empty: no time is known.
pub(crate) fn exact(time: Option<&Timestamp>) -> String {
    let text = time.map(ToString::to_string).unwrap_or_default();
    text.get(..19).map(|second| format!("{second}Z")).unwrap_or(text)
}

/// A time as people write it, to the minute, UTC. Empty: no time is known.
pub(crate) fn date(time: Option<&Timestamp>) -> String {
    let exact = exact(time);
    let part = |from: usize, to: usize| exact.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    month.map_or_else(String::new, |month| {
        let day = part(8, 10).trim_start_matches('0');
        format!("{day} {month} {}, {} UTC", part(0, 4), part(11, 16))
    })
}

/// The time of day of a time, UTC.
pub(crate) fn clock(time: Option<&Timestamp>) -> String {
    exact(time).get(11..19).unwrap_or_default().to_owned()
}

/// A length of time in its largest unit that fits.
pub(crate) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How many there are, of one or several.
pub(crate) fn many(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// The last part of a resource name.
pub(crate) fn id(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_the_unit_that_suits_them() {
        let told = [1, 99, 150, 7_200, 259_200].map(|seconds| length(Duration::from_secs(seconds)));
        assert_eq!(told, ["1 s", "99 s", "2 min", "2 h", "3 days"]);
    }

    #[test]
    fn a_time_is_told_from_now() {
        let ago = Timestamp::from(SystemTime::now() - Duration::from_secs(300));
        assert_eq!(when(Some(&ago)), "5 min ago");
        assert_eq!(when(None), "");
        let time = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
        assert_eq!(
            (exact(Some(&time)), clock(Some(&time))),
            ("2023-11-14T22:13:20Z".into(), "22:13:20".into())
        );
        assert_eq!(date(Some(&time)), "14 Nov 2023, 22:13 UTC");
        assert_eq!((date(None), when(Some(&SystemTime::now().into()))), (String::new(), "just now".into()));
        assert_eq!((many(1, "mail", "mails"), many(0, "mail", "mails")), ("1 mail".into(), "0 mails".into()));
        assert_eq!(id("connections/office/triggers/new-mail"), "new-mail");
    }
}
