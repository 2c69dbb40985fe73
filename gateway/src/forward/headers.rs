//! The metadata of forwarded calls: what goes along, what stays here, and the deadline.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use postern_chassis::deadline::{TIMEOUT, timeout_in};
use tokio::time::Instant;

/// Metadata between gateway and connector begins with this: from and to others it is cut out.
const OWN: &str = "postern-";
/// The encodings that are understood.
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// How much sooner than the caller and the connector the gateway gives up: what tonic around it and at the connector
/// would answer is CANCELLED.
const SOONER: Duration = Duration::from_millis(3);
/// What is not passed on: the caller's own credentials, and what is about one hop only (RFC 9110, 7.6.1). The length
/// is the body's to know.
const STAY_HERE: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// Whether a request is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A caller's metadata as it goes along.
pub(super) fn cleaned(mut headers: HeaderMap) -> HeaderMap {
    for name in STAY_HERE {
        headers.remove(name);
    }
    strip_own(&mut headers);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers
}

/// Cuts out what is between gateway and connector.
pub(super) fn strip_own(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| name.as_str().starts_with(OWN)) {
        return;
    }
    let own: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(OWN)).cloned().collect();
    for name in own {
        headers.remove(name);
    }
}

/// Says which encodings are understood, as the answer to a refused one must.
pub(super) fn say_encodings(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// When a call must be over.
pub(super) fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let timeout = timeout_in(headers)?;
    Instant::now().checked_add(timeout.saturating_sub(SOONER.min(timeout / 10)))
}

/// Tells the connector how much time is left to the caller.
pub(super) fn set_timeout(headers: &mut HeaderMap, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now()) + SOONER;
    // At most eight digits: microseconds up to a minute and a half, seconds beyond.
    let text = match left.as_micros() {
        micros @ 0..=99_999_999 => format!("{micros}u"),
        _ => format!("{}S", left.as_secs().min(99_999_999)),
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_callers_or_for_one_hop_stays_here() {
        let names = ["authorization", "cookie", "postern-connection-bin", "postern-x", "traceparent", "te"];
        let headers = names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")));
        let cleaned = cleaned(HeaderMap::from_iter(headers));
        let mut left: Vec<_> = cleaned.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "traceparent"]);
        assert_eq!(cleaned["te"], "trailers");
    }

    #[test]
    fn grpc_is_told_from_its_relatives() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc(&headers), is, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_timeout_is_written_as_it_is_read() {
        for seconds in [1, 50, 1_000, 10_000_000] {
            let mut headers = HeaderMap::new();
            set_timeout(&mut headers, Instant::now() + Duration::from_secs(seconds));
            let read = timeout_in(&headers).unwrap();
            assert!(read <= Duration::from_secs(seconds) + SOONER);
            assert!(read >= Duration::from_secs(seconds - 1), "{read:?} of {seconds}");
        }
    }
}
