//! One conversation from the server's side. It is strict where a client that is wrong would do harm elsewhere: about
//! the order of commands, 8-bit content that was not announced, and line ends.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::control::{Action, Stage};
use super::stream::Stream;
use super::{Delivery, Shared, Tls};

/// The name the server goes by.
const NAME: &str = "sandbox.postern.test";

/// A conversation with a client.
pub(super) struct Conversation<'a> {
    pub(super) stream: Stream,
    pub(super) shared: &'a Shared,
    greeted: bool,
    pub(super) signed_in: bool,
    /// By which the client signed in.
    pub(super) token: Option<String>,
    mail: Option<Mail>,
}

/// A mail whose envelope is being given.
struct Mail {
    from: String,
    to: Vec<String>,
    eight_bit: bool,
    utf8: bool,
}

/// Whether to go on.
enum Next {
    Go,
    Stop,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(stream: Stream, shared: &'a Shared) -> Self {
        Self { stream, shared, greeted: false, signed_in: false, token: None, mail: None }
    }

    /// Talks until either side ends it.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut usual = format!("220 {NAME} ESMTP Postern sandbox");
        let mut stage = Some(Stage::Greeting);
        loop {
            let Some(said) = self.answer(stage, &usual).await? else { return Ok(()) };
            if stage == Some(Stage::StartTls) && said.starts_with("220") {
                self.stream = self.stream.secure(Arc::clone(&self.shared.tls_config)).await?;
                (self.greeted, self.signed_in, self.mail) = (false, false, None);
            }
            if stage == Some(Stage::Data) && said.starts_with("354") {
                match self.message().await? {
                    Next::Go => {}
                    Next::Stop => return Ok(()),
                }
            }
            let line = self.stream.line(&self.shared.control).await?;
            (stage, usual) = self.take(&line).await?;
            if usual.starts_with("221") {
                if let Some(Action::Delay(delay)) = self.shared.control.action(Stage::Quit) {
                    tokio::time::sleep(delay).await;
                }
                self.stream.write(&format!("{usual}\r\n")).await?;
                self.stream.shut_down().await;
                return Ok(());
            }
        }
    }

    /// Gives the usual answer to a stage, unless told to do something else. Gives what was said; nothing at the end.
    async fn answer(&mut self, stage: Option<Stage>, usual: &str) -> io::Result<Option<String>> {
        let mut said = usual.to_owned();
        let mut closes = None;
        match stage.and_then(|stage| self.shared.control.action(stage)) {
            None => {}
            Some(Action::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Action::Hold) => self.shared.control.held_up().await,
            Some(Action::Reply(reply)) => said = reply,
            Some(Action::ReplyAndClose(reply)) => (said, closes) = (reply, Some(false)),
            Some(Action::HalfClose) => return self.read_on().await,
            Some(Action::Close) => (said, closes) = (String::new(), Some(false)),
            Some(Action::Reset) => (said, closes) = (String::new(), Some(true)),
            Some(Action::Silence) => std::future::pending().await,
        }
        if usual.starts_with('2') && !said.starts_with('2') {
            // What was told otherwise than usual did not happen.
            match (stage, &mut self.mail) {
                (Some(Stage::Mail), mail) => *mail = None,
                (Some(Stage::Rcpt), Some(mail)) => drop(mail.to.pop()),
                (Some(Stage::Auth), _) => self.signed_in = false,
                _ => {}
            }
        }
        if !said.is_empty() {
            let mut text = format!("{said}\r\n");
            if stage == Some(Stage::StartTls) && said.starts_with("220") {
                text.push_str(&self.shared.control.injected().unwrap_or_default());
            }
            self.stream.write(&text).await?;
        }
        if let Some(reset) = closes {
            self.stop(reset).await;
            return Ok(None);
        }
        Ok(Some(said))
    }

    async fn read_on(&mut self) -> io::Result<Option<String>> {
        self.stream.shut_down().await;
        self.stream.drain().await?;
        Ok(None)
    }

    async fn stop(&mut self, reset: bool) -> Next {
        if reset {
            self.stream.set_reset();
        } else {
            self.stream.shut_down().await;
        }
        Next::Stop
    }

    /// Takes a command; gives its stage and the usual answer to it.
    async fn take(&mut self, line: &str) -> io::Result<(Option<Stage>, String)> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        let heard = if verb == "AUTH" {
            format!("AUTH {}", rest.split(' ').next().unwrap_or_default())
        } else {
            line.to_owned()
        };
        self.shared.control.heard(&heard);
        Ok(match verb.as_str() {
            "EHLO" => (Some(Stage::Ehlo), self.ehlo()),
            "HELO" => {
                self.greeted = true;
                (Some(Stage::Ehlo), format!("250 {NAME}"))
            }
            "STARTTLS" => (Some(Stage::StartTls), self.starttls()),
            "AUTH" => self.auth(rest).await?,
            "MAIL" => (Some(Stage::Mail), self.mail(rest)),
            "RCPT" => (Some(Stage::Rcpt), self.rcpt(rest)),
            "DATA" => (Some(Stage::Data), self.data()),
            "RSET" => {
                self.mail = None;
                (Some(Stage::Rset), "250 2.0.0 Ok".to_owned())
            }
            "NOOP" => (Some(Stage::Noop), "250 2.0.0 Ok".to_owned()),
            "QUIT" => (Some(Stage::Quit), "221 2.0.0 Bye".to_owned()),
            _ => (None, "500 5.5.2 unknown command".to_owned()),
        })
    }

    pub(super) fn offers(&self, extension: &str) -> bool {
        !self.shared.control.is_hidden(extension)
    }

    fn offers_starttls(&self) -> bool {
        self.shared.tls == Tls::StartTls && !self.stream.is_encrypted() && self.offers("STARTTLS")
    }

    pub(super) fn offers_auth(&self) -> bool {
        let in_order = self.shared.tls != Tls::StartTls || self.stream.is_encrypted();
        !self.shared.users.is_empty() && in_order && self.offers("AUTH")
    }

    fn ehlo(&mut self) -> String {
        (self.greeted, self.mail) = (true, None);
        let size = format!("SIZE {}", self.shared.max_size);
        let mut lines = vec![NAME.to_owned()];
        let plain = ["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"];
        lines.extend(plain.iter().filter(|line| self.offers(line)).map(|line| (*line).to_owned()));
        lines.extend(Some(size).filter(|_| self.offers("SIZE")));
        lines.extend(Some("STARTTLS".to_owned()).filter(|_| self.offers_starttls()));
        if self.offers_auth() {
            let mechanisms = ["PLAIN", "LOGIN"].into_iter().filter(|mechanism| self.offers(mechanism));
            let by_token = Some("XOAUTH2").filter(|_| self.shared.control.knows_tokens());
            lines.push(format!("AUTH {}", mechanisms.chain(by_token).collect::<Vec<_>>().join(" ")));
        }
        let last = lines.len() - 1;
        let marked = lines.iter().enumerate();
        let marked = marked.map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }));
        marked.collect::<Vec<_>>().join("\r\n")
    }

    fn starttls(&self) -> String {
        if self.offers_starttls() { "220 2.0.0 go ahead" } else { "502 5.5.1 not offered" }.to_owned()
    }

    fn mail(&mut self, rest: &str) -> String {
        if !self.greeted {
            return "503 5.5.1 EHLO first".to_owned();
        }
        let is_over = self.token.as_ref().is_some_and(|token| self.shared.control.is_session_over(token));
        if !self.shared.users.is_empty() && (!self.signed_in || is_over) {
            return "530 5.7.0 authentication required".to_owned();
        }
        if self.mail.is_some() {
            return "503 5.5.1 one mail at a time".to_owned();
        }
        let Some((from, parameters)) = path(rest, "FROM:") else { return "501 5.5.4 syntax".to_owned() };
        let mut mail = Mail { from, to: Vec::new(), eight_bit: false, utf8: false };
        for parameter in parameters.split_whitespace() {
            match parameter.to_ascii_uppercase().split_once('=') {
                Some(("SIZE", size)) if self.offers("SIZE") => match size.parse::<usize>() {
                    Ok(size) if size <= self.shared.max_size => {}
                    Ok(_) => return "552 5.3.4 message too large".to_owned(),
                    Err(_) => return "501 5.5.4 SIZE is no number".to_owned(),
                },
                Some(("BODY", "8BITMIME")) if self.offers("8BITMIME") => mail.eight_bit = true,
                Some(("BODY", "7BIT")) => {}
                Some(("RET", "FULL" | "HDRS") | ("ENVID", _)) if self.offers("DSN") => {}
                None if parameter.eq_ignore_ascii_case("SMTPUTF8") && self.offers("SMTPUTF8") => {
                    mail.utf8 = true
                }
                _ => return format!("555 5.5.4 unknown parameter {parameter}"),
            }
        }
        if !mail.from.is_ascii() && !mail.utf8 {
            return "553 5.6.7 not ASCII".to_owned();
        }
        self.mail = Some(mail);
        "250 2.1.0 Ok".to_owned()
    }

    fn rcpt(&mut self, rest: &str) -> String {
        let offers_reports = self.offers("DSN");
        let Some(mail) = &mut self.mail else { return "503 5.5.1 MAIL first".to_owned() };
        let Some((to, parameters)) = path(rest, "TO:") else { return "501 5.5.4 syntax".to_owned() };
        let is_known = |parameter: &str| {
            let name = parameter.split('=').next().unwrap_or_default().to_ascii_uppercase();
            offers_reports && matches!(name.as_str(), "NOTIFY" | "ORCPT")
        };
        if let Some(unknown) = parameters.split_whitespace().find(|parameter| !is_known(parameter)) {
            return format!("555 5.5.4 unknown parameter {unknown}");
        }
        if !to.is_ascii() && !mail.utf8 {
            return "553 5.6.7 not ASCII".to_owned();
        }
        if let Some(refusal) = self.shared.control.refusal(&to) {
            return refusal;
        }
        if let Some(reply) = self.shared.control.one_too_many(mail.to.len()) {
            return reply;
        }
        mail.to.push(to);
        "250 2.1.5 Ok".to_owned()
    }

    fn data(&mut self) -> String {
        match &self.mail {
            None => "503 5.5.1 MAIL first".to_owned(),
            Some(mail) if mail.to.is_empty() => "554 5.5.1 no valid recipients".to_owned(),
            Some(_) => "354 go ahead, end with a dot".to_owned(),
        }
    }

    async fn message(&mut self) -> io::Result<Next> {
        self.stream.first_bytes().await?;
        match self.shared.control.action(Stage::Body) {
            Some(Action::HalfClose) => return self.read_on().await.map(|_| Next::Stop),
            Some(Action::Close) => return Ok(self.stop(false).await),
            Some(Action::Reset) => return Ok(self.stop(true).await),
            Some(Action::ReplyAndClose(reply)) => {
                self.stream.write(&format!("{reply}\r\n")).await?;
                return Ok(self.stop(false).await);
            }
            Some(Action::Silence) => std::future::pending().await,
            Some(Action::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Action::Hold) => self.shared.control.held_up().await,
            Some(Action::Reply(_)) | None => {}
        }
        let message = self.stream.message(self.shared.max_size).await?;
        let Some(mail) = self.mail.take() else { return Ok(Next::Stop) };
        let Some(message) = message else {
            self.stream.write("552 5.3.4 message too large\r\n").await?;
            return Ok(Next::Go);
        };
        let announced = mail.eight_bit || self.shared.control.is_lenient();
        if let Some(problem) = problem(&message, announced) {
            self.stream.write(&format!("{problem}\r\n")).await?;
            return Ok(Next::Go);
        }
        let action = self.shared.control.action(Stage::Message);
        if let Some(Action::Reply(reply) | Action::ReplyAndClose(reply)) = &action
            && !reply.starts_with('2')
        {
            self.stream.write(&format!("{reply}\r\n")).await?;
            let closes = matches!(action, Some(Action::ReplyAndClose(_)));
            return Ok(if closes { self.stop(false).await } else { Next::Go });
        }
        let number = self.accept(Delivery { from: mail.from, to: mail.to, message });
        match action {
            Some(Action::HalfClose) => return self.read_on().await.map(|_| Next::Stop),
            Some(Action::Close) => return Ok(self.stop(false).await),
            Some(Action::Reset) => return Ok(self.stop(true).await),
            Some(Action::Silence) => std::future::pending().await,
            Some(Action::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Action::Hold) => self.shared.control.held_up().await,
            Some(Action::Reply(reply)) => {
                self.stream.write(&format!("{reply}\r\n")).await?;
                return Ok(Next::Go);
            }
            Some(Action::ReplyAndClose(reply)) => {
                self.stream.write(&format!("{reply}\r\n")).await?;
                return Ok(self.stop(false).await);
            }
            None => {}
        }
        self.stream.write(&format!("250 2.0.0 Ok: queued as {number}\r\n")).await?;
        Ok(Next::Go)
    }

    fn accept(&self, delivery: Delivery) -> usize {
        (self.shared.deliver)(delivery.clone());
        let mut number = 0;
        self.shared.accepted.send_modify(|accepted| {
            accepted.push(delivery);
            number = accepted.len();
        });
        number
    }
}

/// The path after `FROM:` or `TO:`, and the parameters.
fn path<'a>(text: &'a str, keyword: &str) -> Option<(String, &'a str)> {
    let head = text.get(..keyword.len())?;
    let rest = text.get(keyword.len()..)?.trim_start().strip_prefix('<')?;
    let (path, parameters) = rest.split_once('>')?;
    let in_order = parameters.is_empty() || parameters.starts_with(' ');
    (head.eq_ignore_ascii_case(keyword) && in_order).then(|| (path.to_owned(), parameters))
}

/// What is wrong with a message, as a reply.
fn problem(message: &Bytes, announced: bool) -> Option<&'static str> {
    let mut lines = message.split_inclusive(|byte| *byte == b'\n');
    if !lines.all(|line| line.strip_suffix(b"\r\n").is_some_and(|text| !text.contains(&b'\r'))) {
        return Some("550 5.6.11 a bare CR or LF");
    }
    if !announced && !message.is_ascii() {
        return Some("554 5.6.1 8-bit content that was not announced");
    }
    None
}
