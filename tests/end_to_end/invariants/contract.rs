//! What the contract's messages have in common: the gateway reads fields 1 and 2 of a request that it forwards, and
//! nothing else, so these numbers mean the same everywhere.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};

use super::{contract, none};

/// The package between gateway and connectors: its requests are never forwarded.
const INTERNAL: &str = "postern.connector.v1";
/// How the names of methods begin that change nothing, or whose repeat does no harm.
const HARMLESS: [&str; 10] =
    ["Get", "List", "Check", "Try", "Subscribe", "Await", "Nudge", "Consume", "Pull", "Acknowledge"];

fn public_services() -> Vec<ServiceDescriptor> {
    let services =
        contract().services().filter(|service| service.package_name() != INTERNAL).collect::<Vec<_>>();
    assert!(services.len() >= 5, "the contract has public services: {services:?}");
    services
}

fn public_methods() -> impl Iterator<Item = MethodDescriptor> {
    public_services().into_iter().flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn is_single_string(field: &FieldDescriptor) -> bool {
    field.kind() == Kind::String && !field.is_list()
}

/// Whether a method has the option `idempotency_level = NO_SIDE_EFFECTS`.
fn says_harmless(method: &MethodDescriptor) -> bool {
    idempotency_level(method) == 1
}

/// Whether a method has the option `idempotency_level = IDEMPOTENT`: its connector makes repeats of a change safe.
fn says_repeatable(method: &MethodDescriptor) -> bool {
    idempotency_level(method) == 2
}

fn idempotency_level(method: &MethodDescriptor) -> i32 {
    let options = method.options();
    let level = options.get_field_by_name("idempotency_level").expect("descriptors know idempotency_level");
    level.as_enum_number().expect("it is an enum")
}

/// What is wrong with a request's fields 1 and 2.
fn misnumbered(request: &MessageDescriptor) -> Vec<String> {
    let wrong = |field: &FieldDescriptor| match field.name() {
        "connection" if is_single_string(field) => field.number() != 1,
        "request_id" => field.number() != 2 || !is_single_string(field),
        _ => field.number() <= 2,
    };
    request
        .fields()
        .filter(wrong)
        .map(|field| format!("{} = {}", field.full_name(), field.number()))
        .collect()
}

#[test]
fn a_request_has_its_connection_as_field_1_its_request_id_as_field_2_and_nothing_else_there() {
    let requests: BTreeMap<_, _> =
        public_methods().map(|method| (method.input().full_name().to_owned(), method.input())).collect();
    let breaches: Vec<_> = requests.values().flat_map(misnumbered).collect();
    none("field 1 is a string connection, field 2 a string request_id, and no other field is", &breaches);
}

#[test]
fn a_method_that_changes_something_can_be_repeated_with_its_request_id() {
    let changes = |method: &MethodDescriptor| !HARMLESS.iter().any(|word| method.name().starts_with(word));
    let changing: Vec<_> = public_methods().filter(changes).collect();
    assert!(!changing.is_empty(), "some methods change something");
    let breaches: Vec<_> = changing
        .iter()
        .filter(|method| method.input().get_field_by_name("request_id").is_none())
        .map(|method| format!("{} takes no request_id", method.full_name()))
        .collect();
    none("what changes something takes a request_id", &breaches);
}

#[test]
fn a_method_that_says_that_it_changes_nothing_takes_no_request_id() {
    let breaches: Vec<_> = public_methods()
        .filter(says_harmless)
        .filter(|method| method.input().get_field_by_name("request_id").is_some())
        .map(|method| format!("{} takes a request_id", method.full_name()))
        .collect();
    none("NO_SIDE_EFFECTS and a request_id contradict each other", &breaches);
}

#[test]
fn a_method_that_can_be_asked_again_has_what_it_is_known_by() {
    let repeatable: Vec<_> = public_methods().filter(says_repeatable).collect();
    assert!(!repeatable.is_empty(), "some methods can be asked again");
    let lacks = |method: &&MethodDescriptor| {
        let request = method.input();
        let fields = ["connection", "request_id"].map(|field| request.get_field_by_name(field));
        // What is told in a stream has no one answer.
        fields.contains(&None) || method.is_server_streaming()
    };
    let breaches: Vec<_> =
        repeatable.iter().filter(lacks).map(|method| method.full_name().to_owned()).collect();
    none("IDEMPOTENT is of changes with a connection, a request_id and one answer", &breaches);
}

#[test]
fn every_package_is_its_folder_and_has_a_version() {
    let breaches: Vec<_> = contract()
        .files()
        .filter(|file| file.name().starts_with("postern/"))
        .filter(|file| {
            let folder = file.name().rsplit_once('/').map_or("", |(folder, _)| folder).replace('/', ".");
            file.package_name() != folder || !folder.ends_with(".v1")
        })
        .map(|file| format!("{} says package {}", file.name(), file.package_name()))
        .collect();
    none("a file's package is its folder", &breaches);
}
