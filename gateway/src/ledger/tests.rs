//! The ledger on a disk that fails, and how what it keeps lies there.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use postern_chassis::fault::reason_of;
use tonic::Status;
use tonic::body::Body;
use tower::{Service as _, service_fn};

use super::*;
use crate::store::sqlite::Sqlite;
use crate::store::{Change as Changed, Entry, IsOver};

const UNARY: &str = "/postern.outlook.v1.CalendarService/CreateEvent";
const GATHERING: &str = "/postern.smtp.v1.SmtpService/SendLargeEmail";
const SENDING: &str = "/postern.smtp.v1.SmtpService/SendEmail";

/// A store on a disk that takes nothing more from a moment on.
struct Full {
    store: Arc<Sqlite>,
    /// After how many writes it is full.
    left: AtomicUsize,
    /// Whoever has it holds up all writes.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[tonic::async_trait]
impl Store for Full {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let _turn = self.turn.lock().await;
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| StoreError::Failed("the disk is full".to_owned()))?;
        self.store.write(write).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.list(prefix, after, limit).await
    }

    async fn records(&self, after: Option<&Entry>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.records(after, limit).await
    }

    async fn forget(&self, is_over: &IsOver) -> Result<(), StoreError> {
        self.store.forget(is_over).await
    }

    fn watch(&self) -> tokio::sync::broadcast::Receiver<Changed> {
        self.store.watch()
    }
}

/// A message with field 2, a request id, in its frame.
fn message() -> Bytes {
    Bytes::from_static(b"\0\0\0\0\x03\x12\x01r")
}

fn request(path: &str) -> Request<Body> {
    let frames = [message(), Bytes::from_static(b"\0\0\0\0\x02\x1a\0")];
    let frames = frames.into_iter().take(if path == UNARY { 1 } else { 2 });
    let frames = frames.map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
    let body = Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())));
    let request = Request::post(path).header("content-type", "application/grpc");
    request.body(body).unwrap()
}

/// What a connector saw of a call.
#[derive(Default)]
struct Connector {
    calls: AtomicUsize,
    /// Whether a request came to its end.
    whole: AtomicBool,
    /// What it answers. Absent: that this was made before.
    answer: Option<Bytes>,
}

/// The key ring of a folder.
fn keys(folder: &tempfile::TempDir) -> Arc<KeyRing> {
    Arc::new(KeyRing::read_or_make(&folder.path().join("keys")).unwrap())
}

async fn call(full: &(Arc<Full>, tempfile::TempDir), connector: &Arc<Connector>, path: &str) -> Status {
    Status::from_header_map(ask(full, connector, path).await.headers()).unwrap()
}

