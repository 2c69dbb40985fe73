//! What the embedded engine promises of its own: clear refusals of folders that it cannot use.

use std::path::Path;
use std::time::Duration;

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, Expect, Retention, Store as _, StoreError, Write};
use postern_proto::event::v1::Event;
use prost::Message as _;

use super::conformance::{events, put};

/// Why a folder is refused.
fn refusal(folder: &Path) -> String {
    match Sqlite::open(folder) {
        Err(StoreError::Unusable { place, problem }) => {
            assert!(place.starts_with(&*folder.to_string_lossy()), "{place} {problem}");
            problem
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// Changes a store's database from outside.
fn with_database(folder: &Path, sql: &str) {
    let database = rusqlite::Connection::open(folder.join("postern.db")).unwrap();
    database.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_missing_folder_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deeper/state");
    let sqlite = Sqlite::open(&folder).unwrap();
    sqlite.write(put("a", "value", Expect::Any)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_folder_is_used_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Sqlite::open(folder.path()).unwrap();
    assert!(refusal(folder.path()).contains("another process uses it"));
}

#[test]
fn a_place_that_cannot_hold_a_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    assert!(refusal(&file).contains("it is a file"));
    assert!(refusal(&file.join("below")).contains("cannot be made"));
    // Nobody may make folders there, not even root.
    assert!(refusal(Path::new("/proc/self/state")).contains("cannot be made"));
}

#[test]
fn a_folder_without_the_right_to_write_is_refused() {
    // Where the tests run as root, the mode of a folder stops nothing: then a file system that takes no files does.
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let stopped = std::fs::write(folder.path().join("probe"), "").is_err();
    let place = if stopped { folder.path() } else { Path::new("/proc/self") };
    let problem = refusal(place);
    assert!(problem.contains("cannot be"), "{problem}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    Sqlite::open(folder.path()).unwrap().close().await.unwrap();
    with_database(folder.path(), "PRAGMA user_version = 7");
    let problem = refusal(folder.path());
    assert!(problem.contains("a newer version made it"), "{problem}");
    with_database(folder.path(), "PRAGMA user_version = 6");
    Sqlite::open(folder.path()).unwrap();
}

/// What form 5 had: indexes of which each key was a row. These hold what is wrong, for they are made anew.
const FORM_5: &str = "
    DROP TABLE ids; DROP TABLE ids_runs; DROP TABLE record_keys; DROP TABLE record_keys_runs;
    CREATE TABLE ids (high INTEGER PRIMARY KEY, low INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
    CREATE TABLE record_keys (high INTEGER PRIMARY KEY, low INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
    CREATE TABLE ids_progress (one INTEGER PRIMARY KEY, up_to INTEGER NOT NULL, swept INTEGER NOT NULL) STRICT;
    CREATE TABLE record_keys_progress (
        one INTEGER PRIMARY KEY, up_to INTEGER NOT NULL, swept INTEGER NOT NULL
    ) STRICT;
    INSERT INTO ids_progress (one, up_to, swept) VALUES (1, 99, 0);
    INSERT INTO record_keys_progress (one, up_to, swept) VALUES (1, 9999, 0);
    PRAGMA user_version = 5;
";
/// What forms 1 to 4 had: records among the other values.
const WITHOUT_RECORDS: &str = "
    DROP TABLE records; DROP TABLE record_keys; DROP TABLE record_keys_progress;
    WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 300)
    INSERT INTO entries (key, revision, value)
    SELECT 'ledger/' || number, 1000 - number, CAST('value ' || number AS BLOB) FROM numbers;
    UPDATE counters SET revision = 1000;
";
/// What forms 1 and 3 had besides: each event in a row of its own, and ids in an index of the table or in another table.
const FORM_1: &str = "
    DROP TABLE ids; DROP TABLE ids_progress; DROP TABLE events;
    ALTER TABLE counters DROP COLUMN first;
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, source TEXT NOT NULL, type TEXT NOT NULL,
        recorded INTEGER NOT NULL, encoded BLOB NOT NULL
    ) STRICT;
    CREATE INDEX events_recorded ON events (recorded);
    PRAGMA user_version = 1;
";
const FORM_3: &str = "
    DROP TABLE ids; DROP TABLE events;
    ALTER TABLE counters DROP COLUMN first;
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL,
        recorded INTEGER NOT NULL, encoded BLOB NOT NULL
    ) STRICT;
    CREATE TABLE ids (id BLOB PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO ids (id, sequence) VALUES (x'00112233445566778899aabbccddeeff', 1);
    PRAGMA user_version = 3;
";
const FORM_4: &str = "
    ALTER TABLE ids RENAME COLUMN place TO sequence;
    PRAGMA user_version = 4;
";

/// Finds the records of form 4 in a store, by key and in the order of their revisions.
async fn assert_records(sqlite: &Sqlite) {
    let records = sqlite.records(None, 999).await.unwrap();
    assert_eq!(records.len(), 300);
    for (record, number) in records.iter().zip((1..=300).rev()) {
        let key = format!("ledger/{number}");
        let value = format!("value {number}");
        assert_eq!((&record.key, &*record.value, record.revision), (&key, value.as_bytes(), 1_000 - number));
        assert_eq!(sqlite.get(&key).await.unwrap().as_ref(), Some(record));
        assert!(sqlite.write(put(&key, "again", Expect::Absent)).await.is_err());
    }
    assert_eq!(sqlite.list("", "", 9).await.unwrap(), []);
}

#[tokio::test]
async fn records_and_ids_of_form_4_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    sqlite.append(events("e", 100), Vec::new()).await.unwrap();
    let before = sqlite.read(0, 999, 999_000).await.unwrap();
    sqlite.close().await.unwrap();
    for form in [FORM_5, WITHOUT_RECORDS, FORM_4] {
        with_database(folder.path(), form);
    }
    for _ in 0..2 {
        let sqlite = Sqlite::open(folder.path()).unwrap();
        assert_eq!(sqlite.read(0, 999, 999_000).await.unwrap(), before);
        let again = sqlite.append(events("e", 100).split_off(9), Vec::new()).await.unwrap();
        assert_eq!((again.stored, again.last), (0, 100));
        assert_records(&sqlite).await;
        sqlite.close().await.unwrap();
    }
}

#[tokio::test]
async fn records_and_ids_of_form_5_are_kept_in_indexes_of_many_batches() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    let (all, record) = (300_000, |number: usize| format!("ledger/{number}"));
    let new = events("e", all);
    for (part, numbers) in new.chunks(20_000).zip((0..all).collect::<Vec<_>>().chunks(20_000)) {
        sqlite.append(part.to_vec(), Vec::new()).await.unwrap();
        for numbers in numbers[..2_000].chunks(500) {
            let writes =
                numbers.iter().map(|number| put(&record(*number), "first", Expect::Absent)).collect();
            sqlite.append(Vec::new(), writes).await.unwrap();
        }
    }
    let last = sqlite.write(put(&record(0), "last", Expect::Any)).await.unwrap();
    let gone = Write { key: record(1), value: None, expect: Expect::Any };
    sqlite.write(gone).await.unwrap();
    sqlite.close().await.unwrap();
    with_database(folder.path(), FORM_5);
    for _ in 0..2 {
        let sqlite = Sqlite::open(folder.path()).unwrap();
        for part in new.chunks(100_000) {
            let again = sqlite.append(part[..50].to_vec(), Vec::new()).await.unwrap();
            assert_eq!((again.stored, again.last), (0, all as u64));
        }
        let found = sqlite.get(&record(0)).await.unwrap().unwrap();
        assert_eq!((&*found.value, found.revision), (&b"last"[..], last));
        assert_eq!(sqlite.get(&record(1)).await.unwrap(), None);
        assert_eq!(sqlite.get(&record(280_001)).await.unwrap().unwrap().value, "first");
        assert!(sqlite.write(put(&record(2), "again", Expect::Absent)).await.is_err());
        sqlite.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_of_an_earlier_form_is_brought_to_the_present_one_and_keeps_all() {
    for form in [FORM_1, FORM_3] {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(folder.path()).unwrap();
        for part in events("e", 500).chunks(100) {
            sqlite.append(part.to_vec(), Vec::new()).await.unwrap();
        }
        let retention = Retention { age: Duration::from_secs(3_600), bytes: 40_000 };
        let gone = sqlite.trim(retention).await.unwrap();
        assert!(0 < gone && gone < 400, "{gone}");
        let (before, bounds) = (sqlite.read(0, 999, 999_000).await.unwrap(), sqlite.bounds().await.unwrap());
        sqlite.close().await.unwrap();
        for form in [FORM_5, WITHOUT_RECORDS, form] {
            with_database(folder.path(), form);
        }
        let mut database = rusqlite::Connection::open(folder.path().join("postern.db")).unwrap();
        let writing = database.transaction().unwrap();
        for stored in &before {
            let event = Event::decode(stored.encoded.clone()).unwrap();
            let recorded = event.record_time.unwrap();
            let recorded = recorded.seconds * 1_000 + i64::from(recorded.nanos) / 1_000_000;
            let sql = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let sequence = i64::try_from(stored.sequence).unwrap();
            let (id, source, encoded) = (event.id, &*stored.source, &*stored.encoded);
            let row = rusqlite::params![sequence, id, source, &*stored.event_type, recorded, encoded];
            writing.execute(sql, row).unwrap();
        }
        writing.commit().unwrap();
        drop(database);
        for _ in 0..2 {
            let sqlite = Sqlite::open(folder.path()).unwrap();
            assert_eq!(sqlite.bounds().await.unwrap(), bounds);
            assert_eq!(sqlite.read(0, 999, 999_000).await.unwrap(), before);
            // What it kept it still knows.
            let kept = events("e", 500).split_off(usize::try_from(gone).unwrap());
            let again = sqlite.append(kept, Vec::new()).await.unwrap();
            assert_eq!((again.stored, again.last), (0, 500));
            assert_records(&sqlite).await;
            sqlite.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    sqlite.append(events("e", 500), Vec::new()).await.unwrap();
    sqlite.close().await.unwrap();
    let path = folder.path().join("postern.db");
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > 100_000);

    let mut mangled = whole.clone();
    mangled[40_000..80_000].fill(0xA5);
    std::fs::write(&path, mangled).unwrap();
    let problem = refusal(folder.path());
    assert!(problem.contains("damaged"), "{problem}");
    std::fs::write(&path, "this is no database, and long enough to be seen as none. ".repeat(100)).unwrap();
    let problem = refusal(folder.path());
    assert!(problem.contains("damaged"), "{problem}");
    std::fs::write(&path, whole).unwrap();
    assert_eq!(Sqlite::open(folder.path()).unwrap().bounds().await.unwrap().last, 500);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    with_database(folder.path(), "CREATE TABLE songs (title TEXT)");
    assert!(refusal(folder.path()).contains("another program's"));
}

#[tokio::test]
async fn a_closed_store_refuses_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    sqlite.append(events("e", 5), Vec::new()).await.unwrap();
    sqlite.close().await.unwrap();
    sqlite.close().await.unwrap();
    let closed = |error: StoreError| assert!(error.to_string().contains("closed"), "{error}");
    closed(sqlite.append(events("f", 1), Vec::new()).await.unwrap_err());
    closed(sqlite.get("a").await.unwrap_err());
    // All is in the one file: a copy of it is a backup.
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert_eq!(files, ["lock", "postern.db"]);
}
