//! What is made before the weather turns bad: the connection, the triggers and the subscriptions.

use std::sync::Arc;
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscription_service_client::SubscriptionServiceClient;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    CreateSubscriptionRequest, CreateTriggerRequest, StartPosition, Subscription, SubscriptionMode, Trigger,
};
use postern_proto::outlook::v1::NewEmailTrigger;
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};

use super::TRIGGERS;
use crate::callers::CONNECTION;
use crate::machine::Gateway;
use crate::user::User;

/// Within what time a delivery is to be acknowledged: the least there is.
const ACK_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn make(gateway: Gateway, user: Option<Arc<User>>) -> Result<(), BoxError> {
    let mut connections = ConnectionServiceClient::new(gateway.doors.clone());
    let settings = SmtpSettings { server: "mail.example".into(), port: 587, ..SmtpSettings::default() };
    let connection = Connection {
        settings: Some(Settings::Smtp(settings)),
        credentials: Some(Credentials::SmtpCredentials(SmtpCredentials::default())),
        ..Connection::default()
    };
    let connection_id = CONNECTION.trim_start_matches("connections/").to_owned();
    let request =
        CreateConnectionRequest { connection_id, connection: Some(connection), ..Default::default() };
    connections.create_connection(request).await?;
    if let Some(user) = user {
        user.sign_in(&mut connections).await?;
    }
    let mut triggers = TriggerServiceClient::new(gateway.doors.clone());
    for (id, folder) in TRIGGERS {
        let wanted = NewEmailTrigger { folder_path: folder.to_owned(), ..NewEmailTrigger::default() };
        let trigger = Trigger {
            interval: Duration::from_secs(1).try_into().ok(),
            kind: Some(Kind::NewEmail(wanted)),
            ..Trigger::default()
        };
        let request = CreateTriggerRequest {
            connection: CONNECTION.to_owned(),
            trigger_id: id.to_owned(),
            trigger: Some(trigger),
            ..CreateTriggerRequest::default()
        };
        triggers.create_trigger(request).await?;
    }
    let mut subscriptions = SubscriptionServiceClient::new(gateway.doors);
    for (id, mode, max_attempts) in
        [("ordered", SubscriptionMode::Ordered, 0), ("shared", SubscriptionMode::Shared, 100)]
    {
        let ack_deadline = (mode == SubscriptionMode::Shared).then_some(ACK_DEADLINE);
        let subscription = Subscription {
            mode: mode.into(),
            max_attempts,
            ack_deadline: ack_deadline.and_then(|deadline| deadline.try_into().ok()),
            ..Subscription::default()
        };
        let request = CreateSubscriptionRequest {
            subscription_id: id.to_owned(),
            subscription: Some(subscription),
            start: Some(StartPosition { position: Some(Position::Earliest(())) }),
            ..CreateSubscriptionRequest::default()
        };
        subscriptions.create_subscription(request).await?;
    }
    Ok(())
}
