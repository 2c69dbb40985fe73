//! Those who read events at the gateways of a simulation, go away and come back, and notice what must not be: each
//! counts along, so that nothing is left out without a gap that says so, and no gap says more than is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use postern_gateway::events::cursor::Cursor;
use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::consume_response::Kind as Told;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::{
    Commit, ConsumeRequest, ConsumeStart, Delivery, Event, Gap, GapReason, Heartbeat, Nack, Opened, Settle,
    StartPosition, SubscribeRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::journal::Journal;
use crate::machine::Gateway;
use crate::weather::{Counted, Weather, lock};

/// How often a stream has something to say.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The longest silence of a stream that is waited for.
const SILENCE: Duration = Duration::from_secs(12);
/// How long who was taken over from stays away at most.
const RESPECT_MS: u64 = 8_000;

/// How long a reader takes over what it was given, usually and at most.
const USUAL_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 7_000;

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It keeps its place itself.
    Follows,
    /// It commits in an ORDERED subscription.
    Commits,
    /// It acknowledges in a SHARED subscription.
    Acks,
}

/// What all readers of one kind know together.
#[derive(Default)]
pub(crate) struct Book {
    /// Where who follows has come to.
    cursor: Bytes,
    /// The same as a place.
    pub(crate) at: u64,
    /// The last place whose commit was confirmed.
    pub(crate) confirmed: u64,
    /// The last place that was ever committed, or told to be gone.
    committed: u64,
    /// The ids whose acknowledgement was confirmed, and of which delivery it was.
    acked: BTreeMap<String, i32>,
    /// What the ids of acknowledgements are for.
    asked: BTreeMap<String, (String, i32)>,
    /// Between which places a SHARED subscription's readers were told of gaps.
    passed: Vec<(u64, u64)>,
}

impl Book {
    /// The first place that is neither acknowledged, whether that was confirmed or not, nor told to be gone.
    pub(crate) fn open(&self, journal: &Journal) -> Option<u64> {
        let written = journal.read();
        let ids: BTreeSet<_> = self.acked.keys().chain(self.asked.values().map(|(id, _)| id)).collect();
        let is_gone = |place: u64| self.passed.iter().any(|(from, to)| *from < place && place <= *to);
        let is_open = |place: &u64| {
            let id = usize::try_from(*place - 1).ok().and_then(|at| written.ids.get(at));
            !id.is_some_and(|id| ids.contains(id)) && !is_gone(*place)
        };
        (1..=written.last()).find(is_open)
    }
}

/// A reader.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) weather: Arc<Weather>,
}

fn place(cursor: &[u8]) -> u64 {
    Cursor::decode(cursor).map_or(0, |cursor| cursor.sequence)
}

fn place_of(event: Option<&Event>) -> u64 {
    event.map_or(0, |event| place(&event.cursor))
}

impl Reader {
    /// Reads at one gateway until that ends.
    pub(crate) async fn session(self: Arc<Self>, gateway: Gateway) {
        let client = EventServiceClient::new(gateway.doors);
        let ended = match self.way {
            Way::Follows => self.follow(client).await,
            Way::Commits | Way::Acks => self.consume(client).await,
        };
        let code = ended.err().map(|status| (status.code(), postern_chassis::fault::reason_of(&status)));
        self.weather.trace(format_args!("{}: ended {code:?}", self.name));
        if code.is_some_and(|(code, _)| code == Code::Aborted) {
            tokio::time::sleep(self.weather.within(RESPECT_MS)).await;
        }
    }

    /// Takes its time, sometimes so much that retention overtakes it.
    async fn dawdle(&self) {
        let end = if self.weather.strikes(60) { LONGEST_PAUSE_MS } else { USUAL_PAUSE_MS };
        tokio::time::sleep(self.weather.within(end)).await;
    }

    /// What a gap at a place says is gone: as much as it says, and no more than retention has passed. Gives where it ends.
    fn told_gap(&self, gap: &Gap, at: u64) -> u64 {
        let (from, to) = (place(&gap.from_cursor), place(&gap.to_cursor));
        let removed = self.journal.read().removed;
        self.weather.count(Counted::Gaps, 1);
        self.weather.trace(format_args!("{}: gap {from} {to}", self.name));
        let is_exact =
            from == at && to > from && u64::try_from(gap.missed).is_ok_and(|missed| missed == to - from);
        if !is_exact || gap.reason() != GapReason::Retention || to > removed {
            self.weather.wrong(format!(
                "{}: at {at}, with all gone up to {removed}, it is told of a gap from {from} to {to} of {} ({:?})",
                self.name,
                gap.missed,
                gap.reason()
            ));
        }
        to
    }

