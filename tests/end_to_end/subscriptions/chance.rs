//! What holds whatever happens: subscribers at two gateways acknowledge, give back, go silent, leave and come by chance,
//! and gateways stop and start. The seed of a run that fails is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use postern_proto::event::v1::{PullRequest, SubscriptionMode};

use super::world::{Gateway, NAME, Subscriber, World, acks, cursor_of, nack, ordered, shared, start};
use crate::store::conformance::events;

/// How many runs, each with its own seed.
const RUNS: u64 = 60;
/// How many things happen in a run.
const STEPS: usize = 40;

/// What a run has seen of an event of a SHARED subscription.
#[derive(Debug, Default)]
struct Seen {
    attempts: Vec<i32>,
    /// Whether somebody has it, who has not given it back and whose time is not over.
    is_held: bool,
    acked: bool,
}

struct Run {
    world: World,
    rng: Rng,
    made: usize,
    seen: BTreeMap<String, Seen>,
    streams: Vec<(Subscriber, Vec<postern_proto::event::v1::Delivery>)>,
}

impl Run {
    /// Takes what a stream was given within a moment.
    async fn hear(&mut self, at: usize) {
        let (stream, has) = &mut self.streams[at];
        let answers = tokio::time::timeout(Duration::from_millis(30), stream.deliveries_once()).await;
        for delivery in answers.unwrap_or_default() {
            let id = delivery.event.as_ref().unwrap().id.clone();
            let seen = self.seen.entry(id.clone()).or_default();
            assert!(!seen.acked, "{id} came after its ack was confirmed");
            assert!(!seen.is_held, "{id} was given to two at once: {seen:?}");
            seen.attempts.push(delivery.attempt);
            seen.is_held = true;
            has.push(delivery);
        }
    }

    /// Takes all that was sent, and then has every deadline pass.
    async fn pass(&mut self) {
        let heard = async {
            loop {
                let held = self.seen.values().filter(|seen| seen.is_held).count();
                if usize::try_from(self.world.status().await.outstanding).unwrap() == held {
                    return;
                }
                for at in 0..self.streams.len() {
                    self.hear(at).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), heard).await.expect("what is outstanding was sent");
        self.seen.values_mut().for_each(|seen| seen.is_held = false);
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
                let mut stream = self.world.start_at(gateway, start("")).await;
                stream.opened().await;
                self.streams.push((stream, Vec::new()));
            }
            32..60 if count > 0 => self.hear(at).await,
            60..80 if count > 0 => {
                let some = self.rng.usize(..=self.streams[at].1.len());
                let done: Vec<_> = self.streams[at].1.drain(..some).collect();
                // Acknowledged at whichever gateway, and confirmed or not.
                let confirmed = self.world.settle(acks(&done)).await.unwrap();
                let confirmed: BTreeSet<_> = confirmed.ack_ids.into_iter().collect();
                for delivery in done.iter().filter(|delivery| confirmed.contains(&delivery.ack_id)) {
                    self.seen.get_mut(&delivery.event.as_ref().unwrap().id).unwrap().acked = true;
                }
                for delivery in &done {
                    self.seen.get_mut(&delivery.event.as_ref().unwrap().id).unwrap().is_held = false;
                }
            }
            80..88 if count > 0 => {
                if let Some(delivery) = self.streams[at].1.pop() {
                    let id = delivery.event.as_ref().unwrap().id.clone();
                    self.seen.get_mut(&id).unwrap().is_held = false;
                    self.world.settle(nack(&delivery, Some(self.rng.i64(0..3)), "")).await.unwrap();
                }
            }
            88..93 if count > 0 => {
                // Gone with all that it was given, seen or on its way.
                let (_, has) = self.streams.swap_remove(at);
                for delivery in has {
                    self.seen.get_mut(&delivery.event.unwrap().id).unwrap().is_held = false;
                }
            }
            93..97 => self.pass().await,
            97..100 => {
                // A gateway stops: its streams end, and another one starts in its place.
                let gateway = self.rng.usize(..2);
                let new = Gateway::start(&self.world.sqlite, &self.world.clock).await;
                let old = std::mem::replace(&mut self.world.gateways[gateway], new);
                // Whichever streams were on it: all begin anew.
                for (_, has) in self.streams.drain(..) {
                    for delivery in has {
                        self.seen.get_mut(&delivery.event.unwrap().id).unwrap().is_held = false;
                    }
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
                let got =
                    self.world.events(self.rng.usize(..2)).pull(pull.clone()).await.unwrap().into_inner();
                for delivery in &got.deliveries {
                    let seen = self.seen.entry(delivery.event.as_ref().unwrap().id.clone()).or_default();
                    assert!(!seen.acked, "it came after its ack was confirmed");
                    seen.attempts.push(delivery.attempt);
                }
                self.world.settle(acks(&got.deliveries)).await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_none_given_to_two_at_once_and_none_after_its_ack() {
    let first: u64 = fastrand::u64(..1 << 32);
    for seed in first..first + RUNS {
        let run = tokio::spawn(async move {
            let world = World::of(2).await;
            let wish = postern_proto::event::v1::Subscription { max_attempts: 100, ..shared() };
            assert_eq!(world.create(wish).await.mode(), SubscriptionMode::Shared);
            let (rng, seen) = (Rng::with_seed(seed), BTreeMap::new());
            let mut run = Run { world, rng, made: 0, seen, streams: Vec::new() };
            for _ in 0..STEPS {
                run.step().await;
            }
            run.end().await;
        });
        run.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_subscription_is_read_in_order_and_goes_back_to_what_is_confirmed_at_most() {
    let first: u64 = fastrand::u64(..1 << 32);
    for seed in first..first + RUNS {
        let run = tokio::spawn(async move {
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
                    let new = Gateway::start(&world.sqlite, &world.clock).await;
                    std::mem::replace(&mut world.gateways[at], new).stop().await;
                }
                let mut stream = world.start_at(rng.usize(..2), start(&rng.u32(..3).to_string())).await;
                stream.opened().await;
                let mut place = None;
                for _ in 0..rng.usize(1..4) {
                    // What was committed and not confirmed may have been the last of it.
                    let next = tokio::time::timeout(Duration::from_secs(3), stream.deliveries_once());
                    let Ok(got) = next.await else { break };
                    let ids = super::world::ids(&got);
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
                    if place == Some(expected.len()) {
                        break;
                    }
                    if done + 1 < ids.len() {
                        break;
                    }
                }
            }
        });
        run.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
