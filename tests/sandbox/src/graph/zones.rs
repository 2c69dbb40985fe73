//! The time zones that Graph takes: Windows names, and some of IANA's (Graph: dateTimeTimeZone resource).

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::refusal::{self, Refusal};
use crate::world::Moment;

/// Windows names, each with the IANA zone that has its rules.
const WINDOWS: &str = include_str!("../../../../outlook-service/src/zones/windows_zones.txt");

/// Names of IANA that Graph takes: far from all.
const IANA: [&str; 30] = [
    "Etc/GMT",
    "Etc/GMT+12",
    "Etc/GMT+11",
    "Etc/GMT+2",
    "Pacific/Honolulu",
    "America/Anchorage",
    "America/Los_Angeles",
    "America/Phoenix",
    "America/Denver",
    "America/Chicago",
    "America/Mexico_City",
    "America/New_York",
    "America/Halifax",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Atlantic/Azores",
    "Atlantic/Reykjavik",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Budapest",
    "Europe/Paris",
    "Europe/Warsaw",
    "Africa/Johannesburg",
    "Africa/Cairo",
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
];

static ZONES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let lines = WINDOWS.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        let (windows, rest) = line.split_once(';')?;
        Some((windows.to_lowercase(), rest.split(';').next()?))
    });
    pairs.chain(IANA.into_iter().map(|name| (name.to_lowercase(), name))).collect()
});

/// The rules of a zone that Graph takes.
pub(super) fn rules(name: &str) -> Result<TimeZone, Refusal> {
    let known = ZONES.get(&name.to_lowercase()).and_then(|iana| TimeZone::get(iana).ok());
    known.ok_or_else(|| refusal::time_zone(name))
}

/// The instant of a moment. Of a time that clocks show twice the second, as Exchange has it.
pub(super) fn instant(moment: &Moment) -> Timestamp {
    let rules = rules(&moment.zone).unwrap_or(TimeZone::UTC);
    rules.to_ambiguous_timestamp(moment.wall_time).later().unwrap_or_default()
}

/// An instant on the clocks of a zone.
pub(super) fn wall_time(instant: Timestamp, zone: &str) -> DateTime {
    rules(zone).unwrap_or(TimeZone::UTC).to_datetime(instant)
}
