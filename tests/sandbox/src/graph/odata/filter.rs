//! `$filter`: comparisons, `startswith`, `contains`, `any`, joined by `and`, `or` and `not`.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::Value;

use super::Kind;
use crate::graph::refusal::{self, Refusal};

/// The deepest that parentheses nest.
const DEPTH: usize = 20;

/// A condition.
#[derive(Debug)]
pub(super) enum Expression {
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Compare(String, String, Value),
    Text(bool, String, String),
    Any(String, Box<Expression>),
}

struct Parser<'a> {
    rest: &'a str,
    kind: &'a Kind,
    variable: Option<String>,
    depth: usize,
}

/// Reads a condition on items of a kind.
pub(super) fn parse(text: &str, kind: &Kind) -> Result<Expression, Refusal> {
    let mut parser = Parser { rest: text.trim(), kind, variable: None, depth: 0 };
    let read = parser.or()?;
    if parser.rest.is_empty() { Ok(read) } else { Err(parser.bad()) }
}

impl<'a> Parser<'a> {
    fn bad(&self) -> Refusal {
        refusal::bad(format!("Invalid filter clause: Syntax error before '{}'.", self.rest))
    }

    /// Takes a sign, with the space around it.
    fn sign(&mut self, sign: char) -> Result<(), Refusal> {
        self.rest = self.rest.strip_prefix(sign).ok_or_else(|| self.bad())?.trim_start();
        Ok(())
    }

    /// Takes a word if it comes next.
    fn takes(&mut self, word: &str) -> bool {
        let after = self.rest.strip_prefix(word).filter(|after| after.starts_with([' ', '(']));
        after.map(|after| self.rest = after.trim_start()).is_some()
    }

    fn name(&mut self) -> &'a str {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "/_.:-+".contains(c));
        let (name, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        name
    }

    fn or(&mut self) -> Result<Expression, Refusal> {
        let mut left = self.and()?;
        while self.takes("or") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, Refusal> {
        let mut left = self.one()?;
        while self.takes("and") {
            left = Expression::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Expression, Refusal> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(refusal::inefficient());
        }
        let read = self.any_one();
        self.depth -= 1;
        read
    }

    fn any_one(&mut self) -> Result<Expression, Refusal> {
        if self.takes("not") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.rest.starts_with('(') {
            self.sign('(')?;
            let within = self.or()?;
            self.sign(')')?;
            return Ok(within);
        }
        let name = self.name();
        if self.rest.starts_with('(') {
            return match name {
                "startswith" | "contains" => self.text(name == "startswith"),
                _ => match name.strip_suffix("/any").or_else(|| name.strip_suffix("/Any")) {
                    Some(path) => self.any(path),
                    None => Err(self.bad()),
                },
            };
        }
        let path = self.path(name)?;
        let operator = self.name().to_owned();
        if !["eq", "ne", "ge", "gt", "le", "lt"].contains(&operator.as_str()) {
            return Err(self.bad());
        }
        Ok(Expression::Compare(path, operator, self.literal()?))
    }

    /// A path, from the item or from the element that is looked at.
    fn path(&self, name: &str) -> Result<String, Refusal> {
        match &self.variable {
            Some(variable) if name == variable => Ok(String::new()),
            Some(variable) => {
                let within = name.strip_prefix(variable.as_str()).and_then(|rest| rest.strip_prefix('/'));
                within.map(str::to_owned).ok_or_else(|| self.bad())
            }
            None => self.kind.check(name).map(|()| name.to_owned()),
        }
    }

    fn text(&mut self, starts: bool) -> Result<Expression, Refusal> {
        self.sign('(')?;
        let name = self.name();
        let path = self.path(name)?;
        self.sign(',')?;
        let Value::String(text) = self.literal()? else { return Err(self.bad()) };
        self.sign(')')?;
        Ok(Expression::Text(starts, path, text))
    }

    fn any(&mut self, path: &str) -> Result<Expression, Refusal> {
        self.kind.check(path)?;
        self.sign('(')?;
        let (variable, rest) = self.rest.split_once(':').ok_or_else(|| self.bad())?;
        if variable.is_empty() || !variable.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(self.bad());
        }
        self.rest = rest.trim_start();
        let before = self.variable.replace(variable.to_owned());
        let within = self.or()?;
        self.variable = before;
        self.sign(')')?;
        Ok(Expression::Any(path.to_owned(), Box::new(within)))
    }

