//! Every kind of mail: each field of the contract, and what is known to go wrong on the way.

use bytes::Bytes;
use postern_proto::mail::v1::{
    Attachment, CalendarInvitation, ContentTransferEncoding, Email, Header, Importance, ListUnsubscribe,
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
const INVITATION: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Postern//Test//EN\r\nMETHOD:REQUEST\r\n\
    BEGIN:VEVENT\r\nUID:0a1b@example.org\r\nDTSTAMP:20261101T090000Z\r\nDTSTART:20261201T090000Z\r\n\
    DTEND:20261201T100000Z\r\nSUMMARY:Grüße und Pläne\r\nORGANIZER:mailto:sender@example.org\r\n\
    ATTENDEE;RSVP=TRUE:mailto:bo@example.org\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

fn to_bo() -> Email {
    Email {
        to: vec!["bo@example.org".to_owned()],
        subject: "A few words".to_owned(),
        body: "The first line.\r\nThe second.\r\n".to_owned(),
        ..Email::default()
    }
}

fn html() -> Email {
    Email { body: "<p>Some <b>words</b>, größer</p>\r\n".to_owned(), is_html: true, ..to_bo() }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn file(name: &str, kind: &str, content: impl Into<Bytes>, encoding: ContentTransferEncoding) -> Attachment {
    Attachment {
        file_name: name.to_owned(),
        content_id: String::new(),
        content_data: content.into(),
        content_type: kind.to_owned(),
        content_transfer_encoding: encoding.into(),
    }
}

fn inline(id: &str, name: &str) -> Attachment {
    Attachment {
        content_id: id.to_owned(),
        ..file(name, "image/png", PNG, ContentTransferEncoding::Unspecified)
    }
}

/// All kinds that any server takes, each with its name.
pub(super) fn all() -> Vec<(&'static str, Email)> {
    let mut all = bodies();
    all.extend(files());
    all.extend(fields());
    all
}

fn bodies() -> Vec<(&'static str, Email)> {
    let long = "word ".repeat(1_500);
    let unbroken = "x".repeat(5_000);
    vec![
        ("plain text", to_bo()),
        ("no body and no subject", Email { subject: String::new(), body: String::new(), ..to_bo() }),
        ("text beyond ASCII", Email { body: "Grüße, 你好, 👋🏽\r\n".to_owned(), ..to_bo() }),
        ("HTML", html()),
        ("text and HTML", Email { text_body: "Some words, größer\r\n".to_owned(), ..html() }),
        ("a long line", Email { body: format!("{long}\r\n{unbroken}\r\n"), ..to_bo() }),
        ("a long line beyond ASCII", Email { body: "ü".repeat(4_000), ..to_bo() }),
        ("a long line of HTML", Email { body: format!("<p>{unbroken}</p>"), ..html() }),
        (
            "dots at the starts of lines",
            Email { body: ".\r\n..\r\n.x\r\n\r\n.\r\nQUIT\r\n.".to_owned(), ..to_bo() },
        ),
        (
            "blanks, tabs and line ends of other systems",
            Email {
                body: "ends in blanks  \nin a tab\t\n\tFrom here\nFrom there\n =3D=\n".to_owned(),
                ..to_bo()
            },
        ),
    ]
}

fn files() -> Vec<(&'static str, Email)> {
    use ContentTransferEncoding::{Base64, EightBit, QuotedPrintable, SevenBit, Unspecified};
    let octets: Vec<u8> = (0..=255).cycle().take(3_000).collect();
    let each = vec![
        file("bytes.bin", "application/octet-stream", octets.clone(), Base64),
        file("legible.bin", "application/octet-stream", octets.clone(), QuotedPrintable),
        file("plain.txt", "text/plain", "As it is.\r\n.dot\r\n", SevenBit),
        file("eight.txt", "text/plain", "Größe\r\n".as_bytes().to_vec(), EightBit),
        file("chosen.bin", "application/octet-stream", octets, Unspecified),
        file("empty-lines.txt", "text/csv", "a,b\r\n\r\n1,2\r\n", Unspecified),
    ];
    let names = vec![
        file("Übersicht.pdf", "application/pdf", "%PDF", Base64),
        file("報告書 👋.txt", "text/plain", "x", Base64),
        file(&format!("{}.txt", "long-".repeat(30)), "text/plain", "x", Base64),
        file("a \"quoted\\\" name; a.txt", "text/plain", "x", Base64),
    ];
    let inside = vec![inline("logo@example.org", "logo.png"), inline("second", "")];
    let text_body = "Shown without pictures\r\n".to_owned();
    let page =
        Email { body: "<img src=\"cid:logo@example.org\"><img src=\"cid:second\">\r\n".to_owned(), ..html() };
    let mixed = vec![inside[0].clone(), each[0].clone(), inside[1].clone(), each[3].clone()];
    vec![
        ("a file in each encoding", Email { attachments: each, ..to_bo() }),
        ("names beyond ASCII", Email { attachments: names, ..to_bo() }),
        ("inline images", Email { attachments: inside.clone(), ..page.clone() }),
        (
            "inline images and text",
            Email { attachments: inside, text_body: text_body.clone(), ..page.clone() },
        ),
        ("inline images, text and files", Email { attachments: mixed, text_body, ..page }),
    ]
}

fn fields() -> Vec<(&'static str, Email)> {
    let invitation = |file_name: &str| {
        Some(CalendarInvitation {
            content: INVITATION.to_owned(),
            method: "REQUEST".to_owned(),
            file_name: file_name.to_owned(),
        })
    };
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
    let everything = Email {
        from: "Änne Müller <anne@example.org>".to_owned(),
        cc: strings(&["Cc One <one@example.org>; two@example.org"]),
        importance: Importance::High.into(),
        reply_to: strings(&["Answers <answers@example.org>", "more@example.org"]),
        sender: "Assistant <assistant@example.org>".to_owned(),
        headers: vec![
            header("X-Invoice", "4711"),
            header("X-Words", "Größe und Maß"),
            header("X-Long", "a fairly long value ".repeat(40).trim_end()),
        ],
        read_receipt_to: strings(&["Read <read@example.org>"]),
        delivery_receipt_to: strings(&["delivered@example.org"]),
        list_unsubscribe: Some(ListUnsubscribe {
            url: "https://example.org/leave?who=bo&token=0123456789abcdef".to_owned(),
            mailto: "leave@example.org".to_owned(),
            one_click: true,
        }),
        in_reply_to: "<earlier@example.org>".to_owned(),
        references: strings(&["<first@example.org>", "second@example.org", "<earlier@example.org>"]),
        ..to_bo()
    };
    let many: Vec<_> =
        (0..60).map(|number| format!("Person {number} <person-{number}@example.org>")).collect();
    vec![
        ("every header field", everything),
        ("low importance", Email { importance: Importance::Low.into(), ..to_bo() }),
        ("an answer", Email { in_reply_to: "earlier@example.org".to_owned(), ..to_bo() }),
        (
            "a subject beyond ASCII",
            Email {
                subject: "Grüße aus 東京 👋🏽: ".to_owned() + &"sehr lang, ".repeat(30) + "Ende",
                ..to_bo()
            },
        ),
        ("a long subject", Email { subject: "0123456789".repeat(60), ..to_bo() }),
        (
            "names that need care",
            Email {
                to: strings(&[
                    "\"Doe, Jane\" <jane@example.org>",
                    "\"An \\\"odd\\\" one\" <odd@example.org>",
                    "Ågot Ødegård <agot@example.org>",
                ]),
                ..to_bo()
            },
        ),
        (
            "domains beyond ASCII",
            Email { to: strings(&["Bo <bo@bücher.example>", "ann@例え.example"]), ..to_bo() },
        ),
        ("many recipients", Email { to: many, ..to_bo() }),
        (
            "hidden recipients",
            Email {
                cc: strings(&["cc@example.org"]),
                bcc: strings(&["hidden@example.org", "Also Hidden <also-hidden@example.org>"]),
                ..to_bo()
            },
        ),
        (
            "nobody but hidden recipients",
            Email { to: vec![], bcc: strings(&["hidden@example.org"]), ..to_bo() },
        ),
        ("an invitation", Email { calendar: invitation(""), ..to_bo() }),
        (
            "an invitation with HTML, text and a file",
            Email {
                calendar: invitation("meeting.ics"),
                text_body: "Come\r\n".to_owned(),
                attachments: vec![file("a.bin", "application/octet-stream", "x", Default::default())],
                ..html()
            },
        ),
    ]
}

/// A mail to an address whose local part is beyond ASCII: for servers that offer SMTPUTF8.
pub(super) fn beyond_ascii() -> (&'static str, Email) {
    let email = Email {
        from: "Jörg <jörg@example.org>".to_owned(),
        to: strings(&["Bo <bö@example.org>", "用户@例え.example"]),
        subject: "Grüße".to_owned(),
        ..to_bo()
    };
    ("an address beyond ASCII", email)
}

/// Messages that are already written.
pub(super) fn raw() -> Vec<(&'static str, Vec<u8>)> {
    let plain = "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <raw-1@example.org>\r\n\
        From: Sender <sender@example.org>\r\nTo: bo@example.org,\r\n  cy@example.org\r\nBcc: hidden@example.org,\r\n\
        \tmore-hidden@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Folded: one\r\n two\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        Größe\r\n.\r\n..dots\r\n";
    let bare =
        "From: sender@example.org\r\nTo: bo@example.org\r\nSubject: no Date, no Message-ID\r\n\r\nwords\r\n";
    vec![("a written message", plain.as_bytes().to_vec()), ("a bare message", bare.as_bytes().to_vec())]
}
