//! The commands of an envelope, MAIL and RCPT, with the parameters that the server offers and the mail needs (SIZE,
//! 8BITMIME, SMTPUTF8, DSN).

use std::fmt::Write as _;

use super::extensions::Extensions;
use crate::message::Mail;

/// MAIL.
pub(super) fn mail_command(mail: &Mail, extensions: &Extensions) -> String {
    let mut command = format!("MAIL FROM:<{}>", mail.sender());
    if extensions.size {
        let _ = write!(command, " SIZE={}", mail.size());
    }
    if (mail.is_eight_bit() || mail.needs_utf8()) && extensions.eight_bit {
        command.push_str(" BODY=8BITMIME");
    }
    if mail.needs_utf8() {
        command.push_str(" SMTPUTF8");
    }
    // A server that does not offer DSN is not asked.
    let reports = mail.reports();
    if extensions.dsn && reports.are_asked() {
        match reports.full {
            Some(true) => command.push_str(" RET=FULL"),
            Some(false) => command.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(id) = reports.envelope_id.as_ref().filter(|id| !id.is_empty()) {
            let _ = write!(command, " ENVID={}", xtext(id));
        }
    }
    command.push_str("\r\n");
    command
}

/// RCPT.
pub(super) fn rcpt_command(to: &str, mail: &Mail, extensions: &Extensions) -> String {
    let mut command = format!("RCPT TO:<{to}>");
    let reports = mail.reports();
    if extensions.dsn && reports.are_asked() {
        let notify = reports.notify;
        let occasions = [
            ("NEVER", notify.never),
            ("SUCCESS", notify.success),
            ("FAILURE", notify.failure),
            ("DELAY", notify.delay),
        ];
        let wanted: Vec<_> = occasions.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        if !wanted.is_empty() {
            let _ = write!(command, " NOTIFY={}", wanted.join(","));
        }
        let _ = write!(command, " ORCPT={}", original(to));
    }
    command.push_str("\r\n");
    command
}

/// The recipient as ORCPT names it: RFC 3461, section 4.2; beyond ASCII, RFC 6533, section 3, in its seven-bit form.
fn original(address: &str) -> String {
    if address.is_ascii() {
        return format!("rfc822;{}", xtext(address));
    }
    let mut text = "utf-8;".to_owned();
    for c in address.chars() {
        match c {
            '+' | '=' | '\\' => {
                let _ = write!(text, "\\x{{{:02X}}}", u32::from(c));
            }
            '!'..='~' => text.push(c),
            _ => {
                let _ = write!(text, "\\x{{{:02X}}}", u32::from(c));
            }
        }
    }
    text
}

/// Text as parameters of DSN hold it (RFC 3461, section 4).
fn xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' => {
                let _ = write!(encoded, "+{byte:02X}");
            }
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "+{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_parameter_is_encoded() {
        assert_eq!(xtext("a+b=c d\r\n"), "a+2Bb+3Dc+20d+0D+0A");
        assert_eq!(original("bo+tag@example.org"), "rfc822;bo+2Btag@example.org");
        assert_eq!(original("jürgen+x@example.org"), "utf-8;j\\x{FC}rgen\\x{2B}x@example.org");
    }
}
