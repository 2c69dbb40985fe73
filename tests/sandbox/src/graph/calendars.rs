//! Calendars: listed, shown, made, renamed and deleted; what is in them is the business of `events`.

use http::StatusCode;
use serde_json::{Value, json};

use super::events::{self, body};
use super::exchange::Exchange;
use super::odata::{self, Kind};
use super::refusal::{Answer, Answered, Refusal};
use super::{Shared, folders, query, refusal};
use crate::world::{Account, Calendar};

const KIND: Kind = Kind {
    name: "microsoft.graph.calendar",
    properties: &[
        "id",
        "name",
        "color",
        "hexColor",
        "isDefaultCalendar",
        "changeKey",
        "canShare",
        "canViewPrivateItems",
        "canEdit",
        "isTallyingResponses",
        "isRemovable",
        "owner",
        "allowedOnlineMeetingProviders",
        "defaultOnlineMeetingProvider",
    ],
};

/// Everything below `calendar`, `calendars`, `calendarView` and `events` of a mailbox.
pub(super) fn route(shared: &Shared, asked: &Exchange, address: &str, path: &[&str]) -> Answer {
    let default = || {
        let mut state = shared.world.lock();
        let account = state.account(address).ok_or_else(|| refusal::no_mailbox(address))?;
        Ok::<String, Refusal>(account.calendars.default_id())
    };
    match path {
        ["calendars"] => all(shared, asked, address),
        ["calendars", id] => one(shared, asked, address, id),
        ["calendars", id, rest @ ..] => {
            folders::with_account(shared, address, |account| {
                account.calendars.find(id).ok_or_else(refusal::no_item)?;
                Ok(Answered::empty(StatusCode::OK))
            })?;
            events::of_calendar(shared, asked, address, id, rest)
        }
        ["calendar"] => one(shared, asked, address, &default()?),
        ["calendar", rest @ ..] => events::of_calendar(shared, asked, address, &default()?, rest),
        ["events"] | ["calendarView", ..] => events::of_calendar(shared, asked, address, &default()?, path),
        ["events", rest @ ..] => events::of_event(shared, asked, address, rest),
        _ => Err(refusal::unknown_segment(path.first().copied().unwrap_or_default())),
    }
}

fn all(shared: &Shared, asked: &Exchange, address: &str) -> Answer {
    match asked.method.as_str() {
        "GET" => {
            let query = odata::read(asked, &KIND, &[])?;
            folders::with_account(shared, address, |account| {
                let items = account.calendars.list.iter().map(|calendar| shown(account, calendar)).collect();
                Ok(Answered::ok(query.page(shared, asked, items, &[])?))
            })
        }
        "POST" => {
            let name = name(asked)?;
            let made = shared.world.change(|state| {
                let number = state.number();
                let account = state.account(address)?;
                let id = account.calendars.add(&name, number);
                account.calendars.find(&id).map(|calendar| shown(account, calendar))
            });
            Ok(Answered::json_of(StatusCode::CREATED, made.ok_or_else(refusal::no_item)?))
        }
        _ => Err(refusal::method()),
    }
}

fn one(shared: &Shared, asked: &Exchange, address: &str, id: &str) -> Answer {
    match asked.method.as_str() {
        "GET" => {
            let query = query::read(asked, &["$select"])?;
            folders::with_account(shared, address, |account| {
                let calendar = account.calendars.find(id).ok_or_else(refusal::no_item)?;
                Ok(Answered::ok(odata::show(shown(account, calendar), query.select.as_deref(), &[])))
            })
        }
        "PATCH" => {
            let name = name(asked)?;
            let changed = shared.world.change(|state| {
                let account = state.account(address)?;
                let calendar = account.calendars.list.iter_mut().find(|calendar| calendar.id == id)?;
                calendar.name = name;
                let calendar = calendar.clone();
                Some(shown(account, &calendar))
            });
            Ok(Answered::ok(changed.ok_or_else(refusal::no_item)?))
        }
        "DELETE" => {
            shared.world.change(|state| {
                let account = state.account(address).ok_or_else(refusal::no_item)?;
                let calendar = account.calendars.find(id).ok_or_else(refusal::no_item)?;
                if calendar.is_default {
                    return Err(refusal::default_calendar());
                }
                account.calendars.list.retain(|calendar| calendar.id != id);
                account.calendars.events.retain(|_, event| event.calendar != id);
                Ok(())
            })?;
            Ok(Answered::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(refusal::method()),
    }
}

fn name(asked: &Exchange) -> Result<String, Refusal> {
    let written = asked.json()?;
    body::only(&written, &["name"], "calendar")?;
    let name = written["name"].as_str().filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| body::wrong("name"))
}

fn shown(account: &Account, calendar: &Calendar) -> Value {
    json!({
        "id": calendar.id,
        "name": calendar.name,
        "color": if calendar.is_default { "auto" } else { "lightBlue" },
        "hexColor": if calendar.is_default { "" } else { "#A6D1F5" },
        "isDefaultCalendar": calendar.is_default,
        "changeKey": format!("CAL{}", calendar.name.len()),
        "canShare": true,
        "canViewPrivateItems": true,
        "canEdit": true,
        "isTallyingResponses": calendar.is_default,
        "isRemovable": !calendar.is_default,
        "allowedOnlineMeetingProviders": ["teamsForBusiness"],
        "defaultOnlineMeetingProvider": "teamsForBusiness",
        "owner": {"name": account.display_name, "address": account.address},
    })
}
