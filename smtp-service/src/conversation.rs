//! A conversation with an SMTP server (RFC 5321): from the greeting through TLS and AUTH to a socket that is ready to
//! be handed mail. It knows the server's replies, and neither the pool nor gRPC.

mod envelope;
mod extensions;
mod hand_over;
mod replies;
mod sign_in;

use std::future::Future;
use std::io;
use std::time::Duration;

use postern_chassis::metrics::Held;
use postern_chassis::tls;
use secrecy::SecretString;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::Clock;
use crate::connection::{Connection, Security};
use crate::conversation::extensions::Extensions;
pub(crate) use crate::conversation::hand_over::Handed;
use crate::error::Error;
use crate::metrics;
use crate::reply::Reply;
use crate::socket::{Socket, TlsFailure};
use crate::stage::Stage;

/// How long a server may take over QUIT: nothing depends on its answer.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a server may take to answer NOOP before its socket is given up for a fresh one.
const NOOP_PATIENCE: Duration = Duration::from_secs(5);
/// The most lines of what a server told of itself that are passed on.
const MAX_DETAILS: usize = 16;

/// A conversation that is open and signed in.
#[derive(Debug)]
pub(crate) struct Conversation {
    socket: Socket,
    greeting: Reply,
    ehlo: Reply,
    extensions: Extensions,
    handed_over: u32,
    /// The number of the access token that it signed in by, which runs out.
    token: Option<u64>,
    /// Whether the server waits for a new MAIL. Not so in the middle of a mail, and never again after a break.
    ready: bool,
    /// It is counted.
    _held: Held,
}

impl Conversation {
    /// Connects, and does what the connection asks for: TLS, its certificate checked, and AUTH. `token` is the access
    /// token for it, where the connection signs in by one, and its number among those of the connection.
    pub(crate) async fn open(
        connection: &Connection,
        token: Option<(&SecretString, u64)>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let socket = Socket::connect(&connection.server, connection.port, clock.step_end())
            .await
            .map_err(|error| broken(Stage::Connect, &error))?;
        let mut socket = match connection.security {
            Security::Implicit => secure(socket, connection, Stage::Connect, clock).await?,
            Security::StartTls | Security::Opportunistic | Security::None => socket,
        };
        let greeting = bounded(Stage::Greeting, clock, socket.read_reply()).await?;
        let greeting = positive(Stage::Greeting, greeting)?;
        let ehlo = hello(&mut socket, connection, clock).await?;
        let extensions = Extensions::of(&ehlo);
        let (token, number) = token.unzip();
        metrics::OPENED.inc();
        let (handed_over, ready, held) = (0, true, metrics::SOCKETS.hold());
        let mut open =
            Self { socket, greeting, ehlo, extensions, handed_over, token: number, ready, _held: held };
        if matches!(connection.security, Security::StartTls | Security::Opportunistic) {
            open = open.start_tls(connection, clock).await?;
        }
        if let Some(login) = &connection.login {
            open.authenticate(login, token, clock).await?;
        }
        Ok(open)
    }

    /// STARTTLS (RFC 3207): what the server said before it is forgotten. Where the connection takes what it is offered,
    /// a server that never offers it, or says so for good when asked, is spoken to in the clear.
    async fn start_tls(mut self, connection: &Connection, clock: Clock) -> Result<Self, Error> {
        let is_required = connection.security == Security::StartTls;
        if !self.extensions.starttls {
            return if is_required { Err(Error::TlsRequired(None)) } else { Ok(self) };
        }
        let reply = self.command(Stage::StartTls, "STARTTLS\r\n", clock).await?;
        if reply.is_permanent() {
            return if is_required { Err(Error::TlsRequired(Some(reply))) } else { Ok(self) };
        }
        positive(Stage::StartTls, reply)?;
        let mut socket = secure(self.socket, connection, Stage::StartTls, clock).await?;
        let ehlo = hello(&mut socket, connection, clock).await?;
        Ok(Self { socket, extensions: Extensions::of(&ehlo), ehlo, ..self })
    }

    /// What the server told of itself: its greeting and its extensions, at most 16 lines.
    pub(crate) fn details(&self) -> Vec<String> {
        let lines = self.greeting.lines.iter().chain(&self.ehlo.lines);
        lines.filter(|line| !line.is_empty()).take(MAX_DETAILS).cloned().collect()
    }

    /// The number of the access token that it signed in by, if it did so.
    pub(crate) fn token(&self) -> Option<u64> {
        self.token
    }

    /// How many messages were handed over.
    pub(crate) fn handed_over(&self) -> u32 {
        self.handed_over
    }

