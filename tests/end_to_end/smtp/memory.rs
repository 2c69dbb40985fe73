//! How much memory a large mail takes in a connector that is a process of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use postern_proto::mail::v1::{ContentTransferEncoding, LargeAttachment};
use postern_proto::smtp::v1::SendLargeEmailResponse;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_sandbox::smtp::{SmtpSettings, Tls};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::large::{chunks, content, first, large};
use super::world::{Said, World, mail};
use crate::outside;
use crate::ports::Port;
use crate::world::until;

const KIB: u64 = 1024;
const MIB: usize = 1024 * 1024;
/// The attachment, and what base64 in lines makes of it.
const SIZE: usize = 50 * MIB;
const ENCODED: u64 = (SIZE as u64).div_ceil(57) * 78;

/// A connector in a process of its own. It is killed when dropped.
struct Connector {
    child: Child,
    channel: Channel,
    _port: Port,
}

impl Connector {
    async fn start() -> Self {
        let port = Port::keep();
        let address = port.address;
        let child = Command::new(outside::program("smtp-service"))
            .args(["--listen", &address.to_string(), "--log", "warn"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let channel = until("the connector listens", || async {
            Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.ok()
        });
        Self { channel: channel.await, child, _port: port }
    }

    /// The most memory that it ever had, in bytes.
    fn most(&self) -> u64 {
        let status = Path::new("/proc").join(self.child.id().unwrap().to_string()).join("status");
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * KIB
    }

    async fn send(
        &self,
        world: &World,
        attachment: LargeAttachment,
        bytes: &[u8],
    ) -> Result<SendLargeEmailResponse, Status> {
        let mut parts = vec![first("", mail(&["bo@example.org"]), vec![attachment])];
        parts.extend(chunks(0, bytes));
        let mut request = world.request(tokio_stream::iter(parts));
        request.set_timeout(Duration::from_secs(120));
        let mut client = SmtpServiceClient::new(self.channel.clone());
        client.send_large_email(request).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_of_fifty_mebibytes_takes_at_most_twice_its_encoded_size() {
    let settings = SmtpSettings { tls: Tls::None, max_size: 100 * MIB, ..Default::default() };
    let mut world = World::with(settings).await;
    world.stored.max_message_bytes = 100 * MIB as i64;
    let connector = Connector::start().await;
    let small = content(1, MIB);
    connector.send(&world, large("small.bin", MIB), &small).await.unwrap();
    let before = connector.most();
    let bytes = content(2, SIZE);
    connector.send(&world, large("fifty.bin", SIZE), &bytes).await.unwrap();
    let grown = connector.most() - before;
    assert!(world.server.accepted()[1].message.len() as u64 >= ENCODED);
    // Less than the mail's own size where the allocator had something left from before.
    assert!(grown >= SIZE as u64 / 2, "it is measured: {grown}");
    assert!(grown <= 2 * ENCODED, "it took {grown} bytes, {} a byte encoded", grown as f64 / ENCODED as f64);
    // What would grow threefold is refused before it has.
    let quoted = ContentTransferEncoding::QuotedPrintable.into();
    let quoted = LargeAttachment { content_transfer_encoding: quoted, ..large("fifty.bin", SIZE) };
    let said = Said::of(&connector.send(&world, quoted, &bytes).await.unwrap_err());
    assert_eq!((said.code, said.reason.as_str()), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));
    let grown = connector.most() - before;
    assert!(grown <= 2 * ENCODED, "it took {grown} bytes for what it refused");
}
