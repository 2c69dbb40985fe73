//! What was sent, described for the judge, and what arrived of it.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postern_proto::mail::v1::{ContentTransferEncoding, Email, Importance};
use postern_sandbox::smtp::{Delivery, SmtpServer};
use serde_json::{Value, json};

use super::super::world::SENDER;
use super::keys::Key;

/// Mails that were sent, and what is to be found where they arrive.
pub(super) struct Cases {
    cases: Vec<Case>,
}

struct Case {
    name: String,
    message_id: String,
    recipients: BTreeSet<String>,
    described: Value,
}

impl Cases {
    pub(super) fn new() -> Self {
        Self { cases: Vec::new() }
    }

    /// A mail that was taken for all these recipients.
    pub(super) fn sent(&mut self, name: &str, email: &Email, message_id: &str, recipients: &[String]) {
        self.add(name, message_id, recipients, json!({"email": described(email, message_id, false)}));
    }

    /// The same, of a mail whose header may hold UTF-8.
    pub(super) fn sent_utf8(&mut self, name: &str, email: &Email, message_id: &str, recipients: &[String]) {
        self.add(name, message_id, recipients, json!({"email": described(email, message_id, true)}));
    }

    /// A message that was given as it is.
    pub(super) fn sent_raw(&mut self, name: &str, given: &[u8], message_id: &str, recipients: &[String]) {
        self.add(name, message_id, recipients, json!({"raw": BASE64_STANDARD.encode(given)}));
    }

    fn add(&mut self, name: &str, message_id: &str, recipients: &[String], described: Value) {
        self.cases.push(Case {
            name: name.to_owned(),
            message_id: message_id.to_owned(),
            recipients: recipients.iter().cloned().collect(),
            described,
        });
    }

    /// Says that the mail added last was signed.
    pub(super) fn signed_by(&mut self, key: &Key) {
        let case = self.cases.last_mut().unwrap();
        case.name = format!("{}, {}", case.name, key.selector());
        case.described["dkim"] = key.described();
    }

    /// Waits until all have arrived, and gives every difference.
    pub(super) async fn judge(mut self, server: &SmtpServer, python: &Path) -> Vec<String> {
        let arrived = self.arrived(server).await;
        let mut differences = Vec::new();
        for case in &mut self.cases {
            let Some(deliveries) = arrived.get(&case.message_id) else {
                differences.push(format!("{}: it did not arrive", case.name));
                case.described = Value::Null;
                continue;
            };
            let to: BTreeSet<_> = deliveries.iter().flat_map(|delivery| delivery.to.clone()).collect();
            let times: usize = deliveries.iter().map(|delivery| delivery.to.len()).sum();
            if times != to.len() {
                differences.push(format!("{}: it arrived {times} times for {to:?}", case.name));
            }
            if to != case.recipients {
                differences
                    .push(format!("{}: wanted for {:?}, arrived for {to:?}", case.name, case.recipients));
            }
            case.described["name"] = json!(case.name);
            case.described["message"] = json!(BASE64_STANDARD.encode(&deliveries[0].message));
        }
        let cases: Vec<_> =
            self.cases.iter().map(|case| &case.described).filter(|case| !case.is_null()).collect();
        differences.extend(judge(python, &json!(cases)));
        differences
    }

    /// What arrived, by Message-ID.
    async fn arrived(&self, server: &SmtpServer) -> HashMap<String, Vec<Delivery>> {
        let wanted: BTreeSet<_> = self.cases.iter().map(|case| case.message_id.clone()).collect();
        assert_eq!(wanted.len(), self.cases.len(), "each mail has a Message-ID of its own");
        let mut count = wanted.len();
        loop {
            let delivered = server.delivered(count).await;
            let mut found = HashMap::<_, Vec<_>>::new();
            for delivery in server.accepted() {
                found.entry(message_id(&delivery.message)).or_default().push(delivery);
            }
            // Where no more come, what is missing is told with the rest.
            let whole = self.cases.iter().all(|case| {
                let to = found.get(&case.message_id).into_iter().flatten().map(|delivery| delivery.to.len());
                to.sum::<usize>() >= case.recipients.len()
            });
            if whole || delivered.is_err() {
                return found;
            }
            count = server.accepted().len() + 1;
        }
    }
}

/// The Message-ID in a message's header; empty where it has none.
fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message).replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut lines = text.lines().take_while(|line| !line.is_empty());
    let found = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Message-ID").then(|| value.trim().to_owned())
    });
    found.unwrap_or_default()
}

/// Runs the judge, and gives the differences that it prints.
fn judge(python: &Path, cases: &Value) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/judge_mail.py");
    let mut judging = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    judging.stdin.take().unwrap().write_all(cases.to_string().as_bytes()).unwrap();
    let judged = judging.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&judged.stdout);
    let differences: Vec<_> = told.lines().map(str::to_owned).collect();
    let wanted_code = i32::from(!differences.is_empty());
    assert_eq!(judged.status.code(), Some(wanted_code), "{}", String::from_utf8_lossy(&judged.stderr));
    differences
}

