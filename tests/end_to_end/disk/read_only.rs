//! A disk that takes no writes.

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, StoreError};

use super::{Disk, refusal};
use crate::store::conformance::{events, whole_log};

#[tokio::test]
async fn a_read_only_disk_is_refused_with_its_place_and_written_again_it_has_everything() {
    let Some(disk) = Disk::new(8) else { return };
    let sqlite = Sqlite::open(&disk.data()).unwrap();
    sqlite.append(events("e", 100), Vec::new()).await.unwrap();
    sqlite.close().await.unwrap();
    drop(sqlite);
    disk.remount("ro");
    match Sqlite::open(&disk.data()) {
        Err(StoreError::Unusable { place, problem }) => {
            assert_eq!(place, disk.data().display().to_string());
            assert!(problem.contains("Read-only file system"), "{problem}");
            assert!(problem.contains("expected"), "{problem}");
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was opened"),
    }
    let said = refusal(&disk.data());
    assert!(said.contains(&disk.data().display().to_string()) && said.contains("Read-only"), "{said}");
    disk.remount("rw");
    let sqlite = Sqlite::open(&disk.data()).unwrap();
    assert_eq!(whole_log(&*sqlite).await.len(), 100);
    sqlite.append(events("f", 1), Vec::new()).await.unwrap();
}
