//! What holds whatever happens: subscribers at two gateways acknowledge, give back, go silent, leave and come by chance,
//! and gateways stop and start. The seed of a run that fails is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use postern_proto::event::v1::{ConsumeStart, Delivery, PullRequest, Subscription, SubscriptionMode};
use tokio::task::JoinSet;

use super::world::{Gateway, NAME, Subscriber, World, acks, cursor_of, ids, nack, ordered, shared, start};
use crate::store::conformance::events;

/// How many runs, each with its own seed.
const RUNS: u64 = 40;
/// How many of them go on at once: they wait more than they work.
const AT_ONCE: usize = 5;
/// How many things happen in a run.
const STEPS: usize = 40;

/// What a run has seen of an event of a SHARED subscription.
#[derive(Debug, Default)]
struct Seen {
    attempts: Vec<i32>,
    /// Of the delivery that somebody has, who has not given it back and whose time is not over: its ack id.
    held: Option<String>,
    /// Whether it was given back for longer than has passed since.
    waits: bool,
    acked: bool,
}

struct Run {
    world: World,
    rng: Rng,
    made: usize,
    seen: BTreeMap<String, Seen>,
    streams: Vec<(Subscriber, Vec<Delivery>)>,
}

fn id_of(delivery: &Delivery) -> &str {
    &delivery.event.as_ref().unwrap().id
}

impl Run {
    /// Takes what a stream was given within a moment.
    async fn hear(&mut self, at: usize) {
        let (stream, has) = &mut self.streams[at];
        let answers = tokio::time::timeout(Duration::from_millis(30), stream.deliveries_once()).await;
        for delivery in answers.unwrap_or_default() {
            let id = id_of(&delivery);
            let seen = self.seen.entry(id.to_owned()).or_default();
            assert!(!seen.acked, "{id} came after its ack was confirmed");
            assert!(seen.held.is_none(), "{id} was given to two at once: {seen:?}, {delivery:?}");
            assert!(!seen.waits, "{id} came before its delay was over");
            seen.attempts.push(delivery.attempt);
            seen.held = Some(delivery.ack_id.clone());
            has.push(delivery);
        }
    }

