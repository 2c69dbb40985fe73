//! Field masks: what an update names is changed, and nothing else. Works on any message of the contract by its
//! descriptor; which fields a caller may set is the caller's to say.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use prost_types::FieldMask;

use crate::contract;
use crate::error::Error;

/// The field that errors are about.
const FIELD: &str = "update_mask";
/// The most paths that a mask may have: more than any message of the contract has fields.
const MAX_PATHS: usize = 256;
/// Messages of this package are values: an update without a mask replaces them whole.
const VALUES: &str = "google.protobuf";

/// `current` with what `mask` names taken from `wanted`; named and absent in `wanted`: cleared. `message` is the full
/// name of `M` in the contract, `settable` its top-level fields that a caller may set.
///
/// Without a mask (or with an empty one) every field that is set in `wanted` and may be set is named, down to the
/// fields within messages: what was not said stays. The mask `*` replaces all that may be set. A member of a oneof
/// other than the one in force takes its place.
///
/// # Errors
/// FIELD_INVALID `update_mask`: a path that names no field, or one that callers may not set.
pub fn apply<M: Message + Default>(
    message: &str,
    current: &M,
    wanted: &M,
    mask: Option<&FieldMask>,
    settable: &[&str],
) -> Result<M, Error> {
    let descriptor = contract::pool()
        .get_message_by_name(message)
        .ok_or_else(|| Error::field(FIELD, format!("{message} is not in the contract")))?;
    let mut result = dynamic(&descriptor, current)?;
    let wanted = dynamic(&descriptor, wanted)?;
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.len() > MAX_PATHS {
        return Err(Error::field(FIELD, format!("has more than {MAX_PATHS} paths")));
    }
    if paths.is_empty() {
        let fields = descriptor.fields().filter(|field| settable.contains(&field.name()));
        for field in fields.filter(|field| wanted.has_field(field)) {
            merge(&mut result, &wanted, &field);
        }
    } else if paths == ["*"] {
        for field in descriptor.fields().filter(|field| settable.contains(&field.name())) {
            replace(&mut result, Some(&wanted), &field);
        }
    } else {
        for path in paths {
            follow(&descriptor, path, settable, &mut result, &wanted)?;
        }
    }
    result.transcode_to().map_err(|_| Error::field(FIELD, "cannot be applied"))
}

/// Whether a mask names a top-level field, or something in it. Without a mask, `populated` says.
#[must_use]
pub fn names(mask: Option<&FieldMask>, field: &str, populated: bool) -> bool {
    match mask {
        Some(mask) if !mask.paths.is_empty() => {
            mask.paths.iter().any(|path| path == "*" || path.split('.').next() == Some(field))
        }
        _ => populated,
    }
}

fn dynamic<M: Message>(descriptor: &MessageDescriptor, message: &M) -> Result<DynamicMessage, Error> {
    let mut dynamic = DynamicMessage::new(descriptor.clone());
    dynamic
        .transcode_from(message)
        .map_err(|_| Error::field(FIELD, format!("is not for a {}", descriptor.full_name())))?;
    Ok(dynamic)
}

/// Applies one path of an explicit mask.
fn follow(
    descriptor: &MessageDescriptor,
    path: &str,
    settable: &[&str],
    result: &mut DynamicMessage,
    wanted: &DynamicMessage,
) -> Result<(), Error> {
    let refused = |problem: &str| {
        Error::field(FIELD, format!("{path:?} {problem}: what can be set is {}", settable.join(", ")))
    };
    // The whole path is looked up before anything is changed.
    let mut fields = Vec::new();
    let mut inside = Some(descriptor.clone());
    for name in path.split('.') {
        let field = inside.as_ref().and_then(|inside| inside.get_field_by_name(name));
        let field = field.ok_or_else(|| refused("names no field"))?;
        inside = match field.kind() {
            Kind::Message(message) if !field.is_list() && !field.is_map() => Some(message),
            _ => None,
        };
        fields.push(field);
    }
    let Some((last, parents)) = fields.split_last() else { return Err(refused("names no field")) };
    let first = parents.first().unwrap_or(last);
    if !settable.contains(&first.name()) {
        return Err(refused("is not for callers to set"));
    }
    let mut source = Some(wanted.clone());
    let mut target = result;
    for parent in parents {
        source = source
            .filter(|source| source.has_field(parent))
            .and_then(|source| source.get_field(parent).as_message().cloned());
        if source.is_none() && !target.has_field(parent) {
            // Nothing is wanted within something that is not there.
            return Ok(());
        }
        target = target.get_field_mut(parent).as_message_mut().ok_or_else(|| refused("names no field"))?;
    }
    replace(target, source.as_ref(), last);
    Ok(())
}

