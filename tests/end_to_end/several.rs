//! Several gateways on one store: each trigger is one gateway's at a time, whoever dies is replaced, and whoever is asked
//! answers.

mod calls;
pub(crate) mod cluster;
mod in_order;
mod on_a_cluster;
mod outages;
mod pushed;
pub(crate) mod stage;
pub(crate) mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{PauseTriggerRequest, ResumeTriggerRequest};
use tokio::time::Instant;

use crate::edge::Fake;
use crate::store::conformance::Engine;
use crate::world::triggers::name;
use crate::world::{events, subject, subscribe, until};
use stage::{Gateway, Stage, divided};

/// Tries each with gateways that share an embedded engine, and with gateways that each open the same stream of NATS.
macro_rules! on_each_engine {
    ($($test:ident),* $(,)?) => {
        mod embedded {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test::<crate::store::EmbeddedEngine>(false).await;
            }
        )*}
        mod nats {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test::<crate::store::NatsEngine>(true).await;
            }
        )*}
    };
}
use on_each_engine;

on_each_engine!(
    each_trigger_is_looked_after_by_exactly_one_gateway,
    a_nudge_and_a_question_may_go_to_any_gateway,
    an_owner_that_dies_is_replaced_in_less_than_ten_seconds,
    a_paused_owner_that_wakes_cannot_write,
    a_paused_owner_that_wakes_cannot_write_what_a_trigger_catches_up_on,
    a_rolling_restart_under_load_loses_nothing,
);

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Names of triggers, each on a folder of its own.
fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("watch-{number:02}")).collect()
}

async fn make_all(gateways: &[&Gateway], ids: &[String], interval: Duration) {
    for (number, id) in ids.iter().enumerate() {
        gateways[number % gateways.len()].make(id, interval).await;
    }
}

async fn each_trigger_is_looked_after_by_exactly_one_gateway<E: Engine>(apart: bool) {
    let Some((stage, gateways)) = Stage::<E>::set(Fake::of("outlook"), 3, apart).await else { return };
    let all: Vec<&Gateway> = gateways.iter().collect();
    let ids = ids(24);
    make_all(&all, &ids, SECOND).await;
    let owners = divided(&all, &ids).await;
    let busy: BTreeSet<_> = owners.values().collect();
    assert_eq!(busy.len(), 3, "{owners:?}");
    let watching = &stage.fake.state.watching;
    let begun = Instant::now();
    let before: Vec<_> = ids.iter().map(|id| watching.looks(id)).collect();
    tokio::time::sleep(5 * SECOND).await;
    for (id, before) in ids.iter().zip(&before) {
        watching.begun(id, before + 2).await;
    }
    let looks: Vec<_> = ids.iter().map(|id| watching.looks(id)).collect();
    // Looks come a little sooner than each second; two gateways would make twice as many.
    let most = (begun.elapsed().as_secs_f64() / 0.95).ceil() as usize + 2;
    for ((id, before), looks) in ids.iter().zip(before).zip(looks) {
        assert!(looks - before <= most, "{id}: {} looks", looks - before);
    }
    assert_eq!(divided(&all, &ids).await, owners, "nothing moves without cause");
}

