//! A server that says exactly what a test scripts, whatever that is.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Gives the answer to a line: the bytes as they are. The greeting is the answer to an empty line, and the final dot is
/// a line too; the message's own lines are not asked about. None: the connection is closed; so it is after an answer that
/// ends with a NUL, which is not sent.
type Script = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// A scripted server.
pub(crate) struct Raw {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl Raw {
    /// A server with a script. `piecemeal`: each byte goes in a packet of its own.
    pub(crate) async fn start(
        piecemeal: bool,
        script: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, heard) = (CancellationToken::new(), Arc::<Mutex<Vec<String>>>::default());
        let (stopped, hears, script) = (stop.clone(), Arc::clone(&heard), Arc::new(script) as Script);
        let listening = async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let talk = hold(stream, Arc::clone(&script), Arc::clone(&hears), piecemeal);
                tokio::spawn(stopped.clone().run_until_cancelled_owned(talk));
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(listening));
        Self { port, heard, _stop: stop.drop_guard() }
    }

    /// The lines heard so far, but for those of messages.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// What a well-behaved server would answer.
pub(crate) fn usual(line: &str) -> Option<Vec<u8>> {
    let verb = line.split(' ').next().unwrap_or_default();
    Some(match verb {
        "" => b"220 raw ESMTP\r\n".to_vec(),
        "EHLO" => b"250-raw\r\n250-PIPELINING\r\n250 8BITMIME\r\n".to_vec(),
        "DATA" => b"354 go ahead\r\n".to_vec(),
        "QUIT" => b"221 2.0.0 Bye\r\n".to_vec(),
        _ => b"250 2.0.0 Ok\r\n".to_vec(),
    })
}

async fn hold(mut stream: TcpStream, script: Script, heard: Arc<Mutex<Vec<String>>>, piecemeal: bool) {
    let (mut unread, mut in_message, mut line) = (Vec::new(), false, String::new());
    loop {
        let answer = if in_message && line != "." { Some(Vec::new()) } else { script(&line) };
        let Some(mut answer) = answer else { return };
        let closes = answer.pop_if(|last| *last == 0).is_some();
        if !in_message || line == "." {
            if !line.is_empty() {
                heard.lock().unwrap().push(line.clone());
            }
            in_message = answer.starts_with(b"354");
        }
        let pieces = if piecemeal { 1 } else { answer.len().max(1) };
        for piece in answer.chunks(pieces) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if closes {
            return;
        }
        line = loop {
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                break String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            if stream.read_buf(&mut unread).await.unwrap_or(0) == 0 {
                return;
            }
        };
    }
}
