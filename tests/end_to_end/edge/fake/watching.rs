//! What a fake watches: folders into which a test puts things, and looks that wait until they are let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use postern_chassis::fault::Fault;
use postern_proto::connector::v1::{Occurrence, PollRequest, PollResponse, WatchedTrigger};
use postern_proto::event::v1::event_data::Kind as Data;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::{EventData, Trigger};
use postern_proto::mail::v1::ReceivedEmail;
use postern_proto::outlook::v1::NewEmailTrigger;
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Status};

/// How many things a look gives at most.
const AT_ONCE: usize = 3;

/// The folders of a fake.
#[derive(Default)]
pub(crate) struct Watching {
    folders: Mutex<BTreeMap<String, Folder>>,
    /// Triggers with one of these filters are refused a look.
    refused: Mutex<BTreeSet<String>>,
    /// Tells that a look has begun.
    begun: watch::Sender<()>,
}

#[derive(Default)]
struct Folder {
    /// What was put there, and when.
    things: Vec<(String, SystemTime)>,
    /// How many looks have begun.
    begun: usize,
    /// Where looks wait, if they do.
    held: Option<Arc<Semaphore>>,
}

impl Watching {
    fn folder<T>(&self, name: &str, does: impl FnOnce(&mut Folder) -> T) -> T {
        does(self.folders.lock().unwrap().entry(name.to_owned()).or_default())
    }

    /// Puts something into a folder.
    pub(crate) fn put(&self, folder: &str, thing: &str) {
        self.folder(folder, |folder| folder.things.push((thing.to_owned(), SystemTime::now())));
    }

    /// Has the looks of a folder wait from now on, once they have seen what is there.
    pub(crate) fn hold(&self, folder: &str) {
        self.folder(folder, |folder| folder.held = Some(Arc::new(Semaphore::new(0))));
    }

    /// Lets one look of a folder go.
    pub(crate) fn let_one_go(&self, folder: &str) {
        self.folder(folder, |folder| folder.held.as_ref().expect("it is held").add_permits(1));
    }

    /// Lets the looks of a folder go, those that wait and those to come.
    pub(crate) fn let_go(&self, folder: &str) {
        let held = self.folder(folder, |folder| folder.held.take());
        held.expect("it was held").close();
    }

    /// How many looks of a folder have begun.
    pub(crate) fn looks(&self, folder: &str) -> usize {
        self.folder(folder, |folder| folder.begun)
    }

    /// Waits until so many looks of a folder have begun.
    pub(crate) async fn begun(&self, folder: &str, count: usize) {
        let mut begun = self.begun.subscribe();
        let waiting = begun.wait_for(|()| self.looks(folder) >= count);
        tokio::time::timeout(crate::world::PATIENCE, waiting).await.expect("a look begins").unwrap();
    }

    /// Refuses looks for triggers with a filter.
    pub(crate) fn refuse(&self, filter: &str) {
        self.refused.lock().unwrap().insert(filter.to_owned());
    }

    /// Refuses them no more.
    pub(crate) fn allow(&self, filter: &str) {
        self.refused.lock().unwrap().remove(filter);
    }

    /// What a trigger watches.
    pub(super) fn key(trigger: Option<&Trigger>) -> String {
        wanted(trigger).folder_path
    }

    /// A look: it sees what is in the folder, and then waits where it is told to.
    pub(super) async fn poll(&self, asked: PollRequest) -> Result<PollResponse, Status> {
        if asked.triggers.is_empty() {
            return Ok(PollResponse { next_cursor: asked.cursor, ..Default::default() });
        }
        let name = Self::key(asked.triggers.first().and_then(|watched| watched.trigger.as_ref()));
        // `from` and, midway through what took several looks, where that ends: as far as things had come when it began.
        let cursor = String::from_utf8_lossy(&asked.cursor);
        let (from, end) = cursor.split_once("..").unwrap_or((&cursor, ""));
        let (from, end) = (from.parse::<usize>().ok(), end.parse::<usize>().ok());
        let (things, held) = self.folder(&name, |folder| {
            folder.begun += 1;
            (folder.things.clone(), folder.held.clone())
        });
        self.begun.send_replace(());
        if let Some(held) = held {
            // It is closed to let all go.
            if let Ok(place) = held.acquire().await {
                place.forget();
            }
        }
        let filters = asked.triggers.iter().map(|watched| wanted(watched.trigger.as_ref()).subject_filter);
        if filters.into_iter().any(|filter| self.refused.lock().unwrap().contains(&filter)) {
            return Err(Fault::new(Code::FailedPrecondition, "PROVIDER_REFUSED", "no").into());
        }
        let (start, end) = (from.unwrap_or(0), end.unwrap_or(things.len()));
        let next = (start + AT_ONCE).min(end);
        let new = things.iter().enumerate().take(next).skip(start);
        let occurrences = new
            .map(|(number, (subject, time))| Occurrence {
                triggers: asked
                    .triggers
                    .iter()
                    .filter(|watched| tells(watched, subject, *time, from.is_none()))
                    .map(|watched| watched.trigger.clone().unwrap().name)
                    .collect(),
                key: number.to_string(),
                r#type: "test.new".into(),
                time: Some((*time).into()),
                data: Some(EventData {
                    kind: Some(Data::NewEmail(ReceivedEmail {
                        subject: subject.clone(),
                        ..Default::default()
                    })),
                }),
            })
            .filter(|occurrence| !occurrence.triggers.is_empty())
            .collect();
        let more = next < end;
        let next_cursor = if more { format!("{next}..{end}") } else { next.to_string() };
        Ok(PollResponse { occurrences, next_cursor: next_cursor.into(), more, ..Default::default() })
    }
}

fn wanted(trigger: Option<&Trigger>) -> NewEmailTrigger {
    match trigger.and_then(|trigger| trigger.kind.clone()) {
        Some(Kind::NewEmail(wanted)) => wanted,
        other => panic!("no trigger of a fake: {other:?}"),
    }
}

/// Whether a trigger is told of something. A listing tells only what came after the trigger.
fn tells(watched: &WatchedTrigger, subject: &str, time: SystemTime, is_listing: bool) -> bool {
    let since = watched.since.and_then(|since| SystemTime::try_from(since).ok());
    let is_new = !is_listing || since.is_none_or(|since| time >= since);
    is_new && subject.contains(&wanted(watched.trigger.as_ref()).subject_filter)
}
