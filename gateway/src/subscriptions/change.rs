//! How subscriptions are made, read, changed and deleted. Each change writes the subscription and its reading together.

use std::time::{Duration, SystemTime};

use postern_chassis::fault::Fault;
use postern_proto::event::v1::{
    CreateSubscriptionRequest, DeleteSubscriptionRequest, GapReason, ListSubscriptionsRequest,
    ListSubscriptionsResponse, Subscription, SubscriptionMode, SubscriptionStatus, UpdateSubscriptionRequest,
};
use prost::Message as _;
use tonic::Code;

use super::settle::ACK_DEADLINES;
use super::stored::{
    self, DEFAULT_ACK_DEADLINE, DEFAULT_MAX_ATTEMPTS, Reading, SUBSCRIPTIONS, Stored, id_of,
};
use super::{Subscriptions, TRIES, pause};
use crate::error::Error;
use crate::events::begin::{Begin, begin};
use crate::events::filter::Filter;
use crate::events::wish::Start;
use crate::page::Page;
use crate::store::{Expect, StoreError, Write};
use crate::{mask, names};

/// How many subscriptions a store holds.
const MOST_SUBSCRIPTIONS: usize = 10_000;
/// How often an event may be delivered before it is set aside.
const MAX_ATTEMPTS: i32 = 100;
/// The longest name for people, in characters.
const MAX_DISPLAY_NAME: usize = 128;
/// The full name of a subscription's message.
const SUBSCRIPTION: &str = "postern.event.v1.Subscription";
/// What a caller may set, and may change.
const CHANGEABLE: [&str; 5] = ["display_name", "mode", "filter", "ack_deadline", "max_attempts"];
/// How many copies are removed at once.
const REMOVED_AT_ONCE: usize = 256;

