//! The gateway killed at random moments while callers send and queue mail, a trigger makes events of it and subscribers
//! read and acknowledge them, again and again: nothing acknowledged is lost, and nothing is done twice.

mod callers;
mod doors;
mod life;
mod load;
mod proof;
mod readers;
mod struck;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::doors::{Doors, Listening};
use self::life::{Life, Way};
pub(crate) use self::load::Load;

/// How often, of ten times, the next gateway is killed while it starts. These kills are counted too.
const KILLED_EARLY: usize = 2;
/// The longest start that early kills are spread over.
const LONGEST_START: Duration = Duration::from_millis(300);
/// The longest that a life is drawn out for something to happen in it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How far behind what has just happened a kill comes that is aimed at it: what follows from it is being written then, such
/// as the events of the look that a push has asked for.
const AIM: Duration = Duration::from_millis(25);

/// How long a gateway lives at the most that is killed at any time.
fn life_time(way: Way) -> Duration {
    match way {
        Way::Process => Duration::from_millis(250),
        Way::Within => Duration::from_millis(100),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_the_process_lose_nothing_acknowledged_and_do_nothing_twice() {
    kill_again_and_again(Way::Process, 25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_tasks_are_dropped_anywhere_loses_nothing_acknowledged_and_does_nothing_twice() {
    kill_again_and_again(Way::Within, 75).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: see CONTRIBUTING.md"]
async fn five_hundred_kills_lose_nothing_acknowledged_and_do_nothing_twice() {
    kill_again_and_again(Way::Process, 110).await;
    kill_again_and_again(Way::Within, 390).await;
}

async fn kill_again_and_again(way: Way, kills: usize) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let (data, doors) = (folder.path().join("data"), Doors::new().await);
    let flags = doors.flags();
    let begin = || Life::begin(way, folder.path(), &flags);
    let (mut life, at) = begin().ready().await;
    let mut load = Load::begin(doors, at).await;

    let (begun, mut killed, mut early) = (Instant::now(), 0, 0);
    let (mut starts, mut longest_start) = (Duration::ZERO, Duration::from_millis(50));
    // Where kills happened to hit too little there are more of them, up to a bound.
    while killed < kills || !load.struck().is_enough(kills) && killed < 3 * kills {
        // A busy machine does nothing at all in a short life.
        let _ = tokio::time::timeout(LONGEST_WAIT, load.happens(&mut random)).await;
        let longest = if random.bool() { AIM } else { life_time(way) };
        tokio::time::sleep(longest.mul_f64(random.f64())).await;
        // What was shown before the kill was durable before it.
        let shown = load.shown();
        life.kill().await;
        load.look(&data, shown);
        killed += 1;
        while random.usize(..10) < KILLED_EARLY {
            let starting = begin();
            tokio::time::sleep(longest_start.mul_f64(random.f64())).await;
            starting.kill().await;
            load.look(&data, Vec::new());
            (killed, early) = (killed + 1, early + 1);
        }
        let starting = Instant::now();
        let (next, at) = begin().ready().await;
        let took = starting.elapsed();
        (life, starts, longest_start) = (next, starts + took, longest_start.max(took).min(LONGEST_START));
        load.doors.lead_to(at);
    }
    let took = begun.elapsed();
    println!(
        "{killed} kills in {took:.1?}, {early} of them at a start; other starts took {starts:.1?} in all"
    );
    let (struck, ending) = (load.struck(), Instant::now());
    load.finish(&data).await.assert_bounded(killed);
    println!("all came to its end within {:.1?}", ending.elapsed());
    life.kill().await;
    assert!(struck.is_enough(kills), "{killed} kills hit too little to mean anything: {struck:?}");
}
