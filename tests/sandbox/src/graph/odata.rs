//! Query options over items shown as JSON, read strictly: `$filter` as a real subset of OData, `$orderby` by several
//! properties, pages by `$top` and `$skip`. What Graph does not know it refuses.

mod filter;

use std::cmp::Ordering;

use serde_json::Value;

use super::exchange::Exchange;
use super::query::{self, Query};
use super::refusal::{self, Refusal};
use super::{Shared, folders};
use filter::Expression;

/// How many items a page holds unasked.
const PAGE: usize = 10;

/// What is asked of a list.
pub(super) struct Asked {
    query: Query,
    filter: Option<Expression>,
    order: Vec<(String, bool)>,
}

/// Properties of a kind of item.
pub(super) struct Kind {
    /// Its name.
    pub(super) name: &'static str,
    /// Its properties.
    pub(super) properties: &'static [&'static str],
}

impl Kind {
    /// Makes sure that it has the property that a path begins with.
    pub(super) fn check(&self, path: &str) -> Result<(), Refusal> {
        let root = path.split('/').next().unwrap_or_default();
        if self.properties.contains(&root) {
            return Ok(());
        }
        Err(refusal::bad(format!("Could not find a property named '{root}' on type '{}'.", self.name)))
    }
}

/// Reads the options; `taken` are the other ones that may be there, and are read elsewhere.
pub(super) fn read(asked: &Exchange, kind: &Kind, taken: &[&str]) -> Result<Asked, Refusal> {
    let own = ["$filter", "$orderby"];
    let mut filter = None;
    let mut order = Vec::new();
    for (name, value) in &asked.options {
        match name.as_str() {
            "$filter" => filter = Some(filter::parse(value, kind)?),
            "$orderby" => {
                for part in value.split(',') {
                    let mut words = part.split_whitespace();
                    let path = words.next().unwrap_or_default();
                    kind.check(path)?;
                    let down = match words.next() {
                        None | Some("asc") => false,
                        Some("desc") => true,
                        Some(_) => return Err(refusal::bad("Syntax error in '$orderby'.")),
                    };
                    order.push((path.to_owned(), down));
                }
            }
            _ => {}
        }
    }
    let read = |name: &str| own.contains(&name) || taken.contains(&name);
    let rest: Vec<_> = asked.options.iter().filter(|(name, _)| !read(name)).cloned().collect();
    let query = query::read(&asked.with_options(rest), &["$select", "$top", "$skip"])?;
    if let Some(field) = query.select.iter().flatten().find(|field| *field != "id") {
        kind.check(field)?;
    }
    Ok(Asked { query, filter, order })
}

impl Asked {
    /// One page of what is left of the items, in order. `hidden` properties serve conditions and are not shown.
    pub(super) fn page(
        &self,
        shared: &Shared,
        asked: &Exchange,
        items: Vec<Value>,
        hidden: &[&str],
    ) -> Result<Value, Refusal> {
        let mut kept = Vec::new();
        for item in items {
            if self.filter.as_ref().map_or(Ok(true), |filter| filter.holds(&item))? {
                kept.push(item);
            }
        }
        kept.sort_by(|one, other| {
            let by = self.order.iter().map(|(path, down)| {
                let order = filter::compare(filter::at(one, path), filter::at(other, path));
                if *down { order.reverse() } else { order }
            });
            by.fold(Ordering::Equal, Ordering::then)
        });
        let shown = kept.into_iter().map(|item| self.selected(item, hidden)).collect();
        Ok(folders::page(shared, asked, &self.query, shown, PAGE))
    }

    fn selected(&self, item: Value, hidden: &[&str]) -> Value {
        show(item, self.query.select.as_deref(), hidden)
    }
}

/// An item with what is selected of it.
pub(super) fn show(mut item: Value, select: Option<&[String]>, hidden: &[&str]) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|name, _| {
            !hidden.contains(&name.as_str())
                && (name == "id"
                    || name.starts_with('@')
                    || select.is_none_or(|select| select.iter().any(|field| field == name)))
        });
    }
    item
}
