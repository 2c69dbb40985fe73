//! What a day came to, as Markdown: what happened and was told, and what the provider was asked beside the least possible.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::event::v1::Event;

use crate::Settings;
use crate::stage::{MAILBOXES_A_CONNECTION, Stage};
use crate::truth::Truth;

/// The day's tables. `lasted`: how long triggers were looked after while things happened, and until all was told.
pub(crate) fn text(
    settings: &Settings,
    stage: &Stage,
    truth: &Truth,
    events: &[Arc<Event>],
    lasted: Duration,
) -> String {
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        *told.entry(&event.r#type).or_default() += 1;
    }
    let (lost, doubled) = stage.graph.subscriptions().disturbed();
    let faults = stage.graph.faults().end_random();
    let throttled = stage.graph.throttle().turned_away();
    let forgotten: usize = truth.forgotten.values().sum();
    let changes: usize = truth.entries.iter().map(|entry| entry.looks.len() - 1).sum();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\n{} mailboxes, {} mails, {} entries made and {changes} times changed; {faults} requests failed, {throttled} were \
         throttled, places were forgotten {forgotten} times, {lost} notifications lost and {doubled} doubled, processes \
         restarted {} times.\n\n| events | told |\n| --- | --- |",
        settings.mailboxes,
        truth.mails.len(),
        truth.entries.len(),
        settings.restarts
    );
    for (kind, count) in &told {
        let _ = writeln!(text, "| `{kind}` | {count} |");
    }
    let _ = writeln!(text, "\n| requests for | made | least |\n| --- | --- | --- |");
    let (mut all, mut least_of_all) = (0, 0);
    for (name, made, least) in rows(settings, stage, truth, &told, lasted) {
        let _ = writeln!(text, "| {name} | {made} | {least} |");
        (all, least_of_all) = (all + made, least_of_all + least);
    }
    let _ = writeln!(text, "| all | {all} | {least_of_all} |\n");
    text
}

fn rows(
    settings: &Settings,
    stage: &Stage,
    truth: &Truth,
    told: &BTreeMap<&str, usize>,
    lasted: Duration,
) -> Vec<(String, u64, u64)> {
    let mut counts = stage.graph.recorder().counts();
    let mut take = |kind: &str| counts.remove(kind).unwrap_or_default();
    let mailboxes = settings.mailboxes as u64;
    let looks = mailboxes * (lasted.as_millis() / settings.interval.as_millis().max(1)) as u64;
    let mails = told.get("email.received").copied().unwrap_or_default() as u64;
    let connections = settings.mailboxes.div_ceil(MAILBOXES_A_CONNECTION) as u64;
    let mut rows = vec![
        ("looks at folders".to_owned(), take("GET/users/*/mailFolders/*/messages/delta"), looks),
        ("mails told of, whole".to_owned(), take("GET/users/*/messages/*"), mails),
        ("looks at calendars".to_owned(), take("GET/users/*/calendar/events"), looks),
        (
            "exceptions of series that changed".to_owned(),
            take("GET/users/*/events/*"),
            truth.series_touched as u64,
        ),
        ("looks at what starts soon".to_owned(), take("GET/users/*/calendar/calendarView"), looks),
        (
            "the folder, when a trigger is made or its notification".to_owned(),
            take("GET/users/*/mailFolders/*"),
            mailboxes,
        ),
        ("the calendar, when a trigger is made".to_owned(), take("GET/users/*/calendar"), 3 * mailboxes),
        ("notifications agreed".to_owned(), take("POST/subscriptions"), mailboxes),
        ("tokens".to_owned(), take("POST /token"), connections),
    ];
    rows.extend(counts.into_iter().map(|(kind, count)| (format!("`{kind}`"), count, 0)));
    rows
}
