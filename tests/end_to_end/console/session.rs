//! Who is let in, for how long, and what is sent along.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_gateway::seal::KeyRing;
use postern_sandbox::smtp::Authority;
use reqwest::Client;
use reqwest::redirect::Policy;

use super::stage::{Stage, cookie};
use crate::world::until;

/// The pages of the console.
const PAGES: [&str; 9] = [
    "",
    "/connections",
    "/connections/new",
    "/connections/new?kind=outlook",
    "/triggers",
    "/events",
    "/approvals",
    "/outbox",
    "/try-out",
];

#[tokio::test]
async fn the_console_is_shut_where_only_client_certificates_tell_who_may_call() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let (certificate, key) = authority.issue(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    let (token, line) = postern_gateway::auth::new_token("somebody").unwrap();
    drop(token);
    for (name, text) in
        [("cert", certificate.as_str()), ("key", &key), ("ca", authority.certificate()), ("tokens", &line)]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let tls = ["--tls-cert-file", "FOLDER/cert", "--tls-key-file", "FOLDER/key"];
    let only_certificates = [&tls[..], &["--tls-client-ca-file", "FOLDER/ca"]].concat();
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(authority.certificate().as_bytes()).unwrap()])
        .build()
        .unwrap();
    let stage = Stage::within(folder, &only_certificates).await;
    for path in ["/console", "/console/", "/console/connections", "/console/login", "/"] {
        let answer = client.get(format!("https://{}{path}", stage.http)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    // Behind tokens as well it is served, to who has one.
    let copy = tempfile::tempdir().unwrap();
    for name in ["cert", "key", "ca", "tokens"] {
        std::fs::copy(stage.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let both = [&only_certificates[..], &["--tokens-file", "FOLDER/tokens"]].concat();
    let stage = Stage::within(copy, &both).await;
    let answer = client.get(format!("https://{}/console", stage.http)).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let answer = client.get(format!("https://{}/console/login", stage.http)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn without_tokens_it_is_served_to_this_machine_alone() {
    let stage = Stage::with(&[]).await;
    assert_eq!(stage.get("/console", "").await.status(), 200);
    let elsewhere = stage.client.get(stage.url("/console")).header("host", "evil.example");
    assert_eq!(elsewhere.send().await.unwrap().status(), 403);
    // Whoever is led here by a public URL is not this machine.
    let stage = Stage::with(&["--public-url", "https://postern.example.org"]).await;
    assert_eq!(stage.get("/console", "").await.status(), 404);
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let (stage, token) = Stage::behind_a_token(&[]).await;
    let refused = stage.sign_in("", "postern_wrong", "").await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("set-cookie")), (403, false));
    let session = cookie(&stage.sign_in("", &token, "").await);
    let page = stage.page("/console/events", &session).await;
    let mut stream = stage.stream(&page, &session, None).await;
    stream.next("alive").await.unwrap();

    std::fs::write(stage.folder.path().join("tokens"), "").unwrap();
    until("the session has ended", || async {
        (stage.get("/console", &session).await.status() == 303).then_some(())
    })
    .await;
    for page in PAGES {
        let answer = stage.get(&format!("/console{page}"), &session).await;
        let to = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(answer.status() == 303 && to.starts_with("/console/login?next=%2Fconsole"), "{page}: {to}");
    }
    // What would have been shown on a stream that was open is not.
    stage.happen("connections/shop", ["after".to_owned()]).await;
    assert_eq!(stream.next("signed-out").await.unwrap().text, "signed out");
    assert!(stream.next("event").await.is_none(), "the stream has ended");
}

#[tokio::test]
async fn a_session_lasts_for_its_time_and_no_longer() {
    let (stage, token) = Stage::behind_a_token(&[]).await;
    let answer = stage.sign_in("", &token, "").await;
    assert!(answer.headers()["set-cookie"].to_str().unwrap().contains("; Max-Age=43200;"));
    // As the gateway would have sealed it a while ago.
    let keys = KeyRing::read(&stage.folder.path().join("data/keys")).unwrap();
    let until = |seconds: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expires = now.checked_add_signed(seconds).unwrap().to_be_bytes();
        let sealed = keys.seal("console#session", &[&expires[..], token.as_bytes()].concat()).unwrap();
        format!("postern_session={}", URL_SAFE_NO_PAD.encode(sealed))
    };
    assert_eq!(stage.get("/console", &until(60)).await.status(), 200);
    assert_eq!(stage.get("/console", &until(-1)).await.status(), 303);
    assert_eq!(stage.get("/console", "postern_session=AAAA").await.status(), 303);
}

#[tokio::test]
async fn the_cookie_is_for_the_console_alone_and_for_https_where_that_is_spoken() {
    for (flags, secure) in [(&[][..], false), (&["--public-url", "https://example.org/postern"], true)] {
        let (stage, token) = Stage::behind_a_token(flags).await;
        let root = if secure { "/postern" } else { "" };
        let answer = stage.sign_in(root, &token, "").await;
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax"), "{cookie}");
        assert!(cookie.contains(&format!("; Path={root}/console;")), "{cookie}");
        assert_eq!(cookie.contains("; Secure"), secure, "{cookie}");
        assert!(!cookie.contains(&token), "the token is sealed");
        let signed_out =
            stage.client.post(stage.url(&format!("{root}/console/logout"))).send().await.unwrap();
        assert_eq!(signed_out.status(), 303, "a form of nobody's signs nobody out");
    }
}

#[tokio::test]
async fn signing_in_leads_nowhere_but_to_the_console() {
    let (stage, token) = Stage::behind_a_token(&[]).await;
    for (next, to) in [
        ("/console/events?type=email", "/console/events?type=email"),
        ("/console", "/console"),
        ("", "/console"),
        ("/", "/console"),
        ("//evil.example/console", "/console"),
        ("https://evil.example/console/", "/console"),
        ("/consoles", "/console"),
        ("/console@evil.example", "/console"),
        ("\\\\evil.example", "/console"),
    ] {
        let answer = stage.sign_in("", &token, next).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (303, to),
            "{next}"
        );
    }
}

#[tokio::test]
async fn every_page_may_load_and_lead_nowhere_but_here() {
    let (stage, token) = Stage::behind_a_token(&[]).await;
    let session = cookie(&stage.sign_in("", &token, "").await);
    let pages = PAGES.map(|page| format!("/console{page}"));
    let others = ["/console/login", "/assets/console.css", "/console/connections/none"].map(str::to_owned);
    for path in pages.into_iter().chain(others) {
        let answer = stage.get(&path, &session).await;
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        let rules: Vec<_> = policy.split(';').map(str::trim).collect();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(rules.contains(&rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(
            (header("x-content-type-options"), header("referrer-policy")),
            ("nosniff".into(), "no-referrer".into())
        );
        if !path.starts_with("/assets") {
            assert_eq!(header("cache-control"), "no-store", "{path}");
            let text = answer.text().await.unwrap();
            assert!(!text.contains("style=\"") && !text.contains("onclick"), "{path} keeps to its policy");
        }
    }
}

#[tokio::test]
async fn a_form_of_another_session_does_nothing_and_is_told_so() {
    let (stage, token) = Stage::behind_a_token(&[]).await;
    let session = cookie(&stage.sign_in("", &token, "").await);
    let other = cookie(&stage.sign_in("", &token, "").await);
    let page = stage.page("/console/connections/new", &other).await;
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    for csrf in [csrf, "", "guessed"] {
        let form =
            [("csrf", csrf), ("kind", "smtp"), ("connection_id", "forged"), ("server", "mail.example.org")];
        let request = stage.client.post(stage.url("/console/connections")).header("cookie", &session);
        let answer = request.form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(answer.text().await.unwrap().contains("This form is out of date"));
    }
    assert!(!stage.page("/console/connections", &session).await.contains("forged"));
}

#[tokio::test]
async fn short_addresses_lead_to_the_console() {
    let stage = Stage::with(&[]).await;
    for path in ["/", "/console/"] {
        let answer = stage.get(path, "").await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (303, "/console")
        );
    }
    let (stage, _) = Stage::behind_a_token(&["--public-url", "https://postern.example.org/mail"]).await;
    for path in ["/mail", "/mail/", "/mail/console/"] {
        let answer = stage.get(path, "").await;
        assert_eq!(answer.headers()["location"], "/mail/console", "{path}");
    }
}
