//! The sockets of one connection: so many at once and no more, kept open between messages, and never lent out again
//! once the server has closed them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::conversation::Conversation;
use crate::error::Error;
use crate::oauth::Grant;
use crate::pace::{Pace, Pauses};

/// How long a call waits for a socket, or for its turn, before it is told that the connection is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a call waits for a server that is given a pause, holding a socket's slot.
const PAUSE_PATIENCE: Duration = Duration::from_secs(5);
/// How many calls may wait at once: beyond, waiting would only end in vain later.
const MAX_WAITING: usize = 1_000;
/// When to try again where all sockets are busy.
const RETRY_BUSY: Duration = Duration::from_secs(1);
/// A socket unused for longer is asked (NOOP) before it is lent out: a firewall may have forgotten it without a word.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// The sockets of one connection.
///
/// Open sockets are those lent out and those kept. Each that is lent out holds a slot; kept ones are lent out before a
/// new one is opened, and a socket is put back before its slot is given up: so all together are never more than slots.
#[derive(Debug)]
pub(crate) struct Pool {
    connection: Connection,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    kept: Mutex<Vec<Kept>>,
    pace: Option<Pace>,
    pauses: Pauses,
    tokens: Mutex<Tokens>,
    used: Mutex<Instant>,
    closed: AtomicBool,
}

/// The access tokens that sockets sign in by, numbered from 1 as they come, where the connection signs in by one.
#[derive(Debug, Default)]
struct Tokens {
    /// That of the call that came last.
    newest: Option<SecretString>,
    number: u64,
    /// Sockets that signed in by this one, or one before, are not used any more: the server takes no mail on them.
    refused: u64,
}

#[derive(Debug)]
struct Kept {
    conversation: Conversation,
    since: Instant,
}

/// A socket that is let go.
#[derive(Debug)]
pub(crate) struct Leaving {
    conversation: Conversation,
    /// Kept until the server has closed the socket too. None: the pool is no longer used.
    slot: Option<OwnedSemaphorePermit>,
}

/// A socket that is lent out. Dropped, it is closed; [`Lease::give_back`] keeps it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The conversation on it.
    pub(crate) conversation: Conversation,
    pool: Arc<Pool>,
    reused: bool,
    // Last, so that it is dropped last: the socket is closed before its slot is free.
    slot: OwnedSemaphorePermit,
}

