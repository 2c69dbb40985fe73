//! Time zones: IANA and Windows names for each other, and wall time for instants and back. Graph takes Windows names
//! and only some of IANA's, so Windows names are what it is sent wherever there is one.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What is asked of Graph for the times of its answers.
pub(crate) const PREFER_UTC: &str = "outlook.timezone=\"UTC\"";
/// Graph's name of the zone that has no rules.
pub(crate) const UTC: &str = "UTC";
/// How Exchange names UTC at times.
const EXCHANGE_UTC: &str = "tzone://Microsoft/Utc";
/// The longest name of a zone that is looked for.
const MAX_NAME: usize = 128;

/// The table: where it comes from, it says itself.
static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("zones/windows_zones.txt")));

#[derive(Default)]
struct Table {
    /// Windows name in lower case, to that name and the IANA zone that has its rules.
    windows: HashMap<String, (&'static str, &'static str)>,
    /// IANA name in lower case, to the Windows name.
    iana: HashMap<String, &'static str>,
}

impl Table {
    fn read(text: &'static str) -> Self {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.split(';');
            let (Some(windows), Some(iana)) = (parts.next(), parts.next()) else { continue };
            table.windows.insert(windows.to_lowercase(), (windows, iana));
            for name in parts.next().unwrap_or_default().split_whitespace().chain([iana]) {
                table.iana.insert(name.to_lowercase(), windows);
            }
        }
        table
    }
}

/// A time zone, as Graph is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// The zone of an IANA or Windows name. Nothing where there is none.
    pub(crate) fn find(name: &str) -> Option<Self> {
        if name.len() > MAX_NAME {
            return None;
        }
        if name.eq_ignore_ascii_case(EXCHANGE_UTC) {
            return Self::find(UTC);
        }
        let key = name.to_lowercase();
        let windows =
            TABLE.windows.get(&key).or_else(|| TABLE.windows.get(&TABLE.iana.get(&key)?.to_lowercase()));
        // The rules are those of the zone that Graph is told of: it reckons by them, whatever another zone of the same
        // Windows name does.
        let (name, iana) = windows.map_or((name, name), |(windows, iana)| (*windows, *iana));
        let rules = TimeZone::get(iana).ok()?;
        let name = if windows.is_some() { name } else { rules.iana_name()? }.to_owned();
        Some(Self { name, rules })
    }

    /// Its name for Graph.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the clocks there show at an instant.
    pub(crate) fn wall_time(&self, instant: Timestamp) -> DateTime {
        self.rules.to_datetime(instant)
    }

    /// Whether the clocks there show a time just once: not when they are put back or forward past it.
    pub(crate) fn is_plain(&self, wall_time: DateTime) -> bool {
        self.rules.to_ambiguous_timestamp(wall_time).unambiguous().is_ok()
    }

    /// The instant at which the clocks there show a time: the first of two, or, where they pass over it, as much later.
    pub(crate) fn instant(&self, wall_time: DateTime) -> Option<Timestamp> {
        self.rules.to_ambiguous_timestamp(wall_time).compatible().ok()
    }
}

/// The IANA name of a zone that Graph names. What is not known is left as it is.
pub(crate) fn iana(name: &str) -> String {
    if name.eq_ignore_ascii_case(EXCHANGE_UTC) {
        return UTC.to_owned();
    }
    match TABLE.windows.get(&name.to_lowercase()) {
        Some((_, iana)) => (*iana).to_owned(),
        None => name.to_owned(),
    }
}

/// The Windows name of a zone that Graph names. Empty where there is none.
pub(crate) fn windows(name: &str) -> String {
    if name.eq_ignore_ascii_case(EXCHANGE_UTC) {
        return UTC.to_owned();
    }
    let key = name.to_lowercase();
    let windows = TABLE.windows.get(&key).map(|(windows, _)| *windows);
    windows.or_else(|| TABLE.iana.get(&key).copied()).unwrap_or_default().to_owned()
}

