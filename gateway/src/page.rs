//! Pages of lists: `page_size` and `page_token`. A token says after which key to go on and for which list it was given;
//! it carries no authority.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_chassis::digest;

use crate::error::Error;
use crate::store::{Entry, Store};

/// How many entries a page has where the caller does not say.
const DEFAULT_SIZE: usize = 50;
/// The most entries of a page: more is taken as this.
const MAX_SIZE: usize = 1_000;
/// How much of the digest of the other arguments a token carries: it finds mistakes, it keeps nobody out.
const DIGEST_BYTES: usize = 8;
/// The longest token read.
const MAX_TOKEN: usize = 1_024;

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many entries at most, 1 to 1,000.
    pub size: usize,
    /// The key after which to begin. Empty: at the start.
    pub after: String,
    digest: [u8; DIGEST_BYTES],
}

impl Page {
    /// Reads a request's `page_size` and `page_token`. `arguments` are the method's name and all of its other arguments:
    /// a token is good for the same ones only.
    ///
    /// # Errors
    /// FIELD_INVALID `page_size` or `page_token`.
    pub fn read(page_size: i32, page_token: &str, arguments: &[&str]) -> Result<Self, Error> {
        let size = usize::try_from(page_size)
            .map_err(|_| Error::field("page_size", "is negative: expected 0 to 1000"))?;
        let size = if size == 0 { DEFAULT_SIZE } else { size.min(MAX_SIZE) };
        let digest = short_digest(arguments);
        let foreign = || {
            let problem = "is not the next_page_token of this list: expected it unchanged, with the other \
                           arguments unchanged";
            Error::field("page_token", problem)
        };
        let after = if page_token.is_empty() {
            String::new()
        } else {
            let token = Some(page_token).filter(|token| token.len() <= MAX_TOKEN).ok_or_else(foreign)?;
            let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| foreign())?;
            let key = token.strip_prefix(&digest[..]).ok_or_else(foreign)?;
            String::from_utf8(key.to_vec()).map_err(|_| foreign())?
        };
        Ok(Self { size, after, digest })
    }

    /// The token to go on after a key.
    #[must_use]
    pub fn token(&self, last_key: &str) -> String {
        URL_SAFE_NO_PAD.encode([&self.digest[..], last_key.as_bytes()].concat())
    }

    /// This page of the stored values whose keys begin with `prefix`, and the token of the next one; empty where this is
    /// the last.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn list(&self, store: &dyn Store, prefix: &str) -> Result<(Vec<Entry>, String), Error> {
        let mut entries = store.list(prefix, &self.after, self.size + 1).await?;
        if entries.len() <= self.size {
            return Ok((entries, String::new()));
        }
        entries.truncate(self.size);
        let token = entries.last().map(|entry| self.token(&entry.key)).unwrap_or_default();
        Ok((entries, token))
    }
}

fn short_digest(arguments: &[&str]) -> [u8; DIGEST_BYTES] {
    let mut short = [0; DIGEST_BYTES];
    short.copy_from_slice(&digest::of_parts(arguments)[..DIGEST_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_where_the_page_before_ended() {
        let first = Page::read(0, "", &["ListThings", "a"]).unwrap();
        assert_eq!((first.size, first.after.as_str()), (50, ""));
        let token = first.token("things/abc");
        let second = Page::read(7, &token, &["ListThings", "a"]).unwrap();
        assert_eq!((second.size, second.after.as_str()), (7, "things/abc"));
    }

    #[test]
    fn sizes_are_bounded_and_negative_ones_refused() {
        assert_eq!(Page::read(5_000, "", &[]).unwrap().size, 1_000);
        assert!(Page::read(-1, "", &[]).is_err());
    }

    #[test]
    fn a_token_of_another_list_or_none_at_all_is_refused() {
        let token = Page::read(0, "", &["ListThings", "a"]).unwrap().token("things/abc");
        for (token, arguments) in [
            (token.as_str(), ["ListThings", "b"]),
            (token.as_str(), ["ListThingsa", ""]),
            ("!!", ["ListThings", "a"]),
            ("AAAA", ["ListThings", "a"]),
        ] {
            let Err(Error::Fields(fields)) = Page::read(0, token, &arguments) else { panic!("{token}") };
            assert_eq!(fields[0].0, "page_token");
        }
    }
}
