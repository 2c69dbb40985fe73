//! What a trigger for new or changed calendar entries asks for, read and checked.

use jiff::Timestamp;
use postern_proto::event::v1::Trigger;
use postern_proto::event::v1::trigger::Kind;
use serde_json::Value;

use crate::error::{Error, refuse};
use crate::poll::odata::{Filter, Order};

/// The most that `top` may be.
const MAX_TOP: i32 = 1_000;

/// Which changes a trigger tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::poll) enum Tells {
    Made,
    Changed,
}

/// What a trigger asks for.
#[derive(Debug)]
pub(in crate::poll) struct Wants {
    /// The trigger's name.
    pub(super) name: String,
    pub(super) tells: Tells,
    pub(super) order: Order,
    pub(super) skip: usize,
    /// How many entries a look takes at most. None: as many as it does by itself.
    pub(in crate::poll) top: Option<usize>,
    pub(super) every_occurrence: bool,
    /// What happened before this is not told, by the gateway's clock.
    pub(super) since: Timestamp,
    filter: Option<Filter>,
}

impl Wants {
    /// Reads a trigger.
    ///
    /// # Errors
    /// Each wrong field, from the Trigger on; or it is of another kind.
    pub(in crate::poll) fn read(trigger: &Trigger, since: Timestamp) -> Result<Self, Error> {
        let (kind, tells, asked) = match &trigger.kind {
            Some(Kind::EventCreated(asked)) => ("event_created", Tells::Made, asked.clone()),
            Some(Kind::EventModified(asked)) => {
                let same = postern_proto::outlook::v1::EventCreatedTrigger {
                    table: asked.table.clone(),
                    filter: asked.filter.clone(),
                    order_by: asked.order_by.clone(),
                    skip: asked.skip,
                    top: asked.top,
                    every_occurrence: asked.every_occurrence,
                    mailbox: asked.mailbox.clone(),
                };
                ("event_modified", Tells::Changed, same)
            }
            _ => return Err(Error::TriggerKind),
        };
        let mut problems = Vec::new();
        let mut wrong = |field: &str, problem: String| problems.push((format!("{kind}.{field}"), problem));
        let filter = match asked.filter.trim() {
            "" => None,
            text => Filter::read(text).map_err(|problem| wrong("filter", problem)).ok(),
        };
        let order = Order::read(&asked.order_by).unwrap_or_else(|problem| {
            wrong("order_by", problem);
            Order::default()
        });
        let skip = usize::try_from(asked.skip).unwrap_or_else(|_| {
            wrong("skip", "expected 0 or more".to_owned());
            0
        });
        let top = match asked.top {
            0 => None,
            top @ 1..=MAX_TOP => usize::try_from(top).ok(),
            _ => {
                wrong("top", format!("expected 1 to {MAX_TOP}"));
                None
            }
        };
        refuse(problems)?;
        Ok(Self {
            name: trigger.name.clone(),
            tells,
            order,
            skip,
            top,
            every_occurrence: asked.every_occurrence,
            since,
            filter,
        })
    }

    /// Whether an event, as Graph gave it, meets the condition.
    pub(super) fn meets(&self, event: &Value) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds_for(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::outlook::v1::{EventCreatedTrigger, EventModifiedTrigger, NewEmailTrigger};

    fn read(kind: Kind) -> Result<Wants, Error> {
        Wants::read(&Trigger { kind: Some(kind), ..Default::default() }, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_wrong_field_is_named() {
        let asked = EventModifiedTrigger {
            filter: "subject is 'x'".into(),
            order_by: "when".into(),
            skip: -1,
            top: 1_001,
            ..Default::default()
        };
        let Err(Error::Fields(fields)) = read(Kind::EventModified(asked)) else { panic!("it was taken") };
        let paths: Vec<_> = fields.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            ["event_modified.filter", "event_modified.order_by", "event_modified.skip", "event_modified.top"]
        );
        assert!(matches!(read(Kind::NewEmail(NewEmailTrigger::default())), Err(Error::TriggerKind)));
    }

    #[test]
    fn a_condition_is_held_against_what_graph_gave() {
        let asked = EventCreatedTrigger { filter: "subject eq 'Review'".into(), ..Default::default() };
        let wants = read(Kind::EventCreated(asked)).unwrap();
        assert!(wants.meets(&serde_json::json!({"subject": "review"})));
        assert!(!wants.meets(&serde_json::json!({"subject": "Retro"})));
        assert_eq!((wants.top, wants.skip), (None, 0));
    }
}
