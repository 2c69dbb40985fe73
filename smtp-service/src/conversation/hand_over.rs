//! Handing one mail over: MAIL, RCPT and DATA, in one flight where the server takes it so (RFC 2920), then the message
//! with its final dot in one write. It is exact about the one thing that matters: whether the server can have taken
//! the message.

use postern_proto::mail::v1::{RecipientResult, RecipientState};
use tokio::time::timeout_at;

use super::{Conversation, at_once, refused};
use crate::clock::Clock;
use crate::error::Error;
use crate::message::Mail;
use crate::reply::Reply;
use crate::stage::Stage;

/// The most commands sent ahead of their replies. Both sides' socket buffers hold this many lines, so neither can wait
/// for the other (RFC 2920, section 3.1).
const FLIGHT: usize = 100;

/// What became of a mail that the server took.
#[derive(Debug)]
pub(crate) struct Taken {
    /// One result a recipient, in envelope order.
    pub(crate) recipients: Vec<RecipientResult>,
    /// The server's reply to the message.
    pub(crate) reply: Reply,
}

/// How much of a long message is held back, with its final dot, until the rest has been handed to the system: a server
/// that gives up in the middle is found out while it is certain that it took nothing.
const LAST_BYTES: usize = 16 * 1024;

/// The replies ahead of the message.
#[derive(Default)]
struct Replies {
    mail: Option<Reply>,
    recipients: Vec<(String, Reply)>,
    data: Option<Reply>,
    /// With which the server ended the conversation.
    last_words: Option<(Stage, Reply)>,
}

#[derive(Clone, Copy)]
enum Step {
    Mail,
    Rcpt,
    Data,
}

impl Conversation {
    /// Hands a mail over. On every error but [`Error::OutcomeUnknown`] it is certain that the server took nothing.
    pub(crate) async fn hand_over(&mut self, mail: &Mail, clock: Clock) -> Result<Taken, Error> {
        self.check_extensions(mail)?;
        self.ready = false;
        let replies = self.send_envelope(mail, clock).await?;
        if let Some((stage, reply)) = replies.last_words {
            return Err(refused_whole(stage, reply, &replies.recipients));
        }
        let Some(data) = self.check_envelope(&replies, clock).await? else {
            return Err(self.all_refused(replies));
        };
        if !data.is_intermediate() {
            self.reset(&data, clock).await;
            return Err(refused_whole(Stage::Data, data, &replies.recipients));
        }
        let reply = self.send_message(mail, clock).await?;
        self.ready = !reply.is_closing();
        if !reply.is_positive() {
            return Err(refused_whole(Stage::Message, reply, &replies.recipients));
        }
        self.handed_over += 1;
        let recipients = replies.recipients.iter().map(|(address, reply)| result(address, reply)).collect();
        Ok(Taken { recipients, reply })
    }

    /// Whether the server offers what the mail needs. Nothing has been said yet.
    fn check_extensions(&self, mail: &Mail) -> Result<(), Error> {
        let size = mail.size();
        match self.extensions.max_size {
            Some(limit) if size > limit => return Err(Error::TooLarge { size, limit, whose: "the server" }),
            _ => {}
        }
        if mail.needs_utf8() && !self.extensions.utf8 {
            return Err(Error::Incapable(
                "an address or a header field is not ASCII, and the server does not offer SMTPUTF8",
            ));
        }
        if mail.is_eight_bit() && !self.extensions.eight_bit {
            return Err(Error::Incapable(
                "the message has 8-bit content, and the server does not offer 8BITMIME",
            ));
        }
        Ok(())
    }

    /// Sends MAIL, RCPT and DATA and reads their replies, up to the first that makes the rest pointless.
    async fn send_envelope(&mut self, mail: &Mail, clock: Clock) -> Result<Replies, Error> {
        let mut commands = vec![(Step::Mail, self.mail_command(mail))];
        commands.extend(mail.recipients().iter().map(|to| (Step::Rcpt, format!("RCPT TO:<{to}>\r\n"))));
        commands.push((Step::Data, "DATA\r\n".to_owned()));
        let ahead = if self.extensions.pipelining { FLIGHT } else { 1 };
        let mut replies = Replies::default();
        for flight in commands.chunks(ahead) {
            if matches!(flight, [(Step::Data, _)]) && !replies.any_accepted() {
                break;
            }
            let text: String = flight.iter().map(|(_, command)| command.as_str()).collect();
            let stage = flight.first().map_or(Stage::Mail, |(step, _)| step.stage());
            self.write(stage, text.as_bytes(), clock).await?;
            for (step, _) in flight {
                let reply = match self.read(step.stage(), clock).await {
                    Ok(reply) => reply,
                    // Some servers close without a word once they have refused the sender.
                    Err(_) if replies.mail_refused() => {
                        replies.last_words = replies.mail.take().map(|reply| (Stage::Mail, reply));
                        return Ok(replies);
                    }
                    Err(error) => return Err(error),
                };
                if reply.is_closing() {
                    replies.last_words = Some((step.stage(), reply));
                    return Ok(replies);
                }
                match step {
                    Step::Mail => replies.mail = Some(reply),
                    Step::Rcpt => {
                        let address = mail.recipients()[replies.recipients.len()].clone();
                        replies.recipients.push((address, reply));
                    }
                    Step::Data => replies.data = Some(reply),
                }
            }
            if !replies.mail_accepted() {
                break;
            }
        }
        Ok(replies)
    }

    /// MAIL with the parameters that the server offers and the mail needs.
    fn mail_command(&self, mail: &Mail) -> String {
        let mut command = format!("MAIL FROM:<{}>", mail.sender());
        if self.extensions.size {
            command.push_str(&format!(" SIZE={}", mail.size()));
        }
        if (mail.is_eight_bit() || mail.needs_utf8()) && self.extensions.eight_bit {
            command.push_str(" BODY=8BITMIME");
        }
        if mail.needs_utf8() {
            command.push_str(" SMTPUTF8");
        }
        command.push_str("\r\n");
        command
    }

