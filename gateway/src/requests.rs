//! Which resource a caller's request id stands for: written down with the resource in one commit, and kept as long as it. A
//! repeat is answered with how the resource stands by then; the ledger answers it with the first answer.

use bytes::Bytes;
use postern_chassis::digest;
use postern_chassis::fault::Fault;
use prost::Message as _;
use ring::hmac;
use secrecy::zeroize::Zeroizing;
use tonic::Code;

use crate::error::Error;
use crate::store::{Expect, Store, Write};

/// How much of an id's digest is kept.
const ID_BYTES: usize = 16;

/// The requests that make one kind of resource.
pub(crate) struct Requests {
    /// Where they lie.
    pub(crate) prefix: &'static str,
    /// What they ask for, as in "another mail".
    pub(crate) resource: &'static str,
}

/// What a request is known by: the id that it has here, and a digest of what was asked.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: String,
    digest: Bytes,
}

/// What a request id stands for.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    /// The resource's name.
    #[prost(string, tag = "1")]
    name: String,
    /// A digest of what was asked.
    #[prost(bytes = "bytes", tag = "2")]
    digest: Bytes,
}

impl Requests {
    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// The name of what was asked for before by the same request.
    ///
    /// # Errors
    /// REQUEST_ID_REUSED: it was used to ask for another; storage failed.
    pub(crate) async fn before(&self, store: &dyn Store, known: &Known) -> Result<Option<String>, Error> {
        let Some(entry) = store.get(&self.key(&known.id)).await? else { return Ok(None) };
        let before = Record::decode(entry.value).unwrap_or_default();
        if before.digest != known.digest {
            let resource = self.resource;
            let message =
                format!("the request_id was used for another {resource} within the time that it is kept");
            return Err(Fault::new(Code::InvalidArgument, "REQUEST_ID_REUSED", message).into());
        }
        Ok(Some(before.name))
    }

    /// The write that has a request stand for a resource, unless it stands for one already.
    pub(crate) fn write(&self, known: &Known, name: &str) -> Write {
        let record = Record { name: name.to_owned(), digest: known.digest.clone() };
        let (key, value) = (self.key(&known.id), Some(record.encode_to_vec().into()));
        Write { key, value, expect: Expect::Absent }
    }

    /// The write that forgets a request by its [`Known::id`]. `None` where that is empty: the resource has none.
    pub(crate) fn removal(&self, id: &str) -> Option<Write> {
        (!id.is_empty()).then(|| Write { key: self.key(id), value: None, expect: Expect::Any })
    }
}

impl Known {
    /// What a request is known by: `parts` tell whose and which it is, `asked` is all that it says.
    pub(crate) fn by<const N: usize>(digests: &hmac::Key, parts: [&str; N], asked: Vec<u8>) -> Self {
        let mut id = hmac::Context::with_key(digests);
        for part in parts {
            id.update(&(part.len() as u64).to_be_bytes());
            id.update(part.as_bytes());
        }
        let asked = Zeroizing::new(asked);
        Self {
            id: digest::hex(&id.sign().as_ref()[..ID_BYTES]),
            digest: Bytes::copy_from_slice(hmac::sign(digests, &asked).as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_id_was_stored_under_is_found_by_it_for_ever() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a key");
        let known = Known::by(&key, ["billing", "connections/shop", "one"], b"asked".to_vec());
        let mut parts = Vec::new();
        for part in ["billing", "connections/shop", "one"] {
            parts.extend_from_slice(&(part.len() as u64).to_be_bytes());
            parts.extend_from_slice(part.as_bytes());
        }
        assert_eq!(known.id, digest::hex(hmac::sign(&key, &parts).as_ref())[..2 * ID_BYTES]);
        assert_ne!(known.id, Known::by(&key, ["billing", "connections/shopone", ""], Vec::new()).id);
    }
}
