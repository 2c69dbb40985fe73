//! Sign-in in a browser: what is begun, what comes back, and what is shown.

use http::Method;
use postern_proto::connection::v1::connection::Settings;
use postern_proto::connection::v1::{Connection, ConnectionState, SignIn, SignInKind, SignInState};
use postern_sandbox::graph::Fault;
use postern_sandbox::place::{ANNA, BO};

use super::browser::Browser;
use super::{ME, by_user, refusal};
use crate::world::{OUTLOOK, SMTP, World, create, until};

#[tokio::test]
async fn a_user_signs_in_and_the_connection_works_from_then_on() {
    let world = World::reached().await;
    let made = world.office(ME).await;
    assert_eq!(made.state(), ConnectionState::NeedsSignIn);
    assert_eq!(refusal(world.mails().await), "CREDENTIALS_REFUSED");

    let begun = world.begin(OUTLOOK, SignInKind::Unspecified).await.unwrap();
    assert_eq!((begun.kind(), begun.state()), (SignInKind::Browser, SignInState::Pending));
    let url: reqwest::Url = begun.authorization_url.parse().unwrap();
    let of = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(of("redirect_uri").unwrap(), format!("{}/sign-in/callback", world.http_url()));
    assert_eq!(
        (of("code_challenge_method").unwrap(), of("code_challenge").unwrap().len()),
        ("S256".into(), 43)
    );
    let scope = format!("openid profile offline_access {}/.default", world.place.graph.url());
    assert_eq!((of("scope").unwrap(), of("prompt").unwrap()), (scope, "select_account".into()));
    assert!(!of("state").unwrap().contains("office"), "nothing is told by the URL");
    let shown = world.stands(&begun).await;
    assert_eq!((shown.authorization_url.as_str(), shown.user_code.as_str()), ("", ""));

    let page = Browser::default().choose(&begun.authorization_url, ANNA).await;
    assert_eq!(page.status, 200);
    for expected in ["You are signed in", ANNA, "The &#60;office&#62;"] {
        assert!(page.text.contains(expected), "{expected}: {}", page.text);
    }
    assert!(!page.url.as_str().contains("code=") && !page.url.as_str().contains("state="), "{}", page.url);
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.headers[name], value);
    }
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let style = Browser::default().open(&format!("{}/assets/console.css", world.http_url())).await;
    assert_eq!(
        (style.status, style.headers["content-type"].to_str().unwrap()),
        (200, "text/css; charset=utf-8")
    );

    let done = world.stands(&begun).await;
    assert_eq!((done.state(), done.account.as_str()), (SignInState::Succeeded, ANNA));
    assert_eq!(world.mails().await.unwrap(), 0);
    let turns =
        [(ConnectionState::NeedsSignIn, "SIGN_IN_NEEDED".into()), (ConnectionState::Ready, String::new())];
    assert_eq!(world.turns(2).await, turns);
}

#[tokio::test]
async fn a_link_works_once_and_looking_does_not_use_it() {
    let world = World::reached().await;
    world.office(ME).await;
    let begun = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    // As far as the platform's page; where it leads back to is not opened yet.
    let browser = Browser::default();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let led = http.post(&begun.authorization_url).form(&[("account", ANNA)]).send().await.unwrap();
    let back = led.headers()["location"].to_str().unwrap().to_owned();

    assert_eq!(browser.ask(Method::HEAD, &back, None).await.status(), 200);
    for header in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch"), ("x-moz", "prefetch")] {
        assert_eq!(browser.ask(Method::GET, &back, Some(header)).await.status(), 204);
    }
    assert_eq!(browser.ask(Method::POST, &back, None).await.status(), 405);
    assert_eq!(world.stands(&begun).await.state(), SignInState::Pending);

    let page = Browser::default().open(&back).await;
    assert!(page.text.contains("You are signed in") && !page.text.contains("before"), "{}", page.text);
    let again = Browser::default().open(&back).await;
    assert!(again.text.contains("finished before"), "{}", again.text);
    assert_eq!(
        world.place.graph.sign_ins().iter().filter(|said| said.grant_type == "authorization_code").count(),
        1
    );
    // Another code does no more than the same.
    let (there, _) = back.split_once("code=").unwrap();
    let other = Browser::default().open(&format!("{there}code=other")).await;
    assert!(other.text.contains("finished before"), "{}", other.text);
    assert_eq!(world.mails().await.unwrap(), 0);
}

