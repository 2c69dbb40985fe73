//! A server of whims: it answers as a server does, and now and then as none should. It knows exactly what it took.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinSet;

use crate::socket::memory;

/// What a server is like.
#[derive(Debug, Clone)]
pub(super) struct Whim {
    /// In how many of a thousand answers it does something else.
    odd: u16,
    pipelining: bool,
    /// Whether its answers come byte by byte.
    piecemeal: bool,
    /// How many recipients it takes at once.
    most_recipients: usize,
}

impl Whim {
    pub(super) fn of(rng: &mut fastrand::Rng) -> Self {
        Self {
            odd: [0, 10, 40, 150][rng.usize(..4)],
            pipelining: rng.bool(),
            piecemeal: rng.u8(..8) == 0,
            most_recipients: if rng.u8(..4) == 0 { rng.usize(1..4) } else { 100 },
        }
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self { odd: 0, pipelining: true, piecemeal: false, most_recipients: 100 }
    }
}

/// What a server knows in the end.
#[derive(Debug, Default)]
pub(super) struct Known {
    taken: HashMap<(String, String), usize>,
    transactions: HashMap<String, usize>,
    begun: HashSet<String>,
    commands: Vec<String>,
    opened: usize,
    is_noop_silent: bool,
}

impl Known {
    /// How often a mail of this sender was taken for this recipient.
    pub(super) fn times_taken(&self, from: &str, to: &str) -> usize {
        self.taken.get(&(from.to_owned(), to.to_owned())).copied().unwrap_or_default()
    }

    /// In how many transactions a mail was taken.
    pub(super) fn transactions(&self, from: &str) -> usize {
        self.transactions.get(from).copied().unwrap_or_default()
    }

    /// Whether a message of this sender was ever asked for.
    pub(super) fn was_begun(&self, from: &str) -> bool {
        self.begun.contains(from)
    }
}

/// A server that listens within the process.
pub(super) struct Server {
    port: u16,
    known: Arc<Mutex<Known>>,
    serving: tokio::task::JoinHandle<()>,
    stop: Arc<tokio::sync::Notify>,
}

impl Server {
    pub(super) fn start(whim: Whim, mut rng: fastrand::Rng) -> Self {
        let (port, mut calls) = memory::listen();
        let known = Arc::<Mutex<Known>>::default();
        let stop = Arc::<tokio::sync::Notify>::default();
        let (knows, stopped) = (Arc::clone(&known), Arc::clone(&stop));
        let serving = tokio::spawn(async move {
            let mut talks = JoinSet::new();
            loop {
                tokio::select! {
                    () = stopped.notified() => break,
                    Some(stream) = calls.recv() => {
                        knows.lock().unwrap().opened += 1;
                        let (whim, rng, known) = (whim.clone(), rng.fork(), Arc::clone(&knows));
                        let last = String::new();
                        let talk = Talk { stream, unread: BytesMut::new(), whim, rng, known, last };
                        talks.spawn(async move { drop(talk.hold().await) });
                    }
                }
            }
            talks.join_all().await;
        });
        Self { port, known, serving, stop }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many commands of this verb it heard.
    pub(super) fn commands(&self, verb: &str) -> usize {
        self.known.lock().unwrap().commands.iter().filter(|heard| *heard == verb).count()
    }

    pub(super) fn opened(&self) -> usize {
        self.known.lock().unwrap().opened
    }

    pub(super) fn silence_noop(&self) {
        self.known.lock().unwrap().is_noop_silent = true;
    }

    /// Waits until every socket is closed, and says what it knows.
    pub(super) async fn end(self) -> Known {
        self.stop.notify_one();
        self.serving.await.unwrap();
        std::mem::take(&mut *self.known.lock().unwrap())
    }
}

/// Ends a talk.
struct Over;

/// One socket.
struct Talk {
    stream: DuplexStream,
    unread: BytesMut,
    whim: Whim,
    rng: fastrand::Rng,
    known: Arc<Mutex<Known>>,
    /// Whose mail the talk is of.
    last: String,
}

impl Talk {
    async fn hold(mut self) -> Result<(), Over> {
        self.say("220 memory ESMTP").await?;
        let (mut from, mut to) = (None, Vec::new());
        loop {
            let line = self.line().await?;
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            self.known.lock().unwrap().commands.push(verb.clone());
            match verb.as_str() {
                "EHLO" | "HELO" => {
                    let pipelining = if self.whim.pipelining { "250-PIPELINING\r\n" } else { "" };
                    let dsn = if self.rng.bool() { "250-DSN\r\n" } else { "" };
                    let text = format!("250-memory\r\n{pipelining}{dsn}250-AUTH PLAIN LOGIN\r\n250 8BITMIME");
                    self.say(&text).await?;
                }
                "AUTH" => drop(self.say("235 2.7.0 welcome").await?),
                "MAIL" => {
                    to.clear();
                    self.last = path(&line);
                    let said = self.say("250 2.1.0 Ok").await?;
                    from = said.filter(|code| code / 100 == 2).map(|_| path(&line));
                }
                "RCPT" => {
                    let usual = match to.len() >= self.whim.most_recipients {
                        true if self.rng.bool() => "452 4.5.3 too many recipients",
                        true => "552 too many recipients",
                        false if from.is_none() => "503 5.5.1 MAIL first",
                        false => "250 2.1.5 Ok",
                    };
                    if self.say(usual).await?.is_some_and(|code| code / 100 == 2) {
                        to.push(path(&line));
                    }
                }
                "DATA" => {
                    let is_due = from.is_some() && !to.is_empty();
                    let usual = if is_due { "354 go ahead" } else { "503 5.5.1 nobody to send to" };
                    // Whoever says 354 gets a message, in place or not.
                    if self.say(usual).await? == Some(354) {
                        self.message(&from.take().unwrap_or_else(|| self.last.clone()), &to).await?;
                        to.clear();
                    }
                }
                "NOOP" if self.known.lock().unwrap().is_noop_silent => {
                    self.known.lock().unwrap().is_noop_silent = false;
                    return self.drain().await;
                }
                "RSET" => {
                    (from, to) = (None, Vec::new());
                    self.say("250 2.0.0 Ok").await?;
                }
                "NOOP" => drop(self.say("250 2.0.0 Ok").await?),
                "QUIT" => {
                    self.say("221 2.0.0 Bye").await?;
                    return Ok(());
                }
                _ => drop(self.say("500 5.5.2 what").await?),
            }
        }
    }

