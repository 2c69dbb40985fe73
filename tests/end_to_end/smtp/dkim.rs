//! DKIM signatures, checked by a verifier of its own that reads RFC 6376 word by word; the keys in `keys/` were made for
//! these tests and sign nothing else.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use postern_chassis::opened::{CONNECTION_METADATA, encode};
use postern_proto::connection::v1::connection::Credentials;
use postern_proto::connector::v1::ValidateConnectionRequest;
use postern_proto::mail::v1::{Attachment, Email, Header, ListUnsubscribe};
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{DkimSettings, RawEmail, SendEmailRequest};
use ring::digest::{SHA256, digest};
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tonic::{Code, Request, Status};

use super::world::{Said, World, mail};

const RSA: &str = include_str!("keys/rsa_2048.pem");
const RSA_PKCS1: &str = include_str!("keys/rsa_2048_pkcs1.pem");
const RSA_1024: &str = include_str!("keys/rsa_1024.pem");
const ENCRYPTED: &str = include_str!("keys/encrypted.pem");
const EC: &str = include_str!("keys/ec.pem");
const ED: &str = include_str!("keys/ed25519.pem");

/// A request through the world's connection with this key.
fn keyed<T>(world: &World, key: &str, message: T) -> Request<T> {
    let mut opened = world.opened();
    if let Some(Credentials::SmtpCredentials(credentials)) =
        opened.connection.as_mut().and_then(|connection| connection.credentials.as_mut())
    {
        credentials.dkim_private_key = key.to_owned();
    }
    let mut request = Request::new(message);
    request.metadata_mut().insert_bin(CONNECTION_METADATA, encode(&opened));
    request
}

async fn signing_world() -> World {
    let mut world = World::plain().await;
    world.stored.dkim = Some(settings("example.org", "mail2026"));
    world
}

fn settings(domain: &str, selector: &str) -> DkimSettings {
    DkimSettings { domain: domain.into(), selector: selector.into() }
}

async fn send(world: &World, key: &str, content: Content) -> Vec<u8> {
    let request = SendEmailRequest { content: Some(content), ..Default::default() };
    world.smtp().send_email(keyed(world, key, request)).await.unwrap();
    world.server.accepted().pop().unwrap().message.to_vec()
}

/// What says that a signature is that of a key.
fn public_key(pem: &str) -> (&'static dyn VerificationAlgorithm, Vec<u8>) {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()) {
        return (&ED25519, key.public_key().as_ref().to_vec());
    }
    let key = RsaKeyPair::from_pkcs8(der.secret_der()).or_else(|_| RsaKeyPair::from_der(der.secret_der()));
    (&RSA_PKCS1_2048_8192_SHA256, key.unwrap().public().as_ref().to_vec())
}

/// Blanks made one, and none at the end of the text.
fn squeezed(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            ' ' | '\t' if out.ends_with(' ') => {}
            ' ' | '\t' => out.push(' '),
            c => out.push(c),
        }
    }
    out.trim_end_matches(' ').to_owned()
}

