//! The connection that travels with a call from gateway to connector: binary metadata `postern-connection-bin`.

use bytes::Bytes;
use postern_proto::connector::v1::OpenConnection;
use prost::Message as _;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Code, Status};

use crate::fault::Fault;

/// The metadata key.
pub const CONNECTION_METADATA: &str = "postern-connection-bin";

/// Metadata from gateway to connector on a call that an earlier run of the gateway began and may have handed over under
/// the same `request_id`: the connector looks for what that try left before it does anything again.
pub const REPEAT_METADATA: &str = "postern-repeat";

/// The most bytes that an encoded connection may have: it travels with each call, and header lists are bounded.
pub const MAX_OPEN_CONNECTION_BYTES: usize = 32 * 1024;

/// The connection as a metadata value, marked sensitive so that it is neither logged nor kept in header tables.
#[must_use]
pub fn encode(connection: &OpenConnection) -> BinaryMetadataValue {
    let mut value = BinaryMetadataValue::from_bytes(&connection.encode_to_vec());
    value.set_sensitive(true);
    value
}

/// The connection in the metadata of a call as it travelled: the same bytes are the same connection.
#[must_use]
pub fn encoded(metadata: &MetadataMap) -> Option<&[u8]> {
    Some(metadata.get_bin(CONNECTION_METADATA)?.as_encoded_bytes())
}

/// The connection in the metadata of a call.
///
/// # Errors
/// INVALID_ARGUMENT (CONNECTION_MISSING) where there is none, or it cannot be read.
pub fn decode(metadata: &MetadataMap) -> Result<OpenConnection, Status> {
    let missing = |problem: &str| {
        let message = format!("metadata {CONNECTION_METADATA} {problem}: expected an encoded OpenConnection");
        Status::from(Fault::new(Code::InvalidArgument, "CONNECTION_MISSING", message))
    };
    let value = metadata.get_bin(CONNECTION_METADATA).ok_or_else(|| missing("is absent"))?;
    let bytes: Bytes = value.to_bytes().map_err(|_| missing("is not base64"))?;
    OpenConnection::decode(bytes).map_err(|_| missing("does not decode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_connection_travels_in_metadata_and_stays_unseen() {
        let opened = OpenConnection { grant: Bytes::from_static(b"sesame"), ..Default::default() };
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(CONNECTION_METADATA, encode(&opened));
        assert_eq!(decode(&metadata).unwrap(), opened);
        assert!(!format!("{metadata:?}").contains("sesame"));
        assert!(!format!("{metadata:?}").contains("c2VzYW1l"));
        assert_eq!(decode(&MetadataMap::new()).unwrap_err().code(), Code::InvalidArgument);
    }
}
