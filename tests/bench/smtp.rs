//! Mails handed over per second: Postern's sender alone, through its connector and through its gateway, beside what others
//! would use; all to one Postfix's `smtp-sink`, in rounds whose order rotates. Then what distance and size cost.

mod goals;
mod large;
mod mails;
mod others;
mod ours;
mod relay;
mod sink;

use std::path::{Path, PathBuf};

use clap::Args;
use postern_chassis::serve::BoxError;

use self::goals::Measured;
use self::others::Other;
use self::ours::{Ours, Way};
use self::sink::Sink;
use crate::figures::{Table, ends, median};
use crate::peers;

/// How many connections to the server each sender may have, one level after the other.
pub(crate) const LEVELS: [u32; 3] = [1, 10, 50];
/// The most mails a run.
const MOST_MAILS: u32 = 100_000;
/// How long a run takes by which it is found out how fast a sender is.
const TRIAL: f64 = 0.5;

/// How much is measured.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// How many rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// For about how many seconds each sender sends in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// How large the attachment is by which memory is measured, in MiB
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    large: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 5, seconds: 3, large: 50 }
    }
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Ours(Way),
    Other(Other),
}

impl Sender {
    /// All senders, in the order of the table.
    const ALL: [Self; 9] = [
        Self::Ours(Way::Alone),
        Self::Ours(Way::SendEmail),
        Self::Ours(Way::SendEmails),
        Self::Ours(Way::GatewaySendEmail),
        Self::Ours(Way::GatewaySendEmails),
        Self::Other(Other::SmtpSource),
        Self::Other(Other::Nodemailer),
        Self::Other(Other::Aiosmtplib),
        Self::Other(Other::Lettre),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ours(way) => way.name(),
            Self::Other(other) => other.name(),
        }
    }
}

/// Measures, and gives the sections.
///
/// # Errors
/// A program is missing, or a mail was not handed over.
pub(crate) async fn section(settings: &Settings) -> Result<String, BoxError> {
    let others = Others::find()?;
    let folder = tempfile::tempdir()?;
    let body = folder.path().join("body");
    std::fs::write(&body, mails::body())?;
    let sink = Sink::start().await?;
    let ours = Ours::start(folder.path(), sink.address()).await?;

    let (mut measured, mut used) = (Measured::default(), Measured::default());
    for connections in LEVELS {
        // What comes before the first round opens sockets and warms code, and tells how many mails a round takes.
        let mut counts = Vec::new();
        for sender in Sender::ALL {
            let speed = others.trial(&ours, sender, &sink, connections, &body).await?;
            counts.push(mails_in(f64::from(settings.seconds), speed));
        }
        for round in 0..usize::from(settings.rounds) {
            for turn in 0..Sender::ALL.len() {
                let at = (round + turn) % Sender::ALL.len();
                let (sender, count) = (Sender::ALL[at], counts[at]);
                // Whoever sends, nobody else does: all processor time but the server's is the sender's.
                let before = ours.processor_seconds()?;
                let seconds = others.run(&ours, sender, &sink, connections, count, &body).await?;
                used.add(sender, connections, (ours.processor_seconds()? - before) * 1e6 / f64::from(count));
                measured.add(sender, connections, f64::from(count) / seconds);
            }
        }
    }
    drop(ours);
    let relayed = relay::measure(sink.address()).await?;
    let grown = large::measure(sink.address(), settings.large).await?;
    let version = postfix_version().await?;
    Ok(told(settings, &measured, &used, &version)
        + "\n"
        + &goals::table(&measured, &relayed, &grown).markdown())
}

/// The programs that stand beside ours, and where they are.
struct Others {
    python: PathBuf,
    node_modules: PathBuf,
    lettre: PathBuf,
}

