//! The one place where the tests learn of the world they run in: which tests are wanted, where the judge of Graph's
//! traffic, the real mail servers, NATS and the built programs are.

#![allow(
    clippy::disallowed_methods,
    reason = "variables are how tests/run tells the tests what it set up; read here alone"
)]

use std::path::PathBuf;

/// Says that only those tests are wanted that need nothing but Rust.
const SMALL: &str = "POSTERN_TESTS";
/// The script that judges recorded Graph traffic.
const JUDGE_SCRIPT: &str = "POSTERN_GRAPH_JUDGE";
/// Microsoft's description of Graph that the script judges by.
const JUDGE_DESCRIPTION: &str = "POSTERN_GRAPH_DESCRIPTION";
/// The folder that traffic with the small Graph is kept in, to be judged and counted as a whole.
const TRAFFIC: &str = "POSTERN_GRAPH_TRAFFIC";
/// Says that traffic is not to be judged.
const JUDGE: &str = "POSTERN_JUDGE";
/// A Python with the packages of `tests/python/requirements.txt`.
const PYTHON: &str = "POSTERN_PYTHON";
/// An Exim that is not installed, since a machine has one mail server at most.
const EXIM: &str = "POSTERN_EXIM";
/// The entry of an installed `oidc-provider` (npm), for Node.
const OIDC_PROVIDER: &str = "POSTERN_OIDC_PROVIDER";
/// Says that sign-ins are not to be tried against real OAuth servers.
const OAUTH_SERVERS: &str = "POSTERN_OAUTH_SERVERS";
/// Says that the connector is not to be tried against real mail servers.
const PEERS: &str = "POSTERN_PEERS";

/// A nats-server with JetStream, 2.12 or newer.
const NATS_SERVER: &str = "POSTERN_NATS_SERVER";
/// Says that the engine on NATS is not to be tried.
const NATS: &str = "POSTERN_NATS";
/// Says that disks are not to be mounted, which only root may, to be filled and made read-only.
const DISKS: &str = "POSTERN_DISKS";

/// Judges recorded Graph traffic: `python script description traffic.jsonl` exits non-zero on a violation.
pub(crate) struct Judge {
    /// The interpreter.
    pub(crate) python: PathBuf,
    /// The script.
    pub(crate) script: PathBuf,
    /// The description.
    pub(crate) description: PathBuf,
}

/// What the tests against real mail servers need beside an installed Postfix.
pub(crate) struct Peers {
    /// The interpreter.
    pub(crate) python: PathBuf,
    /// Exim's program.
    pub(crate) exim: PathBuf,
}

/// Whether only those tests are wanted that need nothing but Rust (`POSTERN_TESTS=small`).
pub(crate) fn small() -> bool {
    match std::env::var(SMALL) {
        Ok(wanted) if wanted == "small" => true,
        Ok(wanted) => panic!("{SMALL} is {wanted:?}: expected small, or nothing for all tests"),
        Err(_) => false,
    }
}

/// The judge of Graph's traffic, or `None` where it was said that traffic is not to be judged.
///
/// It panics where nothing was said: a test must not pass unseen for want of its judge.
pub(crate) fn judge() -> Option<Judge> {
    if small() || std::env::var(JUDGE).is_ok_and(|judge| judge == "skip") {
        return None;
    }
    let path = |name| file(name, JUDGE);
    Some(Judge { python: path(PYTHON), script: path(JUDGE_SCRIPT), description: path(JUDGE_DESCRIPTION) })
}

/// The folder that traffic with the small Graph is kept in, or `None` where it is not wanted.
pub(crate) fn traffic() -> Option<PathBuf> {
    std::env::var_os(TRAFFIC).map(PathBuf::from)
}

/// What the tests against real mail servers need, or `None` where it was said that they are not wanted.
///
/// It panics where nothing was said, as [`judge`] does.
pub(crate) fn peers() -> Option<Peers> {
    if small() || std::env::var(PEERS).is_ok_and(|peers| peers == "skip") {
        return None;
    }
    Some(Peers { python: file(PYTHON, PEERS), exim: file(EXIM, PEERS) })
}

/// The nats-server to run, or `None` where it was said that the engine on it is not to be tried.
///
/// It panics where nothing was said, as [`judge`] does.
pub(crate) fn nats_server() -> Option<PathBuf> {
    if small() || std::env::var(NATS).is_ok_and(|nats| nats == "skip") {
        return None;
    }
    Some(file(NATS_SERVER, NATS))
}

/// Whether small disks are to be mounted. Where that cannot be done, and this was not said, mounting fails the test.
pub(crate) fn disks() -> bool {
    !small() && !std::env::var(DISKS).is_ok_and(|disks| disks == "skip")
}

/// What the tests against real OAuth servers need.
pub(crate) struct OAuthServers {
    /// The interpreter.
    pub(crate) python: PathBuf,
    /// The entry of `oidc-provider`.
    pub(crate) oidc_provider: PathBuf,
}

/// What the tests against real OAuth servers need, or `None` where it was said that they are not wanted.
///
/// It panics where nothing was said, as [`judge`] does.
pub(crate) fn oauth_servers() -> Option<OAuthServers> {
    if small() || std::env::var(OAUTH_SERVERS).is_ok_and(|servers| servers == "skip") {
        return None;
    }
    let (python, oidc_provider) = (file(PYTHON, OAUTH_SERVERS), file(OIDC_PROVIDER, OAUTH_SERVERS));
    Some(OAuthServers { python, oidc_provider })
}

/// The file that a variable names; `skip` is the variable that would do without it.
fn file(name: &str, skip: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(path) if PathBuf::from(&path).is_file() => PathBuf::from(path),
        Some(path) => panic!("{name} names no file: {}", PathBuf::from(path).display()),
        None => panic!("{name} is not set: use tests/run, or set {skip}=skip to leave this out"),
    }
}

/// A program of the workspace, as built beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has an executable");
    let built = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST lies three deep").join(name);
    assert!(built.is_file(), "{} is not there: run cargo build --workspace --bins first", built.display());
    built
}
