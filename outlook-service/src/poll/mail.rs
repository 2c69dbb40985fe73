//! What came to be in a folder of mail since a cursor: rounds of changes, each page told whole.

mod conditions;
mod cursor;
mod occurrence;

use jiff::Timestamp;
use postern_proto::connector::v1::{CheckTriggerResponse, PollRequest, PollResponse};
use postern_proto::event::v1::Trigger;
use tokio::time::Instant;

use super::{ahead, most, owner, since, user};
use crate::error::Error;
use crate::folders::no_folder;
use crate::graph::model::{Message, Page};
use crate::graph::{Mailbox, with_options};
use crate::outlook::{Call, Outlook};
use crate::times;
use conditions::{Conditions, Traits};
use cursor::Watch;
use occurrence::{Told, gap};

/// How many mails a look takes at most: as many as fit an answer, each at its largest.
const MAX_PAGE: usize = 50;
/// How many events a look may come to before it takes fewer mails: one mail can be for each of very many triggers.
const MAX_EVENTS: usize = 10_000;
/// After so many failed looks a mail that cannot be read is told of by what is known of it.
const PATIENT_LOOKS: i32 = 5;
/// How many mails a page of a listing holds. Nearly all are older than the trigger: little is told of many.
const LISTING_PAGE: usize = 200;
/// How many pages a look passes through as long as there is nothing to tell.
const MAX_PAGES: usize = 20;
/// What a round of changes is asked for: enough to tell whether a mail is wanted.
const SELECT: &str = "subject,from,toRecipients,importance,hasAttachments,receivedDateTime";
/// How far behind the last look a listing after a loss begins: Exchange may show a mail later than it received it. What
/// is told twice by this the gateway's log drops.
const MARGIN_SECONDS: i64 = 600;

/// A trigger to look for.
struct Sought<'a> {
    name: &'a str,
    conditions: Conditions,
    /// What was received before this is not told, by the gateway's clock.
    since: Timestamp,
}

/// Checks a trigger, and says what it watches.
pub(super) async fn check(
    outlook: &Outlook,
    call: &Call,
    trigger: Option<&Trigger>,
) -> Result<CheckTriggerResponse, Error> {
    let conditions = Conditions::read(trigger)?;
    let mailbox = outlook.mailbox(call, "new_email.mailbox", &conditions.mailbox)?;
    let folders = outlook.folders(call, &mailbox);
    let found = folders.find_anew("new_email.folder_path", &conditions.folder_path).await?;
    let folder = folders.show(&found.id).await?;
    let owner = owner(&mailbox, &conditions.mailbox);
    Ok(CheckTriggerResponse { watch_key: format!("mail:{owner}:{}", folder.id) })
}

/// Looks what happened.
pub(super) async fn poll(outlook: &Outlook, call: &Call, asked: &PollRequest) -> Result<PollResponse, Error> {
    let sought = read(asked)?;
    let first = sought.first().ok_or_else(|| Error::field("triggers", "expected at least one"))?;
    let mailbox = outlook.mailbox(call, "new_email.mailbox", &first.conditions.mailbox)?;
    let user = user(&mailbox);
    let watch = cursor::read(&asked.cursor, &user)?;
    let (size, cursor) = (page_size(asked, &sought)?, asked.cursor.as_ref());
    let look = Look { outlook, call, mailbox: &mailbox, sought: &sought, size, cursor };
    let (told, next, more) = look.run(watch).await?;
    let last_try = asked.failed_looks >= PATIENT_LOOKS;
    let occurrences = occurrence::write(&mailbox, told, last_try).await?;
    Ok(PollResponse { occurrences, next_cursor: cursor::write(&next, &user)?, more, retry_after: None })
}

fn read(asked: &PollRequest) -> Result<Vec<Sought<'_>>, Error> {
    asked
        .triggers
        .iter()
        .map(|watched| {
            let trigger = watched.trigger.as_ref();
            Ok(Sought {
                name: trigger.map(|trigger| trigger.name.as_str()).unwrap_or_default(),
                conditions: Conditions::read(trigger)?,
                since: since(watched)?,
            })
        })
        .collect()
}

/// How many mails a page may hold: one is two occurrences where some are told of it with its attachments and some
/// without.
fn page_size(asked: &PollRequest, sought: &[Sought<'_>]) -> Result<usize, Error> {
    let most = most(asked, MAX_PAGE)?.min(MAX_PAGE);
    let with_files = sought.iter().filter(|sought| sought.conditions.include_attachments).count();
    let kinds = if with_files == 0 || with_files == sought.len() { 1 } else { 2 };
    Ok((most / kinds).max(1))
}

/// One look.
struct Look<'a> {
    outlook: &'a Outlook,
    call: &'a Call,
    mailbox: &'a Mailbox,
    sought: &'a [Sought<'a>],
    size: usize,
    /// Where the look begins.
    cursor: &'a [u8],
}

/// What a look has come to: what is told, where the next goes on, and whether there is more.
type Outcome = (Vec<Told>, Watch, bool);

