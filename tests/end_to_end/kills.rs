//! The gateway killed at random moments while callers send and queue mail, a trigger makes events of it and subscribers
//! read and acknowledge them, again and again: nothing acknowledged is lost, and nothing is done twice.

mod callers;
mod life;
mod load;
mod proof;
mod readers;

use std::time::Duration;

use tokio::time::Instant;

use self::life::{Life, Way};
pub(crate) use self::load::Load;

/// How often the process of a gateway is killed, and how often all that a gateway does is dropped.
const KILLS_OF_A_PROCESS: usize = 110;
const KILLS_WITHIN: usize = 390;
/// How often, of ten times, the next one is killed while it starts. These kills are counted too.
const KILLED_EARLY: usize = 3;
/// The longest start that early kills are spread over.
const LONGEST_START: Duration = Duration::from_millis(300);
/// The longest that a life is drawn out for something to happen in it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a gateway lives once it is ready, at the least and at the most.
fn life_time(way: Way) -> (Duration, Duration) {
    let milliseconds = Duration::from_millis;
    match way {
        Way::Process => (milliseconds(20), milliseconds(200)),
        Way::Within => (milliseconds(5), milliseconds(60)),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and does not hold yet: see CONTRIBUTING.md"]
async fn kills_of_the_process_lose_nothing_acknowledged_and_do_nothing_twice() {
    kill_again_and_again(Way::Process, KILLS_OF_A_PROCESS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: see CONTRIBUTING.md"]
async fn a_gateway_whose_tasks_are_dropped_anywhere_loses_nothing_acknowledged_and_does_nothing_twice() {
    kill_again_and_again(Way::Within, KILLS_WITHIN).await;
}

async fn kill_again_and_again(way: Way, kills: usize) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut life, address) = Life::begin(way, folder.path()).ready().await;
    let mut load = Load::begin(address).await;

    let (begun, mut killed, mut early) = (Instant::now(), 0, 0);
    let (mut longest_start, (least, most)) = (Duration::from_millis(50), life_time(way));
    while killed < kills {
        if random.bool() {
            // A busy machine does nothing at all in such a short life.
            let _ = tokio::time::timeout(LONGEST_WAIT, load.goes_on()).await;
        }
        tokio::time::sleep(least + (most - least).mul_f64(random.f64())).await;
        // What was shown before the kill was durable before it.
        let shown = load.shown();
        life.kill().await;
        load.look(&data, shown);
        killed += 1;
        while random.usize(..10) < KILLED_EARLY {
            let starting = Life::begin(way, folder.path());
            tokio::time::sleep(longest_start.mul_f64(random.f64())).await;
            starting.kill().await;
            load.look(&data, Vec::new());
            (killed, early) = (killed + 1, early + 1);
        }
        let starting = Instant::now();
        let (next, address) = Life::begin(way, folder.path()).ready().await;
        (life, longest_start) = (next, longest_start.max(starting.elapsed()).min(LONGEST_START));
        load.relay.lead_to(address);
    }
    println!("{killed} kills in {:.1?}, {early} of them at a start", begun.elapsed());
    // Fewer of anything than this, and the kills would have hit nothing.
    load.finish(&data, kills / 20).await;
    life.kill().await;
}
