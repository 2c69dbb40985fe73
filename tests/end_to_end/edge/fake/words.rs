//! What is said to the echo service, and what it answers.

/// What a caller says to the echo service.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Say {
    #[prost(string, tag = "1")]
    pub(crate) connection: String,
    #[prost(string, tag = "2")]
    pub(crate) request_id: String,
    #[prost(string, tag = "3")]
    pub(crate) text: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) ballast: Vec<u8>,
}

impl Say {
    /// A text for the connection `connections/billing`.
    pub(crate) fn new(text: &str) -> Self {
        Self::to("connections/billing", text)
    }

    /// A text for a connection.
    pub(crate) fn to(connection: &str, text: &str) -> Self {
        Self { connection: connection.into(), text: text.into(), ..Default::default() }
    }
}

/// What the echo service answers.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Said {
    /// The text that was said.
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    /// The port of the connector that answered.
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    /// The metadata that came along.
    #[prost(string, repeated, tag = "3")]
    pub(crate) metadata: Vec<String>,
    /// The encoded OpenConnection that came along.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) opened: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) ballast: Vec<u8>,
}
