//! A process killed while it appends: whatever it acknowledged is there afterwards, once.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use postern_gateway::store::EventLog as _;
use postern_gateway::store::sqlite::Sqlite;

use super::conformance::{event, id_of, whole_log};

/// Kills, each in the midst of commits.
const ROUNDS: usize = 10;
/// Where the victim finds its folder, and what tells its events from those of other rounds.
const FOLDER: &str = "POSTERN_TEST_VICTIM_FOLDER";
const ROUND: &str = "POSTERN_TEST_VICTIM_ROUND";
/// What an acknowledgement's line begins with, among what the test harness prints.
const ACKNOWLEDGED: &str = "acknowledged ";

#[test]
fn what_was_acknowledged_survives_a_kill_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let enough = 50 + fastrand::usize(..400);
        acknowledged.extend(run_victim(&folder.path().to_path_buf(), round, enough));

        let all = runtime.block_on(async {
            let sqlite = Sqlite::open(folder.path()).unwrap();
            let all = whole_log(&*sqlite).await;
            sqlite.close().await.unwrap();
            all
        });
        let mut times: HashMap<String, usize> = HashMap::new();
        for event in &all {
            *times.entry(id_of(event)).or_default() += 1;
        }
        let lost: Vec<_> = acknowledged.iter().filter(|id| !times.contains_key(*id)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {} were lost", acknowledged.len());
        assert!(times.values().all(|count| *count == 1), "round {round}: an event is there twice");
        assert!(all.iter().zip(1..).all(|(event, place)| event.sequence == place), "round {round}: a hole");
    }
    assert!(acknowledged.len() >= ROUNDS * 50);
}

/// Starts the victim, kills it once it has acknowledged enough, and gives the ids that it acknowledged.
fn run_victim(folder: &PathBuf, round: usize, enough: usize) -> Vec<String> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::crash::appends_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut killed = false;
    let mut lines = BufReader::new(victim.stdout.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line that the kill cut in two acknowledges nothing.
        if let Some(id) = line.strip_suffix('\n').and_then(|line| line.strip_prefix(ACKNOWLEDGED)) {
            acknowledged.push(id.to_owned());
        }
        if acknowledged.len() >= enough && !killed {
            victim.kill().unwrap();
            killed = true;
        }
        line.clear();
    }
    victim.wait().unwrap();
    assert!(killed, "the victim ended by itself after {} acknowledgements", acknowledged.len());
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the victim: the test above starts it and kills it"]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "how it is told where, and tells what it has done"
)]
async fn appends_until_it_is_killed() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let round = std::env::var(ROUND).unwrap();
    let sqlite = Sqlite::open(&folder).unwrap();
    let tasks = (0..16).map(|task| {
        let (sqlite, round) = (sqlite.clone(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let new = event(&format!("{round}-{task}-{number}"));
                let id = new.id.clone();
                sqlite.append(vec![new], Vec::new()).await.unwrap();
                println!("{ACKNOWLEDGED}{id}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
