//! What makes a running server misbehave on demand, and what it remembers of what was said to it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How long [`Control::all_closed`] waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most recipients of one mail, unless told otherwise.
const MAX_RECIPIENTS: usize = 2_000;
/// The most commands remembered: the server may run for long.
const MAX_COMMANDS: usize = 100_000;

/// A step of the conversation at which the server can be told to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The greeting.
    Greeting,
    /// EHLO and HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH, before the credentials are looked at.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The message, when its first bytes have come.
    Body,
    /// The final dot. A reply other than 2yz: the message is not taken. Every other action: it is taken.
    Message,
    /// NOOP.
    Noop,
    /// RSET.
    Rset,
    /// QUIT. Only [`Action::Delay`] is heeded.
    Quit,
}

/// What the server does instead of its usual answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answers with this reply, one line or several.
    Reply(String),
    /// Answers with this reply and closes the connection.
    ReplyAndClose(String),
    /// Closes the connection.
    Close,
    /// Closes its own direction and reads on to the end, taking nothing.
    HalfClose,
    /// Resets the connection (TCP RST).
    Reset,
    /// Waits for so long, then answers as usual.
    Delay(Duration),
    /// Waits until [`Control::let_go`], then answers as usual.
    Hold,
    /// Never answers.
    Silence,
}

/// How often an action is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next time only.
    Once,
    /// Every time, until [`Control::behave`].
    Always,
}

/// The controls of a running server. Clones are the same ones.
#[derive(Clone)]
pub struct Control {
    state: Arc<Mutex<State>>,
    open: watch::Sender<usize>,
    hang_ups: watch::Sender<u64>,
    let_go: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    refusals: HashMap<String, String>,
    actions: Vec<(Stage, Action, Times)>,
    hidden: HashSet<String>,
    tokens: Option<HashSet<String>>,
    ends_sessions: bool,
    recipients: Option<(usize, String)>,
    injected: Option<String>,
    lenient: bool,
    opened: usize,
    most_open: usize,
    commands: Vec<String>,
    waits: usize,
}

impl Default for Control {
    fn default() -> Self {
        let state = Arc::default();
        let (open, hang_ups) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { state, open, hang_ups, let_go: watch::Sender::new(false) }
    }
}

impl Control {
    /// Answers RCPT for this address with this reply, such as `550 5.1.1 no such user`.
    pub fn refuse(&self, address: &str, reply: &str) {
        self.state().refusals.insert(address.to_ascii_lowercase(), reply.to_owned());
    }

    /// Does something at a stage.
    pub fn at(&self, stage: Stage, action: Action, times: Times) {
        self.state().actions.push((stage, action, times));
    }

    /// Does not offer an extension, such as `STARTTLS`.
    pub fn hide(&self, extension: &str) {
        self.state().hidden.insert(extension.to_ascii_uppercase());
    }

    /// Takes this access token (XOAUTH2) as well.
    pub fn accept_token(&self, token: &str) {
        self.state().tokens.get_or_insert_default().insert(token.to_owned());
    }

    /// Takes none of the access tokens so far any more.
    pub fn expire_tokens(&self) {
        self.state().tokens.get_or_insert_default().clear();
    }

    /// Takes no mail any more from those who signed in by a token that it no longer takes.
    pub fn end_sessions_with_tokens(&self) {
        self.state().ends_sessions = true;
    }

    /// Takes so many recipients in one transaction, and answers RCPT with this beyond, such as `452 4.5.3 too many`.
    pub fn limit_recipients(&self, most: usize, reply: &str) {
        self.state().recipients = Some((most, reply.to_owned()));
    }

    /// Sends this in the clear together with the reply to STARTTLS, as somebody in between could.
    pub fn inject_after_starttls(&self, text: &str) {
        self.state().injected = Some(text.to_owned());
    }

    /// Takes 8-bit content that was not announced, as servers do: some relays announce none.
    pub fn take_unannounced(&self) {
        self.state().lenient = true;
    }

