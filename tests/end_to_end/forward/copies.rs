//! Connectors in several copies: what one leaves undone another does, where that cannot do anything twice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::door::{Door, Mood};
use crate::edge::{Edge, Fake, PATIENCE, Said, Say, ask_with_stream, outlook, reason, until};

/// A method that the contract says changes nothing, which the fakes take as well.
const SAFE: &str = "/postern.outlook.v1.MailService/GetEmails";
/// One that changes nothing either, and answers with a stream.
const SAFE_STREAM: &str = "/postern.outlook.v1.MailService/GetAttachment";
/// One whose connector makes repeats safe by their request id.
const REPEATABLE: &str = "/postern.outlook.v1.MailService/SendEmail";
/// One that takes a stream and gives one answer.
const GATHERING: &str = "/postern.outlook.v1.MailService/SendLargeEmail";

fn say(text: &str, request_id: &str) -> Say {
    Say { request_id: request_id.to_owned(), ..Say::to("connections/office", text) }
}

/// Two copies of a connector behind a gateway's edge: the one that the connection sticks to, and the other.
struct Copies {
    edge: Edge,
    home: Fake,
    other: Fake,
    /// The way to each, in the same order.
    doors: [Door; 2],
}

impl Copies {
    async fn two() -> Self {
        let (one, two) = (Fake::of("outlook"), Fake::of("outlook"));
        let (first, second) = (Door::before(one.address()).await, Door::before(two.address()).await);
        let edge = Edge::watchful(&[first.address, second.address]).await;
        edge.create("office", outlook()).await.unwrap();
        let port = edge.ask(SAFE, Request::new(say("x", ""))).await.unwrap().into_inner().port;
        let is_first = port == u32::from(one.address().port());
        let (home, other) = if is_first { (one, two) } else { (two, one) };
        let doors = if is_first { [first, second] } else { [second, first] };
        home.state.begun.store(0, Ordering::SeqCst);
        Self { edge, home, other, doors }
    }

    fn hang_at_home(&self) -> String {
        format!("hang-at {}", self.home.address().port())
    }

    async fn ask(&self, path: &str, say: Say) -> Result<Said, Status> {
        Ok(self.edge.ask(path, Request::new(say)).await?.into_inner())
    }

    fn begun(&self) -> (usize, usize) {
        (self.home.state.begun.load(Ordering::SeqCst), self.other.state.begun.load(Ordering::SeqCst))
    }

    async fn home_has_begun(&self) {
        until("it has begun", || async { self.begun().0 == 1 }).await;
    }

    async fn is_home_again(&self) {
        let port = u32::from(self.home.address().port());
        until("calls go home again", || async {
            self.ask(SAFE, say("x", "")).await.is_ok_and(|said| said.port == port)
        })
        .await;
    }

    /// Makes a call that hangs at home, and kills home once it has begun.
    async fn ask_and_kill(&mut self, path: &str, request_id: &str) -> Result<Said, Status> {
        let (channel, say) = (self.edge.channel.clone(), say(&self.hang_at_home(), request_id));
        let path = path.to_owned();
        let asking = tokio::spawn(async move { crate::edge::ask(&channel, &path, Request::new(say)).await });
        self.home_has_begun().await;
        self.home.kill();
        Ok(asking.await.unwrap()?.into_inner())
    }
}