/// Verifies the topmost signature of a message and gives its tags.
fn verify(message: &[u8], pem: &str) -> Result<HashMap<String, String>, &'static str> {
    let text = String::from_utf8_lossy(message).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no body")?;
    let mut fields: Vec<String> = Vec::new();
    for line in head.split("\r\n") {
        match fields.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(line),
            _ => fields.push(line.to_owned()),
        }
    }
    let signature =
        fields.first().filter(|field| field.starts_with("DKIM-Signature:")).ok_or("no signature")?;
    let tags: HashMap<String, String> = signature["DKIM-Signature:".len()..]
        .split(';')
        .filter_map(|tag| tag.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.split_whitespace().collect()))
        .collect();

    let mut lines: Vec<String> = body.split("\r\n").map(squeezed).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let canonical: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    if BASE64_STANDARD.encode(digest(&SHA256, canonical.as_bytes())) != tags["bh"] {
        return Err("the body is another");
    }

    let relaxed = |field: &str| {
        let (name, value) = field.split_once(':').unwrap();
        format!("{}:{}", name.trim().to_ascii_lowercase(), squeezed(value).trim())
    };
    let mut left: Vec<&String> = fields.iter().skip(1).collect();
    let mut signed = String::new();
    for name in tags["h"].split(':') {
        let place =
            left.iter().rposition(|field| field.split(':').next().unwrap().eq_ignore_ascii_case(name));
        if let Some(place) = place {
            signed.push_str(&relaxed(left.remove(place)));
            signed.push_str("\r\n");
        }
    }
    let unsigned = &signature[..signature.rfind("b=").unwrap() + 2];
    signed.push_str(&relaxed(unsigned));
    let (algorithm, key) = public_key(pem);
    let over = match tags["a"].as_str() {
        "ed25519-sha256" => digest(&SHA256, signed.as_bytes()).as_ref().to_vec(),
        "rsa-sha256" => signed.into_bytes(),
        _ => return Err("an unknown algorithm"),
    };
    let proof = BASE64_STANDARD.decode(&tags["b"]).map_err(|_| "b= is no base64")?;
    UnparsedPublicKey::new(algorithm, key).verify(&over, &proof).map_err(|_| "the signature is another")?;
    Ok(tags)
}

fn rich() -> Email {
    let attachment = Attachment {
        file_name: "data.bin".into(),
        content_data: Bytes::from((0..=255).cycle().take(300_000).collect::<Vec<u8>>()),
        content_type: "application/octet-stream".into(),
        ..Default::default()
    };
    Email {
        subject: "Grüße  and   blanks, long enough that it will be folded over several lines of its header"
            .into(),
        body: "blanks  \t here \r\n\r\n.dots\r\n\r\n\r\n".into(),
        cc: vec!["c@example.org".into()],
        reply_to: vec!["r@example.org".into()],
        in_reply_to: "a@example.org".into(),
        headers: vec![Header { name: "X-Tag".into(), value: "one".into() }],
        list_unsubscribe: Some(ListUnsubscribe {
            url: "https://example.org/leave".into(),
            one_click: true,
            ..Default::default()
        }),
        attachments: vec![attachment],
        ..mail(&["bo@example.org"])
    }
}

#[tokio::test]
async fn mails_are_signed_by_each_kind_of_key_so_that_others_can_tell() {
    let world = signing_world().await;
    for (key, algorithm) in [(RSA, "rsa-sha256"), (RSA_PKCS1, "rsa-sha256"), (ED, "ed25519-sha256")] {
        for email in
            [mail(&["bo@example.org"]), rich(), Email { body: String::new(), ..mail(&["bo@example.org"]) }]
        {
            let message = send(&world, key, Content::Email(email)).await;
            let tags = verify(&message, key).unwrap_or_else(|problem| panic!("{algorithm}: {problem}"));
            assert_eq!((tags["v"].as_str(), tags["a"].as_str()), ("1", algorithm));
            assert_eq!((tags["d"].as_str(), tags["s"].as_str()), ("example.org", "mail2026"));
            assert_eq!(tags["c"], "relaxed/relaxed");
            assert!(!tags.contains_key("l"), "a part of a body is never signed alone");
            let age = jiff::Timestamp::now().as_second() - tags["t"].parse::<i64>().unwrap();
            assert!((0..60).contains(&age));
            let head = String::from_utf8_lossy(&message).into_owned();
            let head = head.split("\r\n\r\n").next().unwrap();
            assert!(head.lines().take(12).all(|line| line.len() <= 78), "{head}");
        }
    }
}

