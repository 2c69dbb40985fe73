//! A stored subscription that is read in order by one reader after another, each at another gateway, while gateways come
//! and go: nothing is passed over, and what was committed does not come again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_client::{Client, Consumed, Consumer, Retry, Settings};
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::{
    ConsumeStart, CreateSubscriptionRequest, Event, StartPosition, Subscription, SubscriptionMode,
};

use super::stage::Stage;
use super::{SECOND, ids, make_all, on_each_engine};
use crate::client::Relay;
use crate::edge::Fake;
use crate::store::conformance::Engine;
use crate::world::{events, subscribe, until};

/// How much a reader commits before the next takes over.
const TURN: usize = 40;

/// One thing that happened to a reader of an ORDERED subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Given(String),
    Committed(String),
}

/// A client that lives through minutes of trouble: `first` says at which of the gateways it begins.
pub(super) fn patient_client(addresses: &[String], first: usize) -> Client {
    let addresses = addresses.iter().cycle().skip(first).take(addresses.len()).cloned().collect();
    let (first_pause, longest_pause) = (Duration::from_millis(20), Duration::from_millis(200));
    let total = Duration::from_secs(300);
    let retry = Retry { tries: u32::MAX, total, first_pause, longest_pause };
    let call_timeout = Duration::from_secs(30);
    Client::connect(&Settings { addresses, retry, call_timeout, ..Settings::default() }).unwrap()
}

/// One reader after another, each by another client: the one before it may commit no more.
pub(super) async fn read_by_turns(clients: Vec<Client>, subscription: &str, took: impl Fn(Step)) {
    let mut before = None;
    for turn in 0.. {
        let start = ConsumeStart {
            subscription: subscription.to_owned(),
            client_id: format!("reader-{turn}"),
            ..ConsumeStart::default()
        };
        let mut reader = clients[turn % clients.len()].consume(start);
        let mut last = None;
        for _ in 0..TURN {
            let delivery = match reader.next().await.expect("it is taken over by nobody").unwrap() {
                Consumed::Delivery(delivery) => delivery,
                Consumed::Gap(gap) => panic!("a gap: {gap:?}"),
            };
            let event = delivery.event.unwrap();
            took(Step::Given(event.id.clone()));
            if let Some((old, cursor)) = before.take() {
                let old: Consumer = old;
                let refused = old.commit(cursor).await.expect_err("another reads now");
                assert_eq!(refused.reason(), "SUBSCRIPTION_TAKEN_OVER", "{refused:?}");
            }
            reader.commit(event.cursor.clone()).await.unwrap();
            took(Step::Committed(event.id));
            last = Some(event.cursor);
        }
        before = last.map(|cursor| (reader, cursor));
    }
}

/// Over all readers and gateways: nothing is passed over, and what was committed does not come again. Gives how much of
/// the log was committed.
pub(super) fn check_order(steps: &[Step], log: &[Event]) -> usize {
    let places: BTreeMap<_, _> =
        log.iter().enumerate().map(|(place, event)| (&event.id, place + 1)).collect();
    let (mut given, mut committed) = (0, 0);
    for step in steps {
        match step {
            Step::Given(id) => {
                let place = places[id];
                assert!(place == given + 1 || place == committed + 1, "{place} after {given}, {committed}");
                given = place;
            }
            Step::Committed(id) => committed = places[id],
        }
    }
    committed
}

on_each_engine!(a_subscription_is_read_in_order_whichever_gateways_serve_its_readers);

async fn a_subscription_is_read_in_order_whichever_gateways_serve_its_readers<E: Engine>(apart: bool) {
    let Some((stage, mut gateways)) = Stage::<E>::set(Fake::of("outlook"), 3, apart).await else { return };
    let mut doors = Vec::new();
    for gateway in &gateways {
        doors.push(Relay::before(gateway.address).await);
    }
    let addresses: Vec<_> = doors.iter().map(Relay::url).collect();
    let client = |first| patient_client(&addresses, first);
    let request = CreateSubscriptionRequest {
        subscription_id: "in-order".to_owned(),
        subscription: Some(Subscription { mode: SubscriptionMode::Ordered.into(), ..Default::default() }),
        start: Some(StartPosition { position: Some(Position::Earliest(())) }),
        ..Default::default()
    };
    client(0).subscriptions().create_subscription(request).await.unwrap();
    let ids = ids(4);
    make_all(&gateways.iter().collect::<Vec<_>>(), &ids, SECOND).await;

    let steps = Arc::<Mutex<Vec<Step>>>::default();
    let (readers, took) = ((0..3).map(client).collect(), steps.clone());
    let reading = tokio::spawn(async move {
        read_by_turns(readers, "subscriptions/in-order", |step| took.lock().unwrap().push(step)).await;
    });
    let is_commit = |step: &&Step| matches!(step, Step::Committed(_));
    let committed = || steps.lock().unwrap().iter().filter(is_commit).count();
    let read = async |count: usize| {
        until("it is read", || async {
            assert!(!reading.is_finished(), "a reader broke off");
            (committed() >= count).then_some(())
        })
        .await;
    };
    let mut put = 0;
    for round in 0..4 {
        // More than a turn of every reader.
        for _ in 0..TURN {
            for id in &ids {
                stage.fake.state.watching.put(id, &format!("{put:04}"));
                put += 1;
            }
        }
        read(put - 3 * TURN).await;
        // In their midst a gateway dies, with whoever reads there and what it looks after; or it is stopped in good order.
        let at = round % gateways.len();
        if round < 2 {
            gateways[at].kill();
            read(put).await;
        }
        let next = stage.start().await;
        doors[at].lead_to(next.address);
        let last = std::mem::replace(&mut gateways[at], next);
        if round >= 2 {
            last.stop().await;
        }
        read(put).await;
    }
    reading.abort();
    let mut stream = subscribe(&gateways[0].channel, Some(Position::Earliest(()))).await;
    let log = events(&mut stream, put).await;
    assert_eq!(log.len(), put);
    assert_eq!(check_order(&steps.lock().unwrap(), &log), put);
}
