//! Triggers on what the office's connection watches: as tests make them, and how they fare.

use std::time::{Duration, SystemTime};

use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    CreateTriggerRequest, GetTriggerRequest, NudgeTriggerRequest, Trigger, TriggerStatus,
};
use postern_proto::outlook::v1::NewEmailTrigger;
use tonic::transport::Channel;

use super::{OUTLOOK, until};

/// An interval far longer than a test: what is looked at was asked for.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// The name of a trigger.
pub(crate) fn name(id: &str) -> String {
    format!("{OUTLOOK}/triggers/{id}")
}

/// A request for a trigger.
pub(crate) fn request(id: &str, interval: Duration, kind: Kind) -> CreateTriggerRequest {
    CreateTriggerRequest {
        connection: OUTLOOK.to_owned(),
        trigger_id: id.to_owned(),
        trigger: Some(Trigger {
            interval: Some(interval.try_into().unwrap()),
            kind: Some(kind),
            ..Trigger::default()
        }),
        ..CreateTriggerRequest::default()
    }
}

/// New mail in a folder, where nothing is said the Inbox, whose subject holds a word.
pub(crate) fn mail_in(folder_path: &str, subject_filter: &str) -> Kind {
    Kind::NewEmail(NewEmailTrigger {
        folder_path: folder_path.to_owned(),
        subject_filter: subject_filter.to_owned(),
        ..NewEmailTrigger::default()
    })
}

/// Makes a trigger.
pub(crate) async fn make(channel: &Channel, id: &str, interval: Duration, kind: Kind) {
    TriggerServiceClient::new(channel.clone()).create_trigger(request(id, interval, kind)).await.unwrap();
}

/// How a trigger fares, as a gateway says.
pub(crate) async fn status(channel: &Channel, id: &str) -> TriggerStatus {
    let request = GetTriggerRequest { name: name(id) };
    let got = TriggerServiceClient::new(channel.clone()).get_trigger(request).await.unwrap();
    got.into_inner().trigger.unwrap().status.unwrap()
}

/// Asks for a look.
pub(crate) async fn nudge(channel: &Channel, id: &str) {
    let request = NudgeTriggerRequest { name: name(id) };
    TriggerServiceClient::new(channel.clone()).nudge_trigger(request).await.unwrap();
}

/// Waits until a trigger was looked after.
pub(crate) async fn looked_after(channel: &Channel, id: &str) {
    until("it was looked after", || async { status(channel, id).await.last_poll_time }).await;
}

/// Waits until no look is asked for any more: of a trigger whose interval is an hour.
pub(crate) async fn at_rest(channel: &Channel, id: &str) {
    until("no look is due", || async {
        let next = SystemTime::try_from(status(channel, id).await.next_poll_time?).ok()?;
        (next > SystemTime::now() + HOUR / 2).then_some(())
    })
    .await;
}