    /// The reply to DATA, where the sender and at least one recipient were accepted. Otherwise the server is brought
    /// back to where it waits for MAIL.
    async fn check_envelope(&mut self, replies: &Replies, clock: Clock) -> Result<Option<Reply>, Error> {
        if replies.mail_accepted() && replies.any_accepted() {
            return Ok(replies.data.clone());
        }
        match &replies.data {
            // A server that wants a message for nobody is given an empty one (RFC 2920, section 3.1).
            Some(data) if data.is_intermediate() => {
                let ended = self.command(Stage::Message, ".\r\n", clock).await;
                self.ready = matches!(ended, Ok(reply) if !reply.is_closing());
            }
            _ => {
                let said =
                    replies.recipients.last().map(|(_, reply)| reply).or(replies.mail.as_ref()).cloned();
                if let Some(reply) = said {
                    self.reset(&reply, clock).await;
                }
            }
        }
        Ok(None)
    }

    /// The error when the sender, or every recipient, was refused.
    fn all_refused(&self, replies: Replies) -> Error {
        let mail = replies.mail.filter(|reply| !reply.is_positive());
        if let Some(reply) = mail {
            if reply.code != 530 {
                return refused(Stage::Mail, reply);
            }
            if !self.socket.is_encrypted() && self.extensions.starttls {
                return Error::TlsRequired(Some(reply));
            }
            let problem = "the server wants credentials, and the connection has none that it took";
            return Error::Credentials { problem, reply: Some(reply) };
        }
        let deciding = replies.recipients.iter().map(|(_, reply)| reply);
        let deciding = deciding.clone().find(|reply| reply.is_transient()).or(deciding.clone().next());
        let Some(reply) = deciding.cloned() else {
            return Error::Broken { stage: Stage::Rcpt, problem: "no recipient was tried".to_owned() };
        };
        let recipients = replies.recipients.iter().map(|(address, reply)| result(address, reply)).collect();
        Error::Refused { stage: Stage::Rcpt, reply, recipients }
    }

    /// Writes the message, whose last bytes are the final dot, and reads the reply.
    async fn send_message(&mut self, mail: &Mail, clock: Clock) -> Result<Reply, Error> {
        let written = self.write_message(mail, clock).await;
        if let Err(error) = written {
            // The last bytes were not handed to the system: there was no final dot. A server that closes in the
            // middle of a message mostly says why.
            return match timeout_at(at_once(), self.socket.read_reply()).await {
                Ok(Ok(reply)) if !reply.is_positive() => Err(refused(Stage::Message, reply)),
                _ => Err(error),
            };
        }
        match timeout_at(clock.step_end(), self.socket.read_reply()).await {
            Ok(Ok(reply)) if reply.is_intermediate() => {
                Err(Error::OutcomeUnknown("its reply to the final dot makes no sense".to_owned()))
            }
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(Error::OutcomeUnknown(error.to_string())),
            Err(_) => Err(Error::OutcomeUnknown("it did not answer the final dot in time".to_owned())),
        }
    }

    /// Writes the message, chunk by chunk, and its last bytes only while the server still listens.
    async fn write_message(&mut self, mail: &Mail, clock: Clock) -> Result<(), Error> {
        let mut wire = mail.wire();
        while let Some((chunk, is_last)) = wire.next_chunk() {
            if !is_last {
                self.write(Stage::Message, chunk, clock).await?;
                continue;
            }
            let (first, last) = chunk.split_at(chunk.len().saturating_sub(LAST_BYTES));
            if !first.is_empty() {
                self.write(Stage::Message, first, clock).await?;
            }
            if !self.socket.is_quiet() {
                let problem = "the server ended the conversation within the message".to_owned();
                return Err(Error::Broken { stage: Stage::Message, problem });
            }
            self.write(Stage::Message, last, clock).await?;
        }
        Ok(())
    }

    /// Brings the server back to where it waits for MAIL, after a refusal that did not close the connection.
    async fn reset(&mut self, refusal: &Reply, clock: Clock) {
        if refusal.is_closing() {
            return;
        }
        let reset = self.command(Stage::Mail, "RSET\r\n", clock).await;
        self.ready = matches!(reset, Ok(reply) if reply.is_positive());
    }
}

impl Step {
    fn stage(self) -> Stage {
        match self {
            Self::Mail => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }
}

impl Replies {
    fn mail_accepted(&self) -> bool {
        self.mail.as_ref().is_some_and(Reply::is_positive)
    }

    fn mail_refused(&self) -> bool {
        self.mail.as_ref().is_some_and(|reply| !reply.is_positive())
    }

    fn any_accepted(&self) -> bool {
        self.recipients.iter().any(|(_, reply)| reply.is_positive())
    }
}

/// The error when the message as a whole was refused: recipients that had been accepted get nothing either.
fn refused_whole(stage: Stage, reply: Reply, recipients: &[(String, Reply)]) -> Error {
    let recipients = recipients.iter().map(|(address, own)| {
        let decided = if own.is_positive() { &reply } else { own };
        result(address, decided)
    });
    let recipients = recipients.collect();
    Error::Refused { stage, reply, recipients }
}

fn result(address: &str, reply: &Reply) -> RecipientResult {
    let state = if reply.is_positive() {
        RecipientState::Accepted
    } else if reply.is_transient() {
        RecipientState::RefusedTransient
    } else {
        RecipientState::RefusedPermanent
    };
    RecipientResult { address: address.to_owned(), state: state.into(), reply: Some(reply.into()) }
}
