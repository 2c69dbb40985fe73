//! What the contract's descriptors say of each method: whether it streams, and what its repeats do.

use std::collections::HashMap;
use std::sync::LazyLock;

use postern_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;

/// What is known of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whether either side streams.
    pub(crate) streams: bool,
    /// Whether a request id makes a repeat safe: one answer is kept for it.
    pub(crate) is_ledgered: bool,
    /// What the contract promises of repeats.
    pub(crate) repeats: Repeats,
}

/// What the contract promises of repeats of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Nothing: each call may change something.
    Change,
    /// With a request id the provider itself is asked what became of a call whose outcome is not known.
    CanBeAsked,
    /// Nothing is changed at all.
    ChangeNothing,
}

static METHODS: LazyLock<HashMap<String, Terms>> = LazyLock::new(|| {
    // The bytes come from the build; were they broken, no method would be known and none would be repeated.
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default().file;
    let mut methods = HashMap::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                let level = method.options.as_ref().map(|options| options.idempotency_level());
                let repeats = match level.unwrap_or(IdempotencyLevel::IdempotencyUnknown) {
                    IdempotencyLevel::NoSideEffects => Repeats::ChangeNothing,
                    IdempotencyLevel::Idempotent => Repeats::CanBeAsked,
                    IdempotencyLevel::IdempotencyUnknown => Repeats::Change,
                };
                let terms = Terms {
                    streams: method.client_streaming() || method.server_streaming(),
                    is_ledgered: !method.server_streaming(),
                    repeats,
                };
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.insert(path, terms);
            }
        }
    }
    methods
});

/// What is known of the method at a path, `/package.Service/Method`. `None`: it is not of the contract.
pub(crate) fn terms(path: &str) -> Option<Terms> {
    METHODS.get(path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_told_by_what_their_repeats_do() {
        let of = |path| terms(path).expect("the contract has it");
        let send = of("/postern.smtp.v1.SmtpService/SendEmail");
        assert_eq!(send, Terms { streams: false, is_ledgered: true, repeats: Repeats::Change });
        let many = of("/postern.smtp.v1.SmtpService/SendEmails");
        assert!(many.streams && !many.is_ledgered);
        let large = of("/postern.smtp.v1.SmtpService/SendLargeEmail");
        assert!(large.streams && large.is_ledgered);
        assert_eq!(of("/postern.outlook.v1.MailService/SendEmail").repeats, Repeats::CanBeAsked);
        let list = of("/postern.connection.v1.ConnectionService/ListConnections");
        assert_eq!(list.repeats, Repeats::ChangeNothing);
        assert_eq!(terms("/postern.smtp.v1.SmtpService/SendFax"), None);
    }
}