fn is_told(said: &Said) -> bool {
    said.metadata.iter().any(|line| line == "postern-repeat: 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_changes_nothing_is_made_by_another_copy_when_its_own_dies() {
    let mut copies = Copies::two().await;
    let said = copies.ask_and_kill(SAFE, "").await.unwrap();
    assert_eq!((said.port, is_told(&said)), (u32::from(copies.other.address().port()), false));
    copies.home.come_back();
    copies.is_home_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_had_only_begun_is_begun_anew_by_another_copy() {
    let mut copies = Copies::two().await;
    let mut client = tonic::client::Grpc::new(copies.edge.channel.clone());
    client.ready().await.unwrap();
    let request = Request::new(say(&copies.hang_at_home(), ""));
    let asking = tokio::spawn(async move {
        let codec = ProstCodec::<Say, Said>::default();
        let path = PathAndQuery::from_static(SAFE_STREAM);
        let mut answers = client.server_streaming(request, path, codec).await?.into_inner();
        let first = answers.message().await?.unwrap();
        assert_eq!(answers.message().await?, None);
        Ok::<_, Status>(first)
    });
    copies.home_has_begun().await;
    copies.home.kill();
    let said = asking.await.unwrap().unwrap();
    assert_eq!(said.port, u32::from(copies.other.address().port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_which_only_the_status_is_missing_is_given_by_another_copy() {
    let mut copies = Copies::two().await;
    let text = format!("hang-at-end {}", copies.home.address().port());
    let channel = copies.edge.channel.clone();
    let asking =
        tokio::spawn(async move { crate::edge::ask(&channel, SAFE, Request::new(say(&text, ""))).await });
    copies.home_has_begun().await;
    // Long enough for what comes of the answer to have come.
    tokio::time::sleep(Duration::from_millis(100)).await;
    copies.home.kill();
    let said = asking.await.unwrap().unwrap().into_inner();
    assert_eq!(said.port, u32::from(copies.other.address().port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_an_id_is_made_by_another_copy_that_is_told() {
    let mut copies = Copies::two().await;
    let said = copies.ask_and_kill(REPEATABLE, "a").await.unwrap();
    assert_eq!((said.port, is_told(&said)), (u32::from(copies.other.address().port()), true));
    assert_eq!(copies.begun(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_an_id_is_not_made_twice() {
    let mut copies = Copies::two().await;
    let unknown = copies.ask_and_kill(REPEATABLE, "").await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::Unknown, "OUTCOME_UNKNOWN".into()));
    assert_eq!(copies.begun(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_first_message_alone_was_handed_over_goes_on_at_another_copy() {
    let mut copies = Copies::two().await;
    let (says, sent) = tokio::sync::mpsc::channel(2);
    says.send(say("first", "")).await.unwrap();
    let channel = copies.edge.channel.clone();
    let stream = ReceiverStream::new(sent);
    let asking = tokio::spawn(async move { ask_with_stream(&channel, GATHERING, stream).await });
    copies.home_has_begun().await;
    copies.home.kill();
    until("another copy has it", || async { copies.begun().1 == 1 }).await;
    says.send(say("second", "")).await.unwrap();
    drop(says);
    let said = asking.await.unwrap().unwrap();
    assert_eq!((said.text.as_str(), said.port), ("first", u32::from(copies.other.address().port())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_hangs_is_passed_over_until_it_is_well() {
    let copies = Copies::two().await;
    // It gives signs of life on its connections, and answers nothing.
    copies.home.state.is_deaf.store(true, Ordering::SeqCst);
    let other = u32::from(copies.other.address().port());
    let said = tokio::time::timeout(PATIENCE, copies.ask(SAFE, say("x", ""))).await.unwrap().unwrap();
    assert_eq!(said.port, other);
    // Now it is known: a change that could not be made twice goes to the other one at once.
    let before = copies.begun().0;
    let said = tokio::time::timeout(PATIENCE, copies.ask(REPEATABLE, say("x", ""))).await;
    assert_eq!(said.expect("it hangs").unwrap().port, other);
    assert_eq!(copies.begun().0, before, "it was not tried where it hangs");
    copies.home.state.is_deaf.store(false, Ordering::SeqCst);
    copies.is_home_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_a_copy_that_hangs_waits_for_its_deadline_and_no_longer() {
    let copies = Copies::two().await;
    copies.home.state.is_deaf.store(true, Ordering::SeqCst);
    let mut request = Request::new(say("x", "a"));
    request.set_timeout(Duration::from_secs(3));
    let begun = Instant::now();
    let late = copies.edge.ask(REPEATABLE, request).await.unwrap_err();
    // The caller's own clock, or the gateway's: whichever comes first.
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // It may wake and make it: nobody else does meanwhile.
    assert_eq!(copies.begun(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_vanished_without_a_word_is_found_out_and_its_calls_end() {
    let copies = Copies::two().await;
    let hang = copies.hang_at_home();
    let safe = copies.ask(SAFE, say(&hang, ""));
    let once = copies.ask(REPEATABLE, say(&hang, ""));
    let by_id = copies.ask(REPEATABLE, say(&hang, "a"));
    let vanish = async {
        until("all have begun", || async { copies.begun().0 == 3 }).await;
        copies.doors[0].turn(Mood::Silent);
    };
    let all = async { tokio::join!(safe, once, by_id, vanish) };
    let (safe, once, by_id, ()) = tokio::time::timeout(PATIENCE, all).await.expect("none of them hangs");
    assert_eq!(safe.unwrap().port, u32::from(copies.other.address().port()));
    // The silent copy may be at work: what it may have made nobody makes again until its caller asks.
    for ended in [once, by_id] {
        let unknown = ended.unwrap_err();
        assert_eq!((unknown.code(), reason(&unknown)), (Code::Unknown, "OUTCOME_UNKNOWN".into()));
    }
    assert_eq!(copies.begun().1, 1);
    copies.doors[0].turn(Mood::Open);
    copies.is_home_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_refused_or_left_behind_is_done_once_by_another() {
    for mood in [Mood::Refusing, Mood::Leaving] {
        let copies = Copies::two().await;
        copies.doors[0].turn(mood);
        // A change that nobody may make twice, and whose connector knows no id of it.
        for number in 1..=4 {
            let said = copies.ask(REPEATABLE, say("x", "")).await;
            let said = said.unwrap_or_else(|error| panic!("{mood:?}: {error:?}"));
            assert!(!is_told(&said));
            let (home, other) = copies.begun();
            assert_eq!(home + other, number, "{mood:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_alone_that_goes_away_between_two_calls_loses_none() {
    let fake = Fake::of("outlook");
    let door = Door::before(fake.address()).await;
    let edge = Edge::watchful(&[door.address]).await;
    edge.create("office", outlook()).await.unwrap();
    for _ in 0..3 {
        edge.ask(REPEATABLE, Request::new(say("x", ""))).await.unwrap();
    }
    // Its two connections go at their next call; it is there all the same.
    door.turn(Mood::Leaving);
    let asking = edge.ask(REPEATABLE, Request::new(say("x", "")));
    let turning = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        door.turn(Mood::Open);
    };
    let (answered, ()) = tokio::join!(asking, turning);
    // Where the door was still leaving at the second try too, nothing was done, and the caller is told so.
    if let Err(refused) = answered {
        assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, "CONNECTOR_UNAVAILABLE".into()));
    }
    until("calls are taken", || async { edge.ask(REPEATABLE, Request::new(say("x", ""))).await.is_ok() })
        .await;
}

/// A call can be put to a connection that has just gone, and is ended only when its channel is used again: where nothing
/// else is asked of the copy, by the question that is asked in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_doubted_is_asked_over_each_of_its_channels() {
    let mut fake = Fake::of("outlook");
    let door = Door::before(fake.address()).await;
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let store = postern_gateway::store::sqlite::Sqlite::open(folder.path()).unwrap();
    // Watched as it is in earnest: asked again after many seconds, unless it is doubted.
    let edge = Edge::over(folder, store, &[door.address], None).await;
    assert_eq!(edge.connectors.all_described(PATIENCE).await, Vec::<String>::new());
    edge.create("office", outlook()).await.unwrap();
    for _ in 0..4 {
        edge.ask(SAFE, Request::new(say("x", ""))).await.unwrap();
    }
    let before = door.passed();
    let breaking = edge.ask(REPEATABLE, Request::new(say("hang", "")));
    let killing = async {
        until("it has begun", || async { fake.state.begun.load(Ordering::SeqCst) == 5 }).await;
        fake.kill();
        fake.come_back();
    };
    let (broken, ()) = tokio::join!(breaking, killing);
    assert_eq!(reason(&broken.unwrap_err()), "OUTCOME_UNKNOWN");
    until("both are connected again", || async { door.passed() >= before + 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_replaced_under_load_lose_no_call_at_all() {
    let mut fakes = [Fake::of("outlook"), Fake::of("outlook")];
    let edge = Edge::watchful(&fakes.each_ref().map(Fake::address)).await;
    for number in 0..16 {
        edge.create(&format!("office-{number}"), outlook()).await.unwrap();
    }
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|number| {
            let (channel, done) = (edge.own_channel(), done.clone());
            let connection = format!("connections/office-{number}");
            tokio::spawn(async move {
                let mut answered = 0_usize;
                while !done.load(Ordering::Relaxed) {
                    let say = Say::to(&connection, "slow");
                    crate::edge::ask(&channel, REPEATABLE, Request::new(say)).await.unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for turn in 0..8 {
        let fake = &mut fakes[turn % 2];
        let before = fake.state.begun.load(Ordering::SeqCst);
        until("it has something to do", || async { fake.state.begun.load(Ordering::SeqCst) > before + 20 })
            .await;
        fake.retire().await;
        fake.come_back();
    }
    done.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.expect("no call was lost");
    }
    let begun: usize = fakes.iter().map(|fake| fake.state.begun.load(Ordering::SeqCst)).sum();
    assert_eq!(begun, answered, "each call was made once");
}
