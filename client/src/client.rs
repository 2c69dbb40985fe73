//! The client: the services of the contract over one connection, and what is built on them.

use std::future::Future;
use std::sync::Arc;

use postern_proto::approval::v1::approval_service_client::ApprovalServiceClient;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::event::v1::ConsumeStart;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::subscription_service_client::SubscriptionServiceClient;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::outbox::v1::outbox_service_client::OutboxServiceClient;
use postern_proto::outlook::v1::calendar_service_client::CalendarServiceClient;
use postern_proto::outlook::v1::contact_service_client::ContactServiceClient;
use postern_proto::outlook::v1::mail_service_client::MailServiceClient;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use secrecy::SecretString;

use crate::consumer::Consumer;
use crate::dial::{Dial, Line};
use crate::error::Error;
use crate::link::{Link, Token};
use crate::retry::{self, Retry, Witness};
use crate::settings::{Settings, SettingsError};
use crate::subscription::{Subscription, Wish};

/// The largest request made: a gateway takes no larger one.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// The largest answer taken. Above what one mail or page may be, so that only what is out of hand is refused.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A gateway, as a caller sees it. Cheap to clone; clones share one connection, which is made by the first call and made
/// anew by the next call after it broke.
#[derive(Clone)]
pub struct Client {
    dial: Dial,
    line: Arc<Line>,
    link: Link,
    token: Token,
    retry: Retry,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("link", &self.link).field("retry", &self.retry).finish_non_exhaustive()
    }
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(&self) -> $client<Link> {
            $client::new(self.link.clone())
                .max_encoding_message_size(MAX_REQUEST_BYTES)
                .max_decoding_message_size(MAX_ANSWER_BYTES)
        }
    )*};
}

impl Client {
    /// A client of the gateway that the settings name. No socket is opened before the first call, so that a service may
    /// start before its gateway. Called within a Tokio runtime.
    ///
    /// # Errors
    /// The setting that cannot be used.
    pub fn connect(settings: &Settings) -> Result<Self, SettingsError> {
        let dial = Dial::new(settings)?;
        let token = Token::default();
        token.replace(settings.token.as_ref())?;
        if settings.retry.tries == 0 {
            return Err(SettingsError::new("retry.tries", "is 0: expected 1 or more"));
        }
        let line = Arc::new(dial.line(None));
        let link = Link::new(line.channel.clone(), token.clone(), settings.call_timeout);
        Ok(Self { dial, line, link, token, retry: settings.retry })
    }

    services! {
        /// Sending mail through SMTP servers.
        smtp: SmtpServiceClient,
        /// The mail of Outlook accounts.
        mail: MailServiceClient,
        /// The calendars of Outlook accounts.
        calendar: CalendarServiceClient,
        /// The contacts of Outlook accounts.
        contacts: ContactServiceClient,
        /// Mails that the gateway hands over by itself.
        outbox: OutboxServiceClient,
        /// Questions put to people by mail.
        approvals: ApprovalServiceClient,
        /// Connections to providers.
        connections: ConnectionServiceClient,
        /// Triggers.
        triggers: TriggerServiceClient,
        /// Stored subscriptions.
        subscriptions: SubscriptionServiceClient,
        /// Events, bare: [`subscribe`](Client::subscribe) goes on by itself.
        events: EventServiceClient,
    }

    /// Beneath each service's client, for services of which this crate does not know.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Shows another token from the next call on; clones and open subscriptions too. `None`: none.
    ///
    /// # Errors
    /// The setting `token`, where it is none. The token in force stays.
    pub fn replace_token(&self, token: Option<&SecretString>) -> Result<(), SettingsError> {
        self.token.replace(token)
    }

    /// Makes a call, and makes it again where its error says that this helps and the call may be made again.
    ///
    /// `attempt` is given a client to make its calls with, which notes what is called. An attempt is made again only if
    /// - the error is worth it ([`Error::is_worth_a_retry`]): it names a pause, the gateway was not there, or the connection
    ///   broke; and
    /// - every call of the attempt was one without side effects, or a change with a `request_id`, of which the gateway keeps
    ///   the answer. The id must be the same in each attempt: see [`new_request_id`](crate::new_request_id). Mails on the
    ///   stream `SendEmails` are never repeated.
    ///
    /// `OUTCOME_UNKNOWN` is asked after again only where the contract says that the provider can tell. The pause asked for
    /// is kept to; else pauses grow, with chance in them. [`Settings::retry`] bounds it all.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn retrying<T, E, A>(&self, attempt: impl FnMut(Client) -> A) -> Result<T, Error>
    where
        E: Into<Error>,
        A: Future<Output = Result<T, E>>,
    {
        retry::retrying(self, attempt).await
    }

    /// Subscribes to events: a stream that goes on by itself over broken connections and gateways that stop. It is opened
    /// when it is first asked for an event, on a connection of its own: a subscriber that does not read holds up no calls.
    #[must_use]
    pub fn subscribe(&self, wish: Wish) -> Subscription {
        Subscription::new(self.clone(), wish)
    }

    /// Reads a stored subscription: a stream that goes on by itself over broken connections and gateways that stop, while
    /// the gateway keeps how far it was read. Opened when it is first asked for an event, on a connection of its own.
    #[must_use]
    pub fn consume(&self, start: ConsumeStart) -> Consumer {
        Consumer::new(self.clone(), start)
    }

    pub(crate) fn retry(&self) -> Retry {
        self.retry
    }

    /// A call failed and will be made again: where its connection is gone, the next begins with another address. One that
    /// takes callers and drops them, as a proxy does whose gateway is dead, would be come back to for ever.
    pub(crate) fn turn_away(&self) {
        self.line.turn_away();
    }

    /// The same client, and who notes what it calls.
    pub(crate) fn watched(&self) -> (Self, Arc<Witness>) {
        let witness = Arc::new(Witness::default());
        (Self { link: self.link.watched(witness.clone()), ..self.clone() }, witness)
    }

    /// The events over a connection that nobody else uses, which is given too.
    /// It begins with the address that the one before it would have begun with.
    pub(crate) fn own_events(&self, before: Option<&Line>) -> (EventServiceClient<Link>, Line) {
        let line = self.dial.line(before);
        let own = Self { link: self.link.on(line.channel.clone()), ..self.clone() };
        (own.events(), line)
    }
}
