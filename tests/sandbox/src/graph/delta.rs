//! `messages/delta` of a folder: rounds of pages, each round from one place in the account's log to another.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::refusal::{Answer, Answered};
use super::{Shared, folders, query, refusal, shape};

/// How many items a page holds unasked.
const PAGE: usize = 10;

/// What a token holds: the options of the first request, and the place.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    generation: u64,
    select: Option<Vec<String>>,
    change_type: Option<String>,
    /// Whether this is the first round, which lists what is there.
    listing: bool,
    /// Where the round begins in the log.
    start: u64,
    /// What stands up to here in the log was told.
    after: u64,
    /// Where the round ends. Absent between rounds.
    until: Option<u64>,
    /// How many items a page holds, where `$top` said so.
    top: Option<usize>,
}

/// Answers one page.
pub(super) fn round(shared: &Shared, asked: &Exchange, address: &str, folder: &str) -> Answer {
    let mut place = place(shared, asked, address)?;
    let size = asked.preferred_page().or(place.top).unwrap_or(PAGE);
    let immutable = asked.immutable();
    folders::with_account(shared, address, |account| {
        let folder = account.folder(folder).ok_or_else(refusal::no_item)?.id.clone();
        let until = *place.until.get_or_insert(account.last_change());
        // Each message once, by its last change in the round, or, listing, by its coming.
        let mut items: Vec<(u64, String, bool)> = Vec::new();
        if place.listing {
            for message in account.in_folder(&folder) {
                if message.entered > place.after && message.entered <= until {
                    items.push((message.entered, message.id.clone(), true));
                }
            }
        } else {
            // From the round's start on, lest a coming be forgotten that a later change puts on a later page.
            for change in account.changes(&folder, place.start, until) {
                let came = items.iter().any(|(_, id, came)| *id == change.message && *came) || change.came;
                items.retain(|(_, id, _)| *id != change.message);
                items.push((change.number, change.message.clone(), came));
            }
            items.retain(|(number, ..)| *number > place.after);
        }
        items.sort_by_key(|(number, ..)| *number);
        let only_created = !place.listing && place.change_type.as_deref() == Some("created");
        let more = items.len() > size;
        items.truncate(size);
        let mut value: Vec<Value> = Vec::new();
        for (_, id, came) in &items {
            let there = account.message(id).filter(|message| message.folder == folder);
            match there {
                Some(_) if only_created && !came => {}
                Some(message) => {
                    value.push(shape::message(message, immutable, place.select.as_deref(), false)?);
                }
                None if only_created => {}
                None => value.push(json!({"id": id, "@removed": {"reason": "deleted"}})),
            }
        }
        let mut body = json!({"value": value});
        if more {
            place.after = items.last().map_or(place.after, |(number, ..)| *number);
            body["@odata.nextLink"] = link(shared, asked, "$skiptoken", &place).into();
        } else {
            let ended = Place { listing: false, start: until, after: until, until: None, ..place };
            body["@odata.deltaLink"] = link(shared, asked, "$deltatoken", &ended).into();
        }
        Ok(Answered::ok(body))
    })
}

/// The place that a request asks from.
fn place(shared: &Shared, asked: &Exchange, address: &str) -> Result<Place, refusal::Refusal> {
    let taken = ["$select", "$top", "$skiptoken", "$deltatoken", "changeType"];
    let query = query::read(asked, &taken)?;
    let generation = shared.faults.delta_generation_of(address);
    let Some(token) = query.skip_token.as_ref().or(query.delta_token.as_ref()) else {
        let types = [None, Some("created"), Some("updated"), Some("deleted")];
        if !types.contains(&query.change_type.as_deref()) {
            return Err(refusal::bad("Invalid value for 'changeType'."));
        }
        return Ok(Place {
            generation,
            select: query.select,
            change_type: query.change_type,
            listing: true,
            start: 0,
            after: 0,
            until: None,
            top: query.top,
        });
    };
    if asked.options.len() != 1 {
        return Err(refusal::bad("A token carries the options of the first request: do not repeat them."));
    }
    let place: Place = query::unseal(token).ok_or_else(refusal::sync_state_bad)?;
    if place.generation != generation {
        return Err(refusal::sync_state_gone());
    }
    Ok(place)
}

fn link(shared: &Shared, asked: &Exchange, option: &str, place: &Place) -> String {
    let path = asked.target.split('?').next().unwrap_or_default();
    format!("{}{path}?{option}={}", shared.url, query::seal(place))
}
