//! The steps of a conversation with an SMTP server, named as callers see them in `smtp.stage`.

/// Where in the conversation something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Getting an access token for AUTH, from the provider's token endpoint.
    Token,
    /// Reaching the server; with implicit TLS its handshake too.
    Connect,
    /// The server's first words.
    Greeting,
    /// EHLO.
    Ehlo,
    /// STARTTLS and the handshake after it.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA.
    Data,
    /// The message and its final dot.
    Message,
}

impl Stage {
    /// Its name in `smtp.stage`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Message => "message",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_names_every_stage_and_no_other() {
        use Stage::{Auth, Connect, Data, Ehlo, Greeting, Mail, Message, Rcpt, StartTls, Token};
        let contract = include_str!("../../proto/postern/smtp/v1/smtp_service.proto");
        let list = contract.split_once("`smtp.stage` is one of").unwrap().1;
        let named = list.split_once("//\n").unwrap().0.split('`').skip(1).step_by(2);
        let named: Vec<_> = named.collect();
        let all = [Token, Connect, Greeting, Ehlo, StartTls, Auth, Mail, Rcpt, Data, Message];
        assert_eq!(named, all.map(Stage::as_str));
    }
}
