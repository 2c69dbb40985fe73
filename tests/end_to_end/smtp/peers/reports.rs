//! Reports of delivery that a real Postfix makes because it was asked to, and those that it does not.

use postern_proto::mail::v1::Email;
use postern_proto::smtp::v1::send_email_request::Content;
use postern_proto::smtp::v1::{
    DeliveryReportContent, DeliveryReportOccasion, DeliveryReports, SendEmailRequest,
};
use postern_sandbox::smtp::Delivery;

use super::super::world::{World, mail};
use super::started::Make;
use super::world_of;

/// The report among what arrived for the sender, after `known` mails.
async fn report(world: &World, known: usize) -> String {
    let arrived = world.server.delivered(known).await.unwrap();
    let is_report = |delivery: &&Delivery| delivery.to == ["sender@example.org"];
    let report = arrived.iter().rfind(is_report).expect("a report came");
    assert_eq!(report.from, "", "reports have no sender");
    String::from_utf8_lossy(&report.message).into_owned()
}

async fn send(world: &World, email: Email, reports: Option<DeliveryReports>) {
    let request = SendEmailRequest {
        request_id: "order-4711".to_owned(),
        content: Some(Content::Email(email)),
        delivery_reports: reports,
        ..Default::default()
    };
    world.send_request(request).await.unwrap();
}

#[tokio::test]
async fn postfix_reports_delivery_as_it_is_asked() {
    let Some((world, _peer)) = world_of(Make::Postfix).await else { return };
    let success = DeliveryReportOccasion::Success.into();
    let body = "only in a full report".to_owned();
    let email = Email { body, ..mail(&["bo+x=1@example.org"]) };

    let asked = DeliveryReports {
        notify: vec![success],
        content: DeliveryReportContent::Headers.into(),
        envelope_id: "id=7+7".to_owned(),
    };
    send(&world, email.clone(), Some(asked)).await;
    let told = report(&world, 2).await;
    assert!(told.contains("Original-Envelope-Id: id=7+7\r\n"), "{told}");
    assert!(told.contains("Original-Recipient: rfc822;bo+x=1@example.org\r\n"), "{told}");
    assert!(!told.contains("only in a full report"), "{told}");

    // Of what failed: with an id of the request's own, and the whole message where that is asked for.
    world.control().refuse("gone@example.org", "550 5.1.1 gone");
    let gone = Email { to: vec!["gone@example.org".to_owned()], ..email.clone() };
    let failure = DeliveryReportOccasion::Failure.into();
    for (content, known) in [(DeliveryReportContent::Full, 3), (DeliveryReportContent::Headers, 4)] {
        let asked = DeliveryReports { notify: vec![failure], content: content.into(), ..Default::default() };
        send(&world, gone.clone(), Some(asked)).await;
        let told = report(&world, known).await;
        assert!(told.contains("Original-Envelope-Id: order-4711\r\n"), "{told}");
        assert_eq!(told.contains("only in a full report"), content == DeliveryReportContent::Full, "{told}");
    }

    // A wish for a receipt is a request for a report.
    let receipt = Email { delivery_receipt_to: vec!["sender@example.org".to_owned()], ..email.clone() };
    send(&world, receipt, None).await;
    let told = report(&world, 6).await;
    assert!(told.contains("Original-Recipient: rfc822;bo+x=1@example.org\r\n"), "{told}");

    // Not asked for, or not wanted: the next that arrives is the next mail.
    let never = DeliveryReports { notify: vec![DeliveryReportOccasion::Never.into()], ..Default::default() };
    send(&world, gone, Some(never.clone())).await;
    send(&world, email.clone(), Some(never)).await;
    send(&world, email, None).await;
    let arrived = world.server.delivered(8).await.unwrap();
    assert!(arrived[6..].iter().all(|delivery| delivery.to == ["bo+x=1@example.org"]));
}
