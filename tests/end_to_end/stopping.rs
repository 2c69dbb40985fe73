//! A service that stops, seen from the wire: who still talks to it learns what it has taken.

use std::time::Duration;

use postern_chassis::serve::{ServeSettings, edges, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a client says first (RFC 9113, section 3.4), with settings that say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Length, type, flags and stream of a frame (section 4.1).
const HEAD_BYTES: usize = 9;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// The next frame: its type, its flags and what it holds. `None`: the other side is closed.
async fn frame(from: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    from.read_exact(&mut head).await.ok()?;
    let mut held = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    from.read_exact(&mut held).await.unwrap();
    Some((head[3], head[4], held))
}

fn ping(flags: u8, opaque: &[u8]) -> Vec<u8> {
    [&[0, 0, 8, PING, flags, 0, 0, 0, 0][..], opaque].concat()
}

#[tokio::test]
async fn a_caller_that_still_talks_when_a_service_closes_is_not_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, _health) = edges(&["grpc.health.v1.Health"]).await.unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(async move {
        serve(listener, &ServeSettings::default(), routes.prepare(), stopped).await.unwrap();
    });
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(PREFACE).await.unwrap();
    frame(&mut caller).await.expect("its settings");
    stop.cancel();
    let mut last_taken = None;
    while let Some((kind, flags, held)) = frame(&mut caller).await {
        match kind {
            PING if flags & ACK == 0 => caller.write_all(&ping(ACK, &held)).await.unwrap(),
            GOAWAY => last_taken = Some(u32::from_be_bytes(held[..4].try_into().unwrap())),
            _ => {}
        }
    }
    assert_eq!(last_taken, Some(0), "it said what it had taken: nothing");
    // What comes too late is thrown away. Were it answered with a reset, that could overtake what was said last.
    for _ in 0..3 {
        caller.write_all(&ping(0, &[7; 8])).await.unwrap();
    }
    drop(caller);
    tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap().unwrap();
}