#[tokio::test]
async fn a_state_that_was_not_given_here_is_not_taken() {
    let world = World::reached().await;
    world.office(ME).await;
    let begun = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    let url: reqwest::Url = begun.authorization_url.parse().unwrap();
    let state = url.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    let back = format!("{}/sign-in/callback", world.http_url());
    let mut changed = state.clone().into_bytes();
    changed[60] = if changed[60] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let long = "A".repeat(5_000);
    for wrong in ["", "forged", changed.as_str(), long.as_str()] {
        let page = Browser::default().open(&format!("{back}?code=x&state={wrong}")).await;
        assert_eq!(page.status, 400);
        assert!(page.text.contains("This link cannot be used"), "{}", page.text);
    }
    // A state opens no page that shows how a sign-in stands.
    let page = Browser::default().open(&format!("{}/sign-in/outcome?of={state}", world.http_url())).await;
    assert_eq!(page.status, 400);
    assert_eq!(world.stands(&begun).await.state(), SignInState::Pending);
    // With its own state and a code of nobody's it is spent.
    let page = Browser::default().open(&format!("{back}?code=x&state={state}")).await;
    assert!(page.text.contains("The sign-in has expired"), "{}", page.text);
    assert_eq!(world.stands(&begun).await.failure_reason, "SIGN_IN_EXPIRED");
    assert_eq!(world.state(OUTLOOK).await, ConnectionState::NeedsSignIn);
}

#[tokio::test]
async fn what_another_providers_page_brings_back_is_used_by_nobody() {
    let world = World::reached().await;
    world.office(ME).await;
    // As far as the platform's page, whose answer is then said to be somebody's.
    let led_back = |begun: SignIn| async move {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let led = http.post(&begun.authorization_url).form(&[("account", ANNA)]).send().await.unwrap();
        led.headers()["location"].to_str().unwrap().to_owned()
    };
    for another in ["https%3A%2F%2Fother.example.org%2Fv2.0", "", "nobody"] {
        let begun = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
        let back = led_back(begun.clone()).await;
        let page = Browser::default().open(&format!("{back}&iss={another}")).await;
        assert!(page.text.contains("This is another provider"), "{}", page.text);
        assert_eq!(world.stands(&begun).await.failure_reason, "WRONG_PROVIDER");
        // It is over with this sign-in: the same without the word changes nothing.
        assert!(Browser::default().open(&back).await.text.contains("finished before"));
    }
    let asked = world.place.graph.sign_ins();
    assert!(asked.iter().all(|said| said.grant_type != "authorization_code"), "{asked:?}");
    let back = led_back(world.begin(OUTLOOK, SignInKind::Browser).await.unwrap()).await;
    let page = Browser::default().open(&format!("{back}&iss={}/any/v2.0", world.place.graph.url())).await;
    assert!(page.text.contains("You are signed in"), "{}", page.text);
}

#[tokio::test]
async fn who_declines_or_may_not_consent_is_told_what_to_do() {
    let world = World::reached().await;
    world.office(ME).await;
    let (declined, page) = world.sign_in_as("").await;
    assert_eq!((declined.state(), declined.failure_reason.as_str()), (SignInState::Failed, "SIGN_IN_DENIED"));
    assert!(
        page.text.contains("The sign-in was declined") && page.text.contains("begin a new"),
        "{}",
        page.text
    );
    let (asked, page) = world.sign_in_as("administrator").await;
    assert_eq!(asked.failure_reason, "SIGN_IN_DENIED");
    for text in [&asked.failure_message, &page.text] {
        assert!(text.contains("administrator") && text.contains("/adminconsent?client_id="), "{text}");
    }
    assert!(!page.text.contains("AADSTS"), "the platform's own text is not shown");
    assert_eq!(world.state(OUTLOOK).await, ConnectionState::NeedsSignIn);
}

#[tokio::test]
async fn a_platform_that_is_out_of_order_costs_a_reload_and_no_new_sign_in() {
    let world = World::reached().await;
    world.office(ME).await;
    let begun = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    world.place.graph.faults().plan(None, "/v2.0/token", 1, Fault::answer(503, ""));
    let mut browser = Browser::default();
    let page = browser.choose(&begun.authorization_url, ANNA).await;
    assert_eq!(page.status, 503);
    assert!(
        page.text.contains("Not finished yet") && page.text.contains("Reload this page"),
        "{}",
        page.text
    );
    assert_eq!(world.stands(&begun).await.state(), SignInState::Pending);
    let page = browser.open(page.url.as_str()).await;
    assert!(page.text.contains("You are signed in"), "{}", page.text);
}

