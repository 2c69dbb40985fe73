//! The one writer of a gateway: a task that takes whatever waits, checks it against the mirror, writes it as one, and
//! then answers each. Where another gateway was quicker it catches up and checks again.

mod group;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chunk::{Gathering, remembered};
use super::events::Events;
use super::link::Link;
use super::message::Draft;
use super::mirror::Mirror;
use super::publish::{self, MAX_MESSAGES, Written};
use super::turns::Turns;
use crate::store::{Appended, Commit, NewEvent, Retention, Revision, Sequence, StoreError};
use group::{Group, Room};

/// Requests that may wait. Beyond them callers wait for room.
pub(super) const QUEUE: usize = 4_096;
/// How long a group is checked again because others were quicker: with many gateways that all write, one always wins.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what others write may take to count, once the leader refuses others for it.
const SETTLING: Duration = Duration::from_millis(500);
/// How long is waited for what another gateway wrote.
pub(super) const CATCH_UP: Duration = Duration::from_secs(10);

/// What is asked of the writer.
pub(super) enum Request {
    /// Append events and make writes, where what is expected holds.
    Commit { commit: Commit, answer: Answer<Made> },
    /// Append events that another log recorded, at those times.
    Restore { events: Vec<(NewEvent, i64)>, answer: Answer<Made> },
    /// Remove the oldest events that retention has passed.
    Trim { retention: Retention, answer: Answer<u64> },
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What a commit has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) appended: Appended,
    /// The revision of the last write.
    pub(super) revision: Revision,
}

pub(super) struct Writer {
    link: Arc<Link>,
    mirror: Arc<Mirror>,
    events: Arc<Events>,
    turns: Turns,
    /// The log's first place when the server last removed the chunks before it. Whoever moved it on since, and then died
    /// or failed to have them removed, left that to the others.
    purged: Sequence,
}

/// A group of commits, checked: what is to be written, and what each will be answered.
struct Checked {
    /// The stream ended here when it was checked.
    after: u64,
    drafts: Vec<Draft>,
    answers: Vec<Result<Made, StoreError>>,
    /// Which of the commits have a part in what is written.
    parts: Vec<bool>,
}

impl Writer {
    pub(super) fn new(link: Arc<Link>, mirror: Arc<Mirror>, events: Arc<Events>) -> Self {
        Self { link, mirror, events, turns: Turns::default(), purged: 1 }
    }