/// A mail's fields in the judge's words.
fn described(email: &Email, message_id: &str, utf8: bool) -> Value {
    let html = email.is_html;
    let importance = match email.importance() {
        Importance::Low => "low",
        Importance::High => "high",
        _ => "normal",
    };
    let text = if html { &email.text_body } else { &email.body };
    let attachments = email.attachments.iter().map(|file| {
        json!({
            "file_name": file.file_name,
            "content_id": file.content_id,
            "content_type": file.content_type,
            "content": BASE64_STANDARD.encode(&file.content_data),
            "encoding": encoding(file.content_transfer_encoding()),
        })
    });
    let attachments: Vec<_> = attachments.collect();
    json!({
        "utf8": utf8,
        "message_id": message_id,
        "from": [if email.from.is_empty() { SENDER } else { &email.from }],
        "to": email.to,
        "cc": email.cc,
        "bcc": email.bcc,
        "subject": email.subject,
        "text": (!html || !text.is_empty()).then_some(text),
        "html": html.then_some(&email.body),
        "importance": importance,
        "attachments": attachments,
        "reply_to": email.reply_to,
        "sender": if email.sender.is_empty() { Vec::new() } else { vec![&email.sender] },
        "headers": email.headers.iter().map(|header| [&header.name, &header.value]).collect::<Vec<_>>(),
        "read_receipt_to": email.read_receipt_to,
        "delivery_receipt_to": email.delivery_receipt_to,
        "list_unsubscribe": email.list_unsubscribe.as_ref().map(|list| {
            json!({"url": list.url, "mailto": list.mailto, "one_click": list.one_click})
        }),
        "in_reply_to": email.in_reply_to,
        "references": email.references,
        "calendar": email.calendar.as_ref().map(|calendar| {
            json!({"content": calendar.content, "file_name": calendar.file_name})
        }),
    })
}

/// The name of an encoding; empty where it is left to the connector.
fn encoding(encoding: ContentTransferEncoding) -> &'static str {
    match encoding {
        ContentTransferEncoding::Unspecified => "",
        ContentTransferEncoding::Base64 => "base64",
        ContentTransferEncoding::QuotedPrintable => "quoted-printable",
        ContentTransferEncoding::SevenBit => "7bit",
        ContentTransferEncoding::EightBit => "8bit",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use postern_proto::mail::v1::{Attachment, Header, ListUnsubscribe};

    use super::*;
    use crate::outside;

    const ARRIVED: &str = "Received: by mail.example.org; Mon, 23 Nov 2026 10:00:00 +0100\r\n\
        Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@example.org>\r\n\
        From: Sender <sender@example.org>\r\nTo: Bo <bo@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nwords\r\n\
        --b\r\nContent-Type: text/csv\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename=a.csv\r\n\r\nYSxi\r\n--b--\r\n";

    fn sent() -> Email {
        Email {
            to: vec!["Bo <bo@example.org>".to_owned()],
            subject: "Grüße".to_owned(),
            body: "words".to_owned(),
            attachments: vec![Attachment {
                file_name: "a.csv".to_owned(),
                content_data: Bytes::from_static(b"a,b"),
                content_type: "text/csv".to_owned(),
                content_transfer_encoding: ContentTransferEncoding::Base64.into(),
                ..Attachment::default()
            }],
            ..Email::default()
        }
    }

    fn found(python: &Path, email: &Email, arrived: &str) -> Vec<String> {
        let case = json!({
            "name": "it",
            "message": BASE64_STANDARD.encode(arrived),
            "email": described(email, "<1@example.org>", false),
        });
        judge(python, &json!([case]))
    }

    #[test]
    fn the_judge_tells_what_is_not_as_it_was_sent() {
        let Some(peers) = outside::peers() else { return };
        assert_eq!(found(&peers.python, &sent(), ARRIVED), Vec::<String>::new());
        type Change = fn(&mut Email);
        let changes: [(&str, Change); 12] = [
            ("it: To: ", |email| email.to.push("cy@example.org".to_owned())),
            ("it: From: ", |email| email.from = "ann@example.org".to_owned()),
            ("it: the header: ", |email| email.bcc = vec!["bo@example.org".to_owned()]),
            ("it: Subject: ", |email| email.subject.push('!')),
            ("it: the text: ", |email| email.body.push('!')),
            ("it: the HTML: ", |email| email.is_html = true),
            ("it: Importance: ", |email| email.importance = Importance::High.into()),
            ("it: X-One: ", |email| {
                email.headers = vec![Header { name: "X-One".to_owned(), value: "1".to_owned() }];
            }),
            ("it: List-Unsubscribe: ", |email| {
                let list = ListUnsubscribe { url: "https://example.org".to_owned(), ..Default::default() };
                email.list_unsubscribe = Some(list);
            }),
            ("it: a.csv: content: ", |email| email.attachments[0].content_data = Bytes::from_static(b"x")),
            ("it: a.csv: encoding: ", |email| {
                email.attachments[0].content_transfer_encoding = ContentTransferEncoding::EightBit.into();
            }),
            ("it: how many files: ", |email| email.attachments.clear()),
        ];
        for (told, change) in changes {
            let mut email = sent();
            change(&mut email);
            let found = found(&peers.python, &email, ARRIVED);
            assert!(found.iter().any(|one| one.starts_with(told)), "{told}{found:?}");
        }
        for (told, arrived) in [
            ("it: Bcc: ", ARRIVED.replacen("Date:", "Bcc: cy@example.org\r\nDate:", 1)),
            ("it: subject: ", ARRIVED.replacen("Date:", "Subject: another\r\nDate:", 1)),
            ("it: the header: ", ARRIVED.replacen("Bo <", "Bö <", 1)),
            ("it: a line: ", ARRIVED.replacen("words\r\n", "words\n", 1)),
            ("it: a line's octets: ", ARRIVED.replacen("words", &"words".repeat(200), 1)),
        ] {
            let found = found(&peers.python, &sent(), &arrived);
            assert!(found.iter().any(|one| one.starts_with(told)), "{told}{found:?}");
        }
    }
}
