use super::*;
use crate::connectors::Connectors;
use crate::seal::KeyRing;
use crate::store::Entry;
use crate::store::sqlite::Sqlite;

const NAME: &str = "connections/office/triggers/new-mail";
const HOUR: Duration = Duration::from_secs(3_600);

/// A clock that nobody runs, over a store without connections: each look fails.
fn clock() -> (Clock, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let connectors = Arc::new(Connectors::new(Vec::new(), None).unwrap());
    let keys = KeyRing::read_or_make(&folder.path().join("keys")).unwrap();
    let connections = Arc::new(Connections::new(store.clone(), store.clone(), connectors, keys));
    let clock = Clock {
        poller: Arc::new(Poller { connections, store: store.clone(), log: store }),
        fares: Arc::default(),
        due: DelayQueue::new(),
        watched: HashMap::new(),
        looks: JoinSet::new(),
        all: Arc::new(Semaphore::new(MAX_LOOKS)),
        by_connection: HashMap::new(),
    };
    (clock, folder)
}

/// The record of a trigger that is looked after each hour.
fn record(revision: u64, state: TriggerState) -> Entry {
    let interval = Some(HOUR.try_into().unwrap());
    let trigger = Trigger { name: NAME.into(), state: state.into(), interval, ..Default::default() };
    Entry { key: stored::trigger_key(NAME), value: stored::encode(&trigger), revision }
}

/// A clock whose one trigger is being looked after.
fn looking() -> (Clock, tempfile::TempDir) {
    let (mut clock, folder) = clock();
    clock.take(&record(1, TriggerState::Active), Duration::ZERO);
    look(&mut clock);
    (clock, folder)
}

fn look(clock: &mut Clock) {
    let Turn::Waiting(key) = &clock.watched[NAME].turn else { panic!("it is being looked after") };
    clock.due.remove(key);
    clock.look(NAME);
}

/// How the next look that ends went.
async fn ended(clock: &mut Clock) -> (Id, Ended) {
    clock.looks.join_next_with_id().await.unwrap().unwrap()
}

/// How long until the trigger is due.
fn wait(clock: &Clock) -> Duration {
    let Turn::Waiting(key) = &clock.watched[NAME].turn else { panic!("it is being looked after") };
    clock.due.deadline(key).saturating_duration_since(Instant::now())
}

fn looked(more: bool, retry_after: Option<Duration>) -> Result<Looked, Error> {
    Ok(Looked { told: false, more, retry_after })
}

#[test]
fn waits_after_failures_double_up_to_a_bound() {
    let second = Duration::from_secs(1);
    for (failures, most) in [(1, 1), (2, 2), (5, 16), (40, 300)] {
        let wait = back_off(second, failures);
        let most = Duration::from_secs(most);
        assert!(wait <= most && wait >= most.mul_f64(0.9), "{failures}: {wait:?}");
    }
    assert!(back_off(Duration::from_secs(3_600), 9) > Duration::from_secs(3_200));
}

#[tokio::test]
async fn a_nudge_during_a_look_that_fails_is_not_lost() {
    let (mut clock, _folder) = looking();
    clock.hasten(NAME);
    let (look, (trigger, failed)) = ended(&mut clock).await;
    assert!(failed.is_err());
    clock.looked(look, &trigger, failed);
    assert!(wait(&clock) < Duration::from_secs(1), "{:?}", wait(&clock));
}

#[tokio::test]
async fn a_change_ends_the_look_in_flight_and_is_looked_after_at_once() {
    let (mut clock, _folder) = looking();
    clock.take(&record(2, TriggerState::Active), Duration::ZERO);
    assert!(clock.looks.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert!(wait(&clock) < Duration::from_secs(1), "{:?}", wait(&clock));
}

#[tokio::test]
async fn a_pause_and_a_deletion_end_the_look_in_flight() {
    let (mut clock, _folder) = looking();
    clock.take(&record(2, TriggerState::Paused), Duration::ZERO);
    assert!(clock.looks.join_next().await.unwrap().unwrap_err().is_cancelled());
    let (mut clock, _folder) = looking();
    clock.drop_key(&stored::trigger_key(NAME));
    assert!(clock.looks.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert!(clock.watched.is_empty() && clock.due.is_empty());
}

#[tokio::test]
async fn the_end_of_a_look_does_not_count_for_the_one_after_it() {
    let (mut clock, _folder) = looking();
    let (first, (trigger, failed)) = ended(&mut clock).await;
    // Made anew between the end of the look and the clock's hearing of it.
    clock.drop_key(&stored::trigger_key(NAME));
    clock.take(&record(2, TriggerState::Active), Duration::ZERO);
    look(&mut clock);
    clock.looked(first, &trigger, failed);
    assert!(matches!(&clock.watched[NAME].turn, Turn::Looking { look, .. } if look.id() != first));
    assert!(clock.fares.lock().unwrap()[NAME].last_failure.is_none());
}

#[tokio::test]
async fn a_provider_that_asks_for_quiet_gets_it_within_reason() {
    for (retry_after, more, least, most) in [
        (Some(2 * HOUR), true, 2 * HOUR, 2 * HOUR),
        (Some(Duration::MAX), false, MAX_QUIET, MAX_QUIET),
        (None, true, Duration::ZERO, Duration::ZERO),
        (None, false, HOUR.mul_f64(0.95), HOUR),
    ] {
        let (mut clock, _folder) = looking();
        let (look, (trigger, _)) = ended(&mut clock).await;
        clock.looked(look, &trigger, looked(more, retry_after));
        let (wait, slack) = (wait(&clock), Duration::from_secs(5));
        assert!(wait + slack >= least && wait <= most + slack, "{wait:?} for {retry_after:?}");
    }
}
