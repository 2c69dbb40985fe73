//! Who signed in, as an ID token tells it (OpenID Connect Core, section 2). It came straight from the token endpoint, over
//! TLS, and is used to tell accounts apart and to name them to people: its signature and its times are not checked
//! (section 3.1.3.7), so that clocks need not agree.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};
use serde_json::Value;
use tonic::Code;

use crate::fault::Fault;

/// The longest account name that is told.
const MAX_ACCOUNT: usize = 320;

/// Who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The account as the provider names it to people. Empty: it is not told.
    pub account: String,
    /// What tells the account from all others, whatever it is called: a digest.
    pub subject: String,
}

impl Who {
    /// Reads an ID token that was given to a client. `None`: it is none, or another's.
    #[must_use]
    pub fn read(id_token: &str, client_id: &str) -> Option<Self> {
        let mut parts = id_token.split('.');
        let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let is_ours = match claims.get("aud")? {
            Value::String(one) => one == client_id,
            Value::Array(several) => several.iter().any(|one| one == client_id),
            _ => false,
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        // Where there is a directory's own id of the user (`oid`, with the directory's `tid`) it stays the same for all
        // clients; `sub` may be another one for each.
        let own = text("tid").zip(text("oid"));
        let (place, user) = own.or_else(|| text("iss").zip(text("sub")))?;
        let named = ["preferred_username", "email", "upn", "name"].into_iter().find_map(text);
        let account = named.filter(|name| name.len() <= MAX_ACCOUNT && !name.chars().any(char::is_control));
        let mut digest = Context::new(&SHA256);
        for part in [place, user] {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let subject = URL_SAFE_NO_PAD.encode(digest.finish());
        is_ours.then(|| Self { account: account.unwrap_or_default().to_owned(), subject })
    }
}

/// Refuses an account that a connection is not for, which stays whose it was: `before` is what [`Who::subject`] was then.
/// Empty: that is not known, and any account is taken. One that is not told is another.
///
/// # Errors
/// WRONG_ACCOUNT.
pub fn check_account(before: &str, who: Option<&Who>) -> Result<(), Fault> {
    if before.is_empty() || who.is_some_and(|who| who.subject == before) {
        return Ok(());
    }
    let message = "the connection is another account's: sign in with that one, or update the connection's credentials \
                   first, which lets any account sign in";
    Err(Fault::new(Code::FailedPrecondition, "WRONG_ACCOUNT", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Option<Who> {
        Who::read(&format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims)), "client")
    }

    #[test]
    fn an_account_is_known_by_its_directorys_id_before_its_own() {
        let by_directory =
            r#"{"aud":"client","tid":"t","oid":"o","iss":"i","sub":"s1","preferred_username":"ann@x"}"#;
        let ann = read(by_directory).unwrap();
        assert_eq!(ann.account, "ann@x");
        let renamed =
            read(r#"{"aud":["client"],"tid":"t","oid":"o","iss":"i","sub":"s2","email":"anna@x"}"#).unwrap();
        assert_eq!(renamed.subject, ann.subject);
        assert_ne!(read(r#"{"aud":"client","iss":"t","sub":"p"}"#).unwrap().subject, ann.subject);
    }

    #[test]
    fn what_is_of_another_client_or_no_token_at_all_tells_nothing() {
        assert_eq!(read(r#"{"aud":"other","iss":"i","sub":"s"}"#), None);
        assert_eq!(read(r#"{"aud":"client","iss":"i"}"#), None);
        assert_eq!(Who::read("e30.e30", "client"), None);
        assert_eq!(read(r#"{"aud":"client","iss":"i","sub":"s","email":"a\u0007"}"#).unwrap().account, "");
    }

    #[test]
    fn a_connection_is_whose_it_was_as_far_as_that_is_known() {
        let who = |subject: &str| Some(Who { account: "ann".into(), subject: subject.into() });
        assert!(check_account("", None).is_ok() && check_account("", who("a").as_ref()).is_ok());
        assert!(check_account("a", who("a").as_ref()).is_ok());
        for another in [None, who("b")] {
            assert_eq!(check_account("a", another.as_ref()).unwrap_err().reason(), "WRONG_ACCOUNT");
        }
    }
}
