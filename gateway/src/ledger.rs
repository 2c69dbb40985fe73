//! Doing things once: a change with a `request_id` is written down before it is made, and its answer while that is given.
//! A repeat gets the first answer, waits for it, or is told that it cannot be known.
//!
//! It knows no method: which ones change something and carry a request id, which of these take a stream, and which can be
//! asked again when nobody knows how they ended, the contract's descriptors say.

mod elsewhere;
mod lasting;
mod once;
mod record;
mod stream;
mod ticket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postern_chassis::digest;
use postern_chassis::fault::Fault;
use prost::Message as _;
use prost_types::Timestamp;
use ring::hmac;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;

pub use once::Once;
use record::{Answer, Record, Whole};
use ticket::{Claim, Ticket};

use crate::error::Error;
use crate::leases::Leases;
use crate::metrics::LEDGER;
use crate::seal::{KeyRing, SealError};
use crate::store::{Entry, Expect, RECORDS, Revision, Store, StoreError, Write, write_surely};

/// How long a request id is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// How often forgotten records are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3_600);
/// How many answers that were given may be on their way to the store. Beyond that a call waits to be answered, so that a
/// store that is slow or out of reach slows whoever asks.
const UNWRITTEN: usize = 1024;
/// The duty that one gateway has for all.
const DUTY: &str = "ledger";

/// The ledger of changes.
pub struct Ledger {
    store: Arc<dyn Store>,
    digests: hmac::Key,
    /// Seal the answers that are kept.
    keys: Arc<KeyRing>,
    /// Tells this run of the gateway from others, and which of those live: a record that another began which lives no
    /// more is nobody's.
    leases: Arc<Leases>,
    /// What this gateway's records say who began them.
    run: Bytes,
    /// The changes being made, by key, each with those who wait for its end. Bounded by the calls that the listener
    /// takes and by those that were answered and are not written down yet.
    running: Mutex<HashMap<String, Vec<oneshot::Sender<()>>>>,
    /// Room for answers that are not written down yet.
    unwritten: Arc<Semaphore>,
    /// What makes them and writes down how they ended: it goes on when their callers are gone.
    tasks: TaskTracker,
}

/// A change that is asked for.
struct Change {
    key: String,
    /// The digest of its request; of a stream, of its first message.
    digest: Bytes,
    terms: Terms,
}

/// What the contract says of a method's changes.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// Whether its request is a stream: nothing is changed before that has ended.
    gathers: bool,
    /// Whether its connector can be asked again.
    idempotent: bool,
}

/// What to do with a change.
enum Begin {
    /// Make it, and say how it ended.
    Run(Ticket),
    /// Give the answer that it had; to a stream, if it is the same one.
    Answer(Answer, Option<Whole>),
}

impl Ledger {
    /// A ledger over a store. Requests, of which it keeps digests, and their answers may hold secrets.
    ///
    /// # Errors
    /// The key ring has no key.
    pub fn new(
        leases: Arc<Leases>,
        store: Arc<dyn Store>,
        keys: Arc<KeyRing>,
    ) -> Result<Arc<Self>, SealError> {
        let (digests, running) = (keys.digest_key()?, Mutex::default());
        let run = Bytes::copy_from_slice(leases.id().as_bytes());
        let (unwritten, tasks) = (Arc::new(Semaphore::new(UNWRITTEN)), TaskTracker::new());
        Ok(Arc::new(Self { store, digests, keys, leases, run, running, unwritten, tasks }))
    }

    /// The digest of a request.
    fn digest(&self, request: &[u8]) -> Bytes {
        Bytes::copy_from_slice(hmac::sign(&self.digests, request).as_ref())
    }