impl Look<'_> {
    async fn run(&self, mut watch: Watch) -> Result<Outcome, Error> {
        let half = Instant::now() + self.mailbox.until.saturating_duration_since(Instant::now()) / 2;
        for page in 0..MAX_PAGES {
            // The mails of a page are yet to be fetched: that is not begun when time is short.
            if page > 0 && Instant::now() >= half {
                break;
            }
            let (told, next, more) = match self.page(&watch).await {
                Ok(outcome) => outcome,
                Err(Error::Graph(failure)) if failure.lost_place() && !watch.is_new() => {
                    return Ok(Self::lost(&watch));
                }
                // The folder may have been made anew under its old name.
                Err(Error::NoFolder(_)) if !watch.is_new() && self.finds_folder().await? => {
                    return Ok(Self::lost(&watch));
                }
                // What was passed through is kept, lest a long way be begun again and again. The next look meets the error.
                Err(_) if page > 0 => break,
                Err(error) => return Err(error),
            };
            if !told.is_empty() || !more {
                return Ok((told, next, more));
            }
            watch = next;
        }
        Ok((Vec::new(), watch, true))
    }

    /// One page of a round. A page is told whole: asked for again it need not hold the same. So where a large page has
    /// too much to tell, a small one is read in its place.
    async fn page(&self, watch: &Watch) -> Result<Outcome, Error> {
        let url = match watch.link() {
            Some(link) => self.mailbox.link(link)?,
            None => self.first_page().await?,
        };
        if watch.is_listing() && self.size < LISTING_PAGE {
            let (told, next, more) = self.read(watch, url.clone(), LISTING_PAGE).await?;
            if told.len() <= self.size && events(&told) <= MAX_EVENTS {
                return Ok((told, next, more));
            }
        }
        // A gap that is told with the page takes a place.
        let mut size = self.size.saturating_sub(watch.lost_since().into_iter().count()).max(1);
        loop {
            let (told, next, more) = self.read(watch, url.clone(), size).await?;
            let events = events(&told);
            if events <= MAX_EVENTS || size == 1 {
                return Ok((told, next, more));
            }
            // As many as fit, were all told of to as many as these.
            size = (told.len() * MAX_EVENTS / events).clamp(1, size - 1);
        }
    }

    async fn read(&self, watch: &Watch, url: reqwest::Url, size: usize) -> Result<Outcome, Error> {
        let read = self.mailbox.get::<Page<Message>>(url, Some(size)).await.map_err(no_folder)?;
        let ours = Timestamp::now();
        let (page, now) = (read.value, read.date.unwrap_or(ours));
        let ahead = ahead(now, ours);
        let mut told: Vec<_> = self.gap(watch).into_iter().collect();
        for message in page.value {
            if message.removed.is_some() || message.id.is_empty() {
                continue;
            }
            let received = message.received_date_time.as_deref().and_then(times::from_graph);
            let traits = Traits::of(&message);
            let (mut plain, mut with_files) = (Vec::new(), Vec::new());
            for sought in self.sought {
                let since = sought.since.checked_add(ahead).unwrap_or(sought.since);
                if watch.tells(received, since) && sought.conditions.hold_for(&traits) {
                    let told =
                        if sought.conditions.include_attachments { &mut with_files } else { &mut plain };
                    told.push(sought.name.to_owned());
                }
            }
            if !plain.is_empty() || !with_files.is_empty() {
                told.push(Told::Email { known: Box::new(message), received, plain, with_files });
            }
        }
        match (page.next, page.delta) {
            (Some(next), _) => Ok((told, watch.at(next, now), true)),
            (None, Some(delta)) => Ok((told, watch.ended(delta, now), false)),
            (None, None) => Err(crate::graph::Failure::unreadable(200).into()),
        }
    }

    /// The first page of a first round: it lists what is there, later rounds what came.
    async fn first_page(&self) -> Result<reqwest::Url, Error> {
        let path = self.folder_path();
        let folders = self.outlook.folders(self.call, self.mailbox);
        let mut found = folders.find("new_email.folder_path", path).await?;
        if found.remembered && folders.show(&found.id).await.is_err() {
            found = folders.find_anew("new_email.folder_path", path).await?;
        }
        let url = self.mailbox.url(&["mailFolders", &found.id, "messages", "delta"]);
        Ok(with_options(url, &[("changeType", "created"), ("$select", SELECT)]))
    }

    async fn finds_folder(&self) -> Result<bool, Error> {
        let folders = self.outlook.folders(self.call, self.mailbox);
        folders.find_anew("new_email.folder_path", self.folder_path()).await.map(|_| true)
    }

    fn folder_path(&self) -> &str {
        self.sought.first().map(|sought| sought.conditions.folder_path.as_str()).unwrap_or_default()
    }

    /// Graph has forgotten the place: the next look lists again.
    fn lost(watch: &Watch) -> Outcome {
        match watch {
            Watch::Following { .. } => (Vec::new(), watch.anew(), true),
            // Begun again at the next look and not at once: a provider that forgets pages would else be asked for ever.
            Watch::Listing { .. } => (Vec::new(), watch.anew(), false),
        }
    }

    /// What is to be told with the first page of a listing after a loss: what was received meanwhile is listed, what was
    /// moved in cannot be known. Not sooner than that page, for until then more is moved in.
    fn gap(&self, watch: &Watch) -> Option<Told> {
        let lost = watch.lost_since()?;
        let from = Timestamp::from_second(lost + MARGIN_SECONDS).unwrap_or_default();
        let triggers = self.sought.iter().map(|sought| sought.name.to_owned()).collect();
        Some(gap(triggers, self.cursor, from))
    }
}

/// How many events it comes to.
fn events(told: &[Told]) -> usize {
    told.iter().map(Told::count).sum()
}