    /// Forgets all refusals, actions and hidden extensions.
    pub fn behave(&self) {
        let mut state = self.state();
        state.refusals.clear();
        state.actions.clear();
        state.hidden.clear();
        state.recipients = None;
        state.injected = None;
    }

    /// Has what [`Action::Hold`] holds up go on, and what it would hold up later.
    pub fn let_go(&self) {
        self.let_go.send_replace(true);
    }

    /// Waits until what is held up may go on.
    pub(super) async fn held_up(&self) {
        let _ = self.let_go.subscribe().wait_for(|let_go| *let_go).await;
    }

    /// Closes every connection that is open now.
    pub fn hang_up(&self) {
        self.hang_ups.send_modify(|count| *count += 1);
    }

    /// Waits until no connection is open.
    ///
    /// # Errors
    /// One still was after 20 seconds.
    pub async fn all_closed(&self) -> io::Result<()> {
        let mut open = self.open.subscribe();
        match tokio::time::timeout(PATIENCE, open.wait_for(|open| *open == 0)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "connections stayed open")),
        }
    }

    /// How many connections were opened so far.
    #[must_use]
    pub fn connections_opened(&self) -> usize {
        self.state().opened
    }

    /// The most connections that were open at once.
    #[must_use]
    pub fn most_open(&self) -> usize {
        self.state().most_open
    }

    /// All commands so far, in order, as they were given; of AUTH only the mechanism.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        self.state().commands.clone()
    }

    /// How often the server had to wait for more from a client before it could go on.
    #[must_use]
    pub fn waits(&self) -> usize {
        self.state().waits
    }

    pub(super) fn refusal(&self, address: &str) -> Option<String> {
        self.state().refusals.get(&address.to_ascii_lowercase()).cloned()
    }

    pub(super) fn action(&self, stage: Stage) -> Option<Action> {
        let mut state = self.state();
        let at = state.actions.iter().position(|(on, _, _)| *on == stage)?;
        match state.actions[at].2 {
            Times::Once => Some(state.actions.remove(at).1),
            Times::Always => Some(state.actions[at].1.clone()),
        }
    }

    pub(super) fn knows_tokens(&self) -> bool {
        self.state().tokens.is_some()
    }

    pub(super) fn takes_token(&self, token: &str) -> bool {
        self.state().tokens.as_ref().is_some_and(|tokens| tokens.contains(token))
    }

    /// Whether who signed in by this token may not send mail any more.
    pub(super) fn is_session_over(&self, token: &str) -> bool {
        let ends = self.state().ends_sessions;
        ends && !self.takes_token(token)
    }

    /// What RCPT is answered with when so many recipients were taken already, if they are enough.
    pub(super) fn one_too_many(&self, taken: usize) -> Option<String> {
        match &self.state().recipients {
            Some((most, reply)) => (taken >= *most).then(|| reply.clone()),
            None => (taken >= MAX_RECIPIENTS).then(|| "452 4.5.3 too many recipients".to_owned()),
        }
    }

    pub(super) fn is_hidden(&self, extension: &str) -> bool {
        self.state().hidden.contains(extension)
    }

    pub(super) fn is_lenient(&self) -> bool {
        self.state().lenient
    }

    pub(super) fn injected(&self) -> Option<String> {
        self.state().injected.clone()
    }

    pub(super) fn heard(&self, command: &str) {
        let mut state = self.state();
        if state.commands.len() < MAX_COMMANDS {
            state.commands.push(command.to_owned());
        }
    }

    pub(super) fn waited(&self) {
        self.state().waits += 1;
    }

    pub(super) fn opened(&self) -> Open {
        let mut now = 0;
        self.open.send_modify(|open| {
            *open += 1;
            now = *open;
        });
        let mut state = self.state();
        state.opened += 1;
        state.most_open = state.most_open.max(now);
        Open(self.clone())
    }

    pub(super) fn hang_ups(&self) -> watch::Receiver<u64> {
        self.hang_ups.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts as open until this is dropped.
pub(super) struct Open(Control);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}
