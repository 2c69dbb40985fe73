//! One step for the notification of one watch: made, renewed, left as it is, or ended.

use std::time::{Duration, SystemTime};

use postern_chassis::fault::{reason_of, retry_after_of};
use postern_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use postern_proto::connector::v1::{
    EndNotificationRequest, RenewNotificationRequest, RenewNotificationResponse,
};
use postern_proto::event::v1::Trigger;
use ring::rand::SecureRandom as _;
use tonic::{Code, Status};

use super::Notifications;
use super::record::{self, Record, Stored, Wanted};
use crate::error::Error;
use crate::leases::Hold;
use crate::store::{Commit, Revision, StoreError};
use crate::triggers::WatchName;

/// How long a provider may take to agree: it asks the URL meanwhile, twice, with ten seconds' patience each.
const RENEW_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a provider may take to end a notification.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a notification's end is tried, and the pause between.
const END_TRIES: u32 = 3;
const END_PAUSE: Duration = Duration::from_secs(2);
/// How long a provider that does not push is not asked again.
const UNSUPPORTED: Duration = Duration::from_secs(24 * 3_600);
/// The first wait after a failure; each further one is twice as long, up to a bound.
const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
const MAX_BACK_OFF: Duration = Duration::from_secs(300);
/// How often what was agreed is written that meets another write.
const TRIES: usize = 4;
/// How long to wait where a watch is no longer held, before it is seen why.
const MOMENT: Duration = Duration::from_secs(1);
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// All is well until the next step.
    Well(Duration),
    /// It failed: again, no sooner than the provider asks for.
    Failed(Duration),
}

impl Notifications {
    /// Does what is to be done for a watch now.
    pub(super) async fn step(&self, watch: &WatchName, trigger: &Trigger) -> Next {
        match self.renew(watch, trigger).await {
            Ok(next) => next,
            Err(Error::Store(StoreError::Conflict { .. })) => Next::Well(Duration::ZERO),
            Err(error) => {
                let status = Status::from(error);
                let (code, reason) = (status.code(), reason_of(&status));
                tracing::warn!(watch.name = %watch, ?code, reason, "a notification cannot be renewed");
                Next::Failed(retry_after_of(&status).unwrap_or_default())
            }
        }
    }