    fn literal(&mut self) -> Result<Value, Refusal> {
        let Some(mut rest) = self.rest.strip_prefix('\'') else {
            let word = self.name();
            return match word {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                "null" => Ok(Value::Null),
                word if word.parse::<i64>().is_ok() => Ok(word.parse::<i64>().unwrap_or_default().into()),
                word if word.parse::<Timestamp>().is_ok() => Ok(serde_json::json!({"time": word})),
                _ => Err(self.bad()),
            };
        };
        let mut text = String::new();
        loop {
            let (before, after) = rest.split_once('\'').ok_or_else(|| self.bad())?;
            text.push_str(before);
            match after.strip_prefix('\'') {
                Some(more) => {
                    text.push('\'');
                    rest = more;
                }
                None => {
                    self.rest = after.trim_start();
                    return Ok(text.into());
                }
            }
        }
    }
}

/// What is at a path of an item.
pub(super) fn at<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('/').filter(|part| !part.is_empty()).fold(item, |item, part| &item[part])
}

/// The order of two values: times by time, texts whatever their case.
pub(super) fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::String(one), Value::String(other)) => {
            match (one.parse::<DateTime>(), other.parse::<DateTime>()) {
                (Ok(one), Ok(other)) => one.cmp(&other),
                _ => one.to_lowercase().cmp(&other.to_lowercase()),
            }
        }
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (one, other) => one.as_i64().cmp(&other.as_i64()),
    }
}

impl Expression {
    /// Whether an item meets it.
    pub(super) fn holds(&self, item: &Value) -> Result<bool, Refusal> {
        Ok(match self {
            Self::And(one, other) => one.holds(item)? && other.holds(item)?,
            Self::Or(one, other) => one.holds(item)? || other.holds(item)?,
            Self::Not(one) => !one.holds(item)?,
            Self::Text(starts, path, text) => {
                let there = at(item, path).as_str().unwrap_or_default().to_lowercase();
                let text = text.to_lowercase();
                if *starts { there.starts_with(&text) } else { there.contains(&text) }
            }
            Self::Any(path, within) => {
                for element in at(item, path).as_array().into_iter().flatten() {
                    if within.holds(element)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Compare(path, operator, value) => holds(at(item, path), operator, value)?,
        })
    }
}

fn holds(there: &Value, operator: &str, value: &Value) -> Result<bool, Refusal> {
    let mismatch = || refusal::bad("A binary operator with incompatible types was detected.");
    let order = match (there, value) {
        (Value::Null, _) | (_, Value::Null) => {
            return Ok(match operator {
                "eq" => there == value,
                "ne" => there != value,
                _ => false,
            });
        }
        (Value::String(text), Value::Object(time)) => {
            let time = time["time"].as_str().unwrap_or_default().parse::<Timestamp>();
            let there = text.parse::<Timestamp>().map_err(|_| mismatch())?;
            there.cmp(&time.map_err(|_| mismatch())?)
        }
        // A time is no text: it is written without quotes.
        (Value::String(text), Value::String(_))
            if text.ends_with('Z') && text.parse::<Timestamp>().is_ok() =>
        {
            return Err(mismatch());
        }
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => compare(there, value),
        (Value::Number(_), Value::Number(_)) => compare(there, value),
        _ => return Err(mismatch()),
    };
    Ok(match operator {
        "eq" => order.is_eq(),
        "ne" => order.is_ne(),
        "ge" => order.is_ge(),
        "gt" => order.is_gt(),
        "le" => order.is_le(),
        _ => order.is_lt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KIND: Kind = Kind { name: "thing", properties: &["name", "size", "made", "tags", "at", "new"] };

    fn holds(filter: &str) -> Option<bool> {
        let item = json!({
            "name": "O'Neil", "size": 3, "made": "2026-03-01T10:00:00Z", "tags": ["a", "b"], "new": true,
            "at": {"dateTime": "2026-03-01T10:00:00.0000000", "people": [{"id": "1", "value": "x"}]},
        });
        parse(filter, &KIND).and_then(|read| read.holds(&item)).ok()
    }

    #[test]
    fn conditions_are_met_or_not() {
        for filter in [
            "name eq 'o''neil'",
            "size ge 3 and (new eq false or not startswith(name,'P'))",
            "made gt 2026-03-01T09:00:00Z",
            "at/dateTime ge '2026-03-01' and at/dateTime lt '2026-03-01T10:00:01'",
            "tags/any(t: t eq 'B') and tags/any(t:t eq 'a')",
            "contains(name, 'nei') and size ne 4",
        ] {
            assert_eq!(holds(filter), Some(true), "{filter}");
        }
        assert_eq!(holds("tags/any(t: t eq 'c')"), Some(false));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for wrong in [
            "name",
            "nome eq 'x'",
            "name eq x",
            "size eq '3'",
            "made eq '2026'",
            "name eq 'x' x",
            "(new eq true",
        ] {
            assert_eq!(holds(wrong), None, "{wrong}");
        }
    }
}
