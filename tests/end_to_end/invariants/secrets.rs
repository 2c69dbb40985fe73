//! What is secret in the contract is marked so, and a Rust message never shows what is marked.

use std::collections::BTreeSet;
use std::fmt::Debug;

use postern_proto::{connector, outlook, smtp};
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};

use super::{contract, none};

/// What is planted in each secret field, and looked for.
const SESAME: &str = "open-sesame";

/// A message that holds a secret: its name and how its Rust type shows an encoded one.
struct Shown {
    name: &'static str,
    show: fn(&[u8]) -> String,
}

/// Every message with a secret field: a new one is added here once its `Debug` hides the secret.
const SHOWN: [Shown; 12] = [
    Shown { name: "postern.connector.v1.OpenConnection", show: show::<connector::v1::OpenConnection> },
    Shown {
        name: "postern.connector.v1.RefreshCredentialsResponse",
        show: show::<connector::v1::RefreshCredentialsResponse>,
    },
    Shown {
        name: "postern.connector.v1.StartSignInResponse",
        show: show::<connector::v1::StartSignInResponse>,
    },
    Shown {
        name: "postern.connector.v1.CompleteSignInRequest",
        show: show::<connector::v1::CompleteSignInRequest>,
    },
    Shown {
        name: "postern.connector.v1.CompleteSignInResponse",
        show: show::<connector::v1::CompleteSignInResponse>,
    },
    Shown { name: "postern.outlook.v1.ClientCertificate", show: show::<outlook::v1::ClientCertificate> },
    Shown {
        name: "postern.connector.v1.RenewNotificationRequest",
        show: show::<connector::v1::RenewNotificationRequest>,
    },
    Shown {
        name: "postern.connector.v1.ReadNotificationRequest",
        show: show::<connector::v1::ReadNotificationRequest>,
    },
    Shown { name: "postern.outlook.v1.DelegatedToken", show: show::<outlook::v1::DelegatedToken> },
    Shown { name: "postern.outlook.v1.OutlookCredentials", show: show::<outlook::v1::OutlookCredentials> },
    Shown { name: "postern.outlook.v1.UserSignIn", show: show::<outlook::v1::UserSignIn> },
    Shown { name: "postern.smtp.v1.SmtpCredentials", show: show::<smtp::v1::SmtpCredentials> },
];

/// How a Rust message shows itself, in both ways.
fn show<M: Message + Default + Debug>(encoded: &[u8]) -> String {
    let message = M::decode(encoded).expect("what reflection encodes decodes");
    let kept = message.encode_to_vec();
    assert!(kept.windows(SESAME.len()).any(|bytes| bytes == SESAME.as_bytes()), "the secret arrived");
    format!("{message:?}\n{message:#?}")
}

fn is_redacted(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let redact = options.get_field_by_name("debug_redact").expect("descriptors know debug_redact");
    redact.as_bool() == Some(true)
}

/// Whether a field's name says that it holds a secret. Page tokens hold none.
fn sounds_secret(field: &FieldDescriptor) -> bool {
    let name = field.name();
    let part = ["password", "passphrase", "secret", "private_key"].iter().any(|word| name.contains(word));
    let whole = matches!(name, "grant" | "token") || name.ends_with("_token") || name.ends_with("_tokens");
    let page = name.ends_with("page_token") || name.ends_with("skip_token");
    matches!(field.kind(), Kind::String | Kind::Bytes) && !page && (part || whole)
}

fn messages() -> Vec<MessageDescriptor> {
    contract().all_messages().filter(|message| message.package_name().starts_with("postern.")).collect()
}

#[test]
fn a_field_that_holds_a_secret_is_marked() {
    let secret: Vec<_> =
        messages().iter().flat_map(|message| message.fields()).filter(sounds_secret).collect();
    assert!(secret.iter().any(|field| field.full_name() == "postern.smtp.v1.SmtpCredentials.password"));
    let unmarked = secret.iter().filter(|field| !is_redacted(field));
    let breaches: Vec<_> = unmarked.map(|field| field.full_name().to_owned()).collect();
    none("a secret field has [debug_redact = true]", &breaches);
}

#[test]
fn a_marked_field_never_shows() {
    let messages: Vec<_> =
        messages().into_iter().filter(|message| message.fields().any(|f| is_redacted(&f))).collect();
    let marked: BTreeSet<_> = messages.iter().map(|message| message.full_name().to_owned()).collect();
    let known: BTreeSet<_> = SHOWN.iter().map(|shown| shown.name.to_owned()).collect();
    assert_eq!(marked, known, "SHOWN lists the messages with a marked field, no more and no less");

    let mut breaches = Vec::new();
    for message in messages {
        let shown = SHOWN.iter().find(|shown| shown.name == message.full_name()).expect("compared above");
        for field in message.fields().filter(is_redacted) {
            let mut planted = DynamicMessage::new(message.clone());
            let secret = match field.kind() {
                Kind::Bytes => Value::Bytes(SESAME.into()),
                Kind::String => Value::String(SESAME.into()),
                kind => panic!("{}: a secret is a string or bytes, not {kind:?}", field.full_name()),
            };
            planted.set_field(&field, secret);
            assert_eq!(planted.descriptor(), message);
            let text = (shown.show)(&planted.encode_to_vec());
            if text.contains(SESAME) || !text.contains("[redacted]") {
                breaches.push(format!("{} shows as {text}", field.full_name()));
            }
        }
    }
    none("a Debug says that a secret is there, never what it is", &breaches);
}
