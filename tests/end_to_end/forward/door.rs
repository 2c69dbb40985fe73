//! A door before a connector that knows HTTP/2 frames: it can fall silent without closing anything, refuse calls as a
//! server does that has not processed them, and go away between two calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

/// What a client says first (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// Length, type, flags and stream of a frame (section 4.1).
const HEAD_BYTES: usize = 9;
/// Types of frames.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// The error code of a stream that was not processed.
const REFUSED_STREAM: u32 = 7;

/// What a door does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It passes all on.
    Open,
    /// It takes all, passes nothing on, and closes nothing: the peer has vanished.
    Silent,
    /// It refuses each new call.
    Refusing,
    /// It goes away at the next call, which it does not take.
    Leaving,
}

/// A door on a port of its own. Gone when dropped, with all that goes through it.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    mood: watch::Sender<Mood>,
    passed: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Door {
    pub(crate) async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, moods) = watch::channel(Mood::Open);
        let passed = Arc::new(AtomicUsize::new(0));
        let passing_by = passed.clone();
        let serving = tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((outside, _)) = listener.accept().await {
                passing.spawn(pass(outside, behind, moods.clone(), passing_by.clone()));
            }
        });
        Self { address, mood, passed, serving }
    }

    /// How many connections have come through it.
    pub(crate) fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(
    outside: TcpStream,
    behind: SocketAddr,
    moods: watch::Receiver<Mood>,
    passed: Arc<AtomicUsize>,
) {
    let Ok(inside) = TcpStream::connect(behind).await else { return };
    passed.fetch_add(1, Ordering::SeqCst);
    let ((from_client, to_client), (from_server, to_server)) = (outside.into_split(), inside.into_split());
    let to_client = Arc::new(Mutex::new(to_client));
    tokio::select! {
        _ = up(from_client, to_server, to_client.clone(), moods.clone()) => {}
        _ = down(from_server, to_client, moods) => {}
    }
}

/// From the client to the server.
async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    client: Arc<Mutex<OwnedWriteHalf>>,
    moods: watch::Receiver<Mood>,
) -> std::io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    // Once the server has missed a head it knows no later one: they refer to what was said before (RFC 7541).
    let mut has_missed = false;
    loop {
        let frame = frame(&mut from).await?;
        let (kind, stream) = (frame[3], &frame[5..HEAD_BYTES]);
        let mood = *moods.borrow();
        match mood {
            Mood::Silent => has_missed = true,
            Mood::Leaving if kind == HEADERS && !has_missed => {
                has_missed = true;
                // The last stream that was taken is the one before: clients' are odd.
                let stream = u32::from_be_bytes(stream.try_into().unwrap());
                let last = stream.saturating_sub(2).to_be_bytes();
                let gone = [&head(8, GOAWAY, &[0; 4])[..], &last, &0_u32.to_be_bytes()].concat();
                client.lock().await.write_all(&gone).await?;
            }
            Mood::Refusing | Mood::Leaving | Mood::Open if kind == HEADERS && has_missed => {
                refuse(&client, stream).await?;
            }
            Mood::Refusing if kind == HEADERS => {
                has_missed = true;
                refuse(&client, stream).await?;
            }
            _ if has_missed && stream != [0; 4] => {}
            _ => to.write_all(&frame).await?,
        }
    }
}

async fn refuse(client: &Mutex<OwnedWriteHalf>, stream: &[u8]) -> std::io::Result<()> {
    let refused = [&head(4, RST_STREAM, stream)[..], &REFUSED_STREAM.to_be_bytes()].concat();
    client.lock().await.write_all(&refused).await
}

/// From the server to the client.
async fn down(
    mut from: OwnedReadHalf,
    to: Arc<Mutex<OwnedWriteHalf>>,
    moods: watch::Receiver<Mood>,
) -> std::io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let mood = *moods.borrow();
        if mood != Mood::Silent {
            to.lock().await.write_all(&frame).await?;
        }
    }
}

async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; HEAD_BYTES];
    from.read_exact(&mut frame).await?;
    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
    frame.resize(HEAD_BYTES + length, 0);
    from.read_exact(&mut frame[HEAD_BYTES..]).await?;
    Ok(frame)
}

fn head(length: u8, kind: u8, stream: &[u8]) -> Vec<u8> {
    [&[0, 0, length, kind, 0], stream].concat()
}
