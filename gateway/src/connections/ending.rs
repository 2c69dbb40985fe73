//! What a connection's end owes its provider: that it pushes no more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use postern_proto::connector::v1::EndNotificationRequest;
use prost::Message as _;
use tokio::time::Instant;

use super::Room;
use super::opened::Freshness;
use super::record::id_of;
use crate::error::Error;
use crate::notifications::record::{NOTIFICATIONS, Record};

/// How long the ends may take in all: what is not ended expires by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many are ended at most, and at once.
const MOST: usize = 256;
const AT_ONCE: usize = 4;

impl Room {
    /// Has the provider of a connection push no more, as far as it can be reached.
    pub(super) async fn end_notifications(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let records = self.store.list(&format!("{NOTIFICATIONS}{}/", id_of(name)), "", MOST).await?;
        let agreed: Vec<_> = records
            .into_iter()
            .filter_map(|entry| Record::decode(entry.value).ok())
            .map(|record| record.notification)
            .filter(|notification| !notification.is_empty())
            .collect();
        if agreed.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let ending = async {
            let opened = self.load(name).await?;
            let opened = match opened.freshness() {
                Freshness::Spent => self.refresh(&opened).await?,
                _ => opened,
            };
            let end = |notification| {
                let request = EndNotificationRequest { notification };
                self.call(&opened, deadline, request, |mut connector, request| async move {
                    connector.end_notification(request).await
                })
            };
            let ended: Vec<_> =
                stream::iter(agreed.into_iter().map(end)).buffer_unordered(AT_ONCE).collect().await;
            Ok::<_, Error>(ended.iter().filter(|ended| ended.is_err()).count())
        };
        match tokio::time::timeout_at(deadline, ending).await {
            Ok(Ok(0)) => {}
            _ => tracing::warn!(connection.name = name, "notifications were not ended: they will expire"),
        }
        Ok(())
    }
}
