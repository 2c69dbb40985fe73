//! Channels, with a peer of h2's at the other end of each socket.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::*;
use crate::connectors::replica::Watchfulness;

/// How much of what is written lies in a socket until it is read.
const SOCKET_BYTES: usize = 64 * 1024;
/// How often the others have their turn before it is certain that nothing more happens.
const TURNS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);

type Asked = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// The other ends of a channel's sockets.
struct Far {
    given: mpsc::Receiver<DuplexStream>,
    made: Arc<AtomicUsize>,
}

/// The other end of one connection.
struct Peer {
    asked: mpsc::UnboundedReceiver<Asked>,
    leave: CancellationToken,
}

fn channel() -> (Channel, Far) {
    let (give, given) = mpsc::channel(8);
    let made = Arc::new(AtomicUsize::new(0));
    let far = Far { given, made: made.clone() };
    let sockets = service_fn(move |_: Uri| {
        let (near, far) = tokio::io::duplex(SOCKET_BYTES);
        made.fetch_add(1, Ordering::Relaxed);
        let given = give.try_send(far).map(|()| near);
        std::future::ready(given.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused)))
    });
    let address = Uri::from_static("http://connector:7026");
    let dial = Dial::by(&address, sockets, Watchfulness::default());
    (Channel::new(address, dial), far)
}

