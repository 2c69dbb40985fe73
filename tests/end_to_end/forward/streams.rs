//! Streams through the gateway: read no faster than the other side takes them, in nobody's way, and told rightly when
//! they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_stream::StreamExt as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;

use crate::edge::{Edge, Fake, PATIENCE, Said, Say, ask_with_stream, outlook, reason, until};
use crate::world::standing_still;

/// A method that takes a stream and gives one answer, which the fakes take as well.
const GATHERING: &str = "/postern.outlook.v1.MailService/SendLargeEmail";
const BALLAST: usize = 64 * 1024;

/// A stream both ways of messages without end, and how many of them were asked for. Its answers are not taken.
async fn endless(edge: &Edge) -> (Streaming<Said>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let says = tokio_stream::iter(0..).map(move |number: usize| {
        counted.fetch_add(1, Ordering::SeqCst);
        Say { ballast: vec![7; BALLAST], ..Say::new(&number.to_string()) }
    });
    // What it leaves unread would else hold up other calls of this very caller.
    let mut client = tonic::client::Grpc::new(edge.own_channel());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.echo.v1.EchoService/Stream");
    let codec = ProstCodec::<Say, Said>::default();
    let answers = client.streaming(Request::new(says), path, codec).await.unwrap().into_inner();
    (answers, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_no_faster_than_its_answers_are_taken() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let (mut answers, asked) = endless(&edge).await;
    let standing = standing_still("messages", 1, || asked.load(Ordering::SeqCst)).await;
    // What the windows hold: a mebibyte or two on each of four ways.
    assert!(standing * BALLAST < 24 * 1024 * 1024, "{standing} messages were read");
    for number in 0..standing + 50 {
        assert_eq!(answers.message().await.unwrap().unwrap().text, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_stand_still_are_in_nobodys_way() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let mut open = Vec::new();
    for _ in 0..12 {
        let (answers, asked) = endless(&edge).await;
        standing_still("messages", 1, || asked.load(Ordering::SeqCst)).await;
        open.push(answers);
    }
    for _ in 0..4 {
        let ballast = Say { ballast: vec![7; 1024 * 1024], ..Say::new("through") };
        let said = tokio::time::timeout(PATIENCE, edge.call("Unary", ballast)).await;
        assert_eq!(said.expect("nothing holds it up").unwrap().into_inner().text, "through");
    }
    for answers in &mut open {
        assert_eq!(answers.message().await.unwrap().unwrap().text, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_dies_before_a_streams_end_has_done_nothing() {
    let mut fake = Fake::of("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    let say = Say::to("connections/office", "hang-once");
    let without_end = tokio_stream::iter([say.clone()]).chain(tokio_stream::pending());
    let state = fake.state.clone();
    let kill = async {
        until("it began", || async { state.begun.load(Ordering::SeqCst) == 1 }).await;
        fake.kill();
    };
    let (broken, ()) = tokio::join!(ask_with_stream(&edge.channel, GATHERING, without_end), kill);
    let broken = broken.unwrap_err();
    assert_eq!((broken.code(), reason(&broken)), (Code::Unavailable, "CONNECTOR_UNAVAILABLE".into()));

    let mut fake = Fake::of("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    let state = fake.state.clone();
    let kill = async {
        until("it was heard out", || async { state.heard_out.load(Ordering::SeqCst) == 1 }).await;
        fake.kill();
    };
    let whole = tokio_stream::iter([say]);
    let (broken, ()) = tokio::join!(ask_with_stream(&edge.channel, GATHERING, whole), kill);
    let broken = broken.unwrap_err();
    assert_eq!((broken.code(), reason(&broken)), (Code::Unknown, "OUTCOME_UNKNOWN".into()));
}
