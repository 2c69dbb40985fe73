//! What the ledger keeps of a change: that it began, and what its answer was.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, StreamBody};
use postern_chassis::fault::{Fault, reason_of};
use prost::Message;
use prost_types::Timestamp;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::forward::NOTHING_DONE;
use crate::seal::{KeyRing, SealError};

/// The largest answer that is kept: what a stored value holds, with room for the rest. Answers of changes are small.
const MAX_ANSWER: usize = 512 * 1024;

/// A change under a request id.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    /// The run of the gateway that makes it. Empty: none does.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) run: Bytes,
    /// The digest of its request; of a stream, of its first message.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) digest: Bytes,
    /// When it began.
    #[prost(message, optional, tag = "3")]
    pub(super) begin: Option<Timestamp>,
    /// Its whole stream, written down before the stream's end was handed over. Absent: the connector was not given the
    /// end, or it answered without it; or it is no stream.
    #[prost(message, optional, tag = "5")]
    pub(super) whole: Option<Whole>,
    /// Its [`Answer`], once it is known, sealed for the record's key: it may hold what nobody else is to use, such as the
    /// code of a sign-in. Empty: it is not known.
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) answer: Bytes,
}

/// What a stream held.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Whole {
    /// The digest of all its bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) digest: Bytes,
    /// How many they were.
    #[prost(uint64, tag = "2")]
    pub(super) length: u64,
}

/// An answer, as it is given again.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Answer {
    /// The gRPC code's number.
    #[prost(int32, tag = "1")]
    code: i32,
    /// The message of an error.
    #[prost(string, tag = "2")]
    message: String,
    /// The details of an error: an encoded `google.rpc.Status`.
    #[prost(bytes = "bytes", tag = "3")]
    details: Bytes,
    /// The body of a success: one gRPC message with its prefix.
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

impl Answer {
    /// The answer of a success.
    pub(super) fn success(body: Bytes) -> Self {
        Self { body, ..Self::default() }
    }

    /// The answer of an error.
    pub(super) fn error(status: &Status) -> Self {
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Bytes::copy_from_slice(status.details()),
            body: Bytes::new(),
        }
    }

    /// The answer as it is stored under a key.
    pub(super) fn seal(&self, keys: &KeyRing, key: &str) -> Result<Bytes, SealError> {
        let write = |sealed: &mut Vec<u8>| {
            // A vector has room for everything.
            let _ = self.encode(sealed);
        };
        Ok(keys.seal_written(&place(key), self.encoded_len(), write)?.into())
    }

    /// Reads what is stored under a key. `None`: its key is gone, or it was changed.
    pub(super) fn open(keys: &KeyRing, key: &str, sealed: &[u8]) -> Option<Self> {
        let plain = keys.open(&place(key), sealed);
        let plain =
            plain.inspect_err(|error| tracing::error!(key, %error, "an answer cannot be opened")).ok()?;
        Self::decode(plain.as_slice()).ok()
    }

    /// Reads a whole response: the answer to give, and what to keep of it for repeats.
    pub(super) async fn read(response: Response<Body>) -> (Self, Keep) {
        let (parts, body) = response.into_parts();
        let collected = match body.collect().await {
            Ok(collected) => collected,
            Err(error) => return Self::broken(Status::from_error(error.into())),
        };
        let trailers = collected.trailers().unwrap_or(&parts.headers);
        match Status::from_header_map(trailers) {
            Some(status) if status.code() != Code::Ok => {
                let keep = Keep::of(&status);
                (Self::error(&status), keep)
            }
            Some(_) => {
                let answer = Self::success(collected.to_bytes());
                let keep = if answer.body.len() > MAX_ANSWER {
                    Keep::Answer(Self::error(&unknown("its answer was too large to keep")))
                } else {
                    Keep::Answer(answer.clone())
                };
                (answer, keep)
            }
            None => Self::broken(unknown("its answer ended without a status")),
        }
    }

    fn broken(status: Status) -> (Self, Keep) {
        (Self::error(&status), Keep::of(&status))
    }

    /// The answer as a response.
    pub(super) fn into_response(self) -> Response<Body> {
        let code = Code::from_i32(self.code);
        if code != Code::Ok {
            return Status::with_details(code, self.message, self.details).into_http();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
        let frames = [http_body::Frame::data(self.body), http_body::Frame::trailers(trailers)];
        let frames = tokio_stream::iter(frames.map(Ok::<_, Status>));
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        let content_type = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
        response
    }
}

/// What an answer is sealed for.
fn place(key: &str) -> String {
    format!("{key}#answer")
}

/// What is kept of a change that ended.
#[derive(Debug, PartialEq)]
pub(super) enum Keep {
    /// Its answer, for repeats.
    Answer(Answer),
    /// That it may or may not have been made: the answer for repeats, unless its connector can be asked again.
    Unknown(Answer),
    /// That it was begun, and is being made by nobody: a repeat asks the connector again.
    Begun,
    /// Nothing: it is certain that it changed nothing, so that a repeat is a new try.
    Nothing,
}

impl Keep {
    /// An error whose code says that nothing was changed leaves the request id free. Of any other, a repeat is told that
    /// the outcome is not known.
    fn of(status: &Status) -> Self {
        match status.code() {
            Code::DeadlineExceeded if reason_of(status) == NOTHING_DONE => Self::Nothing,
            Code::Unknown | Code::Internal | Code::DataLoss | Code::DeadlineExceeded | Code::Cancelled => {
                if reason_of(status) == OUTCOME_UNKNOWN {
                    Self::Unknown(Answer::error(status))
                } else {
                    Self::Unknown(Answer::error(&unknown(&format!("it ended with {:?}", status.code()))))
                }
            }
            _ => Self::Nothing,
        }
    }
}

/// The reason of a change that may or may not have been made.
const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// The answer to a repeat of a change that may or may not have been made.
pub(super) fn unknown(why: &str) -> Status {
    let message =
        format!("a call with this request_id began before and {why}: it may or may not have had its effect");
    Fault::new(Code::Unknown, OUTCOME_UNKNOWN, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_given_again_as_it_was() {
        let body = Bytes::from_static(b"\0\0\0\0\x02\x0a\0");
        let (first, keep) = Answer::read(Answer::success(body.clone()).into_response()).await;
        assert_eq!(first, Answer::success(body));
        assert_eq!(keep, Keep::Answer(first));
        let refused: Status = Fault::field("email.to", "is absent").into();
        let (first, keep) = Answer::read(refused.clone().into_http()).await;
        assert_eq!((first, keep), (Answer::error(&refused), Keep::Nothing));
    }

    #[test]
    fn what_may_have_been_done_is_not_free_to_be_done_again() {
        assert_eq!(Keep::of(&Status::unavailable("")), Keep::Nothing);
        let Keep::Unknown(kept) = Keep::of(&Status::deadline_exceeded("")) else { panic!("nothing kept") };
        assert_eq!(kept.code, Code::Unknown as i32);
        let untried = Fault::new(Code::DeadlineExceeded, NOTHING_DONE, "").into();
        assert_eq!(Keep::of(&untried), Keep::Nothing);
        let told = unknown("broke off");
        assert_eq!(Keep::of(&told), Keep::Unknown(Answer::error(&told)));
    }
}
