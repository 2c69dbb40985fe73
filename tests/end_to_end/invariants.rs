//! The rules that the whole project keeps, as tests: who may know whom, what the contract's messages have in common,
//! what never shows, how files look. They read the sources and the descriptors, and start nothing.

mod contract;
mod files;
mod rooms;
mod secrets;

use std::path::{Path, PathBuf};
use std::process::Command;

use prost_reflect::DescriptorPool;

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// The contract's descriptors.
fn contract() -> DescriptorPool {
    DescriptorPool::decode(postern_proto::FILE_DESCRIPTOR_SET).expect("the contract's descriptors decode")
}

/// The project's files, from its root on: those that git tracks and those that it would.
fn project_files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the project's files");
    assert!(listed.status.success(), "git: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files = listed.split_terminator('\0').map(PathBuf::from);
    // A file that was removed but not yet from the index is not there to be read.
    let files: Vec<_> = files.filter(|path| root().join(path).is_file()).collect();
    assert!(files.iter().any(|path| path.ends_with("Cargo.lock")), "git lists the project's files");
    files
}

/// The text of one of the project's files; `None` where it is no text.
fn text(path: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(path)).expect("a listed file can be read")).ok()
}

/// Fails with every breach of a rule at once.
fn none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