    /// Whether it goes away now, of itself.
    fn leaves(&self) -> bool {
        self.weather.strikes(30)
    }

    async fn follow(&self, mut client: EventServiceClient<crate::Doors>) -> Result<(), Status> {
        let cursor = lock(&self.book).cursor.clone();
        let is_first = cursor.is_empty();
        let position = if is_first { Position::Earliest(()) } else { Position::Cursor(cursor) };
        let start = Some(StartPosition { position: Some(position) });
        let heartbeat_interval = HEARTBEAT.try_into().ok();
        let request = SubscribeRequest { start, heartbeat_interval, ..SubscribeRequest::default() };
        let mut stream = client.subscribe(request).await?.into_inner();
        while let Ok(Some(answer)) = tokio::time::timeout(SILENCE, stream.message()).await.unwrap_or(Ok(None))
        {
            let at = lock(&self.book).at;
            let cursor = match answer.kind {
                Some(Answer::Batch(batch)) => {
                    self.weather.count(Counted::Deliveries, batch.events.len());
                    let places = batch.events.iter().map(|event| place(&event.cursor));
                    if !places.clone().eq((at + 1..).take(batch.events.len())) {
                        let places: Vec<_> = places.collect();
                        self.weather.wrong(format!("{}: at {at} it is given {places:?}", self.name));
                    }
                    batch.events.last().map(|event| event.cursor.clone())
                }
                Some(Answer::Gap(gap)) => {
                    self.told_gap(&gap, at);
                    Some(gap.to_cursor)
                }
                Some(Answer::Opened(opened)) if is_first => Some(opened.cursor),
                Some(Answer::Opened(Opened { cursor, .. }) | Answer::Heartbeat(Heartbeat { cursor })) => {
                    if place(&cursor) != at {
                        self.weather.wrong(format!(
                            "{}: at {at} it is told to be at {}",
                            self.name,
                            place(&cursor)
                        ));
                    }
                    None
                }
                None => None,
            };
            if let Some(cursor) = cursor {
                let mut book = lock(&self.book);
                book.at = place(&cursor);
                book.cursor = cursor;
            }
            if self.leaves() {
                return Ok(());
            }
            self.dawdle().await;
        }
        Ok(())
    }

