//! What all calls share, and how a call becomes the mailbox that it acts for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_chassis::deadline::timeout_in;
use postern_chassis::fault::Fault;
use postern_chassis::{digest, opened};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use crate::account::Account;
use crate::addresses::names_mailbox;
use crate::error::Error;
use crate::folders::Folders;
use crate::graph::{Challenges, Clients, Gates, Mailbox};
use crate::settings::LimitSettings;

/// How long a call may take where its caller named no deadline.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a call may take whatever its caller's deadline.
const MAX_PATIENCE: Duration = Duration::from_secs(3_600);

/// Metadata by which the gateway says that this call was begun before, and that it does not know how it ended: `1`.
const REPEAT: &str = "postern-repeat";

/// What all calls share: caches, none of which matters when it is lost.
pub(crate) struct Outlook {
    clients: Clients,
    gates: Gates,
    challenges: Arc<Challenges>,
    folders: Mutex<HashMap<String, String>>,
    /// How long a caller may be silent within a stream that it sends.
    pub(crate) silence: Duration,
}

/// A call: the account it acts for, and when it must be done.
pub(crate) struct Call {
    pub(crate) account: Account,
    pub(crate) until: Instant,
    /// Whether the gateway does not know what became of an earlier run of the same call.
    pub(crate) is_repeat: bool,
}

impl Outlook {
    pub(crate) fn new(limits: LimitSettings) -> Self {
        Self {
            clients: Clients::default(),
            silence: limits.max_stream_silence,
            gates: Gates::new(limits),
            challenges: Arc::default(),
            folders: Mutex::default(),
        }
    }

    /// Reads the connection that a call acts for.
    ///
    /// # Errors
    /// There is none, or its settings are wrong.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(crate) fn call(&self, metadata: &MetadataMap) -> Result<Call, Status> {
        self.call_within(metadata, PATIENCE)
    }

    /// Reads the connection that a call acts for, which passes on more bytes than a minute may suffice for.
    ///
    /// # Errors
    /// There is none, or its settings are wrong.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(crate) fn long_call(&self, metadata: &MetadataMap) -> Result<Call, Status> {
        self.call_within(metadata, MAX_PATIENCE)
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn call_within(&self, metadata: &MetadataMap, patience: Duration) -> Result<Call, Status> {
        let account = Account::read(opened::decode(metadata)?)?;
        let timeout = timeout_in(metadata.as_ref()).map(|left| left.min(MAX_PATIENCE));
        // Answered a little earlier, so that the caller still hears why.
        let patience = timeout.map_or(patience, |left| left.mul_f32(0.9));
        let is_repeat = metadata.get(REPEAT).is_some_and(|value| value == "1");
        Ok(Call { account, until: Instant::now() + patience, is_repeat })
    }

    /// The mailbox that a request names, or the connection's own where it names none.
    ///
    /// # Errors
    /// The field `field`, where what it holds is no address; or there is no access token.
    pub(crate) fn mailbox(&self, call: &Call, field: &str, named: &str) -> Result<Mailbox, Error> {
        let account = &call.account;
        let user = match named {
            "" => account.mailbox.clone(),
            me if me.eq_ignore_ascii_case("me") => {
                if account.proof.is_app_only() {
                    let problem = "expected an address: with app-only sign-in there is no `me`";
                    return Err(Error::field(field, problem));
                }
                None
            }
            address if names_mailbox(address) => Some(address.to_owned()),
            _ => return Err(Error::field(field, "expected an address")),
        };
        let token = account.token.clone().ok_or(Error::NoToken)?;
        let whose = whose(account, user.as_deref());
        Ok(Mailbox {
            http: self.clients.client(account)?,
            base: account.graph.clone(),
            gate: self.gates.gate(&whose, account.at_once),
            challenges: Arc::clone(&self.challenges),
            user,
            token,
            prefer: None,
            until: call.until,
        })
    }

    /// The folders of a mailbox, with what is known of them from earlier calls.
    pub(crate) fn folders<'a>(&'a self, call: &Call, mailbox: &'a Mailbox) -> Folders<'a> {
        Folders::new(&self.folders, mailbox, whose(&call.account, mailbox.user.as_deref()))
    }

    /// What Graph wants the next token of an account to claim.
    pub(crate) fn claims(&self, account: &Account) -> Option<String> {
        self.challenges.claims_for(account.token.as_ref()?)
    }

    /// The HTTP client of an account.
    ///
    /// # Errors
    /// The certificates to trust cannot be used.
    pub(crate) fn client(&self, account: &Account) -> Result<reqwest::Client, Error> {
        self.clients.client(account)
    }
}

/// What tells a mailbox of an application from all others. A signed-in user's own is told by what the sign-in began
/// with, else by the token, since nothing else names the user.
fn whose(account: &Account, user: Option<&str>) -> String {
    let mut whose = format!("{} {} {} ", account.graph, account.tenant, account.client_id).to_lowercase();
    match (user, &account.kept, &account.token) {
        (Some(user), ..) => whose.push_str(&user.to_lowercase()),
        (None, Some(kept), _) => whose.push_str(&kept.origin),
        (None, None, Some(token)) => {
            let token = secrecy::ExposeSecret::expose_secret(token);
            whose.push_str(&digest::hex(&digest::of(token.as_bytes())));
        }
        (None, None, None) => {}
    }
    whose
}

/// The end of a call: an error is logged here, once, and becomes a status.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(crate) fn answer<T>(method: &'static str, result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| {
        let fault = Fault::from(error);
        tracing::info!(rpc.method = method, code = ?fault.code(), reason = fault.reason(), "call failed");
        fault.into()
    })
}
