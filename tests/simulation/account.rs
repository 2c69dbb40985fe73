//! The account at the simulated provider: whose user signs in, and which grants it takes. A grant that renews another
//! one ends it once it is used, and not before: so a renewal that was lost on its way costs nothing, and one that is used
//! before it is kept costs the sign-in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use postern_chassis::fault::Fault;
use postern_chassis::opened;
use postern_proto::connector::v1::*;
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use crate::weather::{Weather, lock};

/// How long a grant is good, at least and at most.
const LIVES_MS: (u64, u64) = (8_000, 30_000);
/// How long a user takes to type a code.
const TYPING_MS: u64 = 3_000;

/// What the provider knows of its account's grants, which are numbers.
#[derive(Default)]
struct Known {
    last: u64,
    /// Those that can be renewed.
    live: BTreeSet<u64>,
    /// What each renews.
    renews: BTreeMap<u64, u64>,
    /// Until when each is good for calls. Not there: no longer.
    good: BTreeMap<u64, SystemTime>,
    /// When the code of each sign-in is typed. It gives a grant once.
    codes: BTreeMap<u64, SystemTime>,
}

/// The account.
pub(crate) struct Account {
    weather: Arc<Weather>,
    known: Mutex<Known>,
    /// How often the sign-in was revoked; the first time before it was there.
    pub(crate) revoked: Mutex<usize>,
}

fn refused() -> Fault {
    Fault::new(Code::FailedPrecondition, "CREDENTIALS_REFUSED", "not with these")
}

fn number(bytes: &[u8]) -> u64 {
    String::from_utf8_lossy(bytes).parse().unwrap_or(0)
}

impl Known {
    fn give(&mut self, weather: &Weather) -> (u64, SystemTime) {
        self.last += 1;
        let (least, most) = LIVES_MS;
        let until = SystemTime::now() + Duration::from_millis(least) + weather.within(most - least);
        self.live.insert(self.last);
        self.good.insert(self.last, until);
        (self.last, until)
    }

    /// A grant is in use: so those that it replaces no longer are.
    fn replace(&mut self, grant: u64) {
        let Some(before) = self.renews.get(&grant).copied() else { return };
        self.live.remove(&before);
        let others: Vec<_> =
            self.renews.iter().filter(|(other, of)| **of == before && **other != grant).collect();
        let others: Vec<_> = others.into_iter().map(|(other, _)| *other).collect();
        for other in others {
            self.live.remove(&other);
        }
    }
}

impl Account {
    pub(crate) fn new(weather: &Arc<Weather>) -> Self {
        Self { weather: weather.clone(), known: Mutex::default(), revoked: Mutex::new(1) }
    }

    /// Whether a call is let through.
    pub(crate) fn admits(&self, metadata: &MetadataMap) -> Result<(), Status> {
        if !self.weather.climate.signs_in {
            return Ok(());
        }
        let grant = number(&opened::decode(metadata)?.grant);
        let mut known = lock(&self.known);
        if known.good.get(&grant).is_none_or(|until| *until < SystemTime::now()) {
            return Err(refused().refresh().into());
        }
        known.replace(grant);
        Ok(())
    }

    /// Grants are good for no call any more, but can be renewed.
    pub(crate) fn spend(&self) {
        lock(&self.known).good.clear();
    }

    /// The sign-in is over.
    pub(crate) fn revoke(&self) {
        let mut known = lock(&self.known);
        if !known.live.is_empty() {
            *lock(&self.revoked) += 1;
        }
        *known = Known { last: known.last, codes: std::mem::take(&mut known.codes), ..Known::default() };
    }

    /// Renews a grant.
    pub(crate) async fn renew(
        &self,
        metadata: &MetadataMap,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        let before = number(&opened::decode(metadata)?.grant);
        self.weather.wait(100, 12_000).await;
        if self.weather.strikes(50) {
            return Err(Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "not now").into());
        }
        let (grant, until) = {
            let mut known = lock(&self.known);
            if !known.live.contains(&before) {
                self.weather.trace(format_args!("grant {before} is not renewed"));
                return Err(refused().into());
            }
            known.replace(before);
            let (grant, until) = known.give(&self.weather);
            known.renews.insert(grant, before);
            (grant, until)
        };
        self.weather.trace(format_args!("grant {grant} renews {before}"));
        self.weather.wait(100, 12_000).await;
        if self.weather.strikes(50) {
            return Err(Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "it broke off").into());
        }
        let grant = grant.to_string().into();
        Ok(Response::new(RefreshCredentialsResponse { grant, expire_time: Some(until.into()) }))
    }

    /// Gives a code to type.
    pub(crate) async fn begin(&self) -> Result<Response<StartSignInResponse>, Status> {
        self.weather.wait(100, 12_000).await;
        let mut known = lock(&self.known);
        known.last += 1;
        let typed = SystemTime::now() + self.weather.within(TYPING_MS);
        let code = known.last;
        known.codes.insert(code, typed);
        Ok(Response::new(StartSignInResponse {
            verification_url: "https://provider.example/code".to_owned(),
            user_code: code.to_string(),
            poll_interval: Duration::from_secs(1).try_into().ok(),
            sign_in: code.to_string().into(),
            ..StartSignInResponse::default()
        }))
    }

    /// Says whether a code was typed.
    pub(crate) async fn complete(
        &self,
        asked: &CompleteSignInRequest,
    ) -> Result<Response<CompleteSignInResponse>, Status> {
        self.weather.wait(100, 12_000).await;
        let code = number(&asked.sign_in);
        let given = {
            let mut known = lock(&self.known);
            let Some(typed) = known.codes.get(&code).copied() else {
                return Err(Fault::new(Code::FailedPrecondition, "SIGN_IN_EXPIRED", "it was used").into());
            };
            let is_typed = typed <= SystemTime::now();
            is_typed.then(|| {
                known.codes.remove(&code);
                known.give(&self.weather)
            })
        };
        self.weather.trace(format_args!("sign-in {code} gives {given:?}"));
        self.weather.wait(100, 12_000).await;
        let Some((grant, until)) = given else {
            return Ok(Response::new(CompleteSignInResponse::default()));
        };
        let grant = grant.to_string().into();
        let expire_time = Some(until.into());
        Ok(Response::new(CompleteSignInResponse { grant, expire_time, ..CompleteSignInResponse::default() }))
    }
}