impl Subscriptions {
    pub(super) async fn create(&self, request: CreateSubscriptionRequest) -> Result<Subscription, Error> {
        let id = names::chosen_or_new("subscription_id", &request.subscription_id, "subscription")?;
        let asked = request.subscription.unwrap_or_default();
        let now = Some(SystemTime::now().into());
        let mut subscription = Subscription {
            name: stored::key(&id),
            create_time: now,
            update_time: now,
            status: None,
            etag: String::new(),
            ..asked
        };
        let mut wrong = Vec::new();
        complete(&mut subscription, &mut wrong);
        let start = Start::parse("start", request.start, &mut wrong)?;
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        if self.store.list(SUBSCRIPTIONS, "", MOST_SUBSCRIPTIONS).await?.len() >= MOST_SUBSCRIPTIONS {
            let message = "there are 10,000 subscriptions already";
            return Err(Fault::new(Code::ResourceExhausted, "TOO_MANY_SUBSCRIPTIONS", message).into());
        }
        if self.store.get(&stored::key(&id)).await?.is_some() {
            return Err(Error::Exists("Subscription", subscription.name));
        }
        // Left behind where a gateway died while it deleted one of this name.
        self.remove_set_aside(&id).await?;
        let Begin { opened, .. } = begin(&*self.log, start).await?;
        let reading = Reading { cursor: opened, generation: 1, ..Reading::default() };
        let write = Write {
            key: stored::reading_key(&id),
            value: Some(reading.encode_to_vec().into()),
            expect: Expect::Absent,
        };
        let writes = vec![stored::write(&subscription, Expect::Absent), write];
        match self.log.append(Vec::new(), writes).await {
            Err(StoreError::Conflict { .. }) => Err(Error::Exists("Subscription", subscription.name)),
            Err(error) => Err(error.into()),
            Ok(_) => self.get(&subscription.name).await,
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Subscription, Error> {
        names::subscription("name", name)?;
        self.shown(stored::read(&*self.store, id_of(name)).await?).await
    }

    /// The subscription as callers see it: with how it fares.
    pub(super) async fn shown(&self, found: Stored) -> Result<Subscription, Error> {
        let mode = found.mode();
        let mut subscription = found.subscription;
        let reading = stored::read_reading(&*self.store, id_of(&subscription.name)).await?.value;
        let is_shared = mode == SubscriptionMode::Shared;
        let floor = if is_shared { reading.floor() } else { reading.place() };
        // Of a log that is another one, all of it is still to come.
        let start = Start::After(reading.place(), reading.cursor.clone());
        let gap = begin(&*self.log, start).await?.gap;
        let is_other_log = gap.is_some_and(|gap| gap.reason() == GapReason::LogReset);
        let passed = if is_other_log { 0 } else { floor.sequence };
        let bounds = self.log.bounds().await?;
        let before = passed.max(bounds.first - 1);
        let now = self.clock.now();
        let outstanding = reading.unsettled.iter().filter(|one| !one.waits && one.due > now).count();
        subscription.status = Some(SubscriptionStatus {
            cursor: floor.encode(),
            backlog: bounds.last.saturating_sub(before).cast_signed(),
            outstanding: i32::try_from(outstanding).unwrap_or(i32::MAX),
            set_aside: reading.set_aside.cast_signed(),
            last_ack_time: reading.last_ack_time,
            client_id: reading.client_id,
        });
        Ok(subscription)
    }

    pub(super) async fn list(
        &self,
        request: ListSubscriptionsRequest,
    ) -> Result<ListSubscriptionsResponse, Error> {
        let page = Page::read(request.page_size, &request.page_token, &["ListSubscriptions"])?;
        let (entries, next_page_token) = page.list(&*self.store, SUBSCRIPTIONS).await?;
        let mut subscriptions = Vec::with_capacity(entries.len());
        for found in entries.iter().filter_map(stored::decode) {
            match self.shown(found).await {
                Ok(shown) => subscriptions.push(shown),
                // Deleted in the moment.
                Err(Error::NotFound(..)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ListSubscriptionsResponse { subscriptions, next_page_token })
    }

    pub(super) async fn update(&self, request: UpdateSubscriptionRequest) -> Result<Subscription, Error> {
        let wanted = request.subscription.ok_or_else(|| Error::field("subscription", "is absent"))?;
        names::subscription("subscription.name", &wanted.name)?;
        let id = id_of(&wanted.name);
        for tried in 0..TRIES {
            let found = stored::read(&*self.store, id).await?;
            same_etag(&wanted.name, &wanted.etag, &found)?;
            let mask = request.update_mask.as_ref();
            let mut changed = mask::apply(SUBSCRIPTION, &found.subscription, &wanted, mask, &CHANGEABLE)?;
            // An absent mode in a mask that covers all leaves it.
            if changed.mode() == SubscriptionMode::Unspecified {
                changed.mode = found.mode().into();
            }
            let mut wrong = Vec::new();
            if changed.mode != i32::from(found.mode()) {
                wrong.push(("subscription.mode".to_owned(), "cannot be changed".to_owned()));
            }
            complete(&mut changed, &mut wrong);
            if !wrong.is_empty() {
                return Err(Error::Fields(wrong));
            }
            changed.update_time = Some(SystemTime::now().into());
            let kept = stored::read_reading(&*self.store, id).await?;
            let writes = vec![
                stored::write(&changed, Expect::Revision(found.revision)),
                kept.replaced(id, &kept.value),
            ];
            match self.log.append(Vec::new(), writes).await {
                Ok(_) => return self.get(&wanted.name).await,
                Err(StoreError::Conflict { .. }) => pause(tried).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: wanted.name }.into())
    }

    pub(super) async fn delete(&self, request: DeleteSubscriptionRequest) -> Result<(), Error> {
        names::subscription("name", &request.name)?;
        let id = id_of(&request.name);
        for tried in 0..TRIES {
            let found = stored::read(&*self.store, id).await?;
            same_etag(&request.name, &request.etag, &found)?;
            let removed = |key, expect| Write { key, value: None, expect };
            let writes = vec![
                removed(stored::key(id), Expect::Revision(found.revision)),
                removed(stored::reading_key(id), Expect::Any),
            ];
            match self.log.append(Vec::new(), writes).await {
                Ok(_) => return self.remove_set_aside(id).await,
                Err(StoreError::Conflict { .. }) => pause(tried).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict { key: request.name }.into())
    }

    /// Removes the set-aside events of a subscription that is not there.
    async fn remove_set_aside(&self, id: &str) -> Result<(), Error> {
        loop {
            let entries = self.store.list(&stored::set_aside_prefix(id), "", REMOVED_AT_ONCE).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let removed = |key| Write { key, value: None, expect: Expect::Any };
            let mut writes: Vec<_> = entries.into_iter().map(|entry| removed(entry.key)).collect();
            // Only while it is not there: one that was made meanwhile has its own.
            writes.push(Write { key: stored::reading_key(id), value: None, expect: Expect::Absent });
            match self.log.append(Vec::new(), writes).await {
                Err(StoreError::Conflict { .. }) => return Ok(()),
                other => other?,
            };
        }
    }
}

/// Refuses a change of what has changed since the caller read it. An absent etag matches.
fn same_etag(name: &str, etag: &str, found: &Stored) -> Result<(), Error> {
    if etag.is_empty() || etag == stored::etag(found.revision) {
        Ok(())
    } else {
        Err(Error::EtagMismatch(name.to_owned()))
    }
}

/// Checks what a caller sets and puts defaults where nothing is said. Adds what is wrong to `wrong`.
fn complete(subscription: &mut Subscription, wrong: &mut Vec<(String, String)>) {
    let mut refuse =
        |field: &str, problem: &str| wrong.push((format!("subscription.{field}"), problem.to_owned()));
    if subscription.display_name.chars().count() > MAX_DISPLAY_NAME {
        refuse("display_name", "is too long: expected at most 128 characters");
    }
    match SubscriptionMode::try_from(subscription.mode) {
        Ok(SubscriptionMode::Unspecified) => subscription.set_mode(SubscriptionMode::Ordered),
        Ok(_) => {}
        Err(_) => refuse("mode", "expected a mode of this contract"),
    }
    if subscription.mode() == SubscriptionMode::Shared {
        let deadline = subscription.ack_deadline.map_or(Ok(DEFAULT_ACK_DEADLINE), Duration::try_from);
        match deadline.ok().filter(|deadline| ACK_DEADLINES.contains(deadline)) {
            Some(deadline) => subscription.ack_deadline = deadline.try_into().ok(),
            None => refuse("ack_deadline", "expected 10 s to 600 s"),
        }
        match subscription.max_attempts {
            0 => subscription.max_attempts = i32::try_from(DEFAULT_MAX_ATTEMPTS).unwrap_or(MAX_ATTEMPTS),
            1..=MAX_ATTEMPTS => {}
            _ => refuse("max_attempts", "expected 1 to 100, or 0 for 10"),
        }
    } else {
        if subscription.ack_deadline.is_some() {
            refuse("ack_deadline", "is of SHARED subscriptions: expected none");
        }
        if subscription.max_attempts != 0 {
            refuse("max_attempts", "is of SHARED subscriptions: expected none");
        }
    }
    let mut within = Vec::new();
    drop(Filter::parse(subscription.filter.clone().unwrap_or_default(), &mut within));
    wrong.extend(within.into_iter().map(|(field, problem)| (format!("subscription.{field}"), problem)));
}
