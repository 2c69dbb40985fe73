//! AUTH from the server's side: PLAIN, LOGIN, and XOAUTH2 with the tokens that the server was told to take.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::control::Stage;
use super::conversation::Conversation;

/// What a refused token is answered with before 535, as large providers do.
const CHALLENGE: &str = r#"{"status":"401","schemes":"bearer","scope":"https://mail.example.org/"}"#;

impl Conversation<'_> {
    pub(super) async fn auth(&mut self, rest: &str) -> io::Result<(Option<Stage>, String)> {
        let (mechanism, first) = rest.split_once(' ').unwrap_or((rest, ""));
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.offers_auth() || !self.offers(&mechanism) || self.signed_in {
            return Ok((Some(Stage::Auth), "503 5.5.1 AUTH is not possible now".to_owned()));
        }
        let decoded =
            |text: &str| BASE64_STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let given = match mechanism.as_str() {
            "PLAIN" => {
                let proof = if first.is_empty() { self.ask("").await? } else { first.to_owned() };
                let proof = decoded(&proof).unwrap_or_default();
                let mut parts = proof.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            "LOGIN" => {
                let user = self.ask("VXNlcm5hbWU6").await?;
                let password = self.ask("UGFzc3dvcmQ6").await?;
                (decoded(&user).unwrap_or_default(), decoded(&password).unwrap_or_default())
            }
            "XOAUTH2" => return Ok((Some(Stage::Auth), self.by_token(first).await?)),
            _ => return Ok((Some(Stage::Auth), "504 5.5.4 unknown mechanism".to_owned())),
        };
        self.signed_in = self.shared.users.contains(&given);
        let reply =
            if self.signed_in { "235 2.7.0 welcome" } else { "535 5.7.8 wrong user name or password" };
        Ok((Some(Stage::Auth), reply.to_owned()))
    }

    async fn by_token(&mut self, first: &str) -> io::Result<String> {
        let proof = BASE64_STANDARD.decode(first).unwrap_or_default();
        let proof = String::from_utf8(proof).unwrap_or_default();
        let token = proof
            .strip_prefix("user=")
            .and_then(|rest| rest.split_once("\u{1}auth=Bearer "))
            .and_then(|(_, token)| token.strip_suffix("\u{1}\u{1}"));
        self.signed_in = token.is_some_and(|token| self.shared.control.takes_token(token));
        if self.signed_in {
            self.token = token.map(str::to_owned);
            return Ok("235 2.7.0 welcome".to_owned());
        }
        let answered = self.ask(&BASE64_STANDARD.encode(CHALLENGE)).await?;
        let reply =
            if answered.is_empty() { "535 5.7.8 token refused" } else { "501 5.5.2 expected nothing" };
        Ok(reply.to_owned())
    }

    async fn ask(&mut self, prompt: &str) -> io::Result<String> {
        self.stream.write(&format!("334 {prompt}\r\n")).await?;
        self.stream.line(&self.shared.control).await
    }
}