#[tokio::test]
async fn what_a_signature_covers_cannot_be_changed_and_blanks_can() {
    let world = signing_world().await;
    let message = String::from_utf8(send(&world, RSA, Content::Email(rich())).await).unwrap();
    let tags = verify(message.as_bytes(), RSA).unwrap();
    let signed: Vec<&str> = tags["h"].split(':').collect();
    for name in [
        "From",
        "To",
        "Cc",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "Reply-To",
        "In-Reply-To",
        "References",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
    ] {
        assert!(signed.contains(&name), "{name}");
    }
    assert_eq!(signed.iter().filter(|name| **name == "From").count(), 2, "a second From is foreseen");
    for (was, becomes) in [
        ("From: ", "From: Eve "),
        ("From: ", "From: eve@example.net\r\nFrom: "),
        ("Cc: c@", "Cc: d@"),
        ("https://example.org/leave", "https://example.net/leave"),
        ("One-Click", "Two-Click"),
        (".dots", ".bots"),
        ("d=example.org", "d=example.net"),
    ] {
        let changed = message.replacen(was, becomes, 1);
        assert_ne!(changed, message);
        assert!(verify(changed.as_bytes(), RSA).is_err(), "{becomes}");
    }
    let blanks = message.replacen("Cc: c@example.org", "Cc:  c@example.org \t", 1) + "\r\n\r\n";
    assert!(verify(blanks.as_bytes(), RSA).is_ok());
    assert!(verify(message.as_bytes(), ED).is_err(), "another key");
}

#[tokio::test]
async fn a_written_message_is_signed_on_top_of_what_it_has() {
    let world = signing_world().await;
    let mime = "DKIM-Signature: v=1; b=other\nFrom: a@example.org\nTo: bo@example.org\nList-Id: <a.example>\n\nbody\n";
    let raw = RawEmail { mime: Bytes::from_static(mime.as_bytes()), ..Default::default() };
    let message = send(&world, ED, Content::Raw(raw)).await;
    let tags = verify(&message, ED).unwrap();
    assert!(tags["h"].contains("List-Id") && tags["h"].contains("Message-ID"));
    assert_eq!(String::from_utf8(message).unwrap().matches("DKIM-Signature:").count(), 2);
}

#[tokio::test]
async fn a_key_and_its_settings_are_checked_when_a_connection_is() {
    let validate = async |world: &World, key: &str| -> Result<(), Status> {
        let request = keyed(world, key, ValidateConnectionRequest::default());
        world.connector().validate_connection(request).await.map(|_| ())
    };
    let key = "smtp_credentials.dkim_private_key";
    let mut world = signing_world().await;
    for right in [RSA, RSA_PKCS1, ED] {
        validate(&world, right).await.unwrap();
    }
    let long = format!("{RSA}{}", "x".repeat(20_000));
    for (wrong, said) in [
        (RSA_1024, "less than 2048 bits"),
        (ENCRYPTED, "passphrase"),
        (EC, "another kind"),
        ("nonsense", "PEM"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "malformed"),
        (&long, "16 KiB"),
        ("", "needed with smtp.dkim"),
    ] {
        let status = validate(&world, wrong).await.unwrap_err();
        let fault = Said::of(&status);
        assert_eq!((fault.code, fault.reason.as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        assert_eq!(fault.fields, [key]);
        assert!(status.message().contains(said), "{said}: {}", status.message());
        assert!(!status.message().contains("MII"), "no key is repeated");
    }
    let long = "a".repeat(63);
    for (domain, selector, field) in [
        ("", "a", "smtp.dkim.domain"),
        ("example", "a", "smtp.dkim.domain"),
        ("exam ple.org", "a", "smtp.dkim.domain"),
        ("example.org; x=y", "a", "smtp.dkim.domain"),
        ("bücher.example", "a", "smtp.dkim.domain"),
        ("example.org", "", "smtp.dkim.selector"),
        ("example.org", "a b", "smtp.dkim.selector"),
        ("example.org", "a;b", "smtp.dkim.selector"),
        ("example.org", &[long.as_str(); 4].join("."), "smtp.dkim.selector"),
    ] {
        world.stored.dkim = Some(settings(domain, selector));
        assert_eq!(
            Said::of(&validate(&world, RSA).await.unwrap_err()).fields,
            [field],
            "{domain} {selector}"
        );
    }
    world.stored.dkim = Some(settings("example.org", "eu.mail2026"));
    validate(&world, RSA).await.unwrap();
    world.stored.dkim = None;
    assert_eq!(Said::of(&validate(&world, RSA).await.unwrap_err()).fields, [key]);
    validate(&world, "").await.unwrap();
    assert_eq!(world.control().connections_opened(), 0);
}
