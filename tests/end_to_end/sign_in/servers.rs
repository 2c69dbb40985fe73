//! Real OAuth servers, each a process that ends with its test: `oidc-provider` on Node, and Authlib on Flask.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::browser::{Browser, Page};
use crate::outside;

/// The client that a server knows.
pub(super) const CLIENT_ID: &str = "22222222-2222-4222-8222-222222222222";
/// Its secret, at the one that wants one.
pub(super) const CLIENT_SECRET: &str = "for a test";
/// Where the paths of the one begin that stands for Microsoft's platform.
pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// `oidc-provider`: a public client; refresh tokens rotate, and one that is used twice revokes all.
    OidcProvider,
    /// Authlib: a client with a secret; refresh tokens rotate.
    Authlib,
}

/// A running server.
pub(super) struct Server {
    pub(super) make: Make,
    pub(super) url: String,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts one that leads back to a gateway. `None`: real servers are not wanted.
    pub(super) fn start(make: Make, gateway: &str, more: Value) -> Option<Self> {
        let wanted = outside::oauth_servers()?;
        let mut settings = json!({
            "redirect": format!("{gateway}/sign-in/callback"),
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "scopes": ["mail", "offline_access", "http://graph.example/.default"],
            "base": format!("/{TENANT}/oauth2/v2.0"),
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command = match make {
            Make::OidcProvider => {
                let mut node = Command::new("node");
                node.arg(peers.join("oidc_server.mjs")).arg(&wanted.oidc_provider);
                node
            }
            Make::Authlib => {
                let mut python = Command::new(&wanted.python);
                python.arg(peers.join("authlib_server.py"));
                python
            }
        };
        let mut process = command
            .arg(settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Some say other things before.
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| serde_json::from_str::<Value>(&line.unwrap()).ok());
        let url = ready.expect("the server says where it listens")["url"].as_str().unwrap().to_owned();
        // Nobody may be made to wait by a pipe that is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { make, url, process })
    }

    /// The URL of an endpoint.
    pub(super) fn endpoint(&self, name: &str) -> String {
        match self.make {
            Make::OidcProvider => format!("{}/{TENANT}/oauth2/v2.0/{name}", self.url),
            Make::Authlib => format!("{}/{name}", self.url),
        }
    }

    /// The access tokens that it gave.
    pub(super) async fn given(&self) -> Vec<String> {
        let answer = reqwest::get(format!("{}/control/tokens", self.url)).await.unwrap();
        answer.json().await.unwrap()
    }

    /// Revokes all that users have consented to.
    pub(super) async fn revoke(&self) {
        reqwest::get(format!("{}/control/revoke", self.url)).await.unwrap();
    }

    /// Signs in on its pages and consents, or declines, until it leads back or says that it is done.
    pub(super) async fn walk(&self, browser: &mut Browser, page: Page, consents: bool) -> Page {
        self.walk_as("ann", browser, page, consents).await
    }

    /// The same as somebody else.
    pub(super) async fn walk_as(
        &self,
        login: &str,
        browser: &mut Browser,
        page: Page,
        consents: bool,
    ) -> Page {
        match self.make {
            Make::Authlib => {
                let decision = if consents { "allow" } else { "decline" };
                browser.submit(&page, &[("login", login), ("decision", decision)]).await
            }
            Make::OidcProvider if consents => {
                let page = browser.submit(&page, &[("login", login), ("password", "any")]).await;
                assert!(page.text.contains("consent"), "{}", page.text);
                browser.submit(&page, &[]).await
            }
            Make::OidcProvider => {
                let abort = format!("{}/abort", page.url);
                browser.open(&abort).await
            }
        }
    }

    /// Types a device code on its page, and consents or declines.
    pub(super) async fn type_code(&self, page: &str, user_code: &str, consents: bool) {
        let mut browser = Browser::default();
        let page = browser.open(page).await;
        match self.make {
            Make::Authlib => {
                let decision = if consents { "allow" } else { "decline" };
                let fields = [("login", "ann"), ("user_code", user_code), ("decision", decision)];
                browser.submit(&page, &fields).await;
            }
            Make::OidcProvider => {
                let page = browser.submit(&page, &[("user_code", user_code)]).await;
                if !consents {
                    browser.submit(&page, &[("abort", "yes")]).await;
                    return;
                }
                let page = browser.submit(&page, &[("confirm", "yes")]).await;
                let page = self.walk(&mut browser, page, true).await;
                assert!(page.text.contains("Sign-in Success"), "{}", page.text);
            }
        }
    }
}
