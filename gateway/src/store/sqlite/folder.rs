//! The folder that the embedded engine keeps its files in: made when missing, and used by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// The folder is for its owner alone: what it holds is nobody else's.
const FOLDER_MODE: u32 = 0o700;
/// So are its files, for the case of a folder that others may enter. SQLite gives its other files the same mode.
const FILE_MODE: u32 = 0o600;
/// The file that is locked while a process uses the folder. It is empty until a database was made there.
const LOCK_FILE: &str = "lock";
/// What it holds from then on.
const MADE: &[u8] = b"a store was made here\n";
/// The database.
pub(in crate::store) const DATABASE_FILE: &str = "postern.db";

/// The folder, locked for this process for as long as the value lives.
#[derive(Debug)]
pub(super) struct Folder {
    /// The database's file, which is there.
    pub(super) database: PathBuf,
    /// Whether a database was made here before: an empty one is then not a new one, but one that lost all.
    pub(super) made: bool,
    lock: File,
}

/// An error about a place that cannot be used: what is wrong and what was expected.
pub(super) fn unusable(place: &Path, problem: impl Into<String>) -> StoreError {
    StoreError::Unusable { place: place.display().to_string(), problem: problem.into() }
}

/// The folder that a folder lies in.
fn above(folder: &Path) -> Option<&Path> {
    folder.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

impl Folder {
    /// Makes the folder where it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if path.exists() && !path.is_dir() {
            return Err(unusable(path, "it is a file: expected a folder"));
        }
        let missing: Vec<_> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
            .map_err(|error| unusable(path, format!("the folder cannot be made: {error}")))?;
        let file = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
            options.open(path.join(name)).map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => unusable(
                    path,
                    format!("{name} cannot be written there: {error}: expected a folder of this user's"),
                ),
                _ => unusable(path, format!("{name} cannot be opened: {error}")),
            })
        };
        let lock = file(LOCK_FILE)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                unusable(path, "another process uses it: expected to be the only one")
            }
            TryLockError::Error(error) => unusable(path, format!("it cannot be locked: {error}")),
        })?;
        let made = lock.metadata().is_ok_and(|lock| lock.len() > 0);
        file(DATABASE_FILE)?;
        // Where power fails, the new files must not be gone from a folder that holds acknowledged events, nor a new
        // folder from the one above it.
        let above = missing.into_iter().filter_map(above);
        for folder in std::iter::once(path).chain(above) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| {
                unusable(path, format!("{} cannot be synced to disk: {error}", folder.display()))
            })?;
        }
        Ok(Self { database: path.join(DATABASE_FILE), made, lock })
    }

    /// Writes down that a database is here.
    pub(super) fn mark(&mut self) -> std::io::Result<()> {
        if !self.made {
            self.lock.write_all(MADE)?;
            self.lock.sync_all()?;
            self.made = true;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that was started this very moment holds copies of all files until it runs its own program. To close ours
        // would leave the lock with these; to give it up takes it from all of them. Where that fails it goes with the last.
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_free_when_it_is_let_go_of_whoever_has_a_copy_of_the_lock_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path()).unwrap();
        assert!(Folder::open(folder.path()).is_err());
        let copy = first.lock.try_clone().unwrap();
        drop(first);
        Folder::open(folder.path()).unwrap();
        drop(copy);
    }
}