    /// Takes requests until all who may ask are gone, or `stop` is cancelled and none is waiting.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => tokio::select! {
                    biased;
                    first = requests.recv() => match first {
                        Some(first) => first,
                        None => return,
                    },
                    () = stop.cancelled() => return,
                },
            };
            match first {
                Request::Trim { retention, answer } => {
                    let _ = answer.send(self.trim(retention).await);
                }
                Request::Restore { events, answer } => {
                    let _ = answer.send(self.restore(&events).await);
                }
                Request::Commit { commit, answer } => {
                    self.turns.rest().await;
                    let mut room = Room::default();
                    room.take(&commit);
                    let mut group = vec![(commit, answer)];
                    while next.is_none() && room.is_left() {
                        match requests.try_recv() {
                            Ok(Request::Commit { commit, answer }) if room.fits(&commit) => {
                                room.take(&commit);
                                group.push((commit, answer));
                            }
                            Ok(other) => next = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.commit(group).await;
                }
            }
        }
    }

    /// Makes a group of commits and answers each of them.
    async fn commit(&mut self, group: Vec<(Commit, Answer<Made>)>) {
        let (commits, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        for (answer, made) in answers.into_iter().zip(self.make(&commits).await) {
            // Who asked may have gone.
            let _ = answer.send(made);
        }
    }

    async fn make(&mut self, commits: &[Commit]) -> Vec<Result<Made, StoreError>> {
        let all = |error: StoreError| vec![Err(error); commits.len()];
        let (name, until) = (publish::commit_name(), Instant::now() + PATIENCE);
        let mut refused: Vec<Checked> = Vec::new();
        let mut problem = StoreError::Failed("other gateways write all the time".to_owned());
        while Instant::now() < until {
            let begun = Instant::now();
            let checked = self.check(commits);
            // Of what was checked so, its own commit may be a part.
            if let Some(made) = self.made_after_all(&mut refused, &name) {
                return made.answers;
            }
            let checked = match checked {
                Ok(checked) => checked,
                Err(error) => return all(error),
            };
            if checked.drafts.is_empty() {
                // Nothing to write that would show whether what was checked is still so.
                match self.catch_up().await {
                    Ok(at) if at == checked.after => return checked.answers,
                    Ok(_) => continue,
                    Err(error) => return all(error),
                }
            }
            self.turns.begin(checked.after);
            match publish::write(&self.link, checked.after, &checked.drafts, &name).await {
                Ok(Written::Done(last)) => {
                    self.turns.wrote(last, begun.elapsed());
                    let first = last + 1 - checked.drafts.len() as u64;
                    let records = checked.drafts.into_iter().map(|draft| Some(draft.record));
                    self.mirror.apply((first..).zip(records));
                    return checked.answers;
                }
                Ok(Written::Moved) => {
                    let after = checked.after;
                    refused.push(checked);
                    if let Err(error) = self.let_pass(after).await {
                        problem = error;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, commits = commits.len(), "a write failed");
                    return failed(&checked.parts, &error);
                }
            }
        }
        match (self.made_after_all(&mut refused, &name), refused.pop()) {
            (Some(made), _) => made.answers,
            // It may come yet.
            (None, Some(open)) => failed(&open.parts, &StoreError::Unknown(problem.to_string())),
            (None, None) => all(problem),
        }
    }

    /// What was refused and yet made: for an instant two servers may take themselves for the leader, of which one refuses
    /// what the other makes. What came in its place tells, and until then it is open.
    fn made_after_all(&self, refused: &mut Vec<Checked>, name: &str) -> Option<Checked> {
        if refused.is_empty() {
            return None;
        }
        let state = self.mirror.state();
        let place = state.place_of(name);
        let found = refused.iter().position(|checked| {
            place.is_some_and(|place| {
                (1..=checked.drafts.len() as u64).contains(&(place.saturating_sub(checked.after)))
            })
        });
        if let Some(found) = found {
            return Some(refused.swap_remove(found));
        }
        refused.retain(|checked| state.at <= checked.after);
        None
    }

    /// Lets what another gateway wrote behind a message come.
    async fn let_pass(&mut self, after: u64) -> Result<(), StoreError> {
        self.turns.others_wrote();
        // The leader refuses by what it has passed on, and nobody is told of that before most servers have it.
        let mut at = self.mirror.at();
        let has_come = tokio::time::timeout(SETTLING, at.wait_for(|at| *at > after)).await.is_ok();
        if has_come { Ok(()) } else { self.catch_up().await.map(drop) }
    }

    /// Waits until the mirror is where the stream ends now.
    async fn catch_up(&self) -> Result<u64, StoreError> {
        let last = self.link.last().await?;
        reach(&self.mirror, last).await
    }

    /// Checks a group against the mirror: each sees what those before it will have done.
    fn check(&self, commits: &[Commit]) -> Result<Checked, StoreError> {
        let state = self.mirror.state();
        if let Some(problem) = &state.broken {
            return Err(StoreError::Failed(problem.clone()));
        }
        let mut group = Group::new(&state);
        let (mut answers, mut parts) = (Vec::new(), Vec::new());
        for commit in commits {
            let before = (group.drafts.len(), group.gathering.last);
            let answer = group.take(commit, self.link.as_ref());
            parts.push(before != (group.drafts.len(), group.gathering.last));
            answers.push(answer);
        }
        let (after, subjects) = (state.at, &self.link.subjects);
        let mut drafts = group.drafts;
        drop(group.keys);
        drafts.extend(group.gathering.finish().into_iter().map(|chunk| Draft::chunk(subjects, chunk)));
        if drafts.len() > MAX_MESSAGES {
            let problem = format!("it takes {} messages: expected at most {MAX_MESSAGES}", drafts.len());
            return Err(StoreError::Refused(problem));
        }
        Ok(Checked { after, drafts, answers, parts })
    }

    /// Appends what another log recorded, at those times. Only one who fills an empty store asks for it.
    async fn restore(&self, events: &[(NewEvent, i64)]) -> Result<Made, StoreError> {
        let (after, mut gathering, fresh) = {
            let state = self.mirror.state();
            let (counters, total) = (state.counters, state.total);
            let gathering = Gathering::new(counters.epoch, counters.recorded, counters.last, total);
            let fresh: Vec<_> =
                events.iter().map(|(event, _)| !state.keeps(&remembered(&event.id))).collect();
            (state.at, gathering, fresh)
        };
        let before = gathering.last;
        let mut ids = HashSet::new();
        for ((event, recorded), fresh) in events.iter().zip(fresh) {
            let id = remembered(&event.id);
            if fresh && ids.insert(id) {
                gathering.record_at(*recorded);
                gathering.push(event, id);
            }
        }
        let last = gathering.last;
        let subjects = &self.link.subjects;
        let drafts: Vec<_> =
            gathering.finish().into_iter().map(|chunk| Draft::chunk(subjects, chunk)).collect();
        let made = Made {
            appended: Appended { stored: usize::try_from(last - before).unwrap_or(usize::MAX), last },
            revision: after,
        };
        if drafts.is_empty() {
            return Ok(made);
        }
        match publish::write(&self.link, after, &drafts, &publish::commit_name()).await? {
            Written::Done(end) => {
                let first = end + 1 - drafts.len() as u64;
                self.mirror.apply((first..).zip(drafts.into_iter().map(|draft| Some(draft.record))));
                Ok(made)
            }
            Written::Moved => Err(StoreError::Failed("a gateway writes there".to_owned())),
        }
    }

    /// Moves the log's first place to where retention says, and lets the server remove what is before it.
    async fn trim(&mut self, retention: Retention) -> Result<u64, StoreError> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let (after, before, head) = {
                let state = self.mirror.state();
                (state.at, state.counters.first, self.events.passed(&state, retention))
            };
            let Some(passed) = head else { return self.trimmed(0).await };
            let head = self.events.exactly(passed).await?;
            if head.first == before {
                return self.trimmed(0).await;
            }
            let draft = Draft::head(&self.link.subjects, head);
            let name = publish::commit_name();
            match publish::write(&self.link, after, std::slice::from_ref(&draft), &name).await? {
                Written::Done(message) => {
                    self.mirror.apply([(message, Some(draft.record))]);
                    return self.trimmed(head.first - before).await;
                }
                Written::Moved => self.let_pass(after).await?,
            }
        }
        Err(StoreError::Failed("other gateways write all the time".to_owned()))
    }

    /// Has the server remove the chunks before the first that is kept, unless that was done. Where it fails, the next trim
    /// does it. Gives how many events went.
    async fn trimmed(&mut self, events: u64) -> Result<u64, StoreError> {
        let (first, until) = {
            let state = self.mirror.state();
            // Where none is kept: all that there are, and none that is yet to come. It has moved on: there is a message.
            (state.counters.first, state.chunks.front().map_or(state.at, |chunk| chunk.message))
        };
        if first > self.purged {
            let chunks = self.link.subjects.every_chunk();
            match self.link.stream.purge().filter(chunks).sequence(until).await {
                Ok(_) => self.purged = first,
                Err(error) => {
                    tracing::warn!(%error, "the server did not remove events that retention has passed");
                }
            }
        }
        Ok(events)
    }
}

/// Waits until the mirror has reached a place, and gives where it is.
pub(super) async fn reach(mirror: &Mirror, place: u64) -> Result<u64, StoreError> {
    let mut at = mirror.at();
    let reached = tokio::time::timeout(CATCH_UP, at.wait_for(|at| *at >= place)).await;
    match reached {
        Ok(Ok(at)) => Ok(*at),
        _ => Err(StoreError::Failed("NATS: what other gateways wrote does not come".to_owned())),
    }
}

/// The answers to commits of which some have a part in what failed to be written.
fn failed(parts: &[bool], error: &StoreError) -> Vec<Result<Made, StoreError>> {
    let untouched = || StoreError::Failed(error.to_string());
    parts.iter().map(|part| Err(if *part { error.clone() } else { untouched() })).collect()
}