    async fn consume(&self, mut client: EventServiceClient<crate::Doors>) -> Result<(), Status> {
        let (say, said) = mpsc::channel(16);
        let subscription = match self.way {
            Way::Commits => "subscriptions/ordered",
            Way::Follows | Way::Acks => "subscriptions/shared",
        };
        let (subscription, client_id) = (subscription.to_owned(), self.name.to_owned());
        let first = ConsumeStart {
            subscription,
            client_id,
            max_outstanding_events: 5,
            heartbeat_interval: HEARTBEAT.try_into().ok(),
            ..Default::default()
        };
        let send = |kind| say.try_send(ConsumeRequest { kind: Some(kind) });
        let _ = send(Say::Start(first));
        let floor = lock(&self.book).confirmed;
        // How far an ORDERED stream has come.
        let mut at = 0;
        let mut stream = client.consume(ReceiverStream::new(said)).await?.into_inner();
        while let Some(answer) = tokio::time::timeout(SILENCE, stream.message()).await.unwrap_or(Ok(None))? {
            match answer.kind {
                // What was committed may not have been confirmed.
                Some(Told::Opened(opened)) if self.way == Way::Commits => {
                    at = place(&opened.cursor);
                    let mut book = lock(&self.book);
                    if at < floor || at > book.committed {
                        let (name, committed) = (self.name, book.committed);
                        self.weather.wrong(format!(
                            "{name}: begins at {at}: confirmed {floor}, committed {committed}"
                        ));
                    }
                    book.confirmed = book.confirmed.max(at);
                }
                Some(Told::Deliveries(all)) if self.way == Way::Commits => {
                    self.weather.count(Counted::Deliveries, all.deliveries.len());
                    for delivery in &all.deliveries {
                        let place = place_of(delivery.event.as_ref());
                        if place != at + 1 {
                            self.weather.wrong(format!("{}: {place} came after {at}", self.name));
                        }
                        at = place;
                    }
                    let last = all.deliveries.len() - 1;
                    let chosen = if self.weather.is_calm() { last } else { self.weather.below(last + 1) };
                    self.dawdle().await;
                    if let Some(event) =
                        all.deliveries.get(chosen).and_then(|delivery| delivery.event.clone())
                    {
                        self.commit(event.cursor, &say);
                    }
                }
                Some(Told::Gap(gap)) if self.way == Way::Commits => {
                    at = self.told_gap(&gap, at);
                    self.dawdle().await;
                    // Else it is told again, or what comes after it is committed.
                    if self.weather.is_calm() || self.weather.below(2) == 0 {
                        self.commit(gap.to_cursor, &say);
                    }
                }
                Some(Told::Deliveries(all)) => {
                    self.weather.count(Counted::Deliveries, all.deliveries.len());
                    // What comes meanwhile is looked at as it comes: until its deadline has passed it may be another's.
                    let (settle, say, weather) =
                        (self.settle(all.deliveries), say.clone(), self.weather.clone());
                    tokio::spawn(async move {
                        weather.wait(200, 15_000).await;
                        let _ = say.try_send(ConsumeRequest { kind: Some(Say::Settle(settle)) });
                    });
                }
                Some(Told::Confirmed(confirmed)) => {
                    let mut book = lock(&self.book);
                    book.confirmed = book.confirmed.max(place(&confirmed.cursor));
                    for ack_id in &confirmed.ack_ids {
                        if let Some((id, attempt)) = book.asked.get(ack_id).cloned() {
                            book.acked.insert(id, attempt);
                        }
                    }
                }
                // Who ends with it in hand has told nobody.
                Some(Told::Gap(_)) if self.weather.strikes(200) => return Ok(()),
                Some(Told::Gap(gap)) => {
                    self.pass(&gap);
                    // Else it is acknowledged with an event after it, or told again.
                    if self.weather.below(2) == 0 {
                        let settle = Settle { ack_ids: vec![gap.ack_id], ..Settle::default() };
                        let _ = send(Say::Settle(settle));
                    }
                }
                Some(Told::Opened(_)) | Some(Told::Heartbeat(_)) | None => {}
            }
            if self.leaves() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Commits a place.
    fn commit(&self, cursor: Bytes, say: &mpsc::Sender<ConsumeRequest>) {
        let mut book = lock(&self.book);
        book.committed = book.committed.max(place(&cursor));
        let _ = say.try_send(ConsumeRequest { kind: Some(Say::Commit(Commit { cursor })) });
    }

    /// Takes in a gap of a SHARED subscription: what is between two places and was delivered to nobody, or in vain.
    fn pass(&self, gap: &Gap) {
        let (from, to) = (place(&gap.from_cursor), place(&gap.to_cursor));
        self.weather.count(Counted::Gaps, 1);
        self.weather.trace(format_args!("{}: gap {from} {to} of {}", self.name, gap.missed));
        // What was acknowledged too late may be among it.
        let gone = to.min(self.journal.read().removed).saturating_sub(from);
        let missed = u64::try_from(gap.missed).unwrap_or(0);
        if !(1..=gone).contains(&missed) || gap.reason() != GapReason::Retention {
            let name = self.name;
            self.weather
                .wrong(format!("{name}: {gone} are gone from {from} to {to}, and it is told of {missed}"));
        }
        lock(&self.book).passed.push((from, to));
    }

    /// What becomes of deliveries: most are acknowledged.
    fn settle(&self, deliveries: Vec<Delivery>) -> Settle {
        let mut settle = Settle::default();
        for Delivery { event, ack_id, attempt } in deliveries {
            let id = event.map(|event| event.id).unwrap_or_default();
            self.weather.trace(format_args!("{}: given {id} ({attempt})", self.name));
            let mut book = lock(&self.book);
            let is_another = self.journal.read().stored_again.contains(&id);
            // One that was given out before may have taken longer than its deadline to come.
            if !is_another && book.acked.get(&id).is_some_and(|acked| *acked <= attempt) {
                self.weather.wrong(format!("{}: {id} came after its ack was confirmed", self.name));
            }
            if self.weather.strikes(100) {
                let delay = Duration::from_secs(1).try_into().ok();
                settle.nacks.push(Nack { ack_id, delay, reason: String::new() });
            } else if !self.weather.strikes(50) {
                book.asked.insert(ack_id.clone(), (id, attempt));
                settle.ack_ids.push(ack_id);
            }
        }
        settle
    }
}
