//! What a server replied ahead of the message, and what that means for each recipient.

use postern_proto::mail::v1::{RecipientResult, RecipientState};

use crate::error::Error;
use crate::reply::Reply;
use crate::stage::Stage;

/// The replies ahead of the message.
#[derive(Default)]
pub(super) struct Replies {
    pub(super) mail: Option<Reply>,
    /// Addresses, what was said of each, and whether it was one too many.
    pub(super) recipients: Vec<Recipient>,
    pub(super) data: Option<Reply>,
    /// With which the server ended the conversation.
    pub(super) last_words: Option<(Stage, Reply)>,
    /// Whether the server ended it without a word, having refused all that it was asked.
    pub(super) is_over: bool,
}

pub(super) struct Recipient {
    pub(super) address: String,
    pub(super) reply: Reply,
    /// Whether it was refused as one too many after others had been accepted.
    pub(super) is_left: bool,
}

impl Replies {
    pub(super) fn mail_accepted(&self) -> bool {
        self.mail.as_ref().is_some_and(Reply::is_positive)
    }

    pub(super) fn mail_refused(&self) -> bool {
        self.mail.as_ref().is_some_and(|reply| !reply.is_positive())
    }

    pub(super) fn any_accepted(&self) -> bool {
        self.recipients.iter().any(|to| to.reply.is_positive())
    }

    /// What the server said of the first recipient that was one too many.
    pub(super) fn one_too_many(&self) -> Option<&Reply> {
        self.recipients.iter().find(|to| to.is_left).map(|to| &to.reply)
    }

    pub(super) fn results(&self) -> Vec<RecipientResult> {
        self.recipients.iter().map(Recipient::result).collect()
    }

    /// The results where it is not known whether the server took the message.
    pub(super) fn with_unknown(&self) -> Vec<RecipientResult> {
        let mut results = self.results();
        for result in results.iter_mut().filter(|result| result.state() == RecipientState::Accepted) {
            result.set_state(RecipientState::OutcomeUnknown);
        }
        results
    }
}

impl Recipient {
    pub(super) fn result(&self) -> RecipientResult {
        let state = if self.is_left { RecipientState::RefusedTransient } else { state_by(&self.reply) };
        self.result_of(state, &self.reply)
    }

    fn result_of(&self, state: RecipientState, reply: &Reply) -> RecipientResult {
        RecipientResult { address: self.address.clone(), state: state.into(), reply: Some(reply.into()) }
    }
}

fn state_by(reply: &Reply) -> RecipientState {
    match reply {
        reply if reply.is_positive() => RecipientState::Accepted,
        reply if reply.is_transient() => RecipientState::RefusedTransient,
        _ => RecipientState::RefusedPermanent,
    }
}

/// Whether a reply to RCPT says that the server takes no more recipients in this transaction (RFC 5321, section
/// 4.5.3.1.10, which asks to be ready for 552 as well; RFC 3463, X.5.3).
pub(super) fn is_one_too_many(reply: &Reply) -> bool {
    match reply.enhanced.as_deref() {
        Some(enhanced) => matches!(enhanced, "4.5.3" | "5.5.3"),
        None => matches!(reply.code, 452 | 552),
    }
}

/// The error when the message as a whole was refused: recipients that had been accepted, or kept for another
/// transaction, get nothing either.
pub(super) fn refused_whole(stage: Stage, reply: Reply, recipients: &[Recipient]) -> Error {
    let results = recipients.iter().map(|to| match to.reply.is_positive() || to.is_left {
        true => to.result_of(state_by(&reply), &reply),
        false => to.result(),
    });
    let recipients = results.collect();
    Error::Refused { stage, reply, recipients }
}
