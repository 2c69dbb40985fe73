//! The log held against what happened: each thing told once, in order, and nothing that did not happen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::outlook::v1::CalendarEvent;

use crate::deeds::LOOK_AHEAD;
use crate::truth::{Entry, Look, Truth};

/// How exactly it is known when something was done, in seconds.
const SLACK: i64 = 2;
/// How many fields may be told as unchanged though they changed: two bytes of a digest are compared, and each can be the
/// same by chance.
const MOST_UNNAMED: usize = 1;

/// What is told of an entry: none for `created`, the changed fields for `modified`, and the look.
type Told = (Option<Vec<String>>, Look);

/// What the log says, sorted by what it is about.
#[derive(Default)]
struct Said {
    /// How often each mail was told, and all in the log's order for each mailbox.
    mails: HashMap<usize, usize>,
    order: BTreeMap<usize, Vec<usize>>,
    gaps: HashMap<usize, Vec<(i64, i64)>>,
    /// What was told of each entry.
    entries: HashMap<usize, Vec<Told>>,
    /// The looks that were told as starting soon.
    soon: HashMap<usize, Vec<Look>>,
    problems: Vec<String>,
}

/// How much is not told yet that has to be.
pub(crate) fn missing(truth: &Truth, events: &[Arc<Event>]) -> usize {
    let said = read(truth, events);
    lost(truth, &said).len() + untold(truth, &said).len()
}

/// Everything that is wrong.
pub(crate) fn all(truth: &Truth, events: &[Arc<Event>]) -> Vec<String> {
    let mut said = read(truth, events);
    let mut problems = std::mem::take(&mut said.problems);
    let mut ids = HashSet::new();
    let twice = events.iter().filter(|event| !ids.insert(&event.id));
    problems.extend(twice.map(|event| format!("the id {} is in the log twice", event.id)));
    problems.extend(lost(truth, &said));
    problems.extend(untold(truth, &said));
    problems.extend(mails(truth, &said));
    problems.extend(entries(truth, &said));
    problems.extend(soon(truth, &said));
    problems
}

fn read(truth: &Truth, events: &[Arc<Event>]) -> Said {
    let mut said = Said::default();
    for event in events {
        if let Err(problem) = one(truth, &mut said, event) {
            said.problems.push(format!("{problem}: {} of {}", event.r#type, event.source));
        }
    }
    said
}

fn one(truth: &Truth, said: &mut Said, event: &Event) -> Result<(), &'static str> {
    let (_, trigger) = event.trigger.rsplit_once('/').ok_or("no trigger tells it")?;
    let (kind, mailbox) = trigger.split_once('-').ok_or("its trigger is unknown")?;
    let mailbox: usize = mailbox.parse().map_err(|_| "its trigger is unknown")?;
    let data = event.data.as_ref().and_then(|data| data.kind.as_ref()).ok_or("it is empty")?;
    let entry = |entry: &CalendarEvent| {
        let place = *truth.entry_of.get(&entry.id).ok_or("its entry never was")?;
        let is_own = truth.entries.get(place).is_some_and(|entry| entry.mailbox == mailbox);
        let look = Look {
            subject: entry.subject.clone(),
            place: entry.location.as_ref().map(|place| place.display_name.clone()).unwrap_or_default(),
            start: entry.start.map(|start| start.seconds).unwrap_or_default(),
        };
        if is_own { Ok((place, look)) } else { Err("its entry is in another mailbox") }
    };
    match (kind, data) {
        ("mail", Kind::NewEmail(mail)) => {
            let place = *truth.mail_of.get(&mail.id).ok_or("its mail never came")?;
            let known = truth.mails.get(place).ok_or("its mail never came")?;
            if known.mailbox != mailbox || known.subject != mail.subject {
                return Err("it tells another mail");
            }
            *said.mails.entry(place).or_default() += 1;
            said.order.entry(mailbox).or_default().push(place);
        }
        ("mail", Kind::TriggerGap(gap)) => {
            let (from, to) = (gap.from.unwrap_or_default().seconds, gap.to.unwrap_or_default().seconds);
            said.gaps.entry(mailbox).or_default().push((from, to));
        }
        ("made", Kind::EventCreated(made)) => {
            let (place, look) = entry(made)?;
            said.entries.entry(place).or_default().push((None, look));
        }
        ("changed", Kind::EventModified(changed)) => {
            let (place, look) = entry(changed.event.as_ref().ok_or("it has no entry")?)?;
            said.entries.entry(place).or_default().push((Some(changed.changed_fields.clone()), look));
        }
        ("soon", Kind::EventStartingSoon(soon)) => {
            let (place, look) = entry(soon)?;
            said.soon.entry(place).or_default().push(look);
        }
        _ => return Err("it is of a kind that its trigger does not tell"),
    }
    Ok(())
}

/// Mails that are not told. One that was moved in may be missing where a gap says so.
fn lost(truth: &Truth, said: &Said) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, mail) in truth.mails.iter().enumerate() {
        if !mail.stays || said.mails.contains_key(&place) {
            continue;
        }
        let at = mail.at.as_second();
        let gaps = said.gaps.get(&mail.mailbox).map(Vec::as_slice).unwrap_or_default();
        if !mail.received && gaps.iter().any(|(from, to)| (*from..=to + 1).contains(&at)) {
            continue;
        }
        let how = if mail.received { "received" } else { "moved in" };
        problems
            .push(format!("{} of mailbox {}, {how} at {}, is not told", mail.subject, mail.mailbox, mail.at));
    }
    problems
}

