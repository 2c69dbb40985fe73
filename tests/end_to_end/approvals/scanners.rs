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

/// Goes through a link as a program does in a browser: sends a form of the page, then one of the page that it then gets,
/// and so on, by their places; then opens the link anew and goes another way. With cookies, as patiently as a person, and
/// with the forms' buttons or without. Gives how many it sent.
async fn send_everything(link: &str, with_buttons: bool) -> usize {
    // What presses the button that people see alone, and first, is what a person is.
    let ways: &[&[usize]] =
        if with_buttons { &[&[0, 1, 1], &[1, 1], &[1, 0, 1]] } else { &[&[1, 1], &[0, 1, 1], &[1, 0, 1]] };
    let mut scanner = Browser::new();
    let mut sent = 0;
    for way in ways {
        let mut page = scanner.open(link).await;
        for place in *way {
            let form = page.forms().remove(*place);
            let form = if with_buttons { form } else { form.by_script() };
            tokio::time::sleep(A_LOOK).await;
            page = scanner.press(link, &form).await;
            sent += 1;
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_every_form_of_a_page_and_of_those_it_then_gets_answers_nothing_however_patient() {
    let stage = Stage::start().await;
    let mut names = Vec::new();
    for show_html_confirmation_dialog in [false, true, false, true] {
        let question = Question { show_html_confirmation_dialog, ..question(&[CARLA, DAN]) };
        names.push(ask(&stage.channel, question).await.name);
    }
    // To each of the two recipients of a question in one of the two ways.
    let links = stage.all_links(8).await;
    assert_eq!(links.len(), 16);
    let sent = links.iter().enumerate().map(|(at, link)| send_everything(link, at / 2 % 2 == 0));
    let sent = futures_util::future::join_all(sent).await;
    assert!(sent.iter().all(|sent| *sent == 8), "{sent:?}");
    for name in names {
        assert!(pending(&stage, &name).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_program_was_a_person_chooses_from_a_list() {
    let mut stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA, DAN])).await.name;
    let (links, of_dan) = (stage.links_to(CARLA).await, stage.links_to(DAN).await);
    let before = get(&stage.channel, &name).await.unwrap();
    let mut person = Browser::new();
    let early = person.open(&links[0]).await;
    let mut scanner = Browser::new();
    let unseen = scanner.open(&links[1]).await.forms().remove(0);
    assert!(unseen.hidden);
    // Though it has lost its cookie.
    Browser::new().press(&links[1], &unseen).await.says(403, &["choose your answer from the list"]);
    assert_eq!(get(&stage.channel, &name).await.unwrap(), before, "the approval is as it was");
    // By whichever link of the same recipient, in another browser, and after a restart too.
    stage.restart(&[]).await;
    let page = Browser::new().open(&links[0]).await;
    page.says(200, &["Are you sure?", "A program, such as a mail scanner"]);
    let other = Browser::new().open(&of_dan[0]).await;
    other.says(200, &["Nothing is answered until"]);
    assert!(other.form().choices.is_empty());
    // Who was there before presses the button, and is asked too.
    tokio::time::sleep(A_LOOK).await;
    let page = person.press(&links[0], &early.form()).await;
    page.says(200, &["Are you sure?"]);
    tokio::time::sleep(A_LOOK).await;
    for wrong in ["Please choose", "I give no answer now", "Reject"] {
        let page = person.press(&links[0], &page.form().choosing(wrong)).await;
        page.says(403, &["Nothing was answered", "Approve"]);
    }
    assert!(pending(&stage, &name).await);
    person.press(&links[0], &page.form().choosing("Approve")).await.says(200, &["Thank you"]);
    assert_eq!(get(&stage.channel, &name).await.unwrap().selected_option, "Approve");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_that_the_browser_says_nobody_made_answers_nothing() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let script = [("sec-ch-ua", "\"Chromium\""), ("sec-fetch-site", "same-origin")];
    let mut browser = Browser::new();
    let form = browser.open(&link).await.form();
    tokio::time::sleep(A_LOOK).await;
    let page = browser.press_from(&link, &form, &script).await;
    page.says(200, &["choose your answer from the list"]);
    tokio::time::sleep(A_LOOK).await;
    browser.press_from(&link, &page.form(), &script).await.says(403, &["Nothing was answered"]);
    // The first page's form is worth no more for it, not even by a click.
    let click = [&script[..], &[("sec-fetch-user", "?1")]].concat();
    browser.press_from(&link, &form, &click).await.says(200, &["Are you sure?"]);
    assert!(pending(&stage, &name).await);
    // Who chooses is somebody, even behind a proxy that drops what the browser says of clicks.
    browser.press_from(&link, &page.form().choosing("Approve"), &script).await.says(200, &["Thank you"]);
    assert!(!pending(&stage, &name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_sent_without_its_button_answers_nothing() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let mut browser = Browser::new();
    let form = browser.open(&link).await.form();
    tokio::time::sleep(A_LOOK).await;
    let page = browser.press(&link, &form.clone().by_script()).await;
    page.says(200, &["choose your answer from the list"]);
    browser.press(&link, &form).await.says(200, &["Are you sure?"]);
    assert!(pending(&stage, &name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_that_the_browser_tells_of_answers_at_once() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, question(&[CARLA])).await.name;
    let link = stage.links_to(CARLA).await.remove(0);
    let click = [("sec-ch-ua", "\"Chromium\""), ("sec-fetch-site", "same-origin"), ("sec-fetch-user", "?1")];
    let mut browser = Browser::new();
    let form = browser.open(&link).await.form();
    tokio::time::sleep(A_LOOK).await;
    browser.press_from(&link, &form, &click).await.says(200, &["Thank you"]);
    assert!(!pending(&stage, &name).await);
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
    let choosing = |page: &super::browser::Seen| page.form().choosing("Reject");
    browser.press(&link, &choosing(&sure)).await.says(403, &["That was very quick"]);
    let sure = browser.answer(&link).await;
    tokio::time::sleep(A_LOOK).await;
    browser.press(&link, &sure.form()).await.says(403, &["Nothing was answered"]);
    assert!(pending(&stage, &name).await);
    browser.press(&link, &choosing(&sure)).await.says(200, &["Thank you", "Reject"]);
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
