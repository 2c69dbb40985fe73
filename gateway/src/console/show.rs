//! How times and names are shown to people.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// How long ago something was or how soon it will be, to about two digits. Empty: no time is known.
pub(crate) fn when(time: Option<&Timestamp>) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(*time).ok()) else { return String::new() };
    match SystemTime::now().duration_since(time) {
        Ok(ago) if ago < Duration::from_secs(2) => "just now".to_owned(),
        Ok(ago) => format!("{} ago", length(ago)),
        Err(ahead) => format!("in {}", length(ahead.duration())),
    }
}

/// A time to the second, UTC. Empty: no time is known.
pub(crate) fn exact(time: Option<&Timestamp>) -> String {
    let text = time.map(ToString::to_string).unwrap_or_default();
    text.get(..19).map(|second| format!("{second}Z")).unwrap_or(text)
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
        assert_eq!(id("connections/office/triggers/new-mail"), "new-mail");
    }
}
