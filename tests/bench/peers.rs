//! The programs that are measured, each a process of its own: the gateway as it was built beside this program, and nginx
//! from the system. They know nothing of the load.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_sandbox::child::Gateway;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a program may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it is.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// Ticks a second in which Linux tells of processor time.
const TICKS_PER_SECOND: f64 = 100.0;

/// A program that is measured. It is killed when dropped, and with it whatever it started: it leads a process group.
pub(crate) struct Peer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    process: Process,
}

/// The process of a program that is measured.
enum Process {
    Gateway(Gateway),
    Other(Child),
}

impl Process {
    fn id(&self) -> Option<u32> {
        match self {
            Self::Gateway(gateway) => gateway.id(),
            Self::Other(child) => child.id(),
        }
    }
}

impl Peer {
    /// Starts a program, and waits until it listens.
    ///
    /// # Errors
    /// It is not there, or was not ready in time.
    pub(crate) async fn start(mut command: Command, address: SocketAddr) -> Result<Self, BoxError> {
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let peer = Self { address, process: Process::Other(child) };
        let deadline = Instant::now() + READY_PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            if Instant::now() > deadline {
                return Err(format!("{name} was not ready in time").into());
            }
            sleep(READY_INTERVAL).await;
        }
        Ok(peer)
    }

    /// The process's id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The processor time that it and its children have used so far, in seconds.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn processor_seconds(&self) -> Result<f64, BoxError> {
        let id = self.process.id().ok_or("a measured program has ended")?;
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let ids = std::iter::once(id.to_string()).chain(children.split_whitespace().map(str::to_owned));
        ids.map(|id| ticks(&std::fs::read_to_string(format!("/proc/{id}/stat"))?, 2)).sum()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's workers outlive their master where it is killed alone; the gateway ends with its own handle.
        if let Process::Other(child) = &self.process
            && let Some(id) = child.id()
        {
            let group = format!("-{id}");
            // Nothing is left to do about a group that cannot be killed.
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        }
    }
}

/// The processor time that a process and those of its children that have ended have used so far, in seconds.
///
/// # Errors
/// It is gone.
pub(crate) fn processor_seconds_of(id: u32) -> Result<f64, BoxError> {
    ticks(&std::fs::read_to_string(format!("/proc/{id}/stat"))?, 4)
}

/// The processor time in a line of /proc/PID/stat, in seconds: user and system time are the 12th and 13th value after
/// the name, which alone may hold blanks and ends with a parenthesis; those of children that have ended are the next
/// two (proc(5)).
fn ticks(stat: &str, values: usize) -> Result<f64, BoxError> {
    let after_name = stat.rsplit_once(')').ok_or("an unexpected /proc/PID/stat")?.1;
    let values = after_name.split_whitespace().skip(11).take(values);
    let ticks: f64 = values.map(str::parse::<f64>).sum::<Result<_, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// The version that a program tells, or what to install where it is not there.
///
/// # Errors
/// It is not there: what to install.
pub(crate) async fn version(program: &str, flag: &str, package: &str) -> Result<String, BoxError> {
    let told = Command::new(program).arg(flag).stdin(Stdio::null()).output().await;
    let told = told.map_err(|_| format!("{program} is not there: install {package} (Debian's name)"))?;
    // nginx tells it on standard error.
    let told = [told.stdout, told.stderr].concat();
    Ok(String::from_utf8_lossy(&told).lines().next().unwrap_or_default().trim().to_owned())
}

/// A program of the workspace, as built beside this one.
///
/// # Errors
/// It is not built.
pub(crate) fn program(name: &str) -> Result<PathBuf, BoxError> {
    let program = std::env::current_exe()?.with_file_name(name);
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("{} is not there: cargo build --release --workspace --bins", program.display()).into())
}

/// Starts the gateway that was built beside this program, in front of one connector.
///
/// # Errors
/// It is not built, or was not ready in time.
pub(crate) async fn gateway(folder: &Path, connector: SocketAddr) -> Result<Peer, BoxError> {
    // Told to nobody, but counted as in use.
    let lead = ["--connectors", &format!("http://{connector}"), "--metrics-listen", "127.0.0.1:0"];
    let gateway = Gateway::start(&program("gateway")?, &lead, "127.0.0.1:0", folder, "warn").await?;
    Ok(Peer { address: gateway.address().parse()?, process: Process::Gateway(gateway) })
}

/// Starts nginx with grpc_pass in front of one connector, with as many workers as there are cores.
///
/// # Errors
/// It is not there, or was not ready in time.
pub(crate) async fn nginx(folder: &Path, connector: SocketAddr) -> Result<Peer, BoxError> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let folder = folder.join("nginx");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("nginx.conf"), nginx_conf(address, connector))?;
    let mut command = Command::new("nginx");
    command.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(&folder);
    Peer::start(command, address).await
}

/// nginx as its users set it up for gRPC: connections to the connector kept, nothing logged, nothing written to disk.
fn nginx_conf(listen: SocketAddr, connector: SocketAddr) -> String {
    format!(
        "daemon off; worker_processes auto; pid nginx.pid; error_log error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_buffer_size 64k;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream connector {{ server {connector}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen {listen} http2; keepalive_requests 1000000; http2_max_concurrent_streams 1024;
    location / {{ grpc_pass grpc://connector; grpc_read_timeout 1h; grpc_send_timeout 1h; client_max_body_size 0; }}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_a_name_with_blanks() {
        let stat = "7 (nginx: (worker) 1) S 1 7 7 0 -1 4194624 1 0 0 0 250 50 60 40 20 0 1 0 1 1 1";
        assert!((ticks(stat, 2).unwrap() - 3.0).abs() < f64::EPSILON);
        assert!((ticks(stat, 4).unwrap() - 4.0).abs() < f64::EPSILON);
    }
}