/// Entries of which not all is told.
fn untold(truth: &Truth, said: &Said) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, entry) in truth.entries.iter().enumerate().filter(|(_, entry)| entry.gone.is_none()) {
        let told = said.entries.get(&place).map(Vec::as_slice).unwrap_or_default();
        let number = entry.mailbox;
        if !told.iter().any(|(changed, _)| changed.is_none()) {
            problems.push(format!("entry {place} of mailbox {number} is not told to be made"));
        }
        if !told.iter().any(|(_, look)| Some(look) == entry.look()) {
            problems.push(format!("entry {place} of mailbox {number} is not told as {:?}", entry.look()));
        }
        for (start, ..) in entry.starts().iter().filter(|(start, _, until)| until.is_none() && is_due(*start))
        {
            if !said.soon.get(&place).is_some_and(|told| told.iter().any(|look| look.start == *start)) {
                problems.push(format!(
                    "entry {place} of mailbox {} is not told to start at {start}",
                    entry.mailbox
                ));
            }
        }
    }
    problems
}

fn is_due(start: i64) -> bool {
    start - Timestamp::now().as_second() <= LOOK_AHEAD
}

/// Mails that are told twice or in the wrong order, and gaps that nothing explains.
fn mails(truth: &Truth, said: &Said) -> Vec<String> {
    let twice = said.mails.iter().filter(|(_, times)| **times > 1);
    let mut problems: Vec<_> =
        twice.map(|(place, times)| format!("mail {place} is told {times} times")).collect();
    for (mailbox, order) in &said.order {
        let mut before = 0;
        for mail in order.iter().filter_map(|place| truth.mails.get(*place)) {
            // A mail that was touched again may stand anywhere between its coming and that.
            if mail.last < before {
                problems.push(format!("{} of mailbox {mailbox} is told after a younger one", mail.subject));
            }
            before = before.max(mail.came);
        }
    }
    for (mailbox, gaps) in &said.gaps {
        let forgotten = truth.forgotten.get(mailbox).copied().unwrap_or_default();
        if gaps.len() > forgotten {
            problems.push(format!("mailbox {mailbox}: {} gaps, {forgotten} times forgotten", gaps.len()));
        }
    }
    problems
}

/// Entries that are told as they never were, again, or in the wrong order.
fn entries(truth: &Truth, said: &Said) -> Vec<String> {
    let (mut problems, mut unnamed) = (Vec::new(), 0);
    for (place, told) in &said.entries {
        let Some(entry) = truth.entries.get(*place) else { continue };
        match sequence(entry, told) {
            Ok(count) => unnamed += count,
            Err(problem) => problems.push(format!("entry {place} of mailbox {}: {problem}", entry.mailbox)),
        }
    }
    if unnamed > MOST_UNNAMED {
        problems.push(format!("{unnamed} changed fields are not named"));
    }
    problems
}

/// Checks what is told of an entry: once that it was made, and of changes each time a later look and what differs. Gives
/// how many changed fields were not named.
fn sequence(entry: &Entry, told: &[Told]) -> Result<usize, String> {
    let (mut before, mut unnamed, mut made): (Option<usize>, usize, bool) = (None, 0, false);
    for (changed, look) in told {
        let found = entry.looks.iter().position(|(known, _)| known == look);
        let place = found.ok_or_else(|| format!("it never looked like {look:?}"))?;
        let Some(named) = changed else {
            if std::mem::replace(&mut made, true) {
                return Err("it is told twice that it was made".to_owned());
            }
            // Another trigger tells of changes, and the one may catch up later than the other: each has its own order.
            before = before.max(Some(place));
            continue;
        };
        if before.is_some_and(|before| place <= before) {
            return Err(format!("{look:?} is told after it, or later looks, were told"));
        }
        if let Some((known, _)) = before.and_then(|before| entry.looks.get(before)) {
            let differ = differences(known, look);
            if let Some(wrong) = named.iter().find(|name| !differ.contains(&name.as_str())) {
                return Err(format!("{wrong} is named as changed, only {differ:?} did"));
            }
            unnamed += differ.len() - named.len();
        }
        before = Some(place);
    }
    Ok(unnamed)
}

fn differences(before: &Look, after: &Look) -> Vec<&'static str> {
    let mut names = Vec::new();
    if before.subject != after.subject {
        names.push("subject");
    }
    if before.place != after.place {
        names.push("location");
    }
    if before.start != after.start {
        names.extend(["start", "end"]);
    }
    names
}

/// Starts that are told twice, or that never were soon.
fn soon(truth: &Truth, said: &Said) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, told) in &said.soon {
        let Some(entry) = truth.entries.get(*place) else { continue };
        let mut seen = HashSet::new();
        for look in told {
            if !seen.insert(look.start) {
                problems.push(format!("entry {place}: the start at {} is told twice", look.start));
            }
            let was_due = |(start, _, until): &(i64, Timestamp, Option<Timestamp>)| {
                *start == look.start
                    && until.is_none_or(|until| until.as_second() + SLACK >= start - LOOK_AHEAD)
                    && is_due(*start)
            };
            if !entry.starts().iter().any(was_due) || !entry.looks.iter().any(|(known, _)| known == look) {
                problems.push(format!("entry {place} is told to start soon, as it never did: {look:?}"));
            }
        }
    }
    problems
}
