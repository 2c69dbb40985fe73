//! What comes back to the gateway from a real OAuth server and is not what it gave there: codes that were redeemed
//! elsewhere or came twice, states that are foreign.

use postern_chassis::sign_in::Begun;
use postern_proto::connection::v1::{ConnectionState, SignIn, SignInKind, SignInState};
use reqwest::Url;
use serde_json::{Value, json};

use super::at_real_servers::Mailing;
use super::browser::{Browser, Page};
use super::servers::{CLIENT_ID, CLIENT_SECRET, Make};
use crate::world::{SMTP, until};

const MAKES: [Make; 2] = [Make::OidcProvider, Make::Authlib];

fn value(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap()
}

/// The URL with another value.
fn with(url: &Url, name: &str, value: &str) -> Url {
    let pairs: Vec<_> =
        url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    let mut other = url.clone();
    let replaced = |(key, old): &(String, String)| {
        (key.clone(), if key == name { value.to_owned() } else { old.clone() })
    };
    other.query_pairs_mut().clear().extend_pairs(pairs.iter().map(replaced));
    other
}

impl Mailing {
    async fn begin(&self) -> SignIn {
        self.world.begin(SMTP, SignInKind::Browser).await.unwrap()
    }

    fn callback(&self) -> String {
        format!("{}/sign-in/callback", self.world.http_url())
    }

    /// Signs in at the server by a page of it, and gives where it leads back to, which is not opened.
    async fn led_back(&self, authorization_url: &str) -> Url {
        let mut browser = Browser::stopping_before(self.callback());
        let page = browser.open(authorization_url).await;
        let back = self.server.walk(&mut browser, page, true).await;
        assert!(back.text.is_empty() && back.url.as_str().contains("code="), "{}: {}", back.url, back.text);
        back.url
    }

    /// Redeems a code at the server, as whoever has it and the verifier can.
    async fn redeem(&self, code: &str, verifier: &str) -> Result<Value, Value> {
        let redirect = self.callback();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", code),
            ("redirect_uri", redirect.as_str()),
            ("code_verifier", verifier),
        ];
        if self.server.make == Make::Authlib {
            form.push(("client_secret", CLIENT_SECRET));
        }
        let answer =
            reqwest::Client::new().post(self.server.endpoint("token")).form(&form).send().await.unwrap();
        let good = answer.status().is_success();
        let said: Value = answer.json().await.unwrap();
        if good { Ok(said) } else { Err(said["error"].clone()) }
    }

    /// Opens a page, and again where it asks for that: a busy machine may keep the server from answering in time.
    async fn opened(&self, back: &Url) -> Page {
        until("the sign-in is finished", || async {
            let page = Browser::default().open(back.as_str()).await;
            (!page.text.contains("Not finished yet")).then_some(page)
        })
        .await
    }
}

#[tokio::test]
async fn a_code_that_was_redeemed_elsewhere_first_signs_nobody_in() {
    for make in MAKES {
        let Some(mailing) = Mailing::start(make, json!({})).await else { return };
        // Whoever put a challenge of their own into the link that the user opens can redeem the code, and is first.
        let begun = mailing.begin().await;
        let (own, challenge) = Begun::browser().unwrap();
        let Begun::Browser { verifier } = own else { panic!("not in a browser") };
        let link = with(&begun.authorization_url.parse().unwrap(), "code_challenge", &challenge);
        let back = mailing.led_back(link.as_str()).await;
        mailing.redeem(&value(&back, "code"), &verifier).await.unwrap();
        let page = mailing.opened(&back).await;
        assert!(page.text.contains("The sign-in has expired"), "{make:?}: {}", page.text);
        assert_eq!(mailing.world.stands(&begun).await.failure_reason, "SIGN_IN_EXPIRED");

        // Nor does one that nobody redeemed and that was given for another challenge than the gateway's.
        let begun = mailing.begin().await;
        let link = with(&begun.authorization_url.parse().unwrap(), "code_challenge", &challenge);
        let back = mailing.led_back(link.as_str()).await;
        let page = mailing.opened(&back).await;
        assert!(page.text.contains("The sign-in has expired"), "{make:?}: {}", page.text);
        assert_eq!(mailing.world.state(SMTP).await, ConnectionState::NeedsSignIn);

        // And what the gateway redeemed is worth nothing elsewhere.
        let begun = mailing.begin().await;
        let back = mailing.led_back(&begun.authorization_url).await;
        let page = mailing.opened(&back).await;
        assert!(page.text.contains("You are signed in"), "{make:?}: {}", page.text);
        let refused = mailing.redeem(&value(&back, "code"), &verifier).await.unwrap_err();
        assert_eq!(refused, "invalid_grant", "{make:?}");
    }
}

#[tokio::test]
async fn a_code_that_comes_back_twice_at_once_is_redeemed_once() {
    for make in MAKES {
        let Some(mailing) = Mailing::start(make, json!({})).await else { return };
        let begun = mailing.begin().await;
        let back = mailing.led_back(&begun.authorization_url).await;
        let pages = futures_util::future::join_all((0..4).map(|_| mailing.opened(&back))).await;
        for page in pages {
            assert!(page.text.contains("You are signed in"), "{make:?}: {}", page.text);
        }
        assert_eq!(mailing.world.stands(&begun).await.state(), SignInState::Succeeded);
        assert_eq!(mailing.server.given().await.len(), 1, "{make:?}");
        // A code that came back twice would have revoked what it gave, at the one of the two.
        assert_eq!(mailing.send().await, "");
    }
}

#[tokio::test]
async fn a_code_under_a_foreign_state_signs_nobody_in() {
    for make in MAKES {
        let Some(mailing) = Mailing::start(make, json!({})).await else { return };
        let (first, second) = (mailing.begin().await, mailing.begin().await);
        let back = mailing.led_back(&first.authorization_url).await;
        let own = value(&back, "state");
        // A state of nobody's, and that of a gateway with other keys: the code is not even shown to the server.
        let other = crate::world::World::reached().await;
        other.office(super::ME).await;
        let foreign = other.begin(crate::world::OUTLOOK, SignInKind::Browser).await.unwrap();
        let foreign = value(&foreign.authorization_url.parse().unwrap(), "state");
        for state in ["forged", foreign.as_str()] {
            let page = mailing.opened(&with(&back, "state", state)).await;
            assert_eq!(page.status, 400, "{make:?}");
            assert!(page.text.contains("This link cannot be used"), "{make:?}: {}", page.text);
        }
        assert_eq!(mailing.server.given().await.len(), 0, "{make:?}");
        assert_eq!(mailing.world.stands(&first).await.state(), SignInState::Pending);
        // That of another sign-in here: the code does not go with its verifier.
        let state = value(&second.authorization_url.parse().unwrap(), "state");
        assert_ne!(state, own);
        let page = mailing.opened(&with(&back, "state", &state)).await;
        assert!(page.text.contains("The sign-in has expired"), "{make:?}: {}", page.text);
        assert_eq!(mailing.world.stands(&second).await.failure_reason, "SIGN_IN_EXPIRED");
        assert_eq!(mailing.server.given().await.len(), 0, "{make:?}");
        assert_eq!(mailing.world.state(SMTP).await, ConnectionState::NeedsSignIn);
    }
}
