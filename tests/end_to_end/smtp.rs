//! The SMTP connector, called directly over gRPC with the connection in the metadata, against the sandbox's server.

mod breaks;
mod bulk;
mod checks;
mod fields;
pub(crate) mod large;
mod messages;
mod postfix;
mod recipients;
mod security;
mod sockets;
mod world;
