//! Memory at rest of each service in a process of its own, and of the gateway with both connectors inside.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_sandbox::child::Gateway;
use tokio::process::{Child, Command};

use crate::figures::Table;
use crate::peers::program;

/// How long a process is left alone before it is looked at.
const REST: Duration = Duration::from_secs(3);
/// How long a connector may take to serve.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures, and gives the section.
pub(crate) async fn section() -> Result<String, BoxError> {
    let mut table = Table::new("Memory at rest", &["process", "resident", "of it its own (not file pages)"]);
    let folder = tempfile::tempdir()?;
    let gateway = Gateway::start(&program("gateway")?, &[], "127.0.0.1:0", folder.path(), "error").await?;
    let (smtp, smtp_address) = connector("smtp-service").await?;
    let (outlook, outlook_address) = connector("outlook-service").await?;
    let elsewhere = tempfile::tempdir()?;
    let connectors = format!("http://{smtp_address},http://{outlook_address}");
    let lead = ["--connectors", &connectors];
    let apart = Gateway::start(&program("gateway")?, &lead, "127.0.0.1:0", elsewhere.path(), "error").await?;
    tokio::time::sleep(REST).await;
    for (name, id) in [
        ("gateway, all-in-one", gateway.id()),
        ("gateway, apart", apart.id()),
        ("smtp-service", smtp.id()),
        ("outlook-service", outlook.id()),
    ] {
        let (resident, own) = resident(id.ok_or("a process ended")?)?;
        table.row(&[name.to_owned(), mebibytes(resident), mebibytes(own)]);
    }
    table.note(
        "`VmRSS` and `RssAnon` of `/proc/PID/status`, three seconds after the start, before the first call.",
    );
    gateway.stop().await?;
    apart.stop().await?;
    Ok(table.markdown())
}

/// A connector in a process of its own, on a free port, once it serves.
pub(crate) async fn connector(name: &str) -> Result<(Child, String), BoxError> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let path = program(name)?;
    let child = Command::new(&path)
        .args(["--listen", &address, "--log", "error"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    tokio::time::timeout(PATIENCE, healthy(&path, &address))
        .await
        .map_err(|_| format!("{name} does not serve"))??;
    Ok((child, address))
}

async fn healthy(program: &Path, address: &str) -> Result<(), BoxError> {
    loop {
        let mut check = Command::new(program);
        let check = check.args(["healthcheck", "--listen", address]).stderr(Stdio::null());
        if check.status().await?.success() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a process holds in memory, and what of it is its own, in KiB.
///
/// # Errors
/// It is gone.
pub(crate) fn resident(id: u32) -> Result<(u64, u64), BoxError> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let kibibytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
        let figure = line.split_whitespace().nth(1).ok_or("no figure")?;
        Ok::<u64, BoxError>(figure.parse()?)
    };
    Ok((kibibytes("VmRSS:")?, kibibytes("RssAnon:")?))
}

#[allow(clippy::cast_precision_loss, reason = "mebibytes")]
fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1} MiB", kibibytes as f64 / 1_024.0)
}