    /// These deliveries are nobody's any more; others of the same events may be somebody's.
    fn let_go<'a>(&mut self, deliveries: impl IntoIterator<Item = &'a Delivery>) {
        for delivery in deliveries {
            let seen = self.seen.get_mut(id_of(delivery)).unwrap();
            seen.held.take_if(|ack_id| *ack_id == delivery.ack_id);
        }
    }

    /// Takes all that was sent and is about to be, and then has every deadline and delay pass: what was sent before that and
    /// heard of after it would look as if two had it at once.
    async fn pass(&mut self) {
        let heard = async {
            loop {
                let held = self.seen.values().filter(|seen| seen.held.is_some()).count();
                let done = self.seen.values().filter(|seen| seen.acked || seen.waits).count();
                let all_given = self.streams.is_empty() || held + done == self.made;
                if all_given && usize::try_from(self.world.status().await.outstanding).unwrap() == held {
                    return;
                }
                if self.streams.is_empty() {
                    // Those that are gone still give back what they had.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                for at in 0..self.streams.len() {
                    self.hear(at).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), heard).await.expect("what is outstanding was sent");
        self.seen.values_mut().for_each(|seen| (seen.held, seen.waits) = (None, false));
        self.world.pass(100);
    }

    async fn step(&mut self) {
        let what = self.rng.u32(..100);
        let count = self.streams.len();
        let at = self.rng.usize(..count.max(1));
        match what {
            0..20 => {
                let new = self.rng.usize(1..20);
                let all = events("e", self.made + new);
                self.world.append(all[self.made..].to_vec()).await;
                self.made += new;
            }
            20..32 if count < 5 => {
                let gateway = self.rng.usize(..2);
                let wish = ConsumeStart { max_outstanding_events: 1_000, ..start("") };
                let mut stream = self.world.start_at(gateway, wish).await;
                stream.opened().await;
                self.streams.push((stream, Vec::new()));
            }
            32..60 if count > 0 => self.hear(at).await,
            60..80 if count > 0 => {
                let some = self.rng.usize(..=self.streams[at].1.len());
                let done: Vec<_> = self.streams[at].1.drain(..some).collect();
                // Acknowledged at whichever gateway. Whoever has it may, and nobody whose time is over.
                let gateway = self.rng.usize(..2);
                let confirmed = self.world.settle_at(gateway, acks(&done)).await.unwrap();
                let confirmed: BTreeSet<_> = confirmed.ack_ids.into_iter().collect();
                for delivery in &done {
                    let seen = self.seen.get_mut(id_of(delivery)).unwrap();
                    let holds = seen.held.as_ref() == Some(&delivery.ack_id);
                    let is_confirmed = confirmed.contains(&delivery.ack_id);
                    assert_eq!(is_confirmed, holds || seen.acked, "{}: {seen:?}", id_of(delivery));
                    seen.acked |= is_confirmed;
                }
                self.let_go(&done);
            }
            80..88 if count > 0 => {
                if let Some(delivery) = self.streams[at].1.pop() {
                    let (gateway, delay) = (self.rng.usize(..2), if self.rng.bool() { 0 } else { 50 });
                    self.world.settle_at(gateway, nack(&delivery, Some(delay), "")).await.unwrap();
                    let seen = self.seen.get_mut(id_of(&delivery)).unwrap();
                    seen.waits |= delay > 0 && seen.held.as_ref() == Some(&delivery.ack_id);
                    self.let_go([&delivery]);
                }
            }
            88..93 if count > 0 => {
                // Gone with all that it was given, seen or on its way.
                let (stream, has) = self.streams.swap_remove(at);
                drop(stream);
                self.let_go(&has);
            }
            93..97 => self.pass().await,
            97..100 => {
                // A gateway stops: its streams end, and another one starts in its place.
                let gateway = self.rng.usize(..2);
                let new = Gateway::start(&self.world.sqlite, &self.world.clock);
                let old = std::mem::replace(&mut self.world.gateways[gateway], new);
                // Whichever streams were on it: all begin anew.
                for (stream, has) in std::mem::take(&mut self.streams) {
                    drop(stream);
                    self.let_go(&has);
                }
                old.stop().await;
            }
            _ => {}
        }
    }

    /// Reads on until nothing is left, and checks that all of it was told.
    async fn end(mut self) {
        self.streams.clear();
        let pull = PullRequest { subscription: NAME.into(), max_events: 1_000, ..PullRequest::default() };
        let settled = async {
            while self.world.status().await.backlog > 0 {
                self.world.pass(100);
                let (here, there) = (self.rng.usize(..2), self.rng.usize(..2));
                let got = self.world.events(here).pull(pull.clone()).await.unwrap().into_inner();
                for delivery in &got.deliveries {
                    let seen = self.seen.entry(id_of(delivery).to_owned()).or_default();
                    assert!(!seen.acked, "it came after its ack was confirmed");
                    seen.attempts.push(delivery.attempt);
                }
                self.world.settle_at(there, acks(&got.deliveries)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled).await.expect("an end in time");
        let expected: BTreeSet<_> = events("e", self.made).into_iter().map(|event| event.id).collect();
        assert_eq!(self.seen.keys().cloned().collect::<BTreeSet<_>>(), expected, "events were lost");
        for (id, seen) in &self.seen {
            // Attempts that nobody here saw were sent to streams that were gone.
            assert!(seen.attempts.is_sorted_by(|a, b| a < b), "{id}: {:?}", seen.attempts);
        }
        assert_eq!(self.world.status().await.set_aside, 0);
    }
}

/// Has runs with seeds of their own, several at once. The seed of one that fails is told.
async fn runs<R: Future<Output = ()> + Send + 'static>(run: impl Fn(u64) -> R) {
    let first: u64 = fastrand::u64(..1 << 32);
    let (mut seeds, mut running) = (first..first + RUNS, JoinSet::new());
    loop {
        while running.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            let run = tokio::spawn(run(seed));
            running.spawn(async move { run.await.unwrap_or_else(|error| panic!("seed {seed}: {error}")) });
        }
        let Some(ended) = running.join_next().await else { return };
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_none_given_to_two_at_once_and_none_after_its_ack() {
    runs(|seed| async move {
        let world = World::of(2).await;
        let wish = Subscription { max_attempts: 100, ..shared() };
        assert_eq!(world.create(wish).await.mode(), SubscriptionMode::Shared);
        let (rng, seen) = (Rng::with_seed(seed), BTreeMap::new());
        let mut run = Run { world, rng, made: 0, seen, streams: Vec::new() };
        for _ in 0..STEPS {
            run.step().await;
        }
        run.end().await;
    })
    .await;
}

/// What a stream gives next. Nothing: what was committed was the last of it.
async fn next(world: &World, stream: &mut Subscriber) -> Option<Vec<Delivery>> {
    let all_committed = async {
        while world.status().await.backlog > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        got = stream.deliveries_once() => Some(got),
        () = all_committed => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_subscription_is_read_in_order_and_goes_back_to_what_is_confirmed_at_most() {
    runs(|seed| async move {
        let mut world = World::of(2).await;
        world.create(ordered()).await;
        let mut rng = Rng::with_seed(seed);
        let expected: Vec<_> = events("e", 300).into_iter().map(|event| event.id).collect();
        world.append(events("e", 300)).await;
        // How many are known to be committed.
        let mut confirmed = 0;
        while world.status().await.backlog > 0 {
            if rng.u32(..6) == 0 {
                let at = rng.usize(..2);
                let new = Gateway::start(&world.sqlite, &world.clock);
                std::mem::replace(&mut world.gateways[at], new).stop().await;
            }
            let mut stream = world.start_at(rng.usize(..2), start(&rng.u32(..3).to_string())).await;
            stream.opened().await;
            let mut place = None;
            for _ in 0..rng.usize(1..4) {
                let Some(got) = next(&world, &mut stream).await else { break };
                let ids = ids(&got);
                let at = expected.iter().position(|id| *id == ids[0]).unwrap();
                assert!(
                    at >= confirmed && place.is_none_or(|place| place == at),
                    "{at} {confirmed} {place:?}"
                );
                assert_eq!(ids, expected[at..at + ids.len()]);
                place = Some(at + ids.len());
                let done = rng.usize(..ids.len());
                stream.commit(&cursor_of(&got[done])).await;
                if rng.bool() {
                    // Confirmed: it holds. Otherwise it may or may not.
                    stream.confirmed_once().await;
                    confirmed = confirmed.max(at + done + 1);
                    // What came before the confirmation was passed over.
                    place = None;
                }
                if done + 1 < ids.len() {
                    break;
                }
            }
        }
    })
    .await;
}
