//! Gateways that share a store, in their own time: what takes seconds takes them here too.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;

use super::*;
use crate::store::sqlite::Sqlite;
use crate::store::{Change, Commit, Entry, EventLog as _, Expect, IsOver, Write};

/// A gateway's way to a store that it shares, which can be cut.
struct Shared {
    store: Arc<Sqlite>,
    cut: watch::Sender<bool>,
    /// How long after a write the answer comes.
    late: watch::Sender<Duration>,
}

impl Shared {
    async fn open(&self) -> &Sqlite {
        let _ = self.cut.subscribe().wait_for(|cut| !cut).await;
        &self.store
    }
}

#[tonic::async_trait]
impl Store for Shared {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.open().await.get(key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let written = self.open().await.write(write).await;
        let late = *self.late.borrow();
        tokio::time::sleep(late).await;
        written
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.open().await.list(prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.open().await.records(after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        self.open().await.forget(is_over).await
    }

    fn watch(&self) -> Receiver<Change> {
        self.store.watch()
    }
}

/// A store and the gateways on it.
struct World {
    store: Arc<Sqlite>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Sqlite::open(folder.path()).unwrap(), _folder: folder }
    }

    async fn join(&self) -> (Arc<Leases>, Arc<Shared>) {
        let (cut, late) = (watch::Sender::new(false), watch::Sender::default());
        let shared = Arc::new(Shared { store: self.store.clone(), cut, late });
        (Leases::start(shared.clone(), "127.0.0.1:1".to_owned()).await.unwrap(), shared)
    }

