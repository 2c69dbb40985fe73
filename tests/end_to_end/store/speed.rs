//! How fast the embedded engine is here: printed, not asserted, because machines differ. Run by hand:
//! `cargo test --workspace --test end_to_end store::speed -- --ignored --nocapture`.

use std::sync::Arc;

use postern_gateway::store::EventLog as _;
use postern_gateway::store::sqlite::Sqlite;
use tokio::time::Instant;

use super::conformance::{sized_event, whole_log};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
#[allow(clippy::print_stdout, reason = "what it is for")]
async fn appends_and_reads_a_second() {
    for (in_flight, each, events) in [(1, 2_000, 1), (16, 500, 1), (64, 500, 1), (64, 50, 16), (4, 100, 256)]
    {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(folder.path()).unwrap();
        let begun = Instant::now();
        append(&sqlite, in_flight, each, events).await;
        let appending = begun.elapsed().as_secs_f64();
        sqlite.close().await.unwrap();
        let sqlite = Sqlite::open(folder.path()).unwrap();
        let begun = Instant::now();
        let count = whole_log(&*sqlite).await.len();
        assert_eq!(count, in_flight * each * events);
        println!(
            "{in_flight:3} in flight, {events:3} events each: {:8.0} appends/s, {:8.0} events/s; read from disk: {:8.0} events/s",
            (in_flight * each) as f64 / appending,
            count as f64 / appending,
            count as f64 / begun.elapsed().as_secs_f64(),
        );
    }
}

async fn append(sqlite: &Arc<Sqlite>, in_flight: usize, each: usize, events: usize) {
    let tasks = (0..in_flight).map(|task| {
        let sqlite = sqlite.clone();
        tokio::spawn(async move {
            for number in 0..each {
                let new = (0..events).map(|event| sized_event(&format!("{task}-{number}-{event}"), 1_000));
                sqlite.append(new.collect(), Vec::new()).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