impl Pool {
    /// The pool of a connection, with no socket open.
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connection.max_connections as usize)),
            waiting: AtomicUsize::new(0),
            kept: Mutex::new(Vec::new()),
            pace: connection.interval.map(Pace::new),
            pauses: Pauses::default(),
            tokens: Mutex::default(),
            used: Mutex::new(Instant::now()),
            closed: AtomicBool::new(false),
            connection,
        }
    }

    /// The connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Takes the grant that came with a call: new sockets sign in by its token.
    pub(crate) fn take_grant(&self, grant: &[u8]) {
        if self.connection.provider().is_some() {
            let token = Grant::read(grant).map(|grant| grant.access_token().clone());
            let exposed =
                |token: &Option<SecretString>| token.as_ref().map(|token| token.expose_secret().to_owned());
            let mut tokens = self.tokens();
            if exposed(&tokens.newest) != exposed(&token) {
                tokens.newest = token;
                tokens.number += 1;
            }
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the token by which the conversation signed in has run out.
    fn is_spent(&self, conversation: &Conversation) -> bool {
        conversation.token().is_some_and(|number| number <= self.tokens().refused)
    }

    /// Opens a socket, once the server may be asked again.
    async fn open(&self, clock: Clock) -> Result<Conversation, Error> {
        self.pauses.turn(clock.end_within(PAUSE_PATIENCE)).await?;
        self.open_now(clock).await
    }

    async fn open_now(&self, clock: Clock) -> Result<Conversation, Error> {
        let (token, number) = {
            let tokens = self.tokens();
            (tokens.newest.clone(), tokens.number)
        };
        let token = token.as_ref().map(|token| (token, number));
        let opened = Conversation::open(&self.connection, token, clock).await;
        match &opened {
            Ok(_) => self.pauses.note(Instant::now(), None),
            Err(error) if error.asks_for_a_pause() && !clock.is_over() => {
                self.pauses.note(Instant::now(), Some(error));
            }
            Err(_) => {}
        }
        opened
    }

    /// Waits for a turn by the connection's pace.
    pub(crate) async fn turn(&self, clock: Clock) -> Result<(), Error> {
        match &self.pace {
            Some(pace) => pace.turn(clock.end_within(PATIENCE)).await.map_err(Error::Busy),
            None => Ok(()),
        }
    }

    /// Lends out a socket: one that was kept and that the server still listens on, else a new one.
    pub(crate) async fn lend(self: &Arc<Self>, clock: Clock) -> Result<Lease, Error> {
        let slot = self.slot(clock).await?;
        while let Some(mut kept) = self.pick() {
            if self.is_spent(&kept.conversation) || !kept.conversation.is_quiet() {
                continue;
            }
            if kept.since.elapsed() < ASK_AFTER || kept.conversation.answers(clock).await {
                return Ok(Lease {
                    conversation: kept.conversation,
                    pool: Arc::clone(self),
                    reused: true,
                    slot,
                });
            }
            // What forgot this one without a word has forgotten those that were unused for longer.
            self.kept().retain(|other| other.since > kept.since);
        }
        let conversation = self.open(clock).await?;
        Ok(Lease { conversation, pool: Arc::clone(self), reused: false, slot })
    }

    /// Lends out a new socket whatever is kept, and without a pause: for a check that the connection works now.
    pub(crate) async fn lend_new(self: &Arc<Self>, clock: Clock) -> Result<Lease, Error> {
        let slot = self.slot(clock).await?;
        if let Some(kept) = self.pick() {
            kept.conversation.quit().await;
        }
        let conversation = self.open_now(clock).await?;
        Ok(Lease { conversation, pool: Arc::clone(self), reused: false, slot })
    }

    async fn slot(&self, clock: Clock) -> Result<OwnedSemaphorePermit, Error> {
        self.touch();
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = Place::take(&self.waiting).ok_or(Error::Busy(RETRY_BUSY))?;
        match timeout_at(clock.end_within(PATIENCE), Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Error::Busy(RETRY_BUSY)),
        }
    }

    /// The socket kept last: the others grow old and are closed.
    fn pick(&self) -> Option<Kept> {
        self.kept().pop()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When a socket was last asked for.
    pub(crate) fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the sockets that were unused for the connection's idle timeout.
    pub(crate) fn take_idle(&self, now: Instant) -> Vec<Leaving> {
        let mut kept = self.kept();
        // The oldest stand first.
        let idle = kept
            .iter()
            .take_while(|kept| now.saturating_duration_since(kept.since) >= self.connection.idle_timeout)
            .count();
        // Where there is no slot, a call has it already and is about to pick a socket.
        let slots = (0..idle).map_while(|_| Arc::clone(&self.slots).try_acquire_owned().ok());
        let slots: Vec<_> = slots.collect();
        let idle = kept.drain(..slots.len()).zip(slots);
        idle.map(|(kept, slot)| Leaving { conversation: kept.conversation, slot: Some(slot) }).collect()
    }

    /// Ends the pause that a failure brought.
    #[cfg(test)]
    pub(crate) fn forgive(&self) {
        self.pauses.note(Instant::now(), None);
    }

    /// Makes the sockets that are kept older than they are.
    #[cfg(test)]
    pub(crate) fn age(&self, by: Duration) {
        for kept in self.kept().iter_mut() {
            kept.since = kept.since.checked_sub(by).unwrap();
        }
    }

    /// Takes out the sockets that are kept now: the connection was changed, and those will hardly be used again.
    pub(crate) fn take_kept(&self) -> Vec<Leaving> {
        self.kept().drain(..).map(|kept| Leaving { conversation: kept.conversation, slot: None }).collect()
    }

    /// Takes out all sockets that are kept; those lent out are closed when they come back.
    pub(crate) fn close(&self) -> Vec<Leaving> {
        self.closed.store(true, Ordering::Release);
        self.take_kept()
    }
}

impl Leaving {
    /// Says QUIT and closes the socket.
    pub(crate) async fn quit(self) {
        self.conversation.quit().await;
        drop(self.slot);
    }
}

impl Lease {
    /// Whether the socket was used before: it may have gone stale since, or the server may have had enough of it.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused || self.conversation.handed_over() > 0
    }

    /// A socket for one more message: this one, or a new one where it has done its number, or is in no state for it.
    pub(crate) async fn fit(self, clock: Clock) -> Result<Self, Error> {
        let most = self.pool.connection.max_messages_per_connection;
        let is_spent = self.pool.is_spent(&self.conversation);
        if self.conversation.is_ready() && !is_spent && self.conversation.handed_over() < most {
            return Ok(self);
        }
        let Self { conversation, pool, slot, .. } = self;
        if conversation.is_ready() {
            conversation.quit().await;
        }
        let conversation = pool.open(clock).await?;
        Ok(Self { conversation, pool, reused: false, slot })
    }

    /// Notes that the server takes no mail on sockets that signed in as this one did: their token has run out.
    pub(crate) fn spend_token(&self) {
        if let Some(number) = self.conversation.token() {
            let mut tokens = self.pool.tokens();
            tokens.refused = tokens.refused.max(number);
        }
    }

    /// Closes the socket and opens a new one in its place.
    pub(crate) async fn renew(self, clock: Clock) -> Result<Self, Error> {
        let Self { conversation, pool, slot, .. } = self;
        drop(conversation);
        let conversation = pool.open(clock).await?;
        Ok(Self { conversation, pool, reused: false, slot })
    }

    /// Puts the socket back to be used again; or closes it, where it has done its number of messages, or is in no
    /// state to be used.
    pub(crate) fn give_back(self) {
        let Self { conversation, pool, slot, .. } = self;
        if !conversation.is_ready() || pool.is_spent(&conversation) {
            drop(conversation);
            drop(slot);
            return;
        }
        let done = conversation.handed_over() >= pool.connection.max_messages_per_connection;
        {
            let mut kept = pool.kept();
            if !done && !pool.closed.load(Ordering::Acquire) {
                kept.push(Kept { conversation, since: Instant::now() });
                return;
            }
        }
        tokio::spawn(Leaving { conversation, slot: Some(slot) }.quit());
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