/// Takes a field as it is wanted, or clears it.
fn replace(target: &mut DynamicMessage, wanted: Option<&DynamicMessage>, field: &FieldDescriptor) {
    match wanted.filter(|wanted| wanted.has_field(field)) {
        Some(wanted) => target.set_field(field, wanted.get_field(field).into_owned()),
        None => target.clear_field(field),
    }
}

/// Takes what is set in a field, down to the fields within messages.
fn merge(target: &mut DynamicMessage, wanted: &DynamicMessage, field: &FieldDescriptor) {
    let value = wanted.get_field(field).into_owned();
    let is_message = matches!(field.kind(), Kind::Message(ref message) if message.package_name() != VALUES);
    match value {
        Value::Message(inner) if is_message && target.has_field(field) => {
            if let Some(place) = target.get_field_mut(field).as_message_mut() {
                for (field, _) in inner.fields() {
                    merge(place, &inner, &field);
                }
            }
        }
        value => target.set_field(field, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::event::v1::{Trigger, trigger};
    use postern_proto::outlook::v1::{EventCreatedTrigger, NewEmailTrigger};

    const SETTABLE: [&str; 3] = ["interval", "new_email", "event_created"];

    fn new_email(folder: &str, subject: &str) -> Option<trigger::Kind> {
        let kind = NewEmailTrigger {
            folder_path: folder.into(),
            subject_filter: subject.into(),
            ..Default::default()
        };
        Some(trigger::Kind::NewEmail(kind))
    }

    fn stored() -> Trigger {
        let interval = Some(prost_types::Duration { seconds: 60, nanos: 5 });
        Trigger { name: "n".into(), interval, kind: new_email("Inbox", "invoice"), ..Default::default() }
    }

    fn applied(wanted: &Trigger, paths: &[&str]) -> Result<Trigger, Error> {
        let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        apply("postern.event.v1.Trigger", &stored(), wanted, Some(&mask), &SETTABLE)
    }

    fn problem(result: Result<Trigger, Error>) -> String {
        match result.unwrap_err() {
            Error::Fields(fields) => format!("{}: {}", fields[0].0, fields[0].1),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_path_changes_what_it_names_and_nothing_else() {
        let wanted = Trigger { kind: new_email("Archive", "offer"), ..Default::default() };
        let got = applied(&wanted, &["new_email.subject_filter"]).unwrap();
        assert_eq!(got, Trigger { kind: new_email("Inbox", "offer"), ..stored() });
    }

    #[test]
    fn a_named_field_that_is_absent_is_cleared() {
        let got = applied(&Trigger::default(), &["interval", "new_email.folder_path"]).unwrap();
        assert_eq!(got, Trigger { interval: None, kind: new_email("", "invoice"), ..stored() });
        let got = applied(&Trigger::default(), &["event_created.table"]).unwrap();
        assert_eq!(got, stored());
    }

    #[test]
    fn another_member_of_a_oneof_takes_its_place() {
        let kind = Some(trigger::Kind::EventCreated(EventCreatedTrigger {
            table: "t".into(),
            ..Default::default()
        }));
        let got = applied(&Trigger { kind: kind.clone(), ..Default::default() }, &["event_created"]).unwrap();
        assert_eq!(got, Trigger { kind, ..stored() });
    }

    #[test]
    fn without_a_mask_what_is_set_is_changed_and_what_was_not_said_stays() {
        let interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
        let wanted =
            Trigger { name: "other".into(), interval, kind: new_email("Archive", ""), ..Default::default() };
        for mask in [None, Some(FieldMask::default())] {
            let got = apply("postern.event.v1.Trigger", &stored(), &wanted, mask.as_ref(), &SETTABLE);
            assert_eq!(got.unwrap(), Trigger { interval, kind: new_email("Archive", "invoice"), ..stored() });
        }
    }

    #[test]
    fn a_star_replaces_all_that_may_be_set() {
        let got = applied(&Trigger { kind: new_email("A", ""), ..Default::default() }, &["*"]).unwrap();
        assert_eq!(got, Trigger { name: "n".into(), kind: new_email("A", ""), ..Default::default() });
    }

    #[test]
    fn a_path_that_is_none_or_not_for_callers_is_refused_with_what_can_be_set() {
        let unknown = problem(applied(&stored(), &["new_email.color"]));
        assert_eq!(
            unknown,
            "update_mask: \"new_email.color\" names no field: what can be set is interval, new_email, event_created"
        );
        for path in ["status", "name", "status.consecutive_failures"] {
            assert!(problem(applied(&stored(), &[path])).contains("is not for callers to set"), "{path}");
        }
        for path in ["", "new_email.to.x", "new_email..to", "kind"] {
            assert!(problem(applied(&stored(), &[path])).contains("names no field"), "{path}");
        }
    }
}
