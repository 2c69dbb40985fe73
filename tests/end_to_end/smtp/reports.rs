//! Reports of delivery (DSN, RFC 3461): asked for where the server makes them.

use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{
    DeliveryReportContent, DeliveryReportOccasion as Occasion, DeliveryReports, SendEmailRequest,
};

use super::world::{World, mail};

fn request(notify: &[Occasion], content: DeliveryReportContent, id: &str, to: &[&str]) -> SendEmailRequest {
    SendEmailRequest {
        content: Some(Content::Email(mail(to))),
        delivery_reports: Some(DeliveryReports {
            notify: notify.iter().map(|occasion| i32::from(*occasion)).collect(),
            content: content.into(),
            envelope_id: id.to_owned(),
        }),
        ..Default::default()
    }
}

/// The last MAIL and RCPT that the server heard.
fn envelope(world: &World) -> (String, String) {
    let commands = world.control().commands();
    let last = |verb: &str| commands.iter().rev().find(|line| line.starts_with(verb)).unwrap().clone();
    (last("MAIL"), last("RCPT"))
}

#[tokio::test]
async fn a_server_that_makes_reports_is_asked_for_what_is_wanted() {
    let world = World::plain().await;
    let all = [Occasion::Success, Occasion::Failure, Occasion::Delay];
    let sent = request(&all, DeliveryReportContent::Headers, "order+7=x", &["bo+tag@example.org"]);
    world.send_request(sent).await.unwrap();
    let (mail_from, rcpt_to) = envelope(&world);
    assert!(mail_from.contains(" RET=HDRS") && mail_from.contains(" ENVID=order+2B7+3Dx"), "{mail_from}");
    assert_eq!(
        rcpt_to,
        "RCPT TO:<bo+tag@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;bo+2Btag@example.org"
    );

    let sent = request(&[Occasion::Never], DeliveryReportContent::Full, "", &["jürgen@example.org"]);
    world.send_request(sent).await.unwrap();
    let (mail_from, rcpt_to) = envelope(&world);
    assert!(mail_from.contains(" RET=FULL") && !mail_from.contains("ENVID"), "{mail_from}");
    assert_eq!(rcpt_to, "RCPT TO:<jürgen@example.org> NOTIFY=NEVER ORCPT=utf-8;j\\x{FC}rgen@example.org");
}

#[tokio::test]
async fn a_server_that_makes_none_is_not_asked_and_the_mail_goes() {
    let world = World::plain().await;
    world.control().hide("DSN");
    let sent = request(&[Occasion::Success], DeliveryReportContent::Full, "id", &["bo@example.org"]);
    world.send_request(sent).await.unwrap();
    let (mail_from, rcpt_to) = envelope(&world);
    assert!(!mail_from.contains("RET") && !mail_from.contains("ENVID"), "{mail_from}");
    assert_eq!(rcpt_to, "RCPT TO:<bo@example.org>");
}

#[tokio::test]
async fn nothing_is_asked_for_where_nothing_is_wanted() {
    let world = World::plain().await;
    world.send(mail(&["bo@example.org"])).await.unwrap();
    let (mail_from, rcpt_to) = envelope(&world);
    assert!(!mail_from.contains("RET") && rcpt_to == "RCPT TO:<bo@example.org>", "{mail_from} {rcpt_to}");
}
