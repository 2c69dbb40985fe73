//! What holds in simulated time, whatever fails: see `tests/simulation`. These seeds are the same each time;
//! `postern-simulation --seeds 5000` runs as many as wanted.

use std::time::Duration;

use tokio::process::Command;

/// How long a run of some seeds may take: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(300);

async fn simulated(arguments: &[&str]) -> String {
    let running =
        Command::new(env!("CARGO_BIN_EXE_postern-simulation")).args(arguments).kill_on_drop(true).output();
    let ran = tokio::time::timeout(PATIENCE, running).await.expect("an end in time").unwrap();
    let told = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{told}");
    told
}

/// What a run was, in a number.
fn number(told: &str, seed: u64) -> &str {
    let (_, told) = told.split_once(&format!("seed {seed}: ")).expect("the seed");
    told.split([',', '\n']).next().unwrap()
}

#[tokio::test]
async fn under_delays_losses_crashes_and_clocks_that_step_all_that_is_promised_holds() {
    simulated(&["--seeds", "48"]).await;
}

#[tokio::test]
async fn a_seed_is_the_same_run_alone_and_among_others() {
    let alone = simulated(&["--seed", "7"]).await;
    let among = simulated(&["--first", "5", "--seeds", "4", "--each"]).await;
    assert_eq!(number(&alone, 7), number(&among, 7));
    assert_ne!(number(&among, 7), number(&among, 8));
}
