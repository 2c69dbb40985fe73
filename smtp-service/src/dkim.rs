//! DKIM signatures (RFC 6376): who signs a connection's mails, and the field that goes on top of each. Header and body
//! are brought to the relaxed form, which survives what servers on the way do to blanks.

mod canonical;
mod key;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};

use crate::connection::is_host_name;
use crate::dkim::canonical::{BodyHash, relaxed};
use crate::dkim::key::Key;
use crate::error::Error;
use crate::message::{Letter, Problems, fields};

/// The fields that are signed, as often as they stand in the header: what people see, what programs act on, and what
/// says how the body is read (RFC 6376, section 5.4.1; RFC 8058, section 4).
const SIGNED: [&str; 20] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Post",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Auto-Submitted",
    "Disposition-Notification-To",
];
/// The field that is signed once more than it stands: a second From that somebody adds breaks the signature.
const OVERSIGNED: &str = "From";
/// The longest domain and selector together: they are looked up as one name (RFC 1035, section 2.3.4).
const MAX_NAME_CHARS: usize = 253;
/// The line length that folding aims at.
const MAX_FOLDED_LINE: usize = 78;
/// After how many chunks of a body others get their turn: about a megabyte, a few milliseconds.
const TURN_CHUNKS: usize = 16;

/// Who signs.
#[derive(Debug)]
pub(crate) struct Dkim {
    domain: String,
    selector: String,
    key: Key,
}

impl Dkim {
    /// Checks what a connection says of it. None: nothing is signed.
    pub(crate) fn check(
        settings: &SmtpSettings,
        credentials: &SmtpCredentials,
        problems: &mut Problems,
    ) -> Option<Self> {
        const KEY: &str = "smtp_credentials.dkim_private_key";
        let pem = credentials.dkim_private_key.as_str();
        let Some(given) = &settings.dkim else {
            if !pem.is_empty() {
                problems.add(KEY, "is given without smtp.dkim");
            }
            return None;
        };
        if !given.domain.contains('.') || !is_host_name(&given.domain) {
            problems.add("smtp.dkim.domain", "expected a domain such as example.org, in ASCII");
        }
        if !is_host_name(&given.selector) {
            problems.add("smtp.dkim.selector", "expected a selector such as mail2026, in ASCII");
        } else if given.selector.len() + "._domainkey.".len() + given.domain.len() > MAX_NAME_CHARS {
            problems.add("smtp.dkim.selector", "makes too long a name together with smtp.dkim.domain");
        }
        let key = if pem.is_empty() { Err("is needed with smtp.dkim".to_owned()) } else { Key::read(pem) };
        let key = problems.keep(KEY, key)?;
        Some(Self { domain: given.domain.clone(), selector: given.selector.clone(), key })
    }

    /// The field that signs a message as of now, with its line end. Others get their turn while a long body is read.
    ///
    /// # Errors
    /// A key that does not sign.
    pub(crate) async fn signature(&self, letter: &Letter, now: Timestamp) -> Result<String, Error> {
        let (mut body, mut chunks, mut read) = (BodyHash::default(), letter.body(), 0);
        while let Some((chunk, last)) = chunks.next_chunk() {
            body.read(chunk);
            read += 1;
            if !last && read % TURN_CHUNKS == 0 {
                tokio::task::yield_now().await;
            }
        }
        let (names, mut signed) = chosen(letter.head());
        let mut field = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed; d={};\r\n s={}; t={};\r\n h=",
            self.key.algorithm(),
            self.domain,
            self.selector,
            now.as_second()
        );
        fold_names(&names, &mut field);
        let _ = write!(field, ";\r\n bh={};\r\n b=", BASE64_STANDARD.encode(body.end()));
        // The field itself is signed last, its own signature empty and without a line end (RFC 6376, section 3.7).
        for (name, value) in fields(&field) {
            signed.push_str(&relaxed(name, value));
        }
        let signature = self.key.sign(signed.as_bytes());
        let signature =
            signature.map_err(|problem| Error::field("smtp_credentials.dkim_private_key", problem))?;
        let signature = BASE64_STANDARD.encode(signature);
        // Base64 is ASCII: any place is a place to cut.
        for (at, line) in signature.as_bytes().chunks(MAX_FOLDED_LINE - 4).enumerate() {
            field.push_str(if at == 0 { "" } else { "\r\n " });
            field.extend(line.iter().map(|byte| char::from(*byte)));
        }
        field.push_str("\r\n");
        Ok(field)
    }
}

/// The names for h=, and the fields in the form that is signed, in the same order. Of several fields of a name the last
/// comes first (RFC 6376, section 5.4.2).
fn chosen(head: &str) -> (Vec<&'static str>, String) {
    let given: Vec<_> = fields(head).collect();
    let (mut names, mut signed) = (Vec::new(), String::with_capacity(head.len()));
    for name in SIGNED {
        for (_, value) in given.iter().rev().filter(|(given, _)| given.eq_ignore_ascii_case(name)) {
            names.push(name);
            signed.push_str(&relaxed(name, value));
            signed.push_str("\r\n");
        }
    }
    names.push(OVERSIGNED);
    (names, signed)
}

/// Writes names with colons between them, folded.
fn fold_names(names: &[&str], out: &mut String) {
    let mut column = " h=".len();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(':');
            column += 1;
            if column + name.len() + 1 > MAX_FOLDED_LINE {
                out.push_str("\r\n ");
                column = 1;
            }
        }
        out.push_str(name);
        column += name.len();
    }
}
