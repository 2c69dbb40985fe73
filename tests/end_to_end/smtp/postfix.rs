//! The connector against a real Postfix, which it starts for itself. Ignored unless asked for: it needs root and the
//! Debian packages `postfix`, `libsasl2-modules` and `sasl2-bin`.

use std::path::Path;
use std::process::Command;

use postern_proto::connector::v1::CheckConnectionRequest;
use postern_proto::mail::v1::{Email, RecipientState};
use postern_proto::smtp::v1::{AuthMechanism, TlsMode};
use postern_sandbox::smtp::Authority;
use tempfile::TempDir;
use tonic::Code;

use super::world::{World, mail, refused};

/// A Postfix that stops when this is dropped.
struct Postfix {
    folder: TempDir,
    port: u16,
    tls_port: u16,
    authority: Authority,
}

impl Postfix {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new().unwrap();
        let (certificate, key) = authority.issue(&["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second) = (free(), free());
        let (port, tls_port) = (first.local_addr().unwrap().port(), second.local_addr().unwrap().port());
        drop((first, second));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("postfix/up.sh");
        let started = Command::new(script)
            .arg(folder.path())
            .args([port.to_string(), tls_port.to_string(), "user".to_owned(), "secret".to_owned()])
            .status()
            .unwrap();
        assert!(started.success(), "Postfix did not start");
        Self { folder, port, tls_port, authority }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let stopped =
            Command::new("postfix").arg("-c").arg(self.folder.path().join("etc")).arg("stop").status();
        assert!(stopped.is_ok_and(|status| status.success()), "Postfix did not stop");
    }
}

#[tokio::test]
#[ignore = "needs root and an installed Postfix"]
async fn a_real_postfix_takes_mail_and_refuses_what_it_refuses() {
    let postfix = Postfix::start();
    let mut world = World::start().await;
    world.stored.port = postfix.port.into();
    world.stored.ca_certificates = postfix.authority.certificate().to_owned();
    world.stored.username = "user@test".to_owned();
    world.password = "secret".to_owned();

    let checked = world.connector().check_connection(world.request(CheckConnectionRequest {})).await.unwrap();
    assert!(checked.into_inner().details.iter().any(|line| line == "PIPELINING"));

    for mechanism in [AuthMechanism::Plain, AuthMechanism::Login] {
        for (tls_mode, port) in [(TlsMode::Starttls, postfix.port), (TlsMode::Implicit, postfix.tls_port)] {
            world.stored.auth_mechanism = mechanism.into();
            world.stored.tls_mode = tls_mode.into();
            world.stored.port = port.into();
            let email = Email {
                body: ".\r\nGrüße\r\n..\r\n".into(),
                ..mail(&["bo@example.org", "nobody@example.org", "later@example.org"])
            };
            let sent = world.send(email).await.unwrap();
            let states: Vec<_> =
                sent.recipients.iter().map(|one| (one.state(), one.reply.clone().unwrap().code)).collect();
            use RecipientState::{Accepted, RefusedPermanent, RefusedTransient};
            assert_eq!(states, [(Accepted, 250), (RefusedPermanent, 550), (RefusedTransient, 450)]);
            assert!(sent.reply.unwrap().text.contains("queued as"));
        }
    }
    let said =
        refused(world.send(mail(&["nobody@example.org"])).await, Code::FailedPrecondition, "MESSAGE_REFUSED");
    assert_eq!(said.stage(), "rcpt");
    world.send(mail(&["bö@example.org"])).await.unwrap();
    let large = Email { body: "0123456789\r\n".repeat(100_000), ..mail(&["bo@example.org"]) };
    refused(world.send(large).await, Code::InvalidArgument, "MESSAGE_TOO_LARGE");
    world.password = "wrong".to_owned();
    let said =
        refused(world.send(mail(&["bo@example.org"])).await, Code::FailedPrecondition, "CREDENTIALS_REFUSED");
    assert_eq!(said.metadata["smtp.code"], "535");
}
