//! Settings: read once, before anything is bound, from flags, variables `POSTERN_…` and an optional TOML file, the
//! earlier of these winning over the later. Which settings there are is each service's to say, as a clap parser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Command, Parser};
use secrecy::SecretString;

/// Why settings could not be read. The message names the setting and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A flag or variable was wrong, or `--help` or `--version` was asked for.
    #[error("{0}")]
    Flags(#[from] clap::Error),
    /// The settings file cannot be used.
    #[error("settings file {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// Settings that are fine alone do not go together, or name something that is not there.
    #[error("setting {name}: {problem}")]
    Value {
        /// The setting's flag.
        name: &'static str,
        /// What was wrong and what was expected.
        problem: String,
    },
}

impl SettingsError {
    /// A setting whose value cannot be used: the flag's name, what was wrong and what was expected.
    pub fn value(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { name, problem: problem.into() }
    }
}

/// Reads settings from the process's arguments and variables, and from the file that `--config` or `POSTERN_CONFIG`
/// names. The file's keys are the long flags' names; tables join by a dash (`[tls] cert-file` is `tls-cert-file`).
///
/// # Errors
/// The first setting found wrong, by name.
pub fn load<S: Parser>(
    args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
) -> Result<S, SettingsError> {
    let args: Vec<std::ffi::OsString> = args.into_iter().map(Into::into).collect();
    // A flag may stand before or behind a subcommand: `gateway healthcheck --listen …` is what people type.
    let global = |arg: clap::Arg| {
        let is_flag = arg.get_long().is_some();
        arg.hide_env_values(true).global(is_flag)
    };
    let mut command = S::command().mut_args(global);
    if let Some(path) = config_path(&command, &args)? {
        command = with_file_defaults(command, &path)?;
    }
    let mut matches = command.clone().try_get_matches_from(args)?;
    let settings = S::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(settings)
}

/// The file that the arguments or the variable name. Other mistakes are left to the full parse.
fn config_path(command: &Command, args: &[std::ffi::OsString]) -> Result<Option<PathBuf>, SettingsError> {
    let lenient = command.clone().ignore_errors(true).try_get_matches_from(args)?;
    Ok(lenient.try_get_one::<PathBuf>("config").ok().flatten().cloned())
}

/// The command with the file's values as defaults: weaker than flags and variables, stronger than built-in ones.
fn with_file_defaults(mut command: Command, path: &Path) -> Result<Command, SettingsError> {
    let problem = |problem: String| SettingsError::File { path: path.display().to_string(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| problem(error.to_string()))?;
    let mut values = Vec::new();
    flatten("", table, &mut values).map_err(problem)?;
    for (key, value) in values {
        let id = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(&key) && key != "config")
            .map(|arg| arg.get_id().clone())
            .ok_or_else(|| problem(format!("unknown setting {key}: --help lists them all")))?;
        command = command.mut_arg(id, |arg| arg.default_values(value).required(false));
    }
    Ok(command)
}

/// Flattens nested tables into pairs of flag name and values.
fn flatten(prefix: &str, table: toml::Table, into: &mut Vec<(String, Vec<String>)>) -> Result<(), String> {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}-{key}") }.replace('_', "-");
        match value {
            toml::Value::Table(table) => flatten(&key, table, into)?,
            toml::Value::Array(values) => {
                let values = values.into_iter().map(|value| scalar(&key, value)).collect::<Result<_, _>>()?;
                into.push((key, values));
            }
            value => into.push((key.clone(), vec![scalar(&key, value)?])),
        }
    }
    Ok(())
}

/// A value as it would stand on the command line.
fn scalar(key: &str, value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        other => {
            Err(format!("setting {key}: expected text, a number or true/false, found {}", other.type_str()))
        }
    }
}

/// Reads a duration such as `250ms`, `30s`, `15m`, `24h` or `7d`.
///
/// # Errors
/// A text that is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration such as 250ms, 30s, 15m, 24h or 7d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3_600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(expected)
}

/// Reads a secret from a file, without the line end that editors leave.
///
/// # Errors
/// The setting, with the reason why its file cannot be read, or that it is empty.
pub fn secret_file(name: &'static str, path: &Path) -> Result<SecretString, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| SettingsError::value(name, format!("file {}: {error}", path.display())))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(SettingsError::value(name, format!("file {} is empty", path.display())));
    }
    Ok(secret.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[derive(Parser, Debug)]
    struct Example {
        /// A settings file.
        #[arg(long, env = "POSTERN_EXAMPLE_CONFIG")]
        config: Option<PathBuf>,
        /// Where to listen.
        #[arg(long, env = "POSTERN_EXAMPLE_LISTEN", default_value = "127.0.0.1:1")]
        listen: std::net::SocketAddr,
        /// A certificate.
        #[arg(long)]
        tls_cert_file: Option<PathBuf>,
        /// Some addresses.
        #[arg(long, value_delimiter = ',')]
        connector: Vec<String>,
        /// A duration.
        #[arg(long, value_parser = duration, default_value = "30s")]
        grace: Duration,
    }

    fn file(text: &str) -> (tempdir::Dir, String) {
        let dir = tempdir::Dir::new();
        let path = dir.0.join("settings.toml");
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        let path = path.display().to_string();
        (dir, path)
    }

    mod tempdir {
        use std::path::PathBuf;
        use std::sync::atomic::{AtomicU32, Ordering};

        static NEXT: AtomicU32 = AtomicU32::new(0);

        /// A folder that goes with its owner.
        pub(super) struct Dir(pub(super) PathBuf);

        impl Dir {
            pub(super) fn new() -> Self {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("postern-settings-{}-{number}", std::process::id());
                let path = std::env::temp_dir().join(name);
                std::fs::create_dir_all(&path).unwrap();
                Self(path)
            }
        }

        impl Drop for Dir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let (_dir, path) = file(
            "listen = \"127.0.0.1:2\"\ngrace = \"1m\"\nconnector = [\"http://a\", \"http://b\"]\n[tls]\ncert_file = \"c.pem\"\n",
        );
        let read: Example = load(["example", "--config", &path, "--grace", "5s"]).unwrap();
        assert_eq!(read.listen.port(), 2);
        assert_eq!(read.grace, Duration::from_secs(5));
        assert_eq!(read.connector, ["http://a", "http://b"]);
        assert_eq!(read.tls_cert_file, Some("c.pem".into()));
    }

    #[test]
    fn a_flag_may_stand_behind_a_subcommand() {
        #[derive(clap::Subcommand, Debug, PartialEq)]
        enum Command {
            Check,
        }
        #[derive(Parser, Debug)]
        struct WithCommand {
            #[command(subcommand)]
            command: Option<Command>,
            /// A number.
            #[arg(long, default_value_t = 1)]
            number: u8,
        }
        for args in [["x", "check", "--number", "7"], ["x", "--number", "7", "check"]] {
            let read: WithCommand = load(args).unwrap();
            assert_eq!((read.command, read.number), (Some(Command::Check), 7));
        }
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_expected() {
        let (_dir, path) = file("listne = \"x\"\n");
        let error = load::<Example>(["example", "--config", &path]).unwrap_err().to_string();
        assert!(error.contains("unknown setting listne"), "{error}");
        let error = load::<Example>(["example", "--grace", "soon"]).unwrap_err().to_string();
        assert!(error.contains("--grace") && error.contains("expected a duration"), "{error}");
        let error = load::<Example>(["example", "--config", "/nonexistent.toml"]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent.toml"), "{error}");
    }
}
