//! Disks that fail: full, read-only, damaged. The gateway says clearly what is wrong, and once that is mended it goes on
//! without loss.

mod damaged;
mod full;
mod read_only;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outside;

/// A small disk of its own, kept in memory, with the data folder of a gateway on it.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// A disk of so many MiB. `None`: it was said that disks are not to be tried.
    fn new(mebibytes: usize) -> Option<Self> {
        if !outside::disks() {
            return None;
        }
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(disk.data()).unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "postern-test"]).arg(disk.data()));
        Some(disk)
    }

    /// What a gateway is started on: its data folder is on the disk, its other files are not.
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Leaves no byte free.
    fn fill(&self) {
        use std::io::Write as _;
        let mut filler =
            std::fs::OpenOptions::new().create(true).append(true).open(self.data().join("filler")).unwrap();
        let block = vec![0; 64 * 1024];
        // The last write takes what is left of a page.
        while filler.write(&block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.data().join("filler")).unwrap();
    }

    fn remount(&self, mode: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(self.data()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a gateway of a test that failed may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.data()).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}: set POSTERN_DISKS=skip where disks cannot be mounted");
}

/// Starts the gateway's program on a folder where it cannot run, and gives what it said.
fn refusal(data: &Path) -> String {
    let output = Command::new(outside::program("gateway"))
        .args(["--listen", "127.0.0.1:0", "--log", "error", "--data-dir"])
        .arg(data)
        .output()
        .unwrap();
    assert!(!output.status.success(), "it ran");
    String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
}
