//! What distance costs: one mail after the other over a warm connection to a server that is 20 ms there and back away.

use std::net::SocketAddr;
use std::time::Duration;

use postern_chassis::opened::{CONNECTION_METADATA, encode};
use postern_chassis::serve::BoxError;
use postern_proto::smtp::v1::SendEmailRequest;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::Request;

use super::{connector, mails};
use crate::figures::quantile;

/// From one end to the other, on average: tokio's timer has a resolution of a millisecond and never wakes early.
const ONE_WAY: Duration = Duration::from_millis(10);
/// How many mails are sent; the first opens the connection and does not count.
const MAILS: usize = 41;
/// How many pieces may be on their way: bytes beyond wait at the sender.
const UNDER_WAY: usize = 1_024;
const PIECE_BYTES: usize = 64 * 1024;

/// What was measured.
pub(crate) struct Relayed {
    /// How long a mail took, the middle one.
    pub(crate) median: Duration,
    /// How long one round trip took: a NOOP, the middle one.
    pub(crate) round_trip: Duration,
}

/// Measures.
pub(crate) async fn measure(server: SocketAddr) -> Result<Relayed, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let relaying = tokio::spawn(relay(listener, server));
    let mut noop = Noop::connect(address).await?;

    let (_process, connector) = connector().await?;
    let mut client = SmtpServiceClient::connect(format!("http://{connector}")).await?;
    let opened = encode(&mails::opened(address, 1));
    let body = mails::body();
    let (mut times, mut trips) = (Vec::new(), Vec::new());
    for number in 0..MAILS {
        let content = Some(Content::Email(mails::email(&body)));
        let mut request = Request::new(SendEmailRequest { content, ..SendEmailRequest::default() });
        request.metadata_mut().insert_bin(CONNECTION_METADATA, opened.clone());
        let begun = Instant::now();
        client.send_email(request).await?;
        let took = begun.elapsed();
        // In between, so that what else the machine does weighs on both alike.
        let trip = noop.say().await?;
        if number > 0 {
            times.push(took);
            trips.push(trip);
        }
    }
    relaying.abort();
    Ok(Relayed { median: quantile(&mut times, 0.5), round_trip: quantile(&mut trips, 0.5) })
}

/// A conversation of NOOPs: what a round trip really takes.
struct Noop {
    socket: BufReader<TcpStream>,
    reply: String,
}

impl Noop {
    async fn connect(address: SocketAddr) -> Result<Self, BoxError> {
        let mut socket = BufReader::new(TcpStream::connect(address).await?);
        socket.get_ref().set_nodelay(true)?;
        let mut reply = String::new();
        socket.read_line(&mut reply).await?;
        Ok(Self { socket, reply })
    }

    /// How long a NOOP takes to its reply.
    async fn say(&mut self) -> Result<Duration, BoxError> {
        let begun = Instant::now();
        self.socket.write_all(b"NOOP\r\n").await?;
        self.reply.clear();
        if self.socket.read_line(&mut self.reply).await? == 0 {
            return Err("the server went".into());
        }
        Ok(begun.elapsed())
    }
}

async fn relay(listener: TcpListener, server: SocketAddr) -> Result<(), std::io::Error> {
    loop {
        let (near, _) = listener.accept().await?;
        let far = TcpStream::connect(server).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_reads, near_writes) = near.into_split();
        let (far_reads, far_writes) = far.into_split();
        tokio::spawn(carry(near_reads, far_writes));
        tokio::spawn(carry(far_reads, near_writes));
    }
}

/// Carries bytes one way, each as much later as the way is long.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin + Send + 'static) {
    let (send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    tokio::spawn(async move {
        while let Some((due, bytes)) = receive.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other end is told that no more comes; it may be gone.
        let _ = to.shutdown().await;
    });
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if send.send((Instant::now() + ONE_WAY, piece[..read].to_vec())).await.is_err() {
            return;
        }
    }
}
