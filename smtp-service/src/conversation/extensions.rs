//! What a server says it can do, in its reply to EHLO (RFC 5321, section 4.1.1.1).

use crate::reply::Reply;

/// A server's extensions, as far as the connector uses them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// STARTTLS (RFC 3207).
    pub(crate) starttls: bool,
    /// Commands may be sent ahead of replies (RFC 2920).
    pub(crate) pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub(crate) eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub(crate) utf8: bool,
    /// SIZE (RFC 1870): whether the message's size is told in MAIL.
    pub(crate) size: bool,
    /// The largest message taken, in bytes, where one is said.
    pub(crate) max_size: Option<u64>,
    /// DSN (RFC 3461).
    pub(crate) dsn: bool,
    /// AUTH PLAIN.
    pub(crate) auth_plain: bool,
    /// AUTH LOGIN.
    pub(crate) auth_login: bool,
    /// AUTH XOAUTH2.
    pub(crate) auth_xoauth2: bool,
}

impl Extensions {
    /// Reads the lines after the first.
    pub(crate) fn of(ehlo: &Reply) -> Self {
        let mut found = Self::default();
        for line in ehlo.lines.iter().skip(1) {
            // Some servers still write AUTH=PLAIN beside AUTH PLAIN, for clients of the nineties.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "STARTTLS" => found.starttls = true,
                "PIPELINING" => found.pipelining = true,
                "8BITMIME" => found.eight_bit = true,
                "SMTPUTF8" => found.utf8 = true,
                "DSN" => found.dsn = true,
                "SIZE" => {
                    found.size = true;
                    // 0 says that there is no fixed limit.
                    found.max_size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
                }
                "AUTH" => {
                    for mechanism in words {
                        found.auth_plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                        found.auth_login |= mechanism.eq_ignore_ascii_case("LOGIN");
                        found.auth_xoauth2 |= mechanism.eq_ignore_ascii_case("XOAUTH2");
                    }
                }
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Extensions {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Extensions::of(&Reply { code: 250, enhanced: None, lines })
    }

    #[test]
    fn extensions_are_read_whatever_their_case() {
        let found = read(&[
            "starttls.example",
            "PIPELINING",
            "size 1000",
            "StartTLS",
            "AUTH LOGIN plain xoauth2",
            "dsn",
            "8BITMIME",
        ]);
        let expected = Extensions {
            starttls: true,
            pipelining: true,
            eight_bit: true,
            utf8: false,
            dsn: true,
            size: true,
            max_size: Some(1000),
            auth_plain: true,
            auth_login: true,
            auth_xoauth2: true,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_servers_name_is_no_extension_and_a_size_of_zero_is_no_limit() {
        let found = read(&["STARTTLS", "SIZE 0", "AUTH=LOGIN"]);
        assert!(!found.starttls && found.size && found.auth_login);
        assert_eq!(found.max_size, None);
    }
}
