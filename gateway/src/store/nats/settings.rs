//! Where NATS is and how to sign in there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;
use clap::Args;
use postern_chassis::settings::{SettingsError, duration};
use secrecy::SecretString;

/// The longest name of a stream.
const MAX_STREAM_NAME: usize = 64;
/// The longest that a start waits for NATS.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The servers of one NATS: `nats://HOST:PORT`, or `tls://` where TLS is a must; several are separated by commas.
#[derive(Clone)]
pub struct Servers(pub(super) Vec<ServerAddr>);

impl FromStr for Servers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected nats://HOST:PORT or tls://HOST:PORT, several separated by commas";
        let (scheme, servers) = text.split_once("://").ok_or(expected)?;
        if !["nats", "tls"].contains(&scheme) {
            return Err(expected.to_owned());
        }
        let server = |server: &str| {
            let server = server.rsplit_once("://").map_or(server, |(_, server)| server);
            if server.is_empty() {
                return Err(expected.to_owned());
            }
            if server.contains('@') {
                return Err("credentials do not belong in an address: see --nats-user and --nats-creds-file"
                    .to_owned());
            }
            ServerAddr::from_str(&format!("{scheme}://{server}")).map_err(|_| expected.to_owned())
        };
        Ok(Self(servers.split(',').map(|text| server(text.trim())).collect::<Result<_, _>>()?))
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, server) in self.0.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{}://{}:{}", server.scheme(), server.host(), server.port())?;
        }
        Ok(())
    }
}

/// How NATS is used where --store names it.
#[derive(Args, Debug, Clone)]
pub struct NatsSettings {
    /// The name of the stream that keeps everything; its subjects begin with it. Made where it is missing
    #[arg(long = "nats-stream", env = "POSTERN_NATS_STREAM", default_value = "postern", value_parser = stream_name, value_name = "NAME")]
    pub stream: String,

    /// How many servers keep each message: 1, 3 or 5. With 1, and with servers that may fail at once, an acknowledged
    /// write lasts only where the server has `sync_interval: always`. For a stream that is there, it is left as it is
    #[arg(long = "nats-replicas", env = "POSTERN_NATS_REPLICAS", default_value_t = 1, value_parser = replicas, value_name = "COUNT")]
    pub replicas: usize,

    /// How long a start waits until a server is reached and the stream has a leader; what does not pass by itself, such as
    /// wrong credentials, ends it at once. Up to 10m
    #[arg(long = "nats-wait", env = "POSTERN_NATS_WAIT", default_value = "30s", value_parser = wait, value_name = "DURATION")]
    pub wait: Duration,

    /// A credentials file (JWT and key), as `nsc` makes it
    #[arg(long = "nats-creds-file", env = "POSTERN_NATS_CREDS_FILE", value_name = "FILE")]
    pub creds_file: Option<PathBuf>,

    /// The user to sign in as, with --nats-password
    #[arg(long = "nats-user", env = "POSTERN_NATS_USER", value_name = "USER")]
    pub user: Option<String>,

    /// The user's password; better given by the variable than on a command line, which others can read
    #[arg(long = "nats-password", env = "POSTERN_NATS_PASSWORD", value_name = "PASSWORD")]
    pub password: Option<SecretString>,

    /// The token to sign in with; better given by the variable
    #[arg(long = "nats-token", env = "POSTERN_NATS_TOKEN", value_name = "TOKEN")]
    pub token: Option<SecretString>,

    /// Certificates of the authorities to trust, PEM. Absent: those of the machine
    #[arg(long = "nats-ca-file", env = "POSTERN_NATS_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl NatsSettings {
    /// With everything but the stream's name as it is by default.
    #[must_use]
    pub fn of_stream(stream: &str) -> Self {
        let stream = stream.to_owned();
        Self {
            stream,
            replicas: 1,
            wait: Duration::from_secs(30),
            creds_file: None,
            user: None,
            password: None,
            token: None,
            ca_file: None,
        }
    }

    /// Checks what no single setting can tell.
    ///
    /// # Errors
    /// The first setting found wrong, by name.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.user.is_some() != self.password.is_some() {
            return Err(SettingsError::value(
                "--nats-user",
                "expected together with --nats-password, or neither",
            ));
        }
        let ways = [self.creds_file.is_some(), self.user.is_some(), self.token.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            let problem = "expected one of --nats-creds-file, --nats-user and --nats-token";
            return Err(SettingsError::value("--nats-creds-file", problem));
        }
        for (name, file) in [("--nats-creds-file", &self.creds_file), ("--nats-ca-file", &self.ca_file)] {
            if let Some(path) = file {
                let unread = |error| SettingsError::value(name, format!("file {}: {error}", path.display()));
                std::fs::read(path).map_err(unread)?;
            }
        }
        Ok(())
    }
}

fn stream_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if text.is_empty() || text.len() > MAX_STREAM_NAME || !text.chars().all(allowed) {
        return Err(format!("expected up to {MAX_STREAM_NAME} of [a-zA-Z0-9_-]"));
    }
    Ok(text.to_owned())
}

fn wait(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|wait| match wait <= LONGEST_WAIT {
        true => Ok(wait),
        false => Err("expected up to 10m".to_owned()),
    })
}

fn replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err("expected 1, 3 or 5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_one_or_several() {
        let one: Servers = "nats://127.0.0.1:4222".parse().unwrap();
        assert_eq!(one.to_string(), "nats://127.0.0.1:4222");
        let several: Servers = "tls://a.example:4222,b.example:5222,tls://c.example".parse().unwrap();
        assert_eq!(several.to_string(), "tls://a.example:4222,tls://b.example:5222,tls://c.example:4222");
        for wrong in ["", "folder", "http://a", "nats://", "nats://a,,b", "nats://user:secret@a"] {
            assert!(wrong.parse::<Servers>().is_err(), "{wrong}");
        }
        assert!(!"nats://user:secret@a".parse::<Servers>().unwrap_err().contains("secret"));
    }

    #[test]
    fn names_and_replicas_are_checked() {
        assert!(stream_name("postern-2").is_ok() && stream_name("a.b").is_err() && stream_name("").is_err());
        assert!(replicas("3").is_ok() && replicas("2").is_err() && replicas("x").is_err());
    }
}
