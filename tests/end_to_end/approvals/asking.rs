//! The mails that ask.

use mail_parser::{MessageParser, MimeHeaders as _};
use postern_proto::approval::v1::*;
use postern_proto::mail::v1::{Attachment, Importance};
use postern_sandbox::place::BO;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::browser::Browser;
use super::stage::Stage;
use super::*;
use crate::world::{OUTLOOK, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_gets_a_mail_of_their_own_with_a_link_for_each_option() {
    let stage = Stage::start().await;
    let question = Question {
        importance: Importance::High.into(),
        attachments: vec![Attachment {
            file_name: "offer.txt".into(),
            content_data: "80".into(),
            content_type: "text/plain".into(),
            ..Attachment::default()
        }],
        header_text: "Head <1>".into(),
        selection_text: "Choose & go".into(),
        ..question(&[&format!("Carla C <{CARLA}>; {DAN}"), CARLA])
    };
    let sent = client(&stage.channel).send_approval_email(approval(question)).await.unwrap().into_inner();
    let approval = sent.approval.unwrap();
    assert_eq!(approval.name, format!("approvals/{}", sent.id));
    assert_eq!((sent.resource, &*sent.notification_type), (approval.name.clone(), "approval"));
    assert_eq!(
        (approval.state(), approval.options.join(" ")),
        (ApprovalState::Pending, "Approve Reject".into())
    );
    let asked: Vec<_> = approval.recipients.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(asked, [CARLA, DAN]);
    assert!(approval.recipients.iter().all(|it| it.queued_email.starts_with("outbox/")));
    let lasts = approval.expire_time.unwrap().seconds - approval.create_time.unwrap().seconds;
    assert_eq!(lasts, 30 * 86_400);

    let mut all = Vec::new();
    for address in [CARLA, DAN] {
        let raw = stage.raw_to(address).await;
        let parsed = MessageParser::default().parse(&raw[..]).unwrap();
        assert_eq!(parsed.subject(), Some("Buy a ladder?"));
        assert!(String::from_utf8_lossy(&raw).to_ascii_lowercase().contains("importance: high"));
        assert_eq!(parsed.attachment(0).unwrap().attachment_name(), Some("offer.txt"));
        let (text, html) = read(&raw);
        assert!(text.contains("Head <1>\n\nIt costs 80 < 90.\nPlease.\n\nChoose & go\n"), "{text}");
        let html = html.unwrap();
        assert!(html.contains("It costs 80 &lt; 90.<br>") && html.contains("color-scheme"), "{html}");
        let links = links(&text);
        assert_eq!(links.len(), 2);
        for (link, option) in links.iter().zip(["Approve", "Reject"]) {
            assert!(
                html.contains(&format!("href=\"{link}\"")) && text.contains(&format!("  {option}\n  {link}"))
            );
            // Nothing personal, nor what is asked.
            let token = link.rsplit('/').next().unwrap();
            let told =
                base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token).unwrap();
            let told = String::from_utf8_lossy(&told).to_lowercase();
            assert!(
                !["carla", "dan", "example", "ladder", "mail", "appr"].iter().any(|it| told.contains(it))
            );
        }
        all.extend(links);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_options_are_asked_and_the_last_one_is_answered() {
    let stage = Stage::start().await;
    let options: Vec<_> = (0..100).map(|number| format!("<{number:02}> & {}", "é".repeat(50))).collect();
    let request = SendEmailWithOptionsRequest {
        connection: SMTP.into(),
        question: Some(question(&[CARLA])),
        options: options.clone(),
        ..SendEmailWithOptionsRequest::default()
    };
    let sent = client(&stage.channel).send_email_with_options(request).await.unwrap().into_inner();
    assert_eq!(
        (sent.notification_type.as_str(), sent.approval.unwrap().options),
        ("options", options.clone())
    );
    let links = stage.links_to(CARLA).await;
    assert_eq!(links.len(), 100);
    Browser::new().answer(&links[99]).await.says(200, &["&#60;99&#62; &#38; é"]);
    assert_eq!(get(&stage.channel, &sent.resource).await.unwrap().selected_option, options[99]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_text_alone_where_its_form_is_hidden() {
    let stage = Stage::start().await;
    let body = "<p>One <b>two</b></p>".to_owned();
    let hidden = Question { hide_html_message: true, is_html: true, body, ..question(&[CARLA]) };
    ask(&stage.channel, hidden).await;
    let (text, html) = stage.mail_to(CARLA).await;
    assert!(html.is_none() && text.contains("\nOne two\n") && links(&text).len() == 2, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_and_pages_speak_the_language_that_was_asked_for() {
    let stage = Stage::start().await;
    for (to, language, subject, option, note) in [
        ("de@example.org", "de", "Bitte um Genehmigung", "Genehmigen", "bis Sie die Schaltfläche drücken"),
        ("fr@example.org", "fr", "Demande d’approbation", "Approuver", "appuyez pas sur le bouton"),
        ("es@example.org", "es", "Solicitud de aprobación", "Aprobar", "hasta que pulse el botón"),
        ("en@example.org", "en", "Approval request", "Approve", "until you press the button"),
    ] {
        let asked = Question { subject: String::new(), language: language.into(), ..question(&[to]) };
        let name = ask(&stage.channel, asked).await.name;
        let raw = stage.raw_to(to).await;
        assert_eq!(MessageParser::default().parse(&raw[..]).unwrap().subject(), Some(subject));
        let (text, html) = read(&raw);
        assert!(
            text.contains(&format!("  {option}\n"))
                && html.unwrap().contains(&format!("lang=\"{language}\""))
        );
        let mut browser = Browser::new();
        browser.language = "es";
        let link = links(&text).remove(0);
        browser.open(&link).await.says(200, &[option, note, &format!("lang=\"{language}\"")]);
        browser.answer(&link).await;
        // Whatever it was shown as.
        assert_eq!(get(&stage.channel, &name).await.unwrap().selected_option, "Approve");
    }
    // In the reader's: what the page writes of its own, the time among it.
    let until = ask(&stage.channel, question(&[CARLA])).await.expire_time.unwrap();
    let until = jiff::Timestamp::from_second(until.seconds).unwrap().strftime(", %H:%M Uhr UTC").to_string();
    let mut browser = Browser::new();
    browser.language = "de-CH, en;q=0.5";
    let page = browser.open(&stage.links_to(CARLA).await[1]).await;
    page.says(200, &["lang=\"de\"", "Ablehnen", "Gefragt von", "Bo Example", "Antwort bis", &until]);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_connection_that_can_send_asks() {
    let stage = Stage::start().await;
    let asked = Question { from: String::new(), ..question(&[BO]) };
    let request = SendApprovalEmailRequest { connection: OUTLOOK.into(), ..approval(asked) };
    client(&stage.channel).send_approval_email(request).await.unwrap();
    let came = || async { stage.place.world.messages(BO, "inbox").pop() };
    let mail = until("the mail came", came).await;
    assert_eq!(mail.subject, "Buy a ladder?");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_by_its_field() {
    let stage = Stage::start().await;
    let private = |url: &str| Question { notification_url: url.into(), ..question(&[CARLA]) };
    for (asked, field) in [
        (question(&["nobody"]), "question.to[0]"),
        (Question { language: "xx".into(), ..question(&[CARLA]) }, "question.language"),
        (private("http://example.org/"), "question.notification_url"),
        (private("https://127.0.0.1/x"), "question.notification_url"),
        (private("https://localhost/x"), "question.notification_url"),
        (private("https://[::ffff:192.168.0.1]/x"), "question.notification_url"),
    ] {
        let refused = client(&stage.channel).send_approval_email(approval(asked)).await;
        let status = assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    let elsewhere =
        SendApprovalEmailRequest { connection: "connections/none".into(), ..approval(question(&[CARLA])) };
    let refused = client(&stage.channel).send_approval_email(elsewhere).await;
    assert_refused(refused, Code::NotFound, "CONNECTION_NOT_FOUND");
    assert_refused(get(&stage.channel, "approvals/none").await, Code::NotFound, "APPROVAL_NOT_FOUND");
    assert_refused(get(&stage.channel, "none").await, Code::InvalidArgument, "FIELD_INVALID");
    assert!(stage.place.smtp.accepted().is_empty());

    let without = World::connected().await;
    let refused = client(&without.channel).send_approval_email(approval(question(&[CARLA]))).await;
    assert_refused(refused, Code::FailedPrecondition, "PUBLIC_URL_MISSING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_asks_nobody_twice_over_a_restart_and_no_other_question_has_its_id() {
    let mut stage = Stage::start().await;
    let request = SendApprovalEmailRequest { request_id: "order-7".into(), ..approval(question(&[CARLA])) };
    let first = client(&stage.channel).send_approval_email(request.clone()).await.unwrap().into_inner();
    stage.raw_to(CARLA).await;
    stage.restart(&[]).await;
    let again = client(&stage.channel).send_approval_email(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.resource, again.resource);
    let other = SendApprovalEmailRequest { options: vec!["Other".into()], ..request };
    let refused = client(&stage.channel).send_approval_email(other).await;
    assert_refused(refused, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let listed = ListApprovalsRequest::default();
    let listed = client(&stage.channel).list_approvals(listed).await.unwrap().into_inner();
    assert_eq!((listed.approvals.len(), stage.place.smtp.accepted().len()), (1, 1));
}