    /// Whether a write that is guarded so is made.
    async fn takes(&self, guard: Guard) -> bool {
        let write = Write { key: "written".to_owned(), value: Some("x".into()), expect: Expect::Any };
        let commit = Commit { writes: vec![write], guards: vec![guard], ..Commit::default() };
        match self.store.commit(commit).await {
            Ok(_) => true,
            Err(StoreError::Conflict { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// How many partitions a gateway owns.
fn count(leases: &Leases) -> u32 {
    leases.changes().borrow().0.count_ones()
}

/// Waits until each of the gateways owns what falls to it, and nothing else.
async fn divided(all: &[&Leases]) {
    let ids: Vec<String> = all.iter().map(|leases| leases.id().to_owned()).collect();
    let owns_its_own = |leases: &Leases| {
        let owned = *leases.changes().borrow();
        let is_its_own = |partition| plan::chosen(&ids, partition) == Some(leases.id());
        (0..PARTITIONS).all(|partition| owned.has(partition) == is_its_own(partition))
    };
    reached(|| all.iter().all(|leases| owns_its_own(leases))).await;
}

/// Waits until something is so.
async fn reached(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
}

/// A name whose partition a gateway owns.
fn name_of(leases: &Leases) -> String {
    (0..).map(|number| format!("name-{number}")).find(|name| leases.leads(name)).unwrap()
}

#[tokio::test]
async fn a_gateway_alone_owns_all_at_once_and_so_does_the_one_after_a_crash() {
    let world = World::new();
    let first = Leases::start(world.store.clone(), String::new()).await.unwrap();
    assert_eq!(count(&first), 64);
    let guard = first.guard("anything").unwrap();
    assert!(world.takes(guard).await);
    let id = first.id().to_owned();
    drop(first);
    let second = Leases::start(world.store.clone(), String::new()).await.unwrap();
    assert_eq!(count(&second), 64);
    assert!(!second.is_live(&id).await.unwrap() && second.is_live(second.id()).await.unwrap());
    // An idle gateway writes nothing.
    assert!(world.store.list("gateways/", "", 9).await.unwrap().is_empty());
    second.end().await;
    assert!(!second.leads("anything"));
}

#[tokio::test]
async fn gateways_divide_what_there_is_and_each_is_fenced_from_what_it_gave_up() {
    let world = World::new();
    let (first, _) = world.join().await;
    divided(&[&first]).await;
    let before: Vec<_> = (0..64).map(|number| format!("n{number}")).collect();
    let guards: Vec<_> = before.iter().map(|name| (name, first.guard(name).unwrap())).collect();
    let (second, _) = world.join().await;
    let (third, _) = world.join().await;
    divided(&[&first, &second, &third]).await;
    for leases in [&first, &second, &third] {
        assert!((8..40).contains(&count(leases)), "{}", count(leases));
    }
    for (name, guard) in guards {
        assert_eq!(world.takes(guard).await, first.leads(name), "{name}");
        let owners = [&first, &second, &third].into_iter().filter_map(|leases| leases.guard(name));
        let owners: Vec<_> = owners.collect();
        assert_eq!(owners.len(), 1);
        assert!(world.takes(owners[0].clone()).await);
    }
}

#[tokio::test]
async fn what_a_dead_gateway_owned_is_owned_by_others_in_less_than_ten_seconds() {
    let world = World::new();
    let ((first, _), (second, _)) = (world.join().await, world.join().await);
    divided(&[&first, &second]).await;
    let (kept, id) = (count(&second), first.id().to_owned());
    // Right after a heartbeat, which is as late as its death can be noticed.
    let mut changes = world.store.watch();
    while changes.recv().await.unwrap().key != member_key(&id) {}
    let died = Instant::now();
    drop(first);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count(&second), kept);
    assert!(second.is_live(&id).await.unwrap());
    divided(&[&second]).await;
    assert!(died.elapsed() < Duration::from_secs(10), "{:?}", died.elapsed());
    assert!(!second.is_live(&id).await.unwrap());
}

#[tokio::test]
async fn an_owner_that_is_cut_off_counts_its_leases_as_lost_before_others_take_them_and_comes_back() {
    let world = World::new();
    let ((first, way), (second, _)) = (world.join().await, world.join().await);
    divided(&[&first, &second]).await;
    let name = name_of(&first);
    let guard = first.guard(&name).unwrap();
    let hold = first.hold(&name).unwrap();
    way.cut.send_replace(true);
    while first.leads(&name) {
        assert!(!second.leads(&name));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nobody has it yet: what was begun may still be written.
    assert!(!second.leads(&name) && world.takes(hold.guard()).await);
    let mut owned = first.changes();
    tokio::time::timeout(DEATH, owned.wait_for(|owned| owned.is_empty())).await.unwrap().unwrap();
    divided(&[&second]).await;
    // It wakes: what it had begun is refused.
    assert!(!world.takes(guard).await && !world.takes(hold.guard()).await);
    way.cut.send_replace(false);
    // What falls to it is its own again, and what it began in its life before is not.
    tokio::time::timeout(DEATH, owned.wait_for(|owned| owned.owns(&name))).await.unwrap().unwrap();
    divided(&[&first, &second]).await;
    assert!(world.takes(first.guard(&name).unwrap()).await && !world.takes(hold.guard()).await);
}

#[test]
fn what_is_held_counts_for_nothing_once_the_word_is_over_on_which_it_hangs() {
    let now = Instant::now();
    let held = Some(Held { revision: 7, leaving: None });
    let until = |until| {
        let tenure = Tenure { held: [held; PARTITIONS], works: [0; PARTITIONS], until, since: now, life: 0 };
        tenure.revision(0)
    };
    assert_eq!([until(None), until(Some(now + TENURE))], [Some(7); 2]);
    assert_eq!(until(Some(now)), None);
}

#[tokio::test]
async fn a_word_holds_from_before_it_was_given_however_late_the_store_answers() {
    let world = World::new();
    let (first, way) = world.join().await;
    divided(&[&first]).await;
    way.late.send_replace(HEARTBEAT / 4);
    let mut changes = world.store.watch();
    for _ in 0..2 {
        let before = first.room.tenure().until;
        while changes.recv().await.unwrap().key != member_key(first.id()) {}
        let given = Instant::now();
        reached(|| first.room.tenure().until != before).await;
        let until = first.room.tenure().until.unwrap();
        assert!(until <= given + TENURE, "{:?} more", until - (given + TENURE));
    }
}

#[tokio::test]
async fn a_short_silence_changes_nothing() {
    let world = World::new();
    let ((first, way), (second, _)) = (world.join().await, world.join().await);
    divided(&[&first, &second]).await;
    let name = name_of(&first);
    let guard = first.guard(&name).unwrap();
    for _ in 0..2 {
        way.cut.send_replace(true);
        tokio::time::sleep(HEARTBEAT / 2).await;
        way.cut.send_replace(false);
        tokio::time::sleep(HEARTBEAT).await;
    }
    assert_eq!(first.guard(&name), Some(guard));
}

#[tokio::test]
async fn a_store_that_stands_still_for_all_makes_nobody_dead() {
    let world = World::new();
    let ((first, way), (second, other_way)) = (world.join().await, world.join().await);
    divided(&[&first, &second]).await;
    let mut changes = world.store.watch();
    for way in [&way, &other_way] {
        way.cut.send_replace(true);
    }
    tokio::time::sleep(2 * DEATH).await;
    // Nobody comes back at the same moment as another.
    way.cut.send_replace(false);
    tokio::time::sleep(HEARTBEAT).await;
    other_way.cut.send_replace(false);
    divided(&[&first, &second]).await;
    while let Ok(change) = changes.try_recv() {
        assert!(
            !change.key.starts_with(record::MEMBERS) || change.value.is_some(),
            "{} was buried",
            change.key
        );
    }
}

#[tokio::test]
async fn a_gateway_that_stops_gives_all_at_once_but_what_is_being_worked_on() {
    let world = World::new();
    let ((first, _), (second, _)) = (world.join().await, world.join().await);
    divided(&[&first, &second]).await;
    let name = name_of(&first);
    let hold = first.hold(&name).unwrap();
    let (begun, retiring) = (Instant::now(), first.clone());
    let retired = tokio::spawn(async move { retiring.retire().await });
    reached(|| count(&second) == 63).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(first.hold(&name).is_none() && !second.leads(&name) && !retired.is_finished());
    assert!(world.takes(hold.guard()).await);
    assert!(second.is_live(first.id()).await.unwrap());
    drop(hold);
    divided(&[&second]).await;
    retired.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    first.end().await;
    assert!(!second.is_live(first.id()).await.unwrap());
}

#[tokio::test]
async fn what_is_held_for_ever_holds_up_no_handover_for_ever() {
    let world = World::new();
    let ((first, _), (second, _)) = (world.join().await, world.join().await);
    divided(&[&first, &second]).await;
    let hold = first.hold(&name_of(&first)).unwrap();
    let begun = Instant::now();
    first.retire().await;
    divided(&[&second]).await;
    assert!(begun.elapsed() >= HANDOVER_PATIENCE && begun.elapsed() < HANDOVER_PATIENCE + DEATH);
    assert!(!world.takes(hold.guard()).await);
}