async fn a_nudge_and_a_question_may_go_to_any_gateway<E: Engine>(apart: bool) {
    let Some((stage, gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    let all: Vec<&Gateway> = gateways.iter().collect();
    let ids = ids(8);
    make_all(&all, &ids, HOUR).await;
    let owners = divided(&all, &ids).await;
    let watching = &stage.fake.state.watching;
    for id in &ids {
        watching.begun(id, 1).await;
    }
    let mut streams = Vec::new();
    for gateway in &all {
        streams.push(subscribe(&gateway.channel, None).await);
    }
    for (id, owner) in &owners {
        let other = all[1 - owner];
        watching.put(id, "nudged");
        other.nudge(id).await;
        for stream in &mut streams {
            assert_eq!(events(stream, 1).await[0].trigger, name(id));
        }
        until("the other knows of it", || async {
            let status = other.status(id).await;
            (status.last_poll_time.is_some() && status.last_event_time.is_some()).then_some(())
        })
        .await;
        assert_eq!(other.status(id).await.next_poll_time, None);
    }
    // A failure shows at both, and its end too.
    let (id, owner) = owners.iter().next().unwrap();
    watching.refuse("");
    all[1 - owner].nudge(id).await;
    for gateway in &all {
        until("the failure shows", || async { gateway.status(id).await.last_failure }).await;
        assert!(gateway.status(id).await.consecutive_failures > 0);
    }
    watching.allow("");
    all[1 - owner].nudge(id).await;
    for gateway in &all {
        until("its end shows", || async { gateway.status(id).await.last_failure.is_none().then_some(()) })
            .await;
    }
}

async fn an_owner_that_dies_is_replaced_in_less_than_ten_seconds<E: Engine>(apart: bool) {
    let Some((stage, mut gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    let ids = ids(12);
    make_all(&[&gateways[0], &gateways[1]], &ids, SECOND).await;
    let owners = divided(&[&gateways[0], &gateways[1]], &ids).await;
    let orphans: Vec<_> = owners.iter().filter(|(_, owner)| **owner == 0).map(|(id, _)| id).collect();
    assert!(!orphans.is_empty() && orphans.len() < ids.len(), "{owners:?}");
    let mut stream = subscribe(&gateways[1].channel, None).await;
    let died = Instant::now();
    gateways[0].kill();
    for id in &ids {
        stage.fake.state.watching.put(id, "after the death");
    }
    let told = events(&mut stream, ids.len()).await;
    let (told, elapsed) = (told.len(), died.elapsed());
    assert_eq!(told, ids.len());
    assert!(elapsed < 10 * SECOND, "{elapsed:?}");
    assert!(divided(&[&gateways[1]], &ids).await.values().all(|owner| *owner == 0));
}

/// Has an owner, whose write is held up, be cut off until another looks after its trigger: then the write is refused for
/// the lease.
async fn is_refused_late<E: Engine>(stage: &Stage<E>, paused: &Gateway, other: &Gateway, id: &str) {
    let watching = &stage.fake.state.watching;
    paused.way.cut(true);
    // Nobody else writes there either: all that keeps the late one out is that the watch is no longer its own.
    watching.refuse("");
    until("another looks after it", || async {
        let status = other.status(id).await;
        (status.next_poll_time.is_some() && status.consecutive_failures > 0).then_some(())
    })
    .await;
    paused.way.hold(false);
    let refused = until("what it wrote arrives", || async { paused.way.conflicts().pop() }).await;
    assert!(refused.starts_with("leases/"), "{refused}");
    paused.way.cut(false);
    watching.allow("");
}

async fn a_paused_owner_that_wakes_cannot_write<E: Engine>(apart: bool) {
    let Some((stage, gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    let all: Vec<&Gateway> = gateways.iter().collect();
    let ids = ids(12);
    make_all(&all, &ids, SECOND).await;
    let owners = divided(&all, &ids).await;
    for (id, owner) in &owners {
        until("it was looked after", || async { all[*owner].status(id).await.last_poll_time }).await;
    }
    let (id, owner) = owners.iter().next().unwrap();
    let (paused, other) = (all[*owner], all[1 - owner]);
    let mut stream = subscribe(&other.channel, None).await;
    let watching = &stage.fake.state.watching;
    // It has seen what happened; what it would write of it stays on the way, and so does its word that it lives.
    paused.way.hold(true);
    watching.put(id, "first");
    until("it has seen it", || async { (paused.way.waiting() > 0).then_some(()) }).await;
    is_refused_late(&stage, paused, other, id).await;
    for thing in ["second", "third"] {
        watching.put(id, thing);
    }
    let told: Vec<_> = events(&mut stream, 3).await.iter().map(subject).collect();
    assert_eq!(told, ["first", "second", "third"]);
    // It comes back among the others, and what falls to it is its own again.
    assert_eq!(divided(&all, &ids).await, owners);
    watching.put(id, "fourth");
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "fourth");
}

async fn a_paused_owner_that_wakes_cannot_write_what_a_trigger_catches_up_on<E: Engine>(apart: bool) {
    let Some((stage, gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    let all: Vec<&Gateway> = gateways.iter().collect();
    let ids = ["watch-00".to_owned(), "behind".to_owned()];
    let (folder, behind) = (&ids[0], &ids[1]);
    all[0].make(folder, SECOND).await;
    all[0].make_on(folder, behind, SECOND).await;
    let owner = divided(&all, &ids).await[folder];
    let (paused, other) = (all[owner], all[1 - owner]);
    until("it was looked after", || async { paused.status(behind).await.last_poll_time }).await;
    let mut stream = subscribe(&other.channel, None).await;
    let watching = &stage.fake.state.watching;
    other
        .triggers()
        .pause_trigger(PauseTriggerRequest { name: name(behind), ..Default::default() })
        .await
        .unwrap();
    watching.put(folder, "first");
    assert_eq!(events(&mut stream, 1).await[0].trigger, name(folder));
    // There is nothing new: what stays on the way is what the one that was paused has missed.
    paused.way.hold(true);
    other
        .triggers()
        .resume_trigger(ResumeTriggerRequest { name: name(behind), ..Default::default() })
        .await
        .unwrap();
    until("it has caught up", || async { (paused.way.waiting() > 0).then_some(()) }).await;
    is_refused_late(&stage, paused, other, behind).await;
    let told = events(&mut stream, 1).await.remove(0);
    assert_eq!((told.trigger.as_str(), subject(&told).as_str()), (name(behind).as_str(), "first"));
}

async fn a_rolling_restart_under_load_loses_nothing<E: Engine>(apart: bool) {
    const FOLDERS: usize = 6;
    let Some((stage, mut gateways)) = Stage::<E>::set(Fake::of("outlook"), 3, apart).await else { return };
    let ids = ids(FOLDERS);
    make_all(&gateways.iter().collect::<Vec<_>>(), &ids, SECOND).await;
    divided(&gateways.iter().collect::<Vec<_>>(), &ids).await;
    let (done, mut finished) = tokio::sync::watch::channel(false);
    let putting = async {
        let mut count = 0;
        while !*finished.borrow_and_update() {
            for id in &ids {
                stage.fake.state.watching.put(id, &format!("{count:04}"));
            }
            count += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        count
    };
    let rolling = async {
        for place in 0..3 {
            let next = stage.start().await;
            std::mem::replace(&mut gateways[place], next).stop().await;
            // Each trigger has been looked after by whoever is there now.
            let all: Vec<&Gateway> = gateways.iter().collect();
            divided(&all, &ids).await;
        }
        done.send_replace(true);
    };
    let begun = Instant::now();
    let (count, ()) = tokio::join!(putting, rolling);
    // In good order nobody waits for anybody's death.
    assert!(begun.elapsed() < 30 * SECOND, "{:?}", begun.elapsed());
    let earliest = Some(Position::Earliest(()));
    let mut stream = subscribe(&gateways[1].channel, earliest).await;
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events(&mut stream, count * FOLDERS).await {
        told.entry(event.trigger.clone()).or_default().push(subject(&event));
    }
    let expected: Vec<_> = (0..count).map(|number| format!("{number:04}")).collect();
    for id in &ids {
        assert_eq!(told[&name(id)], expected, "{id}");
    }
}
