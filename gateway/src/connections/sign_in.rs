//! Sign-ins of users: begun for callers, gone on with when a provider's page leads back here or, of a device code, by
//! asking from time to time. What a provider wants is its connector's to know.
//!
//! All there is of a sign-in lies in the store, what is secret of it sealed: any gateway on the store may go on with it,
//! and a restart loses none.

mod asking;
mod coming_back;
mod door;
mod record;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_chassis::fault::{Fault, reason_of};
use postern_proto::connection::v1::{SignIn, SignInKind, SignInState, StartSignInRequest};
use postern_proto::connector::v1::{
    CompleteSignInRequest, CompleteSignInResponse, StartSignInRequest as Begin, StartSignInResponse as Begun,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::record::id_of;
use super::{CONFIGURATION_REFUSED, CREDENTIALS_REFUSED, Room};
use crate::connectors::unavailable;
use crate::error::Error;
use crate::names;
use crate::notifications::PublicUrl;
use crate::store::StoreError;

pub(super) use asking::keep;
pub(crate) use door::router;
pub(super) use record::SIGN_INS;
use record::{Name, Record, Stored};

/// How long a connector may take to begin a sign-in: of a device code it asks the provider.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connector may take to go on with one: it asks for tokens, and may look whose account it is.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long a sign-in in a browser may take at most, whatever its connector says.
const MAX_BROWSER_LIFE: Duration = Duration::from_secs(600);
/// How long one by a device code may take at most.
const MAX_DEVICE_LIFE: Duration = Duration::from_secs(3_600);
/// How many of a connection may be under way at once.
const MAX_PENDING: usize = 100;
/// How many records of a connection are looked at when another is begun.
const MAX_RECORDS: usize = 5_000;
/// The largest secret part that a connector may give.
const MAX_SECRET_BYTES: usize = 8 * 1024;
/// Random bytes of an id.
const ID_BYTES: usize = 10;

/// Where providers lead users back to, below the public URL.
const CALLBACK: &str = "/sign-in/callback";

impl Room {
    /// Begins the sign-in of a user.
    pub(super) async fn start_sign_in(self: &Arc<Self>, asked: StartSignInRequest) -> Result<SignIn, Error> {
        names::connection("name", &asked.name)?;
        let kind = match SignInKind::try_from(asked.kind) {
            Ok(SignInKind::Unspecified | SignInKind::Browser) => SignInKind::Browser,
            Ok(SignInKind::DeviceCode) => SignInKind::DeviceCode,
            Err(_) => {
                let problem =
                    "is no kind of sign-in: expected SIGN_IN_KIND_BROWSER or SIGN_IN_KIND_DEVICE_CODE";
                return Err(Error::field("kind", problem));
            }
        };
        let opened = self.load(&asked.name).await?;
        let redirect_url = match (kind, self.public_url.get()) {
            (SignInKind::Browser, Some(url)) => format!("{url}{CALLBACK}"),
            (SignInKind::Browser, None) => return Err(no_public_url().into()),
            _ => String::new(),
        };
        self.make_room(&asked.name).await?;
        let name = Name { connection: asked.name.clone(), id: new_id()? };
        let state = match kind {
            SignInKind::Browser => self.sealed_name(STATE, &name)?,
            _ => String::new(),
        };
        let connector = self.connectors.for_kind(opened.kind())?;
        let begin = Begin { kind: kind.into(), redirect_url: redirect_url.clone(), state };
        let deadline = Instant::now() + START_TIMEOUT;
        let begun = self
            .ask(
                &connector,
                opened.name(),
                opened.metadata(),
                deadline,
                &begin,
                &|mut connector, begin| async move { connector.start_sign_in(begin).await },
            )
            .await
            .map_err(unless_unimplemented)?;
        self.begun(&name, kind, redirect_url, begun).await
    }

    /// Stores a sign-in that has begun, before anybody hears of it.
    async fn begun(
        &self,
        name: &Name,
        kind: SignInKind,
        redirect_url: String,
        begun: Begun,
    ) -> Result<SignIn, Error> {
        if begun.sign_in.len() > MAX_SECRET_BYTES {
            return Err(unavailable("what it keeps of the sign-in is too large").into());
        }
        let now = SystemTime::now();
        let longest = now + if kind == SignInKind::Browser { MAX_BROWSER_LIFE } else { MAX_DEVICE_LIFE };
        let expires = begun.expire_time.and_then(|time| SystemTime::try_from(time).ok());
        let interval = begun.poll_interval.and_then(|wait| Duration::try_from(wait).ok());
        let record = Record {
            kind: kind.into(),
            state: SignInState::Pending.into(),
            verification_url: begun.verification_url,
            create_time: Some(now.into()),
            expire_time: Some(expires.map_or(longest, |expires| expires.min(longest)).into()),
            secret: self.seal_sign_in(name, &begun.sign_in)?,
            redirect_url,
            poll_interval: begun.poll_interval,
            busy_until: interval.map(|interval| (now + interval).into()),
            ..Record::default()
        };
        let stored = record::write(self.store.as_ref(), name, 0, record).await?;
        tracing::info!(connection.name = name.connection, kind = kind.as_str_name(), "a sign-in was begun");
        let shown = stored.shown(name);
        Ok(SignIn { authorization_url: begun.authorization_url, user_code: begun.user_code, ..shown })
    }

    /// How a sign-in stands.
    pub(super) async fn sign_in(&self, name: &str) -> Result<SignIn, Error> {
        let name = Name::parse(name).ok_or_else(|| {
            let expected = "expected connections/{connection}/sign-ins/{sign_in}";
            Error::field("name", format!("{name:?} is not a name: {expected}"))
        })?;
        let found = record::read(self.store.as_ref(), &name).await?;
        Ok(found.ok_or_else(|| not_found(&name))?.shown(&name))
    }

    /// Refuses a sign-in beyond what may be under way of a connection.
    async fn make_room(&self, connection: &str) -> Result<(), Error> {
        let prefix = format!("{SIGN_INS}{}/", id_of(connection));
        let entries = self.store.list(&prefix, "", MAX_RECORDS).await?;
        let now = SystemTime::now();
        let pending = entries.iter().filter_map(Stored::read).filter(|stored| stored.is_pending(now)).count();
        if pending < MAX_PENDING && entries.len() < MAX_RECORDS {
            return Ok(());
        }
        let message = format!(
            "too many sign-ins of {connection} were begun: see these through, or wait until they expire"
        );
        let fault = Fault::new(Code::ResourceExhausted, "SIGN_INS_TOO_MANY", message);
        Err(fault.with("connection", connection).retry_after(MAX_BROWSER_LIFE).into())
    }

    /// Asks the connector to go on with a sign-in.
    async fn ask_to_complete(
        &self,
        name: &Name,
        stored: &Stored,
        query: &str,
    ) -> Result<CompleteSignInResponse, Error> {
        let opened = self.load(&name.connection).await?;
        let connector = self.connectors.for_kind(opened.kind())?;
        let asked = CompleteSignInRequest {
            sign_in: self.unseal_sign_in(name, &stored.record.secret)?,
            query: query.to_owned(),
            redirect_url: stored.record.redirect_url.clone(),
            poll_interval: stored.record.poll_interval,
        };
        let deadline = Instant::now() + COMPLETE_TIMEOUT;
        self.ask(
            &connector,
            opened.name(),
            opened.metadata(),
            deadline,
            &asked,
            &|mut connector, asked| async move { connector.complete_sign_in(asked).await },
        )
        .await
    }

    /// Ends a sign-in that has failed for good.
    async fn fail_sign_in(
        &self,
        name: &Name,
        stored: &Stored,
        reason: &str,
        message: &str,
    ) -> Result<(), StoreError> {
        let record = Record {
            state: SignInState::Failed.into(),
            failure_reason: reason.to_owned(),
            failure_message: message.to_owned(),
            ..stored.record.clone()
        };
        record::write(self.store.as_ref(), name, stored.revision, record.ended()).await?;
        tracing::info!(connection.name = name.connection, reason, "a sign-in failed");
        Ok(())
    }
}

/// What a sealed name is for: one made for another use is not taken.
const STATE: &str = "sign-in#state";
const OUTCOME: &str = "sign-in#outcome";

/// The reasons by which a connector says that a sign-in has failed for good.
const FAILURES: [&str; 7] = [
    "SIGN_IN_DENIED",
    "SIGN_IN_EXPIRED",
    CREDENTIALS_REFUSED,
    CONFIGURATION_REFUSED,
    "WRONG_ACCOUNT",
    "WRONG_PROVIDER",
    "PROVIDER_UNAVAILABLE",
];

/// The failure that an error makes of a sign-in: its reason and message. `None`: it is one for now.
fn failure(error: &Error) -> Option<(String, String)> {
    match error {
        Error::Connector(status) if status.code() == Code::FailedPrecondition => {
            let reason = reason_of(status);
            let known = FAILURES.contains(&reason.as_str());
            let reason = if known { reason } else { CREDENTIALS_REFUSED.to_owned() };
            Some((reason, status.message().to_owned()))
        }
        // The connection was changed meanwhile so that nothing can come of it.
        Error::Connector(status) if status.code() == Code::InvalidArgument => {
            Some((CREDENTIALS_REFUSED.to_owned(), status.message().to_owned()))
        }
        _ => None,
    }
}

/// A connector that knows no sign-ins has none.
fn unless_unimplemented(error: Error) -> Error {
    match error {
        Error::Connector(status) if status.code() == Code::Unimplemented => {
            let message = "connections of this kind have no user who could sign in";
            Fault::new(Code::FailedPrecondition, "SIGN_IN_UNSUPPORTED", message).into()
        }
        other => other,
    }
}

fn no_public_url() -> Fault {
    let message = "the gateway has no URL that a provider could lead back to: set --public-url, or sign in by a device code";
    Fault::new(Code::FailedPrecondition, "PUBLIC_URL_MISSING", message)
}

fn not_found(name: &Name) -> Error {
    let name = name.to_string();
    let message = format!("{name} is not there: sign-ins are kept for a day");
    Fault::new(Code::NotFound, "SIGN_IN_NOT_FOUND", message).with("name", name).into()
}

/// An id that nobody can guess, for what is shown by it is shown to whoever has it.
fn new_id() -> Result<String, Error> {
    let mut random = [0; ID_BYTES];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| StoreError::Failed("the system has no random numbers".to_owned()))?;
    Ok(random.iter().fold("sign-in-".to_owned(), |id, byte| id + &format!("{byte:02x}")))
}

/// The gateway's own URL, where it has one, for whoever begins a sign-in.
pub(super) type OwnUrl = std::sync::OnceLock<PublicUrl>;

/// How a status is told in a log: without its text, which a provider may have had a hand in.
fn told(error: Error) -> (Code, String) {
    let status = Status::from(error);
    (status.code(), reason_of(&status))
}
