//! The mails of the benchmark: about 5 KB of text, each the same.

use std::net::SocketAddr;

use postern_proto::connection::v1::{Connection, connection};
use postern_proto::connector::v1::OpenConnection;
use postern_proto::mail::v1::Email;
use postern_proto::smtp::v1::{SmtpSettings, TlsMode};

/// Lines of text, and how long each is.
const LINES: usize = 67;
const LINE: &str = "The quick brown fox jumps over the lazy dog, and then it does so once more.\r\n";

/// The text of a mail.
pub(crate) fn body() -> String {
    LINE.repeat(LINES)
}

/// A mail.
pub(crate) fn email(body: &str) -> Email {
    Email {
        to: vec!["anna@example.org".into()],
        subject: "a mail of the benchmark".into(),
        body: body.to_owned(),
        ..Email::default()
    }
}

/// How the server is reached, over so many connections.
pub(crate) fn settings(server: SocketAddr, connections: u32) -> SmtpSettings {
    SmtpSettings {
        server: server.ip().to_string(),
        port: server.port().into(),
        tls_mode: TlsMode::None.into(),
        default_from: "sender@example.org".into(),
        max_connections: connections,
        max_messages_per_connection: 100_000,
        max_message_bytes: 150 * 1024 * 1024,
        ..SmtpSettings::default()
    }
}

/// A connection as it travels with a call.
pub(crate) fn opened(server: SocketAddr, connections: u32) -> OpenConnection {
    OpenConnection {
        connection: Some(Connection {
            name: name(connections),
            settings: Some(connection::Settings::Smtp(settings(server, connections))),
            ..Connection::default()
        }),
        ..OpenConnection::default()
    }
}

/// The name of the connection that may have so many sockets.
pub(crate) fn name(connections: u32) -> String {
    format!("connections/bench-{connections}")
}
