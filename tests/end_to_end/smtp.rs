//! The SMTP connector, called directly over gRPC with the connection in the metadata, against the sandbox's server.

mod breaks;
mod checks;
mod fields;
mod limits;
mod messages;
mod openings;
mod postfix;
mod raw;
mod recipients;
mod replies;
mod reports;
mod security;
mod sockets;
mod stages;
mod tokens;
mod world;