    /// Whether the server waits for a new MAIL, as far as we know.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the server still listens, judged by what has arrived: no question is asked.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.socket.is_quiet()
    }

    /// Whether the server still listens, asked with NOOP.
    pub(crate) async fn answers(&mut self, clock: Clock) -> bool {
        let end = clock.end_within(NOOP_PATIENCE);
        let asked = timeout_at(end, async {
            self.socket.write(b"NOOP\r\n").await?;
            self.socket.read_reply().await
        });
        matches!(asked.await, Ok(Ok(reply)) if reply.is_positive())
    }

    /// The largest message that the server says it takes, in bytes.
    pub(crate) fn max_size(&self) -> Option<u64> {
        self.extensions.max_size
    }

    /// Says QUIT and closes, whatever the answer.
    pub(crate) async fn quit(mut self) {
        let said = timeout(QUIT_PATIENCE, async {
            self.socket.write(b"QUIT\r\n").await?;
            self.socket.read_reply().await
        });
        let _ = said.await;
    }

    async fn command(&mut self, stage: Stage, command: &str, clock: Clock) -> Result<Reply, Error> {
        self.write(stage, command.as_bytes(), clock).await?;
        self.read(stage, clock).await
    }

    async fn write(&mut self, stage: Stage, bytes: &[u8], clock: Clock) -> Result<(), Error> {
        bounded(stage, clock, self.socket.write(bytes)).await
    }

    async fn read(&mut self, stage: Stage, clock: Clock) -> Result<Reply, Error> {
        bounded(stage, clock, self.socket.read_reply()).await
    }
}

/// EHLO, with the connection's name for us, else the machine's, else the address that the socket has here.
async fn hello(socket: &mut Socket, connection: &Connection, clock: Clock) -> Result<Reply, Error> {
    let name = match connection.ehlo_name() {
        Some(name) => name.to_owned(),
        None => match socket.local_ip().map_err(|error| broken(Stage::Ehlo, &error))? {
            std::net::IpAddr::V4(ip) => format!("[{ip}]"),
            std::net::IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
        },
    };
    let mut say = async |verb: &str| {
        let command = format!("{verb} {name}\r\n");
        bounded(Stage::Ehlo, clock, socket.write(command.as_bytes())).await?;
        bounded(Stage::Ehlo, clock, socket.read_reply()).await
    };
    let reply = say("EHLO").await?;
    let needs_extensions = connection.security == Security::StartTls || connection.login.is_some();
    if matches!(reply.code, 500 | 502 | 504) && !needs_extensions {
        // A server older than EHLO (RFC 5321, section 3.2): of a reply to HELO no line names an extension.
        let mut reply = positive(Stage::Ehlo, say("HELO").await?)?;
        reply.lines.truncate(1);
        return Ok(reply);
    }
    positive(Stage::Ehlo, reply)
}

/// The TLS handshake, the certificate checked for the connection's server.
async fn secure(
    socket: Socket,
    connection: &Connection,
    stage: Stage,
    clock: Clock,
) -> Result<Socket, Error> {
    let config = match &connection.authorities {
        Some(config) => config.clone(),
        None => tls::client_config(None).map_err(|problem| Error::Certificate { stage, problem })?,
    };
    let secured = timeout_at(clock.step_end(), socket.secure(connection.server_name.clone(), config));
    match secured.await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(TlsFailure::Certificate(problem))) => Err(Error::Certificate { stage, problem }),
        Ok(Err(TlsFailure::Handshake(problem))) => {
            Err(Error::Broken { stage, problem: format!("TLS handshake failed: {problem}") })
        }
        Err(_) => Err(out_of_time(stage)),
    }
}

/// A step within its bound. Whatever ends it early leaves the message untaken: after the final dot this is not used.
async fn bounded<T>(
    stage: Stage,
    clock: Clock,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    match timeout_at(clock.step_end(), step).await {
        Ok(done) => done.map_err(|error| broken(stage, &error)),
        Err(_) => Err(out_of_time(stage)),
    }
}

fn broken(stage: Stage, error: &io::Error) -> Error {
    Error::Broken { stage, problem: error.to_string() }
}

fn out_of_time(stage: Stage) -> Error {
    Error::Broken { stage, problem: "the server did not answer in time".to_owned() }
}

fn refused(stage: Stage, reply: Reply) -> Error {
    Error::Refused { stage, reply, recipients: Vec::new() }
}

fn positive(stage: Stage, reply: Reply) -> Result<Reply, Error> {
    if reply.is_positive() { Ok(reply) } else { Err(refused(stage, reply)) }
}

/// The moment until which an answer that has arrived already may be picked up.
fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(100)
}
