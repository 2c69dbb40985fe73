//! How a subscription is moved to another place.

use postern_proto::event::v1::{SeekSubscriptionRequest, Subscription};

use super::Subscriptions;
use super::stored::{self, Reading, id_of};
use crate::error::Error;
use crate::events::begin::{Begin, begin};
use crate::events::reading::expired;
use crate::events::wish::{self, Start};
use crate::names;

impl Subscriptions {
    pub(super) async fn seek(&self, request: SeekSubscriptionRequest) -> Result<Subscription, Error> {
        let mut wrong = Vec::new();
        super::consume::gather(&mut wrong, names::subscription("name", &request.name));
        if request.to.as_ref().is_none_or(|to| to.position.is_none()) {
            wrong.push(("to".to_owned(), "is absent: it is needed".to_owned()));
        }
        let start = Start::parse("to", request.to, &mut wrong)?;
        let ends_at_gap = wish::ends_at_gap(request.gap_policy, &mut wrong);
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        let id = id_of(&request.name);
        stored::read(&*self.store, id).await?;
        // The cursor of a place that is no longer kept leads to the same gap again.
        let Begin { opened, gap, .. } = begin(&*self.log, start).await?;
        if let Some(gap) = gap.as_ref().filter(|_| ends_at_gap) {
            return Err(expired(gap).into());
        }
        self.change_reading(id, |reading| {
            // What was replayed and is not acknowledged stays set aside.
            let replayed = reading.unsettled.iter().filter(|one| one.copy > 0).count();
            Ok(Some(Reading {
                cursor: opened.clone(),
                generation: reading.generation + 1,
                fence: reading.fence + 1,
                client_id: String::new(),
                unsettled: Vec::new(),
                gaps: Vec::new(),
                set_aside: reading.set_aside + replayed as u64,
                ..reading.clone()
            }))
        })
        .await?;
        self.get(&request.name).await
    }
}
