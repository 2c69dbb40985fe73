//! What several say and are given at the same time: what was confirmed is not taken back, and nothing is given to two.

use postern_proto::event::v1::{ConsumeStart, Subscription};

use super::rocky::{Step, beside};
use super::world::{World, acks, cursor_of, ids, nack, ordered, shared, start};
use crate::store::conformance::events;

fn expected(count: usize) -> Vec<String> {
    events("e", count).into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn of_two_acknowledgements_on_their_way_the_further_one_holds() {
    let (world, way) = beside(ordered()).await;
    world.append(events("e", 10)).await;
    let got = world.pull("a", 0).await.unwrap().deliveries;
    let (nearer, further) = (cursor_of(&got[3]), cursor_of(&got[7]));
    way.hold(Step::Bounds);
    let (late, ()) = tokio::join!(world.acknowledge_at(1, "a", &nearer), async {
        // It has read how far it was.
        way.holds_one().await;
        assert_eq!(world.acknowledge("a", &further).await.unwrap().cursor, further);
        way.let_go();
    });
    assert_eq!(late.unwrap().cursor, further);
    assert_eq!(world.status().await.cursor, further);
    assert_eq!(ids(&world.pull("a", 0).await.unwrap().deliveries), expected(10)[8..]);
}

#[tokio::test]
async fn a_commit_of_a_stream_that_has_not_heard_of_a_further_one_leaves_it_as_it_is() {
    let (world, way) = beside(ordered()).await;
    world.append(events("e", 20)).await;
    let mut stream = world.start_at(1, ConsumeStart { max_outstanding_events: 5, ..start("a") }).await;
    stream.opened().await;
    let got = stream.deliveries(5).await;
    way.deafen(true);
    let further = cursor_of(&world.pull("a", 0).await.unwrap().deliveries[14]);
    world.acknowledge("a", &further).await.unwrap();
    stream.commit(&cursor_of(&got[2])).await;
    assert_eq!(stream.confirmed().await.cursor, further);
    assert_eq!(world.status().await.cursor, further);
    assert_eq!(ids(&stream.deliveries(5).await), expected(20)[15..]);
}

#[tokio::test]
async fn a_stream_goes_on_after_what_its_client_has_acknowledged_beyond_what_it_was_given() {
    let world = World::of(2).await;
    world.create(ordered()).await;
    world.append(events("e", 20)).await;
    for gateway in 0..2 {
        let mut stream =
            world.start_at(gateway, ConsumeStart { max_outstanding_events: 3, ..start("a") }).await;
        stream.opened().await;
        let from = 10 * gateway;
        assert_eq!(ids(&stream.deliveries(3).await), expected(20)[from..from + 3]);
        let further = cursor_of(&world.pull("a", 0).await.unwrap().deliveries[6]);
        world.acknowledge("a", &further).await.unwrap();
        let got = stream.deliveries(3).await;
        assert_eq!(ids(&got), expected(20)[from + 7..from + 10]);
        stream.commit(&cursor_of(&got[2])).await;
        assert_eq!(stream.confirmed_once().await.cursor, cursor_of(&got[2]));
    }
}

#[tokio::test]
async fn what_another_gateway_gave_out_while_one_set_something_aside_is_not_given_out_again() {
    let (world, way) = beside(Subscription { max_attempts: 1, ..shared() }).await;
    world.append(events("e", 1)).await;
    let mut subscriber = world.start_at(1, start("a")).await;
    subscriber.opened().await;
    let got = subscriber.deliveries(1).await;
    way.hold(Step::Committed);
    subscriber.settle(nack(&got[0], Some(0), "")).await;
    way.holds_one().await;
    world.append(events("others", 3)).await;
    let others = world.pull("", 0).await.unwrap().deliveries;
    assert_eq!(others.len(), 3);
    way.let_go();
    subscriber.confirmed().await;
    world.append(events("own", 1)).await;
    assert_eq!(ids(&subscriber.deliveries(1).await), [events("own", 1)[0].id.clone()]);
    assert_eq!(world.settle(acks(&others)).await.unwrap().ack_ids.len(), 3);
    assert_eq!(world.status().await.set_aside, 1);
}
