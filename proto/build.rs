//! Makes the Rust code from the .proto files, without an installed protoc.

use std::error::Error;
use std::path::PathBuf;

/// Messages that hold a secret: their `Debug` is written by hand in `src/redacted.rs`.
const REDACTED: [&str; 12] = [
    ".postern.smtp.v1.SmtpCredentials",
    ".postern.outlook.v1.OutlookCredentials",
    ".postern.outlook.v1.ClientCertificate",
    ".postern.outlook.v1.DelegatedToken",
    ".postern.outlook.v1.UserSignIn",
    ".postern.connector.v1.OpenConnection",
    ".postern.connector.v1.RefreshCredentialsResponse",
    ".postern.connector.v1.StartSignInResponse",
    ".postern.connector.v1.CompleteSignInRequest",
    ".postern.connector.v1.CompleteSignInResponse",
    ".postern.connector.v1.RenewNotificationRequest",
    ".postern.connector.v1.ReadNotificationRequest",
];

#[allow(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "postern/approval/v1/approval.proto",
        "postern/approval/v1/approval_service.proto",
        "postern/connection/v1/connection_service.proto",
        "postern/connector/v1/connector_service.proto",
        "postern/event/v1/event.proto",
        "postern/event/v1/event_service.proto",
        "postern/event/v1/subscription_service.proto",
        "postern/event/v1/trigger_service.proto",
        "postern/mail/v1/mail.proto",
        "postern/outbox/v1/outbox_service.proto",
        "postern/outlook/v1/calendar.proto",
        "postern/outlook/v1/calendar_service.proto",
        "postern/outlook/v1/contact.proto",
        "postern/outlook/v1/contact_service.proto",
        "postern/outlook/v1/mail_service.proto",
        "postern/outlook/v1/outlook_settings.proto",
        "postern/outlook/v1/recurrence.proto",
        "postern/outlook/v1/triggers.proto",
        "postern/smtp/v1/smtp_service.proto",
        "postern/smtp/v1/smtp_settings.proto",
    ];
    println!("cargo::rerun-if-changed=postern");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let descriptors = compiler.file_descriptor_set();

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(REDACTED);
    tonic_prost_build::configure().bytes(".").compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