async fn ask(
    (full, folder): &(Arc<Full>, tempfile::TempDir),
    connector: &Arc<Connector>,
    path: &str,
) -> Response<Body> {
    let leases = Leases::start(full.store.clone(), String::new()).await.unwrap();
    let ledger = Ledger::new(leases, full.clone(), keys(folder)).unwrap();
    let connector = connector.clone();
    let inner = service_fn(move |request: Request<Body>| {
        let connector = connector.clone();
        async move {
            connector.calls.fetch_add(1, Ordering::SeqCst);
            let response = match request.into_body().collect().await {
                Ok(_) => {
                    connector.whole.store(true, Ordering::SeqCst);
                    let made = || Answer::error(&Status::already_exists("made"));
                    connector.answer.clone().map_or_else(made, Answer::success).into_response()
                }
                Err(status) => status.into_http(),
            };
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let answer = Once::new(inner, ledger.clone()).call(request(path)).await.unwrap();
    ledger.finished().await;
    answer
}

fn full(left: usize) -> (Arc<Full>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    (Arc::new(Full { store, left: AtomicUsize::new(left), turn: Arc::default() }), folder)
}

#[tokio::test]
async fn nothing_is_changed_that_cannot_be_written_down_first() {
    for path in [UNARY, GATHERING] {
        let (full, connector) = (full(0), Arc::default());
        let refused = call(&full, &connector, path).await;
        assert_eq!(
            (refused.code(), connector.calls.load(Ordering::SeqCst)),
            (Code::Unavailable, 0),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_stream_whose_end_cannot_be_written_down_is_never_handed_over_whole() {
    let (full, connector) = (full(1), Arc::<Connector>::default());
    let refused = call(&full, &connector, GATHERING).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(!connector.whole.load(Ordering::SeqCst), "the connector was given all of it");
    // So a repeat is a new try, by the gateway that comes after this one too.
    full.0.left.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(call(&full, &connector, GATHERING).await.message(), "made");
    assert_eq!(connector.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_down_is_given_and_a_repeat_is_told_that_nobody_knows() {
    let (full, connector) = (full(1), Arc::<Connector>::default());
    assert_eq!(call(&full, &connector, SENDING).await.message(), "made");
    full.0.left.store(usize::MAX, Ordering::SeqCst);
    let repeat = call(&full, &connector, SENDING).await;
    assert_eq!((repeat.code(), reason_of(&repeat).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    assert_eq!(connector.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_is_given_while_it_is_written_down_and_a_repeat_waits_for_that() {
    let (full, folder) = full(usize::MAX);
    let leases = Leases::start(full.store.clone(), String::new()).await.unwrap();
    let ledger = Ledger::new(leases, full.clone(), keys(&folder)).unwrap();
    let (turn, held, calls) = (full.turn.clone(), Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
    let (holding, called) = (held.clone(), calls.clone());
    let inner = service_fn(move |_: Request<Body>| {
        called.fetch_add(1, Ordering::SeqCst);
        let (turn, holding) = (turn.clone(), holding.clone());
        async move {
            // From here on nothing is written.
            *holding.lock().unwrap() = Some(turn.lock_owned().await);
            Ok::<_, Infallible>(Answer::success(message()).into_response())
        }
    });
    let mut once = Once::new(inner, ledger.clone());
    let first = once.call(request(SENDING)).await.unwrap().into_body().collect().await.unwrap();
    let mut repeat = once.call(request(SENDING));
    let mut finished = Box::pin(ledger.finished());
    while ledger.running.lock().unwrap().values().all(Vec::is_empty) {
        tokio::select! {
            _ = &mut repeat => panic!("the repeat was answered before the first answer was written down"),
            () = &mut finished => panic!("all is said to be written down"),
            () = tokio::task::yield_now() => {}
        }
    }
    held.lock().unwrap().take();
    let repeated = repeat.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!((first.to_bytes(), repeated.to_bytes()), (message(), message()));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    finished.await;
}

#[tokio::test]
async fn an_answer_waits_while_too_many_others_are_not_written_down() {
    let (full, folder) = full(usize::MAX);
    let leases = Leases::start(full.store.clone(), String::new()).await.unwrap();
    let ledger = Ledger::new(leases, full, keys(&folder)).unwrap();
    let all = ledger.unwritten.clone().acquire_many_owned(UNWRITTEN.try_into().unwrap()).await.unwrap();
    let (answer, mut answered) = oneshot::channel();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let inner = service_fn(move |_: Request<Body>| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move {
            answer.send(()).unwrap();
            Ok::<_, Infallible>(Answer::success(message()).into_response())
        }
    });
    let mut call = Once::new(inner, ledger).call(request(SENDING));
    // The connector answers within one turn of the call, and without the others that turn would be its last.
    tokio::select! {
        biased;
        _ = &mut call => panic!("it was answered"),
        answered = &mut answered => answered.unwrap(),
    }
    drop(all);
    let answer = call.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.to_bytes(), message());
}

#[tokio::test]
async fn an_answer_lies_sealed_and_without_its_key_nobody_knows_what_it_was() {
    let answer = Bytes::from_static(b"\0\0\0\0\x06\x0a\x04code");
    let connector = Arc::new(Connector { answer: Some(answer.clone()), ..Connector::default() });
    let full = full(usize::MAX);
    let given = async |path: &str| ask(&full, &connector, path).await.into_body().collect().await.unwrap();
    assert_eq!(given(SENDING).await.to_bytes(), answer);
    let kept = full.0.records(None, 10).await.unwrap().remove(0);
    assert!(!kept.value.windows(4).any(|bytes| bytes == b"code"), "the answer can be read in the store");
    // What was sealed for one call opens for no other.
    let sealed = Record::decode(kept.value).unwrap().answer;
    assert_eq!(Answer::open(&keys(&full.1), "ledger/another", &sealed), None);
    assert_eq!(given(SENDING).await.to_bytes(), answer);
    assert_eq!(connector.calls.load(Ordering::SeqCst), 1);
    // The key that sealed it is lost; the oldest, which digests are made with, is there.
    let path = full.1.path().join("keys");
    let oldest = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{oldest}{}\n", *crate::seal::new_key_line().unwrap())).unwrap();
    assert_eq!(given(GATHERING).await.to_bytes(), answer);
    std::fs::write(&path, oldest).unwrap();
    let repeat = call(&full, &connector, GATHERING).await;
    assert_eq!((repeat.code(), reason_of(&repeat).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    assert_eq!(connector.calls.load(Ordering::SeqCst), 2, "nothing is made a second time");
}

#[tokio::test]
async fn a_change_is_remembered_for_a_day_and_by_its_caller() {
    let (full, folder) = full(usize::MAX);
    let leases = Leases::start(full.store.clone(), String::new()).await.unwrap();
    let ledger = Ledger::new(leases, full.clone(), keys(&folder)).unwrap();
    let begin = Some(SystemTime::now().into());
    let record = Record { begin, ..Record::default() };
    let entry = key("billing", UNARY, "r");
    for other in [key("shop", UNARY, "r"), key("billing", GATHERING, "r"), key("billing", UNARY, "s")] {
        assert_ne!(entry, other);
    }
    let value = Some(record.encode_to_vec().into());
    full.write(Write { key: entry.clone(), value, expect: Expect::Absent }).await.unwrap();
    let hour = Duration::from_secs(3_600);
    ledger.sweep_once(SystemTime::now() + 23 * hour).await.unwrap();
    assert!(full.get(&entry).await.unwrap().is_some());
    ledger.sweep_once(SystemTime::now() + 25 * hour).await.unwrap();
    assert!(full.get(&entry).await.unwrap().is_none());
}
