//! Conditions and orders in Graph's query language (OData 4.01, `$filter` and `$orderby`), read once and held against
//! events here: Graph itself takes neither where changes are asked for. What is not understood is refused, never guessed.

mod parse;
mod value;
mod words;

use std::cmp::Ordering;

use serde_json::Value;

use value::Held;

/// The properties of an event that a condition or an order may name.
const PROPERTIES: [&str; 38] = [
    "allowNewTimeProposals",
    "attendees",
    "body",
    "bodyPreview",
    "categories",
    "changeKey",
    "createdDateTime",
    "end",
    "hasAttachments",
    "hideAttendees",
    "iCalUId",
    "id",
    "importance",
    "isAllDay",
    "isCancelled",
    "isDraft",
    "isOnlineMeeting",
    "isOrganizer",
    "isReminderOn",
    "lastModifiedDateTime",
    "location",
    "locations",
    "onlineMeetingProvider",
    "onlineMeetingUrl",
    "organizer",
    "originalEndTimeZone",
    "originalStart",
    "originalStartTimeZone",
    "recurrence",
    "reminderMinutesBeforeStart",
    "responseRequested",
    "responseStatus",
    "sensitivity",
    "seriesMasterId",
    "showAs",
    "start",
    "subject",
    "type",
];

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter(Condition);

/// An order: properties, each rising or falling.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Order(Vec<(Path, bool)>);

/// The way to a property, such as `start/dateTime`.
type Path = Vec<String>;

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Operand, Relation, Operand),
    Text(TextTest, Operand, Operand),
    /// `attendees/any(a: a/type eq 'required')`; without a condition: whether there is any.
    Some(Path, Option<(String, Box<Condition>)>),
    In(Operand, Vec<Held>),
    /// A property that is true or false by itself.
    True(Operand),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Constant(Held),
    Lower(Box<Operand>),
    Upper(Box<Operand>),
    Trim(Box<Operand>),
    Length(Box<Operand>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Relation {
    Equal,
    Different,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

impl Filter {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        parse::filter(text).map(Self)
    }

    /// Whether an event, as Graph gave it, meets it.
    pub(super) fn holds_for(&self, event: &Value) -> bool {
        self.0.holds(&Scope { event, item: None })
    }
}

impl Order {
    /// Reads an order. Empty: none.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        parse::order(text).map(Self)
    }

    /// Which of two events comes first.
    pub(super) fn compare(&self, one: &Value, other: &Value) -> Ordering {
        for (path, falling) in &self.0 {
            let at = |event| Held::of(walk(event, path));
            let order = at(one).order(&at(other)).unwrap_or(Ordering::Equal);
            if order != Ordering::Equal {
                return if *falling { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    }
}

/// What names stand for: the event, and within `any` the item at hand under its name.
struct Scope<'a> {
    event: &'a Value,
    item: Option<(&'a str, &'a Value)>,
}

impl Scope<'_> {
    fn find(&self, path: &[String]) -> &Value {
        match (&self.item, path) {
            (Some((name, item)), [first, rest @ ..]) if first == name => walk(item, rest),
            _ => walk(self.event, path),
        }
    }
}

/// What lies at a path, names compared case aside as the originals' users write them.
fn walk<'a>(mut at: &'a Value, path: &[String]) -> &'a Value {
    for name in path {
        let members = at.as_object();
        let found = members.and_then(|members| {
            members.get(name.as_str()).or_else(|| {
                members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            })
        });
        match found {
            Some(value) => at = value,
            None => return &Value::Null,
        }
    }
    at
}

impl Condition {
    fn holds(&self, scope: &Scope<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(scope)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(scope)),
            Self::Not(inner) => !inner.holds(scope),
            Self::Compare(left, relation, right) => relation.holds(&left.value(scope), &right.value(scope)),
            Self::Text(test, whole, part) => match (whole.value(scope), part.value(scope)) {
                (Held::Text(whole), Held::Text(part)) => {
                    let (whole, part) = (whole.to_lowercase(), part.to_lowercase());
                    match test {
                        TextTest::Contains => whole.contains(&part),
                        TextTest::StartsWith => whole.starts_with(&part),
                        TextTest::EndsWith => whole.ends_with(&part),
                    }
                }
                _ => false,
            },
            Self::Some(path, inner) => {
                let Value::Array(items) = scope.find(path) else { return false };
                match inner {
                    None => !items.is_empty(),
                    Some((name, condition)) => items.iter().any(|item| {
                        condition.holds(&Scope { event: scope.event, item: Some((name.as_str(), item)) })
                    }),
                }
            }
            Self::In(operand, values) => {
                let value = operand.value(scope);
                values.iter().any(|one| Relation::Equal.holds(&value, one))
            }
            Self::True(operand) => operand.value(scope) == Held::Bool(true),
        }
    }
}

