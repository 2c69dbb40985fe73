//! What several say and are given at the same time: what was confirmed is not taken back, and nothing is given to two.

use postern_proto::event::v1::ConsumeStart;

use super::rocky::{Step, beside};
use super::world::{World, cursor_of, ids, ordered, start};
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
