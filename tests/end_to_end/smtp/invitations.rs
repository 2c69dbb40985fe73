//! A meeting in a mail: the part that mail programs show, and the copy that is attached.

use mail_parser::{MessageParser, MimeHeaders as _};
use postern_proto::mail::v1::{CalendarInvitation, Email};
use tonic::Code;

use super::world::{World, mail, refused};

fn object(method: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//EN\r\n{method}BEGIN:VEVENT\r\nUID:1@example.org\r\n\
         DTSTART:20300101T090000Z\r\nSUMMARY:Grüße aus dem Büro mit einem langen Titel\\, der in der Datei g\r\n \
         efaltet ist\r\nATTENDEE;CN=\"Bo: B\":mailto:bo@example.org\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
}

fn invitation(content: &str, method: &str, file_name: &str) -> Email {
    let calendar = CalendarInvitation {
        content: content.to_owned(),
        method: method.to_owned(),
        file_name: file_name.to_owned(),
    };
    Email { calendar: Some(calendar), ..mail(&["bo@example.org"]) }
}

#[tokio::test]
async fn an_invitation_is_shown_and_attached() {
    let world = World::plain().await;
    for (line, expected, given, name) in [
        ("METHOD:REQUEST\r\n", "REQUEST", "request", ""),
        ("METH\r\n OD:CAN\r\n\tCEL\r\n", "CANCEL", "", "Absage für Bo.ics"),
        ("METHOD;X-NOTE=\"a:b\":reply\r\n", "REPLY", "REPLY", "reply.ics"),
    ] {
        let content = object(line);
        // As files of other systems are: the line ends are made right.
        world.send(invitation(&content.replace("\r\n", "\n"), given, name)).await.unwrap();
        let message = world.server.accepted().pop().unwrap().message;
        assert!(message.is_ascii());
        let parsed = MessageParser::default().parse(message.as_ref()).unwrap();
        let shown = parsed
            .parts
            .iter()
            .find(|part| part.content_type().is_some_and(|kind| kind.subtype() == Some("calendar")))
            .unwrap();
        let kind = shown.content_type().unwrap();
        assert_eq!(kind.attribute("method"), Some(expected));
        assert_eq!(kind.attribute("charset"), Some("utf-8"));
        assert_eq!(shown.contents(), content.as_bytes());
        assert!(shown.content_disposition().is_none(), "it is shown, not attached");
        let copy = parsed.attachments().find(|part| part.attachment_name().is_some()).unwrap();
        assert_eq!(copy.attachment_name(), Some(if name.is_empty() { "invite.ics" } else { name }));
        assert_eq!(copy.content_type().unwrap().subtype(), Some("ics"));
        assert!(copy.content_disposition().unwrap().is_attachment());
        assert_eq!(copy.contents(), content.as_bytes());
    }
}

#[tokio::test]
async fn an_object_that_programs_would_not_show_is_refused() {
    let world = World::plain().await;
    let request = object("METHOD:REQUEST\r\n");
    let (content, method) = ("email.calendar.content", "email.calendar.method");
    for (email, field) in [
        (invitation("", "", ""), content),
        (invitation("hello", "", ""), content),
        (invitation(&object(""), "", ""), content),
        (invitation(&object("METHOD:REQUEST\r\nMETHOD:CANCEL\r\n"), "", ""), content),
        (invitation(&object("METHOD:a\"; b=c\r\n"), "", ""), content),
        (invitation(&request.replace("END:VEVENT\r\n", ""), "", ""), content),
        (invitation(&request.replace("END:VCALENDAR\r\n", ""), "", ""), content),
        (invitation(&request.repeat(2), "", ""), content),
        (invitation(&format!("X:{}", "x".repeat(1024 * 1024)), "", ""), content),
        (invitation(&request, "CANCEL", ""), method),
        (invitation(&request, "", "a\r\nb.ics"), "email.calendar.file_name"),
        (invitation(&request, "", &"x".repeat(256)), "email.calendar.file_name"),
    ] {
        let said = refused(world.send(email).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(said.fields, [field]);
    }
    assert_eq!(world.control().connections_opened(), 0);
}