impl Others {
    fn find() -> Result<Self, BoxError> {
        let built = std::env::current_exe()?;
        let target = built.ancestors().nth(2).ok_or("this program does not lie in target/PROFILE")?;
        let found = Self {
            python: target.join("tools/python/bin/python"),
            node_modules: target.join("tools/nodemailer/node_modules"),
            lettre: built.with_file_name("postern-bench-lettre"),
        };
        for path in [&found.python, &found.node_modules.join("nodemailer"), &found.lettre] {
            if !path.exists() {
                return Err(format!("{} is not there: run tests/bench/set_up.sh", path.display()).into());
            }
        }
        Ok(found)
    }

    /// How many mails a second a sender sends: more and more of them, until that takes long enough to tell.
    async fn trial(
        &self,
        ours: &Ours,
        sender: Sender,
        sink: &Sink,
        connections: u32,
        body: &Path,
    ) -> Result<f64, BoxError> {
        let mut count = connections * 10;
        loop {
            let seconds = self.run(ours, sender, sink, connections, count, body).await?;
            if seconds >= TRIAL || count >= MOST_MAILS {
                return Ok(f64::from(count) / seconds);
            }
            count = mails_in(TRIAL * 1.5, f64::from(count) / seconds).max(count * 2).min(MOST_MAILS);
        }
    }

    /// Has a sender send so many mails, and gives how many seconds that took.
    async fn run(
        &self,
        ours: &Ours,
        sender: Sender,
        sink: &Sink,
        connections: u32,
        count: u32,
        body: &Path,
    ) -> Result<f64, BoxError> {
        let sent = match sender {
            Sender::Ours(way) => ours.run(way, connections, count).await,
            Sender::Other(other) => self.send(other, sink.address(), connections, count, body).await,
        };
        sent.map_err(|error| format!("{} over {connections} connections: {error}", sender.name()).into())
    }
}

/// How many mails take so many seconds at a speed.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before it is cast")]
fn mails_in(seconds: f64, speed: f64) -> u32 {
    (seconds * speed).clamp(10.0, f64::from(MOST_MAILS)) as u32
}

async fn postfix_version() -> Result<String, BoxError> {
    let told = tokio::process::Command::new("postconf").args(["-d", "-h", "mail_version"]).output().await?;
    Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

fn told(settings: &Settings, measured: &Measured, used: &Measured, postfix: &str) -> String {
    let columns = [
        "sender",
        "1 connection",
        "10 connections",
        "50 connections",
        "processor time a mail, 10 connections",
    ];
    let mut table = Table::new("Mails handed over per second", &columns);
    for sender in Sender::ALL {
        let figures = LEVELS.map(|connections| {
            let per_second = measured.of(sender, connections);
            let (low, high) = ends(per_second);
            format!("**{:.0}** ({low:.0} to {high:.0})", median(per_second))
        });
        let used = format!("{:.0} µs", median(used.of(sender, 10)));
        table.row(&[vec![sender.name().to_owned()], figures.to_vec(), vec![used]].concat());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    table.note(&format!(
        "Median, lowest and highest of {} rounds in rotated order, each of as many mails as take the sender about {} s \
         by a run before, each mail of {} bytes of text and its header, to one `smtp-sink` of Postfix {postfix} in the clear, \
         over connections that are kept. Sender, server and what is between share {cores} cores; processor time is that \
         of all but the server, callers included, and changes least with what else the machine does. Postern's connector \
         and gateway are processes of their own; so many callers wait at once: {} for each connection. nodemailer {}, \
         aiosmtplib {}, lettre {} by its own pool.",
        settings.rounds,
        settings.seconds,
        mails::body().len(),
        ours::CALLERS_TO_A_CONNECTION,
        others::NODEMAILER.trim().trim_start_matches("nodemailer@"),
        others::aiosmtplib_version(),
        others::LETTRE,
    ));
    table.markdown()
}

/// Another process of the SMTP connector, to be measured by itself.
async fn connector() -> Result<(tokio::process::Child, String), BoxError> {
    peers::program("smtp-service")?;
    crate::memory::connector("smtp-service").await
}