    async fn message(&mut self, from: &str, to: &[String]) -> Result<(), Over> {
        if self.is_odd() {
            // It gives up in the middle, with or without a word, and takes nothing.
            self.fill().await?;
            match self.rng.u8(..3) {
                0 => return Err(Over),
                1 => {
                    self.write(b"451 4.3.0 enough\r\n").await?;
                    return Err(Over);
                }
                _ => return self.drain().await,
            }
        }
        loop {
            let line = self.line().await?;
            if line == "." {
                break;
            }
        }
        let (bytes, code, ends) = self.answer("250 2.0.0 queued");
        let takes = match code.map(|code| code / 100) {
            Some(2) => true,
            Some(4 | 5) => false,
            // It does not say, or nothing that makes sense.
            _ => self.rng.bool(),
        };
        if takes {
            let mut known = self.known.lock().unwrap();
            *known.transactions.entry(from.to_owned()).or_default() += 1;
            for to in to {
                *known.taken.entry((from.to_owned(), to.clone())).or_default() += 1;
            }
        }
        self.give(&bytes, ends).await
    }

    /// Answers as usual, or not. Gives the code of the reply, where it was one.
    async fn say(&mut self, usual: &str) -> Result<Option<u16>, Over> {
        let (bytes, code, ends) = self.answer(usual);
        if code == Some(354) {
            // After an answer too many it may be taken for that to DATA.
            self.known.lock().unwrap().begun.insert(self.last.clone());
        }
        self.give(&bytes, ends).await?;
        Ok(code)
    }

    fn is_odd(&mut self) -> bool {
        self.rng.u16(..1_000) < self.whim.odd
    }

    /// What to say, the code of its first reply where that is one, and how to go on.
    fn answer(&mut self, usual: &str) -> (Vec<u8>, Option<u16>, Ends) {
        let line = |text: &str| format!("{text}\r\n").into_bytes();
        let code = usual.get(..3).and_then(|code| code.parse().ok());
        if !self.is_odd() {
            return (line(usual), code, Ends::Not);
        }
        let any = [421, 421, 450, 451, 452, 550, 552, 554, 530, 535, 250, 235, 354, 334, 299, 500, 502];
        match self.rng.u8(..12) {
            0..=3 => {
                let code = any[self.rng.usize(..any.len())];
                let ends = if code == 421 && self.rng.bool() { Ends::Closes } else { Ends::Not };
                (line(&format!("{code} whim")), Some(code), ends)
            }
            4 => {
                let code = self.rng.u16(200..600);
                (line(&format!("{code}-one\r\n{code}-two\r\n{code}")), Some(code), Ends::Not)
            }
            5 => (Vec::new(), None, Ends::Closes),
            6 => (line(usual), code, Ends::Closes),
            7 => (usual.as_bytes()[..self.rng.usize(..usual.len())].to_vec(), None, Ends::Closes),
            8 => {
                let wrong = ["", "25", "abc", "999 x", "250_x", "250-a\r\n550 b", "\u{0}\u{1}"];
                (line(wrong[self.rng.usize(..wrong.len())]), None, Ends::Not)
            }
            9 => (vec![b'2'; 64 * 1024], None, Ends::Not),
            // An answer too many, in one piece with the one that was due.
            10 => {
                let unasked = any[self.rng.usize(..any.len())];
                // To say 354 and want no message is a lie that nobody can see through.
                let unasked = if unasked == 354 { 250 } else { unasked };
                (line(&format!("{usual}\r\n{unasked} unasked")), code, Ends::Not)
            }
            _ if self.rng.u8(..8) == 0 => (Vec::new(), None, Ends::Silent),
            _ => (self.rng.u128(..).to_be_bytes().to_vec(), None, Ends::Closes),
        }
    }

    async fn give(&mut self, bytes: &[u8], ends: Ends) -> Result<(), Over> {
        self.write(bytes).await?;
        match ends {
            Ends::Not => Ok(()),
            Ends::Closes => Err(Over),
            Ends::Silent => self.drain().await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        // What comes with an answer too many must not come after it.
        let is_one = bytes.iter().filter(|byte| **byte == b'\n').count() == 1;
        if self.whim.piecemeal && is_one && bytes.len() < 200 {
            for byte in bytes {
                self.stream.write_all(&[*byte]).await.map_err(|_| Over)?;
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        self.stream.write_all(bytes).await.map_err(|_| Over)
    }

    /// Says nothing any more, for as long as the other side stays.
    async fn drain(&mut self) -> Result<(), Over> {
        loop {
            self.unread.clear();
            self.fill().await?;
        }
    }

    async fn line(&mut self) -> Result<String, Over> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Over> {
        match self.stream.read_buf(&mut self.unread).await {
            Ok(read) if read > 0 => Ok(()),
            _ => Err(Over),
        }
    }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// The talk goes on.
    Not,
    /// It closes.
    Closes,
    /// It stays and says nothing more.
    Silent,
}

fn path(line: &str) -> String {
    let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    path.map(|(path, _)| path.to_owned()).unwrap_or_default()
}
