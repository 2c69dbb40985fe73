//! What the contract says of the shape of a connection: its kinds are the names of the fields of `settings`, each with
//! its credentials beside it. Which kinds there are is read from the descriptors.

use std::sync::LazyLock;

use postern_proto::connection::v1::Connection;

use crate::contract;
use crate::error::Error;

/// The full name of the message.
pub(super) const CONNECTION: &str = "postern.connection.v1.Connection";
/// What the name of a kind's credentials ends with.
const CREDENTIALS: &str = "_credentials";
/// The longest name for people, in characters.
const MAX_DISPLAY_NAME: usize = 128;

/// The top-level fields that a caller may set.
static SETTABLE: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut settable = vec!["display_name".to_owned()];
    settable.extend(members("settings"));
    settable.extend(members("credentials"));
    settable
});

/// The fields of one of the oneofs.
fn members(oneof: &str) -> Vec<String> {
    contract::members(CONNECTION, oneof)
}

/// The member of a oneof that is set.
fn member(connection: &Connection, oneof: &str) -> Option<String> {
    contract::set_in_oneof(CONNECTION, connection, oneof)
}

/// The top-level fields that a caller may set.
pub(super) fn settable() -> Vec<&'static str> {
    SETTABLE.iter().map(String::as_str).collect()
}

/// The name of the field that holds a kind's credentials.
pub(super) fn credentials_of(kind: &str) -> String {
    format!("{kind}{CREDENTIALS}")
}

/// Refuses the paths of a mask that reach into credentials.
pub(super) fn check_paths(paths: &[String]) -> Result<(), Error> {
    for path in paths {
        if let Some((first, _)) = path.split_once('.')
            && first.ends_with(CREDENTIALS)
        {
            let problem = format!("{path:?}: credentials are replaced whole, by the path {first}");
            return Err(Error::field("update_mask", problem));
        }
    }
    Ok(())
}

/// Checks what the gateway itself can judge, and gives the kind.
pub(super) fn check(connection: &Connection) -> Result<String, Error> {
    if connection.display_name.chars().count() > MAX_DISPLAY_NAME {
        let problem = format!("is longer than {MAX_DISPLAY_NAME} characters");
        return Err(Error::field("connection.display_name", problem));
    }
    let kind = member(connection, "settings").ok_or_else(|| {
        let kinds = members("settings").join(", ");
        Error::field("connection.settings", format!("is absent: expected one of {kinds}"))
    })?;
    let expected = credentials_of(&kind);
    match member(connection, "credentials") {
        Some(field) if field != expected => {
            let problem = format!("is not for the kind {kind}: expected {expected}");
            Err(Error::field(format!("connection.{field}"), problem))
        }
        _ => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::connection::v1::connection::{Credentials, Settings};

    #[test]
    fn the_kind_is_the_name_of_the_settings_field_and_credentials_go_with_it() {
        let mut connection =
            Connection { settings: Some(Settings::Smtp(Default::default())), ..Default::default() };
        assert_eq!(check(&connection).unwrap(), "smtp");
        connection.credentials = Some(Credentials::SmtpCredentials(Default::default()));
        assert_eq!(check(&connection).unwrap(), "smtp");
        connection.credentials = Some(Credentials::OutlookCredentials(Default::default()));
        let Err(Error::Fields(fields)) = check(&connection) else { panic!("taken") };
        assert_eq!(fields[0].0, "connection.outlook_credentials");
        let Err(Error::Fields(fields)) = check(&Connection::default()) else { panic!("taken") };
        assert_eq!(fields[0].0, "connection.settings");
    }

    #[test]
    fn every_kind_has_credentials_beside_it() {
        let settings: Vec<_> = members("settings").iter().map(|kind| credentials_of(kind)).collect();
        assert!(!settings.is_empty());
        assert_eq!(settings, members("credentials"));
    }
}
