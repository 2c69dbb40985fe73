//! What a property or a constant holds, and how two of them compare.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    /// Null, absent, or something that does not compare.
    Nothing,
    Bool(bool),
    Number(f64),
    Text(String),
}

impl Held {
    /// What a property holds.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => number.as_f64().map_or(Self::Nothing, Self::Number),
            Value::String(text) => Self::Text(text.clone()),
            Value::Null | Value::Array(_) | Value::Object(_) => Self::Nothing,
        }
    }

    /// How two values compare: texts as times where both are, else case aside, as Exchange does. None: not at all.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Some(Ordering::Equal),
            (Self::Nothing, _) => Some(Ordering::Less),
            (_, Self::Nothing) => Some(Ordering::Greater),
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Number(one), Self::Number(other)) => one.partial_cmp(other),
            (Self::Text(one), Self::Text(other)) => match (time(one), time(other)) {
                (Some(one), Some(other)) => Some(one.cmp(&other)),
                _ => Some(one.to_lowercase().cmp(&other.to_lowercase())),
            },
            _ => None,
        }
    }
}

/// The instant that a text names. Without an offset it is taken for UTC, which is what Graph is asked for.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) || text.len() < 10 {
        return None;
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let wall = text.parse::<DateTime>().ok()?;
    wall.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