impl Far {
    /// The peer of the next connection, which takes so many calls at once.
    async fn peer(&mut self, calls: u32) -> Peer {
        let socket = soon(self.given.recv()).await.unwrap();
        let (give, asked) = mpsc::unbounded_channel();
        let leave = CancellationToken::new();
        let leaving = leave.clone();
        tokio::spawn(async move {
            let mut connection =
                Builder::new().max_concurrent_streams(calls).handshake::<_, Bytes>(socket).await.unwrap();
            let mut leaving = Some(Box::pin(leaving.cancelled_owned()));
            loop {
                let left = async {
                    match &mut leaving {
                        Some(leaving) => leaving.await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    asked = connection.accept() => match asked {
                        Some(Ok(asked)) => drop(give.send(asked)),
                        Some(Err(_)) | None => return,
                    },
                    () = left => {
                        leaving = None;
                        connection.graceful_shutdown();
                    }
                }
            }
        });
        Peer { asked, leave }
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

fn request<B>(body: B) -> Request<B> {
    Request::post("/test.v1.Test/Do").body(body).unwrap()
}

/// A call in a task of its own.
fn begin<B>(channel: &Channel, body: B) -> tokio::task::JoinHandle<Result<Response<AnswerBody>, ChannelError>>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Send,
{
    let channel = channel.clone();
    tokio::spawn(async move { channel.exchange(request(body)).await })
}

/// A body that is said bit by bit.
fn said() -> (
    mpsc::UnboundedSender<Bytes>,
    impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
) {
    let (say, said) = mpsc::unbounded_channel();
    (say, StreamBody::new(UnboundedReceiverStream::new(said).map(|data| Ok(Frame::data(data)))))
}

fn answer(asked: &mut Asked, is_all: bool) -> h2::SendStream<Bytes> {
    asked.1.send_response(Response::new(()), is_all).unwrap()
}

async fn soon<T>(waited: impl Future<Output = T>) -> T {
    timeout(PATIENCE, waited).await.unwrap()
}

async fn everybody_had_their_turn() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

#[tokio::test]
async fn all_who_need_a_connection_wait_for_the_same_and_those_after_them_use_it() {
    let (channel, mut far) = channel();
    let calls: Vec<_> = (0..5).map(|_| begin(&channel, Empty::new())).collect();
    let mut peer = far.peer(100).await;
    for _ in &calls {
        answer(&mut peer.asked.recv().await.unwrap(), true);
    }
    assert!(join_all(calls).await.into_iter().all(|call| call.unwrap().is_ok()));
    let call = begin(&channel, Empty::new());
    let mut asked = peer.asked.recv().await.unwrap();
    assert_eq!(asked.0.uri(), "http://connector:7026/test.v1.Test/Do");
    answer(&mut asked, true);
    call.await.unwrap().unwrap();
    assert_eq!(far.made(), 1);
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_told_to_all_and_tried_anew() {
    let (channel, mut far) = channel();
    far.given.close();
    for tries in 1..=2 {
        let calls = [begin(&channel, Empty::new()), begin(&channel, Empty::new())];
        for ended in join_all(calls).await {
            let error = ended.unwrap().unwrap_err();
            assert!(error.is_not_connected() && error.is_unprocessed() && !error.is_silence(), "{error:?}");
        }
        assert_eq!(far.made(), tries);
    }
}

#[tokio::test]
async fn a_connection_whose_maker_panicked_is_made_anew() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let sockets = service_fn(move |_: Uri| {
        assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "on purpose");
        std::future::ready(Err::<DuplexStream, _>(std::io::Error::from(
            std::io::ErrorKind::ConnectionRefused,
        )))
    });
    let address = Uri::from_static("http://connector:7026");
    let dial = Dial::by(&address, sockets, Watchfulness::default());
    let channel = Channel::new(address, dial);
    for tries in 1..=2 {
        assert!(channel.exchange(request(Empty::new())).await.unwrap_err().is_not_connected());
        assert_eq!(made.load(Ordering::Relaxed), tries);
    }
}

#[tokio::test]
async fn a_peer_that_goes_away_ends_what_it_took_and_is_asked_nothing_more() {
    let (channel, mut far) = channel();
    let first = begin(&channel, Empty::new());
    let mut old = far.peer(100).await;
    let mut asked = old.asked.recv().await.unwrap();
    old.leave.cancel();
    everybody_had_their_turn().await;
    let second = begin(&channel, Empty::new());
    let mut new = far.peer(100).await;
    answer(&mut new.asked.recv().await.unwrap(), true);
    second.await.unwrap().unwrap();
    answer(&mut asked, true);
    first.await.unwrap().unwrap();
    assert!(old.asked.recv().await.is_none(), "it is left once nothing is under way");
    assert_eq!(far.made(), 2);
}

#[tokio::test]
async fn a_connection_is_closed_when_nobody_needs_it() {
    let (channel, mut far) = channel();
    let call = begin(&channel, Empty::new());
    let mut peer = far.peer(100).await;
    answer(&mut peer.asked.recv().await.unwrap(), true);
    drop((call.await.unwrap().unwrap(), channel));
    assert!(peer.asked.recv().await.is_none());
}

#[tokio::test]
async fn nothing_is_read_of_a_request_until_the_peer_takes_the_call() {
    let (channel, mut far) = channel();
    let first = begin(&channel, Empty::new());
    let mut peer = far.peer(1).await;
    let mut asked = peer.asked.recv().await.unwrap();
    everybody_had_their_turn().await;
    let (say, body) = said();
    say.send(Bytes::from_static(b"whole")).unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let count = read.clone();
    let body = body.map_frame(move |frame| {
        count.fetch_add(1, Ordering::Relaxed);
        frame
    });
    let second = begin(&channel, body);
    everybody_had_their_turn().await;
    assert_eq!(read.load(Ordering::Relaxed), 0);
    answer(&mut asked, true);
    first.await.unwrap().unwrap();
    let mut asked = peer.asked.recv().await.unwrap();
    assert_eq!(asked.0.body_mut().data().await.unwrap().unwrap(), "whole");
    answer(&mut asked, true);
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_goes_on_whether_its_answer_is_read_or_not() {
    let (channel, mut far) = channel();
    let (say, body) = said();
    let call = begin(&channel, body);
    let mut peer = far.peer(100).await;
    let mut asked = peer.asked.recv().await.unwrap();
    let mut answering = answer(&mut asked, false);
    let mut response = call.await.unwrap().unwrap();
    for text in ["one", "two"] {
        say.send(Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(asked.0.body_mut().data().await.unwrap().unwrap(), text);
    }
    drop(say);
    let rest = asked.0.body_mut().data().await;
    assert!(rest.is_none_or(|rest| rest.unwrap().is_empty()) && asked.0.body().is_end_stream());
    answering.send_data(Bytes::from_static(b"three"), false).unwrap();
    answering
        .send_trailers(
            [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))].into_iter().collect(),
        )
        .unwrap();
    let answer = response.body_mut().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(answer.to_bytes(), "three");
}

#[tokio::test]
async fn a_request_is_read_no_faster_than_the_peer_takes_it() {
    const FRAME_BYTES: usize = 16 * 1024;
    // What an HTTP/2 peer takes unless it says otherwise, and the frame that waits.
    const MOST: usize = 65_535 / FRAME_BYTES + 2;
    let (channel, mut far) = channel();
    let read = Arc::new(AtomicUsize::new(0));
    let count = read.clone();
    let frames = tokio_stream::iter(0..20).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![0; FRAME_BYTES])))
    });
    let call = begin(&channel, StreamBody::new(frames));
    let mut peer = far.peer(100).await;
    let mut asked = peer.asked.recv().await.unwrap();
    everybody_had_their_turn().await;
    assert!(read.load(Ordering::Relaxed) <= MOST, "{read:?}");
    let (mut bytes, body) = (0, asked.0.body_mut());
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
        bytes += length;
    }
    assert_eq!(bytes, 20 * FRAME_BYTES);
    answer(&mut asked, true);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_at_the_peer_and_lets_go_of_its_request() {
    for is_answered in [false, true] {
        let (channel, mut far) = channel();
        let (say, body) = said();
        let call = begin(&channel, body);
        let mut peer = far.peer(100).await;
        let mut asked = peer.asked.recv().await.unwrap();
        if is_answered {
            let _answering = answer(&mut asked, false);
            drop(call.await.unwrap().unwrap());
        } else {
            call.abort();
        }
        soon(say.closed()).await;
        let ended = asked.0.body_mut().data().await.unwrap().unwrap_err();
        assert_eq!(ended.reason(), Some(Reason::CANCEL), "answered: {is_answered}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_is_cancelled() {
    let (channel, mut far) = channel();
    let frames = [Ok(Frame::data(Bytes::from_static(b"begun"))), Err("broken off")];
    let call = begin(&channel, StreamBody::new(tokio_stream::iter(frames)));
    let mut peer = far.peer(100).await;
    let mut asked = peer.asked.recv().await.unwrap();
    soon(async { while let Some(Ok(_)) = asked.0.body_mut().data().await {} }).await;
    assert!(!asked.0.body().is_end_stream());
    let ended = soon(std::future::poll_fn(|cx| asked.1.poll_reset(cx))).await.unwrap();
    assert_eq!(ended, Reason::CANCEL);
    assert!(!call.await.unwrap().unwrap_err().is_unprocessed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_gives_no_sign_of_life_is_given_up() {
    let (channel, mut far) = channel();
    let call = begin(&channel, Empty::new());
    let _socket = far.given.recv().await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_silence() && !error.is_unprocessed() && !error.is_not_connected(), "{error:?}");
}

#[tokio::test]
async fn what_was_refused_is_told_from_what_broke() {
    let local = ChannelError::Broken(Arc::new(Reason::REFUSED_STREAM.into()));
    assert!(!local.is_unprocessed(), "only the peer can say so");
    for (reason, is_unprocessed) in [(Reason::REFUSED_STREAM, true), (Reason::INTERNAL_ERROR, false)] {
        let (channel, mut far) = channel();
        let call = begin(&channel, Empty::new());
        let mut peer = far.peer(100).await;
        peer.asked.recv().await.unwrap().1.send_reset(reason);
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.is_unprocessed(), is_unprocessed, "{error:?}");
        assert!(!error.is_not_connected() && !error.is_silence());
    }
}
