//! The SMTP connector, called directly over gRPC with the connection in the metadata, against the sandbox's server.

mod breaks;
mod checks;
mod fields;
mod messages;
mod peers;
mod recipients;
mod security;
mod sockets;
mod world;
