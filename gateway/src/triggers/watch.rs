//! A watch: the triggers of one connection that watch the same. Which they are follows from the key that their connector
//! gives; what the key says is the connector's to know.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use postern_chassis::digest;

use crate::names;

/// How much of a key's digest names a watch: no number of watches will bring two to a clash.
const ID_BYTES: usize = 16;

/// The name of a watch: `{connection}/{watch}`, as keys of the store and paths of URLs hold it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchName(Arc<str>);

impl WatchName {
    /// The watch of a connection (its name, or that of one of its triggers) with a key.
    #[must_use]
    pub fn new(connection: &str, watch_key: &str) -> Self {
        let id = connection.strip_prefix("connections/").unwrap_or(connection);
        let id = id.split('/').next().unwrap_or(id);
        let watch = digest::hex(&digest::of(watch_key.as_bytes())[..ID_BYTES]);
        Self(format!("{id}/{watch}").into())
    }

    /// Reads a name, such as one in a URL. `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (connection, watch) = text.split_once('/')?;
        let is_hex = watch.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (names::is_id(connection) && watch.len() == 2 * ID_BYTES && is_hex).then(|| Self(text.into()))
    }

    /// The name as text: what its lease goes by.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its connection.
    #[must_use]
    pub fn connection(&self) -> String {
        format!("connections/{}", self.connection_id())
    }

    /// The same without what all connections' names begin with.
    pub(super) fn connection_id(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl Borrow<str> for WatchName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_named_by_its_connection_and_its_key() {
        let name = WatchName::new("connections/office", "mail:inbox");
        assert_eq!(name, WatchName::new("connections/office/triggers/new-mail", "mail:inbox"));
        assert_ne!(name, WatchName::new("connections/office", "mail:other"));
        assert_ne!(name, WatchName::new("connections/other", "mail:inbox"));
        assert_eq!(WatchName::parse(&name.to_string()), Some(name.clone()));
        assert_eq!(name.connection(), "connections/office");
        for wrong in ["", "office", "office/abc", "Office/0123456789abcdef0123456789abcdef", "office/../../x"]
        {
            assert_eq!(WatchName::parse(wrong), None, "{wrong}");
        }
    }
}