    async fn renew(&self, watch: &WatchName, trigger: &Trigger) -> Result<Next, Error> {
        let now = SystemTime::now();
        // Another gateway's by now: this one hears of it in a moment.
        let Some(hold) = self.leases().hold(watch.as_str()) else { return Ok(Next::Well(MOMENT)) };
        let stored = record::read(self.store.as_ref(), watch).await?;
        let url = format!("{}/notifications/{watch}", self.url);
        let secret = record::open(&self.connections, watch, &stored.record.secret);
        let (stored, secret) = match secret.filter(|_| stored.record.url == url) {
            Some(secret) => (stored, secret),
            None => self.begin(&hold, watch, stored, url).await?,
        };
        let Record { notification, expire_time, .. } = &stored.record;
        if let Some(until) = time(stored.record.unsupported_until).filter(|until| *until > now) {
            return Ok(Next::Well(left(until, now)));
        }
        let wanted = stored.record.wanted();
        if let (false, Wanted::Nothing, Some(until)) = (notification.is_empty(), wanted, time(*expire_time)) {
            let from = time(stored.record.renew_time).unwrap_or(now);
            let life = left(until, from);
            if now < from + life.mul_f64(0.7) {
                self.schedule.pushed(watch, Some(until));
                return Ok(Next::Well(left(from + life.mul_f64(0.7 + fastrand::f64() / 10.0), now)));
            }
        }
        let asked = RenewNotificationRequest {
            trigger: Some(Trigger {
                name: trigger.name.clone(),
                kind: trigger.kind.clone(),
                ..Trigger::default()
            }),
            url: stored.record.url.clone(),
            secret,
            notification: if wanted == Wanted::Recreate { bytes::Bytes::new() } else { notification.clone() },
            reauthorize: wanted == Wanted::Reauthorize,
        };
        let call = |mut connector: ConnectorServiceClient<_>, request| async move {
            connector.renew_notification(request).await
        };
        match self.connections.call(&watch.connection(), RENEW_TIMEOUT, asked, call).await {
            Ok(agreed) => self.agreed(&hold, watch, stored, agreed).await,
            Err(Error::Connector(status)) if is_unsupported(&status) => {
                let until = now + UNSUPPORTED.mul_f64(0.9 + fastrand::f64() / 5.0);
                let record = Record { unsupported_until: Some(until.into()), ..stored.record };
                let record = Record { notification: bytes::Bytes::new(), wanted: 0, ..record };
                self.write(&hold, watch, stored.revision, record).await?;
                self.schedule.pushed(watch, None);
                tracing::info!(watch.name = %watch, "its provider does not push: it is polled alone");
                Ok(Next::Well(left(until, now)))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a secret and stores it, before the provider hears of it. What was agreed for another URL is ended.
    async fn begin(
        &self,
        hold: &Hold,
        watch: &WatchName,
        before: Stored,
        url: String,
    ) -> Result<(Stored, String), Error> {
        if !before.record.notification.is_empty() {
            let _ = self.end_at_provider(watch, &before.record).await;
        }
        let mut random = [0; SECRET_BYTES];
        let filled = ring::rand::SystemRandom::new().fill(&mut random);
        filled.map_err(|_| StoreError::Failed("the system has no random numbers".to_owned()))?;
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random);
        let sealed = record::seal(&self.connections, watch, &secret)?;
        let record = Record { secret: sealed, url, ..Record::default() };
        Ok((self.write(hold, watch, before.revision, record).await?, secret))
    }

    /// Keeps what was agreed.
    async fn agreed(
        &self,
        hold: &Hold,
        watch: &WatchName,
        before: Stored,
        agreed: RenewNotificationResponse,
    ) -> Result<Next, Error> {
        let now = SystemTime::now();
        let until = time(agreed.expire_time).unwrap_or(now);
        let mut stored = before.clone();
        for _ in 0..TRIES {
            // What the provider has come to want meanwhile is kept.
            let is_newer = stored.revision != before.revision;
            let record = Record {
                notification: agreed.notification.clone(),
                expire_time: Some(until.into()),
                renew_time: Some(now.into()),
                wanted: if is_newer { stored.record.wanted } else { 0 },
                unsupported_until: None,
                ..stored.record.clone()
            };
            match self.write(hold, watch, stored.revision, record).await {
                Ok(written) => {
                    self.schedule.pushed(watch, Some(until));
                    if agreed.made_anew {
                        // What happened before was not pushed.
                        self.schedule.pushed_to(watch.clone());
                    }
                    let again = written.record.wanted() != Wanted::Nothing;
                    let wait = left(until, now).mul_f64(0.7 + fastrand::f64() / 10.0);
                    return Ok(Next::Well(if again { Duration::ZERO } else { wait }));
                }
                Err(StoreError::Conflict { .. }) => {
                    stored = record::read(self.store.as_ref(), watch).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: record::key(watch) }.into())
    }

    /// Writes a record in the place of the one that was read, while the watch is still held.
    async fn write(
        &self,
        hold: &Hold,
        watch: &WatchName,
        before: Revision,
        record: Record,
    ) -> Result<Stored, StoreError> {
        let writes = vec![record::replacing(watch, before, &record)];
        self.log.commit(Commit { writes, guards: vec![hold.guard()], ..Commit::default() }).await?;
        let written = record::read(self.store.as_ref(), watch).await?;
        // Where it has been overwritten already, what was written is behind.
        let is_own = Record { wanted: record.wanted, ..written.record.clone() } == record;
        if is_own { Ok(written) } else { Err(StoreError::Conflict { key: record::key(watch) }) }
    }

    /// Ends the notification of a watch that is looked after no more: best effort, for it expires by itself.
    pub(super) async fn end(&self, watch: &WatchName) {
        let Some(_hold) = self.leases().hold(watch.as_str()) else { return };
        let Ok(stored) = record::read(self.store.as_ref(), watch).await else { return };
        if stored.revision == 0 {
            return;
        }
        for tried in 1..=END_TRIES {
            match self.end_at_provider(watch, &stored.record).await {
                Err(Error::Connector(status))
                    if tried < END_TRIES
                        && matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) =>
                {
                    tokio::time::sleep(END_PAUSE * tried).await;
                }
                Err(error) => {
                    let code = Status::from(error).code();
                    tracing::warn!(watch.name = %watch, ?code, "a notification cannot be ended: it will expire");
                    break;
                }
                Ok(()) => break,
            }
        }
        if let Err(error) = record::remove(self.store.as_ref(), watch, stored.revision).await {
            tracing::debug!(watch.name = %watch, %error, "a notification's record stays");
        }
    }

    async fn end_at_provider(&self, watch: &WatchName, record: &Record) -> Result<(), Error> {
        if record.notification.is_empty() {
            return Ok(());
        }
        let asked = EndNotificationRequest { notification: record.notification.clone() };
        let call = |mut connector: ConnectorServiceClient<_>, request| async move {
            connector.end_notification(request).await
        };
        self.connections.call(&watch.connection(), END_TIMEOUT, asked, call).await.map(drop)
    }
}

/// How long to wait after so many failures in a row, less up to a tenth.
pub(super) fn back_off(failures: u32) -> Duration {
    let doubled = FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACK_OFF).mul_f64(1.0 - fastrand::f64() / 10.0)
}

/// Whether a connector says that what is watched is not pushed, or that it knows of no pushing.
fn is_unsupported(status: &Status) -> bool {
    status.code() == Code::Unimplemented || reason_of(status) == "PUSH_UNSUPPORTED"
}

fn time(time: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    time.and_then(|time| time.try_into().ok())
}

fn left(until: SystemTime, now: SystemTime) -> Duration {
    until.duration_since(now).unwrap_or_default()
}
