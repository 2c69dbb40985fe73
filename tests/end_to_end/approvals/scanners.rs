//! What opens and presses everything that it finds answers nothing.

use postern_proto::approval::v1::*;
use reqwest::Method;

use super::browser::Browser;
use super::stage::{A_LOOK, Stage};
use super::*;

async fn pending(stage: &Stage, name: &str) -> bool {
    let approval = get(&stage.channel, name).await.unwrap();
    assert!(
        approval.recipients.iter().all(|it| it.selected_option.is_empty())
            == (approval.respond_time.is_none())
    );
    approval.state() == ApprovalState::Pending
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_a_link_in_whatever_way_answers_nothing() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    for link in stage.links_to(CARLA).await {
        let mut browser = Browser::new();
        for method in [Method::HEAD, Method::GET] {
            let page = browser.ask(method, &link).await;
            assert_eq!(page.status.as_u16(), 200);
            assert_eq!(page.headers["cache-control"], "no-store");
            assert_eq!(page.headers["referrer-policy"], "no-referrer");
            let policy = page.headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        }
        for method in [Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(browser.ask(method, &link).await.status.as_u16(), 405);
        }
        browser.open(&link).await.says(200, &["Nothing is answered until you press", "Buy a ladder?"]);
        browser.open(&link).await.says(200, &["Bo Example &#60;bo@example.org&#62;"]);
    }
    assert!(pending(&stage, &name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_was_found_and_sent_without_its_cookie_answers_nothing() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let form = Browser::new().open(&link).await.form();
    tokio::time::sleep(A_LOOK).await;
    // No cookie, then another visit's, then no proof at all.
    Browser::new().press(&link, &form).await.says(403, &["press the button once more"]);
    let mut other = Browser::new();
    other.open(&link).await;
    other.press(&link, &form).await.says(403, &["press the button once more"]);
    let mut bare = form.clone();
    bare.fields.retain(|(name, _)| name == "step");
    other.press(&link, &bare).await.says(403, &[]);
    assert!(pending(&stage, &name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_sent_at_once_answers_nothing_however_often() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let mut scanner = Browser::new();
    let mut page = scanner.open(&link).await;
    for _ in 0..5 {
        page = scanner.press(&link, &page.form()).await;
        page.says(403, &["That was very quick"]);
    }
    assert!(pending(&stage, &name).await);
    // A person who was quick presses once more.
    tokio::time::sleep(A_LOOK).await;
    scanner.press(&link, &page.form()).await.says(200, &["Thank you"]);
    assert!(!pending(&stage, &name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_every_form_of_a_page_answers_nothing_however_patient() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let mut scanner = Browser::new();
    let forms = scanner.open(&link).await.forms();
    assert_eq!(forms.iter().map(|form| form.hidden).collect::<Vec<_>>(), [true, false]);
    tokio::time::sleep(A_LOOK).await;
    for form in &forms {
        scanner.press(&link, form).await.says(403, &[]);
    }
    assert!(pending(&stage, &name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_on_another_site_and_a_form_of_another_link_answer_nothing() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let links = stage.links_to(CARLA).await;
    let mut browser = Browser::new();
    let form = browser.open(&links[0]).await.form();
    tokio::time::sleep(A_LOOK).await;
    for from in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
    ] {
        browser.press_from(&links[0], &form, &[from]).await.says(403, &[]);
    }
    browser.press(&links[1], &form).await.says(403, &[]);
    assert!(pending(&stage, &name).await);
    let ours = format!("http://{}", stage.http);
    let from = [("origin", &*ours), ("sec-fetch-site", "same-origin")];
    browser.press_from(&links[0], &form, &from).await.says(200, &["Approve"]);
    assert_eq!(get(&stage.channel, &name).await.unwrap().selected_option, "Approve");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_wants_it_is_confirmed_in_one_more_step() {
    let stage = Stage::start().await;
    let asked = Question { show_html_confirmation_dialog: true, ..question(&[CARLA]) };
    let name = ask(&stage.channel, asked).await.name;
    let link = stage.links_to(CARLA).await.remove(1);
    let mut browser = Browser::new();
    let sure = browser.answer(&link).await;
    sure.says(200, &["Are you sure?", "Yes, answer “Reject”"]);
    assert!(pending(&stage, &name).await);
    browser.press(&link, &sure.form()).await.says(403, &["That was very quick"]);
    let sure = browser.answer(&link).await;
    tokio::time::sleep(A_LOOK).await;
    browser.press(&link, &sure.form()).await.says(200, &["Thank you", "Reject"]);
    assert_eq!(get(&stage.channel, &name).await.unwrap().selected_option, "Reject");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_changed_leads_nowhere() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let (base, token) = link.rsplit_once('/').unwrap();
    let mut browser = Browser::new();
    for place in [0, 2, 4, 10, 30, token.len() - 1] {
        let mut changed = token.as_bytes().to_vec();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = format!("{base}/{}", String::from_utf8(changed).unwrap());
        browser.open(&changed).await.says(404, &["No such question"]);
    }
    browser.open(&format!("{base}/x")).await.says(404, &["No such question"]);
    assert!(pending(&stage, &name).await);
}