    /// Waits until the answer of every change being made is written down, those that no caller waits for any more
    /// included. To be asked once no call comes in any more.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Removes records that are no longer remembered, from time to time, until `stop` is cancelled: while this is the
    /// gateway to do it.
    pub async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut owned = self.leases.changes();
        loop {
            // Whoever comes to lead sweeps at once.
            tokio::select! {
                Ok(_) = owned.wait_for(|owned| owned.owns(DUTY)) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.sweep_once(SystemTime::now()).await {
                tracing::warn!(%error, "the ledger could not be swept");
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn sweep_once(&self, now: SystemTime) -> Result<(), StoreError> {
        let is_over = move |entry: &Entry| {
            let record = Record::decode(entry.value.clone()).ok().filter(|record| remembered(record, now));
            // One that is to begin later than in a day was written by a clock that went wrong.
            record.and_then(|record| begin(&record)).is_none_or(|begin| begin > now + MEMORY)
        };
        self.store.forget(&is_over).await
    }

    /// Begins a change, or finds how it ended. Must go on when the caller is gone: dropped in between it would leave a record
    /// of a change that nobody makes. `caller` is closed once the caller is gone.
    async fn begin(
        self: &Arc<Self>,
        change: Change,
        caller: &mut oneshot::Sender<()>,
    ) -> Result<Begin, Error> {
        // Nearly all are new, and to write a new one tells whether it is: what is known is read where it was not. That in
        // a box: each change has room for this while it is made.
        match self.write_begin(&change, None, SystemTime::now().into(), false).await? {
            Some(ticket) => Ok(Begin::Run(ticket)),
            None => Box::pin(self.find(change, caller)).await,
        }
    }

    /// Finds how a change ended that was known, or begins it again where it is over without an end.
    async fn find(
        self: &Arc<Self>,
        change: Change,
        caller: &mut oneshot::Sender<()>,
    ) -> Result<Begin, Error> {
        let Change { key, digest, terms } = &change;
        loop {
            let now = SystemTime::now();
            let entry = self.store.get(key).await?;
            let revision = entry.as_ref().map(|entry| entry.revision);
            let known = entry.and_then(|entry| Record::decode(entry.value).ok());
            let mut left_over = None;
            if let Some(record) = known.filter(|record| remembered(record, now)) {
                if record.digest != *digest {
                    LEDGER.refused.inc();
                    return Err(reused().into());
                }
                if !record.answer.is_empty() {
                    LEDGER.answered.inc();
                    let answer = Answer::open(&self.keys, key, &record.answer);
                    let unreadable = || Answer::error(&record::unknown("its answer cannot be read any more"));
                    return Ok(Begin::Answer(answer.unwrap_or_else(unreadable), record.whole));
                }
                let why = if record.run != self.run {
                    if elsewhere::wait(self, key, revision, &record.run, caller).await? {
                        continue;
                    }
                    "the gateway ended before its answer was known"
                } else if self.wait(key).await || self.has_changed(key, revision).await? {
                    continue;
                } else {
                    "broke off"
                };
                // Nobody makes it any more. A stream whose end was not handed over has changed nothing.
                let is_nothing_done = terms.gathers && record.whole.is_none();
                if !(terms.idempotent || is_nothing_done) {
                    LEDGER.answered.inc();
                    return Ok(Begin::Answer(Answer::error(&record::unknown(why)), record.whole));
                }
                left_over = record.begin;
            }
            if caller.is_closed() {
                // It waited for another call that changed nothing: nobody is there any more to want a new try.
                return Err(Fault::new(Code::Cancelled, "CALL_CANCELLED", "the caller ended the call").into());
            }
            let is_repeat = left_over.is_some() && terms.idempotent;
            // Remembered for as long as the first try would have been.
            let begin = left_over.unwrap_or_else(|| now.into());
            match self.write_begin(&change, revision, begin, is_repeat).await? {
                Some(ticket) => return Ok(Begin::Run(ticket)),
                None => self.wait(key).await,
            };
        }
    }

    /// Writes down that a change begins, over the record of a revision or where there is none. `None`: the record is
    /// another, or somebody else makes the change just now.
    async fn write_begin(
        self: &Arc<Self>,
        change: &Change,
        over: Option<Revision>,
        begin: Timestamp,
        is_repeat: bool,
    ) -> Result<Option<Ticket>, Error> {
        // Told of as running before it is durable, so that whoever finds the record finds it running too.
        let Some(claim) = Claim::take(self, &change.key) else { return Ok(None) };
        let digest = change.digest.clone();
        let record =
            Record { run: self.run.clone(), digest, begin: Some(begin), answer: Bytes::new(), whole: None };
        let write = Write {
            key: change.key.clone(),
            value: Some(record.encode_to_vec().into()),
            expect: over.map_or(Expect::Absent, Expect::Revision),
        };
        match write_surely(self.store.as_ref(), write).await {
            Ok(revision) => {
                if is_repeat { &LEDGER.left_over } else { &LEDGER.made }.inc();
                Ok(Some(Ticket::new(claim, revision, record, is_repeat)))
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a record is another than it was: it ended between two looks, freed or answered.
    async fn has_changed(&self, key: &str, revision: Option<Revision>) -> Result<bool, Error> {
        Ok(self.store.get(key).await?.map(|entry| entry.revision) != revision)
    }

    /// Waits until a change is no longer running. False: it was not.
    async fn wait(&self, key: &str) -> bool {
        let (waiting, ended) = oneshot::channel();
        match self.running.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            Some(all) => all.push(waiting),
            None => return false,
        }
        // An error says that the sender is gone: that is what is waited for.
        let _ = ended.await;
        true
    }
}

/// The error of a request id that is given for another request.
fn reused() -> Fault {
    let message = "this request_id was used before, with another request: expected a new one";
    Fault::new(Code::InvalidArgument, "REQUEST_ID_REUSED", message)
}

fn remembered(record: &Record, now: SystemTime) -> bool {
    begin(record).is_some_and(|begin| now.duration_since(begin).unwrap_or_default() < MEMORY)
}

fn begin(record: &Record) -> Option<SystemTime> {
    record.begin.and_then(|begin| SystemTime::try_from(begin).ok())
}

/// The key of a change: by caller, method and request id, of which only the digest shows.
fn key(caller: &str, method: &str, request_id: &str) -> String {
    format!("{RECORDS}{}", digest::hex(&digest::of_parts([caller, method, request_id])))
}

#[cfg(test)]
mod tests;