/// The instant of Graph's `dateTime` and `timeZone`. Nothing where it cannot be told.
pub(crate) fn instant(date_time: &str, zone: &str) -> Option<Timestamp> {
    // An offset within the text, which some answers have, says it all.
    if let Ok(instant) = date_time.parse::<Timestamp>() {
        return Some(instant);
    }
    Zone::find(if zone.is_empty() { UTC } else { zone })?.instant(date_time.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::find(name).unwrap_or_else(|| panic!("{name} is a zone"))
    }

    #[test]
    fn every_zone_of_the_table_has_rules_and_leads_back_to_itself() {
        assert!(TABLE.windows.len() > 130 && TABLE.iana.len() > 500);
        for (windows_name, iana_name) in TABLE.windows.values() {
            assert_eq!(zone(windows_name).name(), *windows_name);
            assert_eq!(zone(iana_name).name(), *windows_name, "{iana_name}");
            assert_eq!(
                (iana(windows_name), windows(iana_name)),
                ((*iana_name).into(), (*windows_name).into())
            );
        }
        for name in TABLE.iana.keys() {
            assert!(Zone::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn names_are_found_in_either_tongue_whatever_their_case() {
        for (name, windows_name) in [
            ("Europe/Amsterdam", "W. Europe Standard Time"),
            ("europe/berlin", "W. Europe Standard Time"),
            ("PACIFIC STANDARD TIME", "Pacific Standard Time"),
            ("US/Pacific", "Pacific Standard Time"),
            ("Asia/Calcutta", "India Standard Time"),
            ("Asia/Kolkata", "India Standard Time"),
            ("Etc/UTC", "UTC"),
            ("tzone://Microsoft/Utc", "UTC"),
            // No Windows zone has its rules: Graph is told what there is.
            ("antarctica/troll", "Antarctica/Troll"),
        ] {
            assert_eq!(zone(name).name(), windows_name, "{name}");
        }
        for none in ["", "Mars/Base", "tzone://Microsoft/Custom", "+02:00", &"x".repeat(1_000)] {
            assert!(Zone::find(none).is_none(), "{none}");
        }
        assert_eq!(iana("tzone://Microsoft/Custom"), "tzone://Microsoft/Custom");
        assert_eq!(windows("tzone://Microsoft/Custom"), "");
    }

    #[test]
    fn wall_time_at_the_edges_of_summer_is_known_for_what_it_is() {
        let berlin = zone("Europe/Berlin");
        let first: Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
        let second: Timestamp = "2026-10-25T01:30:00Z".parse().unwrap();
        assert_eq!(berlin.wall_time(first), berlin.wall_time(second));
        assert!(!berlin.is_plain(berlin.wall_time(second)));
        let skipped = "2026-03-29T02:30".parse().unwrap();
        assert!(!berlin.is_plain(skipped));
        assert_eq!(berlin.instant(skipped).unwrap().to_string(), "2026-03-29T01:30:00Z");
        let plain = berlin.wall_time("2026-03-29T01:00:00Z".parse().unwrap());
        assert!(berlin.is_plain(plain) && plain.to_string() == "2026-03-29T03:00:00");
    }

    #[test]
    fn times_of_graph_are_read_in_their_zone_with_however_many_digits() {
        let read = |text, zone| instant(text, zone).map(|instant| instant.to_string());
        let noon = || Some("2026-07-01T12:00:00Z".to_owned());
        assert_eq!(read("2026-07-01T12:00:00.0000000", "UTC"), noon());
        assert_eq!(read("2026-07-01T14:00:00.0000000", "W. Europe Standard Time"), noon());
        assert_eq!(read("2026-07-01T12:00:00Z", "W. Europe Standard Time"), noon());
        assert_eq!(read("2026-07-01T12:00", ""), noon());
        assert_eq!(read("2026-07-01T12:00", "Nowhere"), None);
        assert_eq!(read("noon", "UTC"), None);
    }
}
