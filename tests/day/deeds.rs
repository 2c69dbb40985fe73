//! The day's deeds, done in the small Graph's world as people and Exchange do them, and noted as they are done.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use postern_sandbox::graph::GraphServer;
use postern_sandbox::world::{Body, Mailbox, Message, World};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::Settings;
use crate::plan::{Deed, When};
use crate::stage::address;
use crate::truth::{Entry, Look, Mail, Truth};

/// How long ahead triggers look for what starts soon, in seconds.
pub(crate) const LOOK_AHEAD: i64 = 60;
/// How far an entry that is to start soon is inside the look-ahead when it is made, at most, in seconds.
const INSIDE: i64 = 25;
/// How long after it is made an entry becomes soon, at most, in seconds.
const LATEST: i64 = 15;

/// Does what is planned.
pub(crate) struct Deeds {
    truth: Truth,
    dice: Rng,
    /// When the day ends.
    ends: Timestamp,
    /// The mails in the Inbox of each mailbox, and the entries in its calendar.
    mails: Vec<Vec<usize>>,
    entries: Vec<Vec<usize>>,
    away: HashMap<usize, usize>,
}

impl Deeds {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        let lasts = SignedDuration::try_from(settings.lasts).unwrap_or_default();
        Self {
            truth: Truth::default(),
            dice: Rng::with_seed(seed ^ 0xdeed),
            ends: Timestamp::now().checked_add(lasts).unwrap_or_default(),
            mails: vec![Vec::new(); settings.mailboxes],
            entries: vec![Vec::new(); settings.mailboxes],
            away: HashMap::new(),
        }
    }

    /// What was done.
    pub(crate) fn into_truth(self) -> Truth {
        self.truth
    }

    /// Does everything at its time after `begun`.
    pub(crate) async fn run(
        &mut self,
        world: &World,
        graph: &GraphServer,
        deeds: Vec<(Duration, usize, Deed)>,
        begun: Instant,
    ) {
        for (at, mailbox, deed) in deeds {
            sleep_until(begun + at).await;
            self.one(world, graph, mailbox, deed);
        }
    }

    fn one(&mut self, world: &World, graph: &GraphServer, mailbox: usize, deed: Deed) {
        match deed {
            Deed::Receive | Deed::MoveIn => self.receive(world, mailbox, deed == Deed::Receive),
            Deed::Away(number) => {
                let Some(mail) = pick(&mut self.dice, &self.mails[mailbox]) else { return };
                let place = self.mails[mailbox].swap_remove(mail);
                world.move_message(&address(mailbox), &self.truth.mails[place].id, "deleteditems");
                self.touch(place);
                self.away.insert(number, place);
            }
            Deed::Back(number) => {
                let Some(place) = self.away.remove(&number) else { return };
                world.move_message(&address(mailbox), &self.truth.mails[place].id, "inbox");
                self.touch(place);
                self.mails[mailbox].push(place);
            }
            Deed::Read => {
                let Some(mail) = pick(&mut self.dice, &self.mails[mailbox]) else { return };
                let place = self.mails[mailbox][mail];
                world
                    .edit_message(&address(mailbox), &self.truth.mails[place].id, |mail| mail.is_read = true);
                self.touch(place);
            }
            Deed::Delete => {
                let Some(mail) = pick(&mut self.dice, &self.mails[mailbox]) else { return };
                let place = self.mails[mailbox].swap_remove(mail);
                world.delete_message(&address(mailbox), &self.truth.mails[place].id);
                self.truth.mails[place].stays = false;
            }
            Deed::Make(when) => self.make(graph, mailbox, when),
            Deed::Change | Deed::Touch | Deed::Remove => self.change(world, graph, mailbox, deed),
            Deed::Forget => {
                graph.forget_delta_tokens_of(&address(mailbox));
                *self.truth.forgotten.entry(mailbox).or_default() += 1;
            }
        }
    }

    fn touch(&mut self, mail: usize) {
        self.truth.mails[mail].last = self.truth.next();
    }

    fn receive(&mut self, world: &World, mailbox: usize, received: bool) {
        let subject = format!("mail {}", self.truth.mails.len());
        let (whose, at) = (address(mailbox), Timestamp::now());
        let from = Some(Mailbox { address: "somebody@example.com".to_owned(), name: "Somebody".to_owned() });
        let content = "What there is to say, in a line or two.\r\n".repeat(5);
        let message = Message {
            from,
            to: vec![Mailbox { address: whose.clone(), name: String::new() }],
            subject: subject.clone(),
            body: Body { content, is_html: false },
            internet_message_id: format!("<{}@example.com>", self.truth.mails.len()),
            ..Message::default()
        };
        let id = match received {
            true => world.put_message(&whose, "inbox", message),
            false => {
                let received = at.checked_sub(SignedDuration::from_hours(24)).unwrap_or_default();
                let id = world.put_message(&whose, "archive", Message { received, ..message });
                id.inspect(|id| {
                    world.move_message(&whose, id, "inbox");
                })
            }
        };
        let Some(id) = id else { return };
        let mail = Mail { id, mailbox, subject, received, at, came: 0, last: 0, stays: true };
        let place = self.truth.came(mail);
        self.mails[mailbox].push(place);
    }

    /// A start that becomes soon before the day ends: at once, or in a while.
    fn soon(&mut self) -> i64 {
        let now = Timestamp::now().as_second();
        let latest = (self.ends.as_second() - now).clamp(0, LATEST);
        now + LOOK_AHEAD + self.dice.i64(-INSIDE..=latest)
    }

    fn make(&mut self, graph: &GraphServer, mailbox: usize, when: When) {
        let number = self.truth.entries.len();
        let start = match when {
            When::Soon => self.soon(),
            When::Later | When::Often => Timestamp::now().as_second() + self.dice.i64(86_400..30 * 86_400),
        };
        let look = Look { subject: format!("entry {number}"), place: String::new(), start };
        let mut body = shown(&look);
        if when == When::Often {
            body["recurrence"] = json!({
                "pattern": {"type": "daily", "interval": 1},
                "range": {"type": "numbered", "startDate": at(start).get(..10), "numberOfOccurrences": 5},
            });
        }
        let began = Timestamp::now();
        let (_, made) = graph.perform(Method::POST, &address(mailbox), "events", &body);
        let Some(id) = made["id"].as_str() else { return };
        let entry = Entry {
            mailbox,
            id: id.to_owned(),
            often: when == When::Often,
            looks: vec![(look, began)],
            gone: None,
        };
        let place = self.truth.made(entry);
        self.entries[mailbox].push(place);
    }

    fn change(&mut self, world: &World, graph: &GraphServer, mailbox: usize, deed: Deed) {
        let Some(picked) = pick(&mut self.dice, &self.entries[mailbox]) else {
            return self.make(graph, mailbox, When::Later);
        };
        let place = self.entries[mailbox][picked];
        let (id, often) = (self.truth.entries[place].id.clone(), self.truth.entries[place].often);
        self.truth.series_touched += usize::from(often && deed != Deed::Remove);
        let path = format!("events/{id}");
        let now = Timestamp::now();
        match deed {
            Deed::Touch => {
                world.touch_event(&address(mailbox), &id);
            }
            Deed::Remove => {
                graph.perform(Method::DELETE, &address(mailbox), &path, &Value::Null);
                self.truth.entries[place].gone = Some(now);
                self.entries[mailbox].swap_remove(picked);
            }
            _ => {
                let Some(mut look) = self.truth.entries[place].look().cloned() else { return };
                let number = self.truth.entries[place].looks.len();
                match self.dice.u32(..3) {
                    0 if !often => {
                        let is_soon = look.start - now.as_second() < 3_600;
                        let start = if is_soon { self.soon() } else { look.start + 3_600 };
                        let was = |start: i64| {
                            self.truth.entries[place].looks.iter().any(|(look, _)| look.start == start)
                        };
                        look.start = (start..).find(|start| !was(*start)).unwrap_or(start);
                    }
                    1 => look.place = format!("room {number}"),
                    _ => look.subject = format!("entry {place} as of {number}"),
                }
                graph.perform(Method::PATCH, &address(mailbox), &path, &shown(&look));
                self.truth.entries[place].looks.push((look, now));
            }
        }
    }
}

/// One of these, if there are any.
fn pick(dice: &mut Rng, of: &[usize]) -> Option<usize> {
    (!of.is_empty()).then(|| dice.usize(..of.len()))
}

/// A look as a client writes it.
fn shown(look: &Look) -> Value {
    let moment = |second: i64| json!({"dateTime": at(second), "timeZone": "UTC"});
    json!({
        "subject": look.subject,
        "location": {"displayName": look.place},
        "start": moment(look.start),
        "end": moment(look.start + 1_800),
    })
}

fn at(second: i64) -> String {
    Timestamp::from_second(second).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S").to_string()
}