#[tokio::test]
async fn a_sign_in_outlives_a_restart_and_each_of_several_works() {
    let mut world = World::reached().await;
    world.office(ME).await;
    let first = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    let second = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    assert_ne!(first.name, second.name);
    world.restart().await;
    for begun in [&second, &first] {
        let page = Browser::default().choose(&begun.authorization_url, ANNA).await;
        assert!(page.text.contains("You are signed in"), "{}", page.text);
        assert_eq!(world.stands(begun).await.state(), SignInState::Succeeded);
        assert_eq!(world.mails().await.unwrap(), 0);
    }
    let (one, other) = tokio::join!(world.sign_in_as(ANNA), world.sign_in_as(ANNA));
    assert_eq!((one.0.state(), other.0.state()), (SignInState::Succeeded, SignInState::Succeeded));
    assert_eq!(world.mails().await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_stays_with_the_account_that_signed_in_first() {
    let world = World::reached().await;
    let made = world.office(ME).await;
    world.sign_in_as(ANNA).await;
    let (wrong, page) = world.sign_in_as(BO).await;
    assert_eq!(wrong.failure_reason, "WRONG_ACCOUNT");
    assert!(page.text.contains("This is another account"), "{}", page.text);
    assert_eq!((world.state(OUTLOOK).await, world.mails().await.unwrap()), (ConnectionState::Ready, 0));
    // New credentials, and it is anybody's again.
    let renewed = Connection { name: made.name, credentials: by_user(), ..Connection::default() };
    let renewed = world.update(renewed, &["outlook_credentials"]).await.unwrap();
    assert_eq!(renewed.state(), ConnectionState::NeedsSignIn);
    let (right, _) = world.sign_in_as(BO).await;
    assert_eq!((right.state(), right.account.as_str()), (SignInState::Succeeded, BO));
}

#[tokio::test]
async fn a_mailbox_that_is_named_is_for_those_who_may_open_it() {
    let world = World::reached().await;
    world.office(ANNA).await;
    let (wrong, page) = world.sign_in_as(BO).await;
    assert_eq!(wrong.failure_reason, "WRONG_ACCOUNT");
    assert!(page.text.contains("outlook.mailbox"), "{}", page.text);
    assert_eq!(world.state(OUTLOOK).await, ConnectionState::NeedsSignIn);
    let (right, _) = world.sign_in_as(ANNA).await;
    assert_eq!(right.state(), SignInState::Succeeded);
    // A Graph that is out of order says nothing of who may.
    world.place.graph.faults().plan(None, "/mailFolders", 9, Fault::answer(500, "{}"));
    let (right, _) = world.sign_in_as(ANNA).await;
    assert_eq!(right.state(), SignInState::Succeeded);
}

#[tokio::test]
async fn where_nobody_can_sign_in_it_is_said_why() {
    let world = World::reached().await;
    create(&world.channel, SMTP, world.place.smtp_connection()).await.unwrap();
    create(&world.channel, OUTLOOK, world.place.outlook_connection()).await.unwrap();
    for connection in [SMTP, OUTLOOK] {
        for kind in [SignInKind::Browser, SignInKind::DeviceCode] {
            assert_eq!(refusal(world.begin(connection, kind).await), "SIGN_IN_UNSUPPORTED");
        }
    }
    let nowhere = world.begin("connections/nowhere", SignInKind::Browser).await;
    assert_eq!(refusal(nowhere), "CONNECTION_NOT_FOUND");
    let unknown = postern_proto::connection::v1::GetSignInRequest { name: format!("{OUTLOOK}/sign-ins/abc") };
    assert_eq!(refusal(world.connections().get_sign_in(unknown).await), "SIGN_IN_NOT_FOUND");
    let unreached = World::start().await;
    unreached.office(ME).await;
    assert_eq!(refusal(unreached.begin(OUTLOOK, SignInKind::Browser).await), "PUBLIC_URL_MISSING");
    unreached.begin(OUTLOOK, SignInKind::DeviceCode).await.unwrap();
}

#[tokio::test]
async fn what_a_deleted_connection_had_begun_is_gone() {
    let world = World::reached().await;
    let made = world.office(ME).await;
    assert!(matches!(made.settings, Some(Settings::Outlook(_))));
    let begun = world.begin(OUTLOOK, SignInKind::Browser).await.unwrap();
    let request =
        postern_proto::connection::v1::DeleteConnectionRequest { name: made.name, ..Default::default() };
    world.connections().delete_connection(request).await.unwrap();
    let page = Browser::default().choose(&begun.authorization_url, ANNA).await;
    assert_eq!(page.status, 404);
    assert!(page.text.contains("This sign-in is gone"), "{}", page.text);
    until("nothing is left", || async {
        let request = postern_proto::connection::v1::GetSignInRequest { name: begun.name.clone() };
        world.connections().get_sign_in(request).await.is_err().then_some(())
    })
    .await;
}
