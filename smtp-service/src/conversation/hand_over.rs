//! Handing one mail over: MAIL, RCPT and DATA, in one flight where the server takes it so (RFC 2920), then the message
//! with its final dot in one write. It is exact about the one thing that matters: whether the server can have taken
//! the message.

use postern_proto::mail::v1::RecipientResult;
use tokio::time::timeout_at;

use super::replies::{Recipient, Replies, is_one_too_many, refused_whole};
use super::{Conversation, at_once, envelope, refused};
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
pub(crate) struct Handed {
    /// One result for each recipient that was given, in that order.
    pub(crate) recipients: Vec<RecipientResult>,
    /// Those that were too many for one transaction: they may be given in another. Places among the mail's recipients.
    pub(crate) left: Vec<usize>,
    /// How many recipients the server took.
    pub(crate) accepted: usize,
    /// The server's reply to the message.
    pub(crate) reply: Reply,
}

/// How much of a long message is held back, with its final dot, until the rest has been handed to the system: a server
/// that gives up in the middle is found out while it is certain that it took nothing.
const LAST_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy)]
enum Step {
    Mail,
    Rcpt,
    Data,
}

impl Conversation {
    /// Hands a mail over to some of its recipients, named by their places. `limit`: how many recipients the server took
    /// at once before, where that was not all. On every error but [`Error::OutcomeUnknown`] it is certain that the server
    /// took nothing.
    pub(crate) async fn hand_over(
        &mut self,
        mail: &Mail,
        to: &[usize],
        limit: Option<usize>,
        clock: Clock,
    ) -> Result<Handed, Error> {
        self.check_extensions(mail)?;
        self.ready = false;
        let mut replies = self.send_envelope(mail, to, limit, clock).await?;
        match replies.last_words.take() {
            Some((Stage::Mail, reply)) => return Err(self.sender_refused(reply)),
            Some((stage, reply)) => return Err(refused_whole(stage, reply, &replies.recipients)),
            None => {}
        }
        let Some(data) = self.check_envelope(&replies, clock).await? else {
            return Err(self.all_refused(replies));
        };
        // 354 alone asks for the message (RFC 5321, section 4.3.2).
        if data.is_positive() || (data.is_intermediate() && data.code != 354) {
            return Err(senseless(Stage::Data));
        }
        if data.code != 354 {
            self.reset(&data, clock).await;
            return Err(refused_whole(Stage::Data, data, &replies.recipients));
        }
        let reply = match self.send_message(mail, clock).await {
            Err(Error::OutcomeUnknown { problem, .. }) => {
                return Err(Error::OutcomeUnknown { problem, recipients: replies.with_unknown() });
            }
            Err(Error::Refused { stage, reply, .. }) => {
                return Err(refused_whole(stage, reply, &replies.recipients));
            }
            ended => ended?,
        };
        self.ready = !reply.is_closing();
        if !reply.is_positive() {
            return Err(refused_whole(Stage::Message, reply, &replies.recipients));
        }
        self.handed_over += 1;
        let left = replies.recipients.iter().zip(to).filter(|(recipient, _)| recipient.is_left);
        let left = left.map(|(_, place)| *place).collect();
        let accepted = replies.recipients.iter().filter(|to| to.reply.is_positive()).count();
        Ok(Handed { recipients: replies.results(), left, accepted, reply })
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

    /// Sends MAIL, RCPT and DATA and reads their replies, up to the first that makes the rest pointless. Once one
    /// recipient was too many, no further flight of them is sent: servers have been seen to hang up on who goes on.
    async fn send_envelope(
        &mut self,
        mail: &Mail,
        to: &[usize],
        limit: Option<usize>,
        clock: Clock,
    ) -> Result<Replies, Error> {
        let addresses: Vec<&String> = to.iter().filter_map(|place| mail.recipients().get(*place)).collect();
        let mut commands = vec![(Step::Mail, envelope::mail_command(mail, &self.extensions))];
        commands.extend(
            addresses.iter().map(|to| (Step::Rcpt, envelope::rcpt_command(to, mail, &self.extensions))),
        );
        commands.push((Step::Data, "DATA\r\n".to_owned()));
        // MAIL, as many as the server took before, and one more, in case it takes more now.
        let flight = limit.map_or(FLIGHT, |limit| (limit + 2).min(FLIGHT));
        let ahead = if self.extensions.pipelining { flight } else { 1 };
        let mut replies = Replies::default();
        for flight in commands.chunks(ahead) {
            let rest = if replies.one_too_many().is_some() { data_in(flight) } else { 0 };
            let flight = &flight[rest..];
            if flight.is_empty() {
                continue;
            }
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
                    // Or once they have refused every recipient: DATA is asked for last.
                    Err(_) if matches!(step, Step::Data) && !replies.any_accepted() => {
                        replies.is_over = true;
                        return Ok(replies);
                    }
                    Err(error) => return Err(error),
                };
                if reply.is_closing() {
                    replies.last_words = Some((step.stage(), reply));
                    return Ok(replies);
                }
                match step {
                    Step::Mail | Step::Rcpt if reply.is_intermediate() => {
                        return Err(senseless(step.stage()));
                    }
                    Step::Mail => replies.mail = Some(reply),
                    Step::Rcpt => {
                        let address = addresses.get(replies.recipients.len()).copied().cloned();
                        let is_left = is_one_too_many(&reply) && replies.any_accepted();
                        let address = address.unwrap_or_default();
                        replies.recipients.push(Recipient { address, reply, is_left });
                    }
                    Step::Data => replies.data = Some(reply),
                }
            }
            if !replies.mail_accepted() {
                break;
            }
        }
        if let Some(reply) = replies.one_too_many().cloned() {
            let unasked = addresses.iter().skip(replies.recipients.len());
            let left =
                unasked.map(|to| Recipient { address: (*to).clone(), reply: reply.clone(), is_left: true });
            let left: Vec<_> = left.collect();
            replies.recipients.extend(left);
        }
        Ok(replies)
    }

    /// The reply to DATA, where the sender and at least one recipient were accepted. Otherwise the server is brought
    /// back to where it waits for MAIL.
    async fn check_envelope(&mut self, replies: &Replies, clock: Clock) -> Result<Option<Reply>, Error> {
        if replies.mail_accepted() && replies.any_accepted() {
            return Ok(replies.data.clone());
        }
        match &replies.data {
            None if replies.is_over => {}
            // A server that wants a message for nobody is given an empty one (RFC 2920, section 3.1).
            Some(data) if data.code == 354 => {
                let ended = self.command(Stage::Message, ".\r\n", clock).await;
                self.ready = matches!(ended, Ok(reply) if !reply.is_closing());
            }
            _ => {
                let said = replies.recipients.last().map(|to| &to.reply).or(replies.mail.as_ref()).cloned();
                if let Some(reply) = said {
                    self.reset(&reply, clock).await;
                }
            }
        }
        Ok(None)
    }

    /// The error when the sender, or every recipient, was refused.
    fn all_refused(&self, replies: Replies) -> Error {
        let mail = replies.mail.clone().filter(|reply| !reply.is_positive());
        if let Some(reply) = mail {
            return self.sender_refused(reply);
        }
        let deciding = replies.recipients.iter().map(|to| &to.reply);
        let deciding = deciding.clone().find(|reply| reply.is_transient()).or(deciding.clone().next());
        let Some(reply) = deciding.cloned() else {
            return Error::Broken { stage: Stage::Rcpt, problem: "no recipient was tried".to_owned() };
        };
        Error::Refused { stage: Stage::Rcpt, reply, recipients: replies.results() }
    }

    /// The error when MAIL was refused.
    fn sender_refused(&self, reply: Reply) -> Error {
        if reply.code != 530 {
            return refused(Stage::Mail, reply);
        }
        if !self.socket.is_encrypted() && self.extensions.starttls {
            return Error::TlsRequired(Some(reply));
        }
        let problem = "the server wants credentials, and the connection has none that it took";
        // Signed in by a token that has run out since, a server says the same.
        Error::Credentials { problem, reply: Some(reply), refresh: self.token.is_some() }
    }

    /// Writes the message, whose last bytes are the final dot, and reads the reply.
    async fn send_message(&mut self, mail: &Mail, clock: Clock) -> Result<Reply, Error> {
        let written = self.write_message(mail, clock).await;
        if let Err(error) = written {
            // The last bytes were not handed to the system: there was no final dot. A server that closes in the
            // middle of a message mostly says why.
            return match timeout_at(at_once(), self.socket.read_reply()).await {
                Ok(Ok(reply)) if reply.is_transient() || reply.is_permanent() => {
                    Err(refused(Stage::Message, reply))
                }
                _ => Err(error),
            };
        }
        match timeout_at(clock.final_end(), self.socket.read_reply()).await {
            Ok(Ok(reply)) if reply.is_intermediate() => {
                Err(unknown("its reply to the final dot makes no sense"))
            }
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(unknown(error.to_string())),
            Err(_) => Err(unknown("it did not answer the final dot in time")),
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

/// Where DATA stands in a flight, or its end.
fn data_in(flight: &[(Step, String)]) -> usize {
    flight.iter().position(|(step, _)| matches!(step, Step::Data)).unwrap_or(flight.len())
}

/// The error of a reply that cannot be one to the command: nothing more is said on that socket.
fn senseless(stage: Stage) -> Error {
    Error::Broken { stage, problem: "the server's reply makes no sense there".to_owned() }
}

fn unknown(problem: impl Into<String>) -> Error {
    Error::OutcomeUnknown { problem: problem.into(), recipients: Vec::new() }
}
