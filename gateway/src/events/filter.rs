//! Which events a subscriber wants.

use postern_proto::event::v1::EventFilter;

use crate::store::StoredEvent;

/// The most sources, and the most types, of a filter: each event is compared with each of them.
const MAX_ALTERNATIVES: usize = 100;
/// The longest source or type: longer than any that there is.
const MAX_TEXT_BYTES: usize = 256;

/// Sources and types, any of each; none of a kind lets all through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Filter {
    sources: Vec<String>,
    types: Vec<String>,
}

impl Filter {
    /// Checks what a subscriber asked for. Adds the fields that are wrong to `wrong`.
    #[must_use]
    pub(crate) fn parse(filter: EventFilter, wrong: &mut Vec<(String, String)>) -> Self {
        let source = |text: &str| text.split('/').all(|segment| !segment.is_empty());
        let kind = |text: &str| text.split('.').all(|part| !part.is_empty());
        check(
            "filter.sources",
            &filter.sources,
            "a resource name, such as connections/office",
            source,
            wrong,
        );
        check("filter.types", &filter.types, "a type or its first part, such as email.received", kind, wrong);
        Self { sources: filter.sources, types: filter.types }
    }

    /// Whether an event is wanted.
    #[must_use]
    pub(crate) fn matches(&self, event: &StoredEvent) -> bool {
        let source = |wanted: &String| is_or_starts(&event.source, wanted, '/');
        let kind = |wanted: &String| *event.event_type == **wanted || first_part(&event.event_type) == wanted;
        (self.sources.is_empty() || self.sources.iter().any(source))
            && (self.types.is_empty() || self.types.iter().any(kind))
    }
}

fn check(
    field: &str,
    texts: &[String],
    expected: &str,
    allowed: impl Fn(&str) -> bool,
    wrong: &mut Vec<(String, String)>,
) {
    if texts.len() > MAX_ALTERNATIVES {
        let problem = format!("has {} values: expected at most {MAX_ALTERNATIVES}", texts.len());
        return wrong.push((field.to_owned(), problem));
    }
    for (place, text) in texts.iter().enumerate() {
        if text.len() > MAX_TEXT_BYTES || !allowed(text) {
            wrong.push((format!("{field}[{place}]"), format!("expected {expected}")));
        }
    }
}

/// Whether a name is another one or lies under it.
fn is_or_starts(name: &str, wanted: &str, boundary: char) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(boundary))
}

fn first_part(event_type: &str) -> &str {
    event_type.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn event(source: &str, event_type: &str) -> StoredEvent {
        StoredEvent {
            sequence: 1,
            fingerprint: 1,
            source: source.into(),
            event_type: event_type.into(),
            encoded: Bytes::new(),
        }
    }

    fn filter(sources: &[&str], types: &[&str]) -> (Filter, Vec<(String, String)>) {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let mut wrong = Vec::new();
        let filter = EventFilter { sources: texts(sources), types: texts(types) };
        (Filter::parse(filter, &mut wrong), wrong)
    }

    #[test]
    fn a_source_covers_what_lies_under_it_and_no_namesake() {
        let (filter, wrong) = filter(&["connections/office", "connections/shop/triggers/new"], &[]);
        assert!(wrong.is_empty());
        for source in ["connections/office", "connections/office/triggers/a", "connections/shop/triggers/new"]
        {
            assert!(filter.matches(&event(source, "email.received")), "{source}");
        }
        for source in ["connections/office-2", "connections/shop", "connections/shop/triggers/newer"] {
            assert!(!filter.matches(&event(source, "email.received")), "{source}");
        }
    }

    #[test]
    fn a_type_is_named_whole_or_by_its_first_part() {
        let (filter, _) = filter(&[], &["email.received", "calendar_event"]);
        for wanted in ["email.received", "calendar_event.created", "calendar_event"] {
            assert!(filter.matches(&event("connections/office", wanted)), "{wanted}");
        }
        for other in ["email.sent", "email", "calendar_events.created", "connection.state_changed"] {
            assert!(!filter.matches(&event("connections/office", other)), "{other}");
        }
    }

    #[test]
    fn both_kinds_must_match_and_no_filter_lets_all_through() {
        let (both, _) = filter(&["connections/office"], &["email"]);
        assert!(both.matches(&event("connections/office", "email.received")));
        assert!(!both.matches(&event("connections/office", "trigger.gap")));
        assert!(!both.matches(&event("connections/shop", "email.received")));
        assert!(Filter::default().matches(&event("connections/shop", "trigger.gap")));
    }

    #[test]
    fn a_filter_that_cannot_match_is_refused_by_field() {
        let many = vec!["email"; 101];
        let (_, wrong) = filter(&["connections/office", "connections/"], &many);
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["filter.sources[1]", "filter.types"]);
        assert_eq!(filter(&[""], &["", "email."]).1.len(), 3);
    }
}
