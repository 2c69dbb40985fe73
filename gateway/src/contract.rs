//! The contract's descriptors, by which the gateway speaks of kinds, fields and methods without knowing any provider.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

/// `google.protobuf.MethodOptions.IdempotencyLevel.NO_SIDE_EFFECTS`.
const NO_SIDE_EFFECTS: i32 = 1;
/// `google.protobuf.MethodOptions.IdempotencyLevel.IDEMPOTENT`.
const IDEMPOTENT: i32 = 2;

/// The set is this program's own, made with it: a unit test holds that it decodes.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(postern_proto::FILE_DESCRIPTOR_SET).unwrap_or_default());

/// Every file of the contract.
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// The method that a path `/{service}/{method}` names, where the contract has it.
#[must_use]
pub fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    pool().get_service_by_name(service)?.methods().find(|known| known.name() == method)
}

/// What the contract says of how a method is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Calling it changes nothing. A method that the contract does not know may change something.
    pub is_safe: bool,
    /// Its connector makes repeats of a change safe by its `request_id`.
    pub is_idempotent: bool,
    /// It takes a stream.
    pub takes_stream: bool,
    /// It answers with a stream.
    pub gives_stream: bool,
}

impl Terms {
    /// Whether it takes a stream and gives one answer: it changes nothing before its stream has ended.
    #[must_use]
    pub fn gathers(self) -> bool {
        self.takes_stream && !self.gives_stream
    }
}

/// The terms of every method, by path: they are looked up with each call.
static TERMS: LazyLock<HashMap<String, Terms>> = LazyLock::new(|| {
    let methods = pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let terms = methods.map(|method| {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let terms = Terms {
            is_safe: level(&method) == Some(NO_SIDE_EFFECTS),
            is_idempotent: is_idempotent(&method),
            takes_stream: method.is_client_streaming(),
            gives_stream: method.is_server_streaming(),
        };
        (path, terms)
    });
    terms.collect()
});

/// What the contract says of the method that a path names.
#[must_use]
pub fn terms(path: &str) -> Terms {
    TERMS.get(path).copied().unwrap_or_default()
}

/// Whether the contract says that the connector makes repeats of a change safe by its `request_id`.
#[must_use]
pub fn is_idempotent(method: &MethodDescriptor) -> bool {
    level(method) == Some(IDEMPOTENT)
}

/// Whether a method takes a stream and gives one answer: it changes nothing before its stream has ended.
#[must_use]
pub fn gathers(method: &MethodDescriptor) -> bool {
    method.is_client_streaming() && !method.is_server_streaming()
}

fn level(method: &MethodDescriptor) -> Option<i32> {
    method.method_descriptor_proto().options.as_ref().and_then(|options| options.idempotency_level)
}

/// The names of the fields of a oneof of a message.
#[must_use]
pub fn members(message: &str, oneof: &str) -> Vec<String> {
    let descriptor = pool().get_message_by_name(message);
    let oneof = descriptor.and_then(|it| it.oneofs().find(|known| known.name() == oneof));
    oneof.map(|it| it.fields().map(|field| field.name().to_owned()).collect()).unwrap_or_default()
}

/// The name of the field of a oneof that is set in a message. `message` is the message's full name in the contract.
#[must_use]
pub fn set_in_oneof(message: &str, value: &impl Message, oneof: &str) -> Option<String> {
    let mut dynamic = DynamicMessage::new(pool().get_message_by_name(message)?);
    dynamic.transcode_from(value).ok()?;
    members(message, oneof).into_iter().find(|field| dynamic.has_field_by_name(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_there_and_says_which_methods_are_safe() {
        assert!(pool().services().len() > 3);
        let is_safe = |path| terms(path).is_safe;
        assert!(is_safe("/postern.connector.v1.ConnectorService/Describe"));
        assert!(!is_safe("/postern.connection.v1.ConnectionService/CreateConnection"));
        assert_eq!(terms("/elsewhere.v1.Service/Method"), Terms::default());
    }

    #[test]
    fn the_contract_says_which_methods_gather_and_which_can_be_asked_again() {
        let large = terms("/postern.smtp.v1.SmtpService/SendLargeEmail");
        assert!(large.gathers() && !large.is_idempotent);
        assert!(!terms("/postern.smtp.v1.SmtpService/SendEmails").gathers());
        let known = |path| method(path).unwrap();
        let large = known("/postern.smtp.v1.SmtpService/SendLargeEmail");
        assert!(gathers(&large) && !is_idempotent(&large));
        assert!(!gathers(&known("/postern.smtp.v1.SmtpService/SendEmails")));
        let event = known("/postern.outlook.v1.CalendarService/CreateEvent");
        assert!(is_idempotent(&event) && !gathers(&event));
    }
}
