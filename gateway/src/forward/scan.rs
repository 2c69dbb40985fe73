//! The shallow scan of a request: the top-level fields that are the same in every request of the contract, the last
//! value winning as in prost. What lies within other fields is passed over unread.

use bytes::Buf as _;
use postern_chassis::fault::Fault;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::first::malformed;

/// `connection`.
const CONNECTION: u32 = 1;
/// `request_id`.
const REQUEST_ID: u32 = 2;

/// What the gateway reads of a request. Absent fields are empty.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The connection's name.
    pub connection: &'a str,
    /// The caller's id of the change.
    pub request_id: &'a str,
}

/// Scans a message.
///
/// # Errors
/// INVALID_ARGUMENT (MESSAGE_MALFORMED).
pub fn scan(message: &[u8]) -> Result<Wanted<'_>, Fault> {
    let mut wanted = Wanted::default();
    let mut left = message;
    while left.has_remaining() {
        let (tag, wire_type) = decode_key(&mut left).map_err(broken)?;
        match tag {
            CONNECTION => wanted.connection = text(wire_type, &mut left)?,
            REQUEST_ID => wanted.request_id = text(wire_type, &mut left)?,
            _ => skip_field(wire_type, tag, &mut left, DecodeContext::default()).map_err(broken)?,
        }
    }
    Ok(wanted)
}

fn text<'a>(wire_type: WireType, left: &mut &'a [u8]) -> Result<&'a str, Fault> {
    if wire_type != WireType::LengthDelimited {
        return Err(malformed("the request is malformed: field 1 or 2 is not text"));
    }
    let length = usize::try_from(decode_varint(left).map_err(broken)?).unwrap_or(usize::MAX);
    let (value, rest) = left
        .split_at_checked(length)
        .ok_or_else(|| malformed("the request is malformed: field 1 or 2 is longer than the message"))?;
    *left = rest;
    std::str::from_utf8(value).map_err(|_| malformed("the request is malformed: field 1 or 2 is not UTF-8"))
}

fn broken(error: prost::DecodeError) -> Fault {
    malformed(&format!("the request is malformed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Request {
        #[prost(string, tag = "1")]
        connection: String,
        #[prost(string, tag = "2")]
        request_id: String,
        #[prost(message, optional, boxed, tag = "3")]
        inner: Option<Box<Request>>,
        #[prost(double, tag = "9")]
        number: f64,
        #[prost(fixed32, tag = "10")]
        short: u32,
    }

    fn request(connection: &str) -> Request {
        let inner = Request { connection: "connections/inner".into(), ..Default::default() };
        Request {
            connection: connection.into(),
            request_id: "r".into(),
            inner: Some(Box::new(inner)),
            number: 1.5,
            short: 7,
        }
    }

    #[test]
    fn the_top_level_fields_are_read_and_the_last_value_wins() {
        let bytes = request("connections/one").encode_to_vec();
        let wanted = Wanted { connection: "connections/one", request_id: "r" };
        assert_eq!(scan(&bytes).unwrap(), wanted);
        let twice = [bytes, request("connections/two").encode_to_vec()].concat();
        assert_eq!(scan(&twice).unwrap().connection, "connections/two");
        assert_eq!(Request::decode(&twice[..]).unwrap().connection, "connections/two");
        assert_eq!(scan(&[]).unwrap(), Wanted::default());
    }

    #[test]
    fn it_refuses_no_less_than_prost_does() {
        let bytes = request("connections/one").encode_to_vec();
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            // Prost looks into field 3 as well, which a scan passes over whole: it is cut here as a whole or not.
            assert_eq!(scan(cut).is_err(), Request::decode(cut).is_err(), "cut at {end}");
        }
        for wrong in [&[0x08, 1][..], &[0x0a, 1, 0xff], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0b], &[0]]
        {
            assert!(scan(wrong).is_err() && Request::decode(wrong).is_err(), "{wrong:?}");
        }
    }
}
