//! Postern's contract in Rust: the messages, clients and servers made from the `.proto` files, and nothing else.
//!
//! The modules follow the packages: `postern.smtp.v1` is [`smtp::v1`]. Messages that hold a secret have a `Debug` that
//! does not show it.

mod redacted;

/// Every file of the contract with what it imports, as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! packages {
    ($($(#[$doc:meta])* $area:ident: $package:literal),* $(,)?) => {$(
        $(#[$doc])*
        pub mod $area {
            /// The first version.
            #[allow(missing_docs, clippy::all, clippy::pedantic)]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    )*};
}

packages! {
    /// Questions put to people by mail.
    approval: "postern.approval.v1",
    /// Stored links to accounts at providers.
    connection: "postern.connection.v1",
    /// What a connector offers its gateway.
    connector: "postern.connector.v1",
    /// Events, triggers and how they are read and kept.
    event: "postern.event.v1",
    /// Shapes of mail.
    mail: "postern.mail.v1",
    /// Mails that the gateway hands over by itself.
    outbox: "postern.outbox.v1",
    /// The Office 365 Outlook connector.
    outlook: "postern.outlook.v1",
    /// The SMTP connector.
    smtp: "postern.smtp.v1",
}
