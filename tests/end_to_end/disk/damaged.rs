//! Files that are not as they were written: cut off, torn, overwritten.

use std::path::Path;

use postern_gateway::store::sqlite::Sqlite;
use postern_gateway::store::{EventLog as _, Expect, Store as _, StoreError};

use super::refusal;
use crate::store::conformance::{event, events, id_of, put, sized_event, whole_log};

const DATABASE: &str = "postern.db";
const LOG: &str = "postern.db-wal";
/// What SQLite writes at once.
const PAGE: usize = 4_096;
/// A frame of the write-ahead log: a page and what tells it.
const FRAME: usize = PAGE + 24;

/// Why a folder is refused.
fn refused(folder: &Path, what: &str) -> String {
    match Sqlite::open(folder) {
        Err(StoreError::Unusable { place, problem }) => {
            assert!(place.starts_with(&*folder.to_string_lossy()), "{place} {problem}");
            problem
        }
        Err(other) => panic!("{what}: another error: {other}"),
        Ok(_) => panic!("{what}: it was opened"),
    }
}

/// A store of many events that was stopped in good order.
async fn stopped() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    for round in 0..20 {
        let large = sized_event(&format!("large {round}"), 3 * PAGE);
        sqlite.append(vec![large], vec![put(&format!("key/{round}"), "value", Expect::Any)]).await.unwrap();
        sqlite.append(events(&format!("{round}-"), 20), Vec::new()).await.unwrap();
    }
    sqlite.close().await.unwrap();
    let whole = std::fs::read(folder.path().join(DATABASE)).unwrap();
    assert!(whole.len() > 30 * PAGE && whole.len().is_multiple_of(PAGE));
    (folder, whole)
}

#[tokio::test]
async fn a_damaged_page_is_refused_with_what_to_do_wherever_it_is() {
    let (folder, whole) = stopped().await;
    let path = folder.path().join(DATABASE);
    let pages = whole.len() / PAGE;
    for page in [0, 1, 2, pages / 2, pages - 2, pages - 1] {
        let mut damaged = whole.clone();
        damaged[page * PAGE..][..PAGE].fill(0xA5);
        std::fs::write(&path, damaged).unwrap();
        let problem = refused(folder.path(), &format!("page {page}"));
        assert!(problem.contains("damaged") && problem.contains("backup"), "page {page}: {problem}");
    }
    // The program ends, and says the same.
    let said = refusal(folder.path());
    assert!(said.contains("damaged") && said.contains(&path.display().to_string()), "{said}");
    std::fs::write(&path, whole).unwrap();
    assert_eq!(Sqlite::open(folder.path()).unwrap().bounds().await.unwrap().last, 420);
}

#[tokio::test]
async fn a_database_that_was_cut_off_is_refused_even_where_nothing_of_it_is_left() {
    let (folder, whole) = stopped().await;
    let path = folder.path().join(DATABASE);
    for left in [whole.len() - PAGE, whole.len() - 1, whole.len() / 2, PAGE, 100] {
        std::fs::write(&path, &whole[..left]).unwrap();
        let problem = refused(folder.path(), &format!("{left} bytes"));
        assert!(problem.contains("damaged") && problem.contains("backup"), "{left} bytes: {problem}");
    }
    // Empty or gone it looks like a new one: only what is beside it tells.
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(&path).unwrap();
        } else {
            std::fs::write(&path, "").unwrap();
        }
        let problem = refused(folder.path(), "nothing");
        assert!(problem.contains("it is empty, and was not"), "{problem}");
        assert!(problem.contains("backup") && problem.contains("lock"), "{problem}");
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(Sqlite::open(folder.path()).unwrap().bounds().await.unwrap().last, 420);
    // What is said about beginning anew is true.
    for file in [DATABASE, "lock"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert_eq!(Sqlite::open(folder.path()).unwrap().bounds().await.unwrap().last, 0);
}

#[tokio::test]
async fn a_torn_write_loses_nothing_acknowledged_and_leaves_all_or_nothing_of_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path()).unwrap();
    for round in 0..5 {
        sqlite.append(events(&format!("{round}-"), 10), Vec::new()).await.unwrap();
    }
    let log = folder.path().join(LOG);
    let acknowledged = std::fs::metadata(&log).unwrap().len() as usize;
    // The commit that is torn: of several pages, with a value.
    let torn: Vec<_> = (0..4).map(|number| sized_event(&format!("torn {number}"), 2 * PAGE)).collect();
    sqlite.append(torn, vec![put("torn", "value", Expect::Absent)]).await.unwrap();
    // As power that fails leaves it: nobody closes the store before it is copied.
    let (database, log) =
        (std::fs::read(folder.path().join(DATABASE)).unwrap(), std::fs::read(&log).unwrap());
    assert!(log.len() >= acknowledged + 4 * FRAME, "{acknowledged} of {}", log.len());

    let mut cuts = vec![acknowledged, acknowledged + 1, log.len() - 1, log.len()];
    cuts.extend((acknowledged..log.len()).step_by(FRAME));
    cuts.extend((acknowledged..log.len()).step_by(1_013));
    let mut kept_whole = 0;
    for (cut, garbage) in cuts.iter().flat_map(|cut| [(*cut, false), (*cut, true)]) {
        let mut torn = log[..cut].to_vec();
        if garbage {
            // The file was made longer, and what was to be in it never came.
            torn.resize(log.len(), 0xA5);
        }
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(DATABASE), &database).unwrap();
        std::fs::write(copy.path().join(LOG), torn).unwrap();
        let opened = Sqlite::open(copy.path()).unwrap();
        let ids: Vec<_> = whole_log(&*opened).await.iter().map(id_of).collect();
        let expected = |round: usize| events(&format!("{round}-"), 10).into_iter().map(|event| event.id);
        assert!(ids.iter().take(50).cloned().eq((0..5).flat_map(expected)), "cut at {cut}");
        let value = opened.get("torn").await.unwrap();
        assert!(matches!((ids.len(), value.is_some()), (50, false) | (54, true)), "cut at {cut}: in part");
        kept_whole += usize::from(value.is_some());
        // And it goes on.
        let appended = opened.append(vec![event("next")], Vec::new()).await.unwrap();
        assert_eq!(appended.last as usize, ids.len() + 1);
    }
    assert_eq!(kept_whole, 2, "only what was written to its end is there");
}
