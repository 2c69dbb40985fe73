//! `Consume`: a stream in both directions. What is common to both modes: how it begins, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use postern_proto::event::v1::consume_request::Kind;
use postern_proto::event::v1::{ConsumeRequest, ConsumeStart, SubscriptionMode};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::outlet::Outlet;
use super::stored::{self, Stored, id_of};
use super::{ConsumeAnswer, Subscriptions, ordered, shared};
use crate::error::Error;
use crate::events::reading::draining;
use crate::events::wish;
use crate::names;

/// How long a stream may take until it says what it wants.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// The longest client id.
const MAX_CLIENT_ID: usize = 128;
/// How many events may be outstanding.
pub(super) const MAX_EVENTS: usize = 1_000;
pub(super) const DEFAULT_EVENTS: usize = 100;
const MIN_BYTES: usize = 64 * 1024;
const MAX_BYTES: usize = 64 * 1024 * 1024;
const DEFAULT_BYTES: usize = 4 * 1024 * 1024;

/// A stream's side that is heard.
pub(super) type Inbound = Streaming<ConsumeRequest>;

/// A checked `ConsumeStart`.
pub(super) struct Opening {
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) max_events: usize,
    pub(super) max_bytes: usize,
    pub(super) heartbeat: Duration,
    pub(super) stored: Stored,
}

impl Subscriptions {
    /// Serves a stream. What is wrong with it is told as its end.
    pub(crate) fn consume(
        self: &Arc<Self>,
        inbound: Inbound,
    ) -> ReceiverStream<Result<ConsumeAnswer, Status>> {
        // One answer waits for the peer to have room: what is not read is not made.
        let (out, answers) = mpsc::channel(1);
        self.tasks.spawn(serve(self.clone(), inbound, out));
        ReceiverStream::new(answers)
    }
}

async fn serve(
    of: Arc<Subscriptions>,
    mut inbound: Inbound,
    out: mpsc::Sender<Result<ConsumeAnswer, Status>>,
) {
    let opening = tokio::select! {
        opening = open(&of, &mut inbound) => opening,
        () = out.closed() => return,
    };
    let opening = match opening {
        Ok(Some(opening)) => opening,
        Ok(None) => return,
        Err(error) => return Outlet::new(out, Duration::ZERO).end(Some(error.into())).await,
    };
    let mut outlet = Outlet::new(out, opening.heartbeat);
    let ended = match opening.stored.mode() {
        SubscriptionMode::Shared => shared::stream::run(&of, opening, inbound, &mut outlet).await,
        _ => ordered::stream::run(&of, opening, inbound, &mut outlet).await,
    };
    outlet.end(ended.err().map(Status::from)).await;
}

/// Hears what a stream wants. `None`: it ended before it said so.
async fn open(of: &Subscriptions, inbound: &mut Inbound) -> Result<Option<Opening>, Error> {
    if of.stop.is_cancelled() {
        return Err(draining().into());
    }
    let first = tokio::select! {
        first = tokio::time::timeout(START_PATIENCE, inbound.message()) => first,
        () = of.stop.cancelled() => return Err(draining().into()),
    };
    let start = match first {
        Ok(Ok(None)) => return Ok(None),
        // It cannot be read, or the peer is gone, which then does not hear of it.
        Ok(Err(status)) => return Err(status.into()),
        Ok(Ok(Some(ConsumeRequest { kind: Some(Kind::Start(start)) }))) => start,
        Ok(Ok(Some(_))) => return Err(Error::field("start", "is absent: expected in the first message")),
        Err(_) => return Err(Error::field("start", "did not come: expected within 30 s")),
    };
    let (opening, id) = parse(start)?;
    let stored = stored::read(&*of.store, &id).await?;
    Ok(Some(opening(stored)))
}

/// Checks what a stream wants; all but the subscription itself.
fn parse(start: ConsumeStart) -> Result<(impl FnOnce(Stored) -> Opening, String), Error> {
    let mut wrong = Vec::new();
    gather(&mut wrong, names::subscription("start.subscription", &start.subscription));
    gather(&mut wrong, client_id("start.client_id", &start.client_id));
    let max_events = bounded(start.max_outstanding_events.into(), DEFAULT_EVENTS, 1, MAX_EVENTS)
        .unwrap_or_else(|| {
            wrong.push((
                "start.max_outstanding_events".to_owned(),
                "expected 1 to 1000, or 0 for 100".to_owned(),
            ));
            DEFAULT_EVENTS
        });
    let max_bytes =
        bounded(start.max_outstanding_bytes, DEFAULT_BYTES, MIN_BYTES, MAX_BYTES).unwrap_or_else(|| {
            let problem = "expected 65536 to 67108864, or 0 for 4194304".to_owned();
            wrong.push(("start.max_outstanding_bytes".to_owned(), problem));
            DEFAULT_BYTES
        });
    let before = wrong.len();
    let heartbeat = wish::heartbeat(start.heartbeat_interval, &mut wrong);
    wrong.iter_mut().skip(before).for_each(|(field, _)| field.insert_str(0, "start."));
    if !wrong.is_empty() {
        return Err(Error::Fields(wrong));
    }
    let client_id = match start.client_id.is_empty() {
        true => format!("made-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
        false => start.client_id,
    };
    let id = id_of(&start.subscription).to_owned();
    let its = id.clone();
    Ok((move |stored| Opening { id, client_id, max_events, max_bytes, heartbeat, stored }, its))
}

/// Adds the fields of an error to others.
pub(super) fn gather(wrong: &mut Vec<(String, String)>, checked: Result<(), Error>) {
    if let Err(Error::Fields(fields)) = checked {
        wrong.extend(fields);
    }
}

/// Checks a client id, which may be absent.
pub(super) fn client_id(field: &str, client_id: &str) -> Result<(), Error> {
    if client_id.len() <= MAX_CLIENT_ID && client_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Error::field(field, "is no client id: expected at most 128 visible ASCII characters"))
}

/// A number within its bounds; 0 is the default.
pub(super) fn bounded(given: i64, default: usize, least: usize, most: usize) -> Option<usize> {
    match usize::try_from(given) {
        Ok(0) => Some(default),
        Ok(given) => Some(given).filter(|given| (least..=most).contains(given)),
        Err(_) => None,
    }
}