impl Operand {
    fn value(&self, scope: &Scope<'_>) -> Held {
        let text = |operand: &Operand, change: fn(&str) -> String| match operand.value(scope) {
            Held::Text(text) => Held::Text(change(&text)),
            _ => Held::Nothing,
        };
        match self {
            Self::Path(path) => Held::of(scope.find(path)),
            Self::Constant(value) => value.clone(),
            Self::Lower(inner) => text(inner, str::to_lowercase),
            Self::Upper(inner) => text(inner, str::to_uppercase),
            Self::Trim(inner) => text(inner, |text| text.trim().to_owned()),
            Self::Length(inner) => match inner.value(scope) {
                Held::Text(text) => Held::Number(text.chars().count() as f64),
                _ => Held::Nothing,
            },
        }
    }
}

impl Relation {
    fn holds(self, left: &Held, right: &Held) -> bool {
        let order = left.order(right);
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Different => order != Some(Ordering::Equal),
            // Nothing is greater or less than nothing.
            _ if matches!((left, right), (Held::Nothing, _) | (_, Held::Nothing)) => false,
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Value {
        json!({
            "subject": "Weekly O'Brien review",
            "start": {"dateTime": "2026-03-29T08:00:00.0000000", "timeZone": "UTC"},
            "createdDateTime": "2026-03-01T10:00:00.5Z",
            "isAllDay": false,
            "isCancelled": true,
            "reminderMinutesBeforeStart": 15,
            "importance": "high",
            "categories": ["Red category", "Work"],
            "attendees": [
                {"type": "required", "emailAddress": {"address": "Bo@example.org"}},
                {"type": "optional", "emailAddress": {"address": "cy@example.org"}},
            ],
            "seriesMasterId": null,
        })
    }

    fn holds(text: &str) -> bool {
        Filter::read(text).unwrap_or_else(|problem| panic!("{text}: {problem}")).holds_for(&event())
    }

    #[test]
    fn conditions_hold_as_graph_would_say() {
        for met in [
            "subject eq 'weekly o''brien review'",
            "Subject ne 'x' and importance eq 'high'",
            "start/dateTime ge '2026-03-29T08:00' and start/dateTime lt '2026-03-29T08:00:01'",
            "createdDateTime gt 2026-03-01T10:00:00Z",
            "createdDateTime le 2026-03-01T11:00:00.5+01:00",
            "contains(subject, 'BRIEN') and startswith(subject,'week')",
            "endswith(tolower(subject), 'review')",
            "reminderMinutesBeforeStart le 15 and reminderMinutesBeforeStart gt 14.5",
            "isAllDay eq false and isCancelled",
            "not isAllDay and (importance eq 'low' or importance eq 'high')",
            "not (isAllDay or importance eq 'low')",
            "seriesMasterId eq null",
            "importance in ('low', 'high')",
            "categories/any(c: c eq 'work')",
            "categories/any()",
            "attendees/any(a:a/type eq 'required' and a/emailAddress/address eq 'bo@example.org')",
            "length(subject) gt 5",
            "isAllDay eq false or isAllDay eq true and importance eq 'low'",
        ] {
            assert!(holds(met), "{met}");
            assert!(!holds(&format!("not ({met})")), "not {met}");
        }
        for missed in [
            "subject gt 'x'",
            "seriesMasterId gt 'a'",
            "attendees/any(a: a/type eq 'resource')",
            "location/displayName eq 'here'",
            "contains(location/displayName, '')",
        ] {
            assert!(!holds(missed), "{missed}");
        }
    }

    #[test]
    fn an_order_sorts_and_says_where_it_cannot_be_read() {
        let events = [json!({"subject": "b", "isAllDay": true}), json!({"subject": "A"}), json!({})];
        let sorted = |text: &str| {
            let order = Order::read(text).unwrap();
            let mut sorted: Vec<_> = events.iter().collect();
            sorted.sort_by(|one, other| order.compare(one, other));
            sorted.iter().map(|event| event["subject"].as_str().unwrap_or("-")).collect::<String>()
        };
        assert_eq!(sorted("subject"), "-Ab");
        assert_eq!(sorted("subject desc"), "bA-");
        assert_eq!(sorted("isAllDay desc, subject asc"), "b-A");
        assert_eq!(sorted(""), "bA-");
        for wrong in ["subject down", "nothing", "subject,", "start/dateTime desc asc"] {
            assert!(Order::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_place() {
        for (wrong, hint) in [
            ("", "expected a condition"),
            ("subject eq", "at the end"),
            ("subject eq 'x", "quote"),
            ("subject = 'x'", "at character 9"),
            ("sobject eq 'x'", "`sobject` is no property"),
            ("matches(subject, 'x')", "`matches`"),
            ("(subject eq 'x'", "`)`"),
            ("subject eq 'x' 'y'", "at character 16"),
            ("attendees/all(a: a/type eq 'x')", "`all`"),
            ("categories/any(c: d eq 'x')", "`d` is no property"),
        ] {
            let problem = Filter::read(wrong).unwrap_err();
            assert!(problem.contains(hint), "{wrong}: {problem}");
        }
        assert!(Filter::read(&"(".repeat(100_000)).is_err());
        assert!(Filter::read(&format!("{}isAllDay", "not ".repeat(900))).is_err());
    }
}
