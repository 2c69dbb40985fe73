//! Times: between Graph's texts, HTTP's dates, the contract's timestamps and durations.

use std::time::Duration;

use jiff::Timestamp;

/// A time as the contract has it.
pub(crate) fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.subsec_nanosecond();
    let (seconds, nanos) =
        if nanos < 0 { (time.as_second() - 1, nanos + 1_000_000_000) } else { (time.as_second(), nanos) };
    prost_types::Timestamp { seconds, nanos }
}

/// A time of the contract.
pub(crate) fn from_proto(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// Graph's text of a time. Nothing where it is none.
pub(crate) fn from_graph(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A date of HTTP (RFC 9110, section 5.6.7).
pub(crate) fn from_http(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

/// The longest pause that is believed: nobody asks for more, and reckoning with all that can be written would overflow.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// What `Retry-After` asks for, up to a day: seconds, which Graph gives with decimals, or a date, which is reckoned from the
/// answer's own `Date` so that clocks need not agree.
pub(crate) fn retry_after(text: &str, date: Option<Timestamp>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().map(|pause| pause.min(MAX_PAUSE));
    }
    let until = from_http(text)?;
    let from = date.unwrap_or_else(Timestamp::now);
    Some(Duration::try_from(until.duration_since(from)).unwrap_or_default().min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_decimals_and_as_a_date() {
        assert_eq!(retry_after("2.128", None), Some(Duration::from_millis(2_128)));
        assert_eq!(retry_after("7", None), Some(Duration::from_secs(7)));
        let date = from_http("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.unwrap().to_string(), "1994-11-06T08:49:37Z");
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", date), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", date), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", date), None);
        assert_eq!(retry_after("-1", None), None);
        assert_eq!(retry_after("1e400", None), None);
        assert_eq!(retry_after("18000000000000000000", None), Some(MAX_PAUSE));
        assert_eq!(retry_after("Fri, 31 Dec 2500 23:59:59 GMT", date), Some(MAX_PAUSE));
    }

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds_positive() {
        let time = Timestamp::new(-1, -500_000_000).unwrap();
        assert_eq!(to_proto(time), prost_types::Timestamp { seconds: -2, nanos: 500_000_000 });
        assert_eq!(from_proto(&to_proto(time)), Some(time));
    }
}
