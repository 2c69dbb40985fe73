//! What a day is played on: a small Graph with mailboxes, Postern's processes, and in them connections and triggers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection::{Credentials, Settings as ConnectionSettings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{CreateTriggerRequest, ListTriggersRequest, Trigger};
use postern_proto::outlook::v1::outlook_credentials::SignIn;
use postern_proto::outlook::v1::{
    Cloud, CustomCloud, EventCreatedTrigger, EventModifiedTrigger, EventStartingSoonTrigger, NewEmailTrigger,
    OutlookCredentials, OutlookSettings,
};
use postern_sandbox::graph::{Allowance, Fault, GraphServer, GraphSettings};
use postern_sandbox::world::World;
use tonic::transport::Channel;

use crate::Settings;
use crate::processes::Postern;

/// How many mailboxes a connection reaches.
pub(crate) const MAILBOXES_A_CONNECTION: usize = 10;
/// How many triggers are made at once.
const MADE_AT_ONCE: usize = 8;
/// What a mailbox bears: a burst of mails meets it.
const ALLOWANCE: Allowance = Allowance { most: 60, within: Duration::from_secs(1) };
/// The shares of notifications that are lost, and that come twice.
const LOST: f64 = 0.1;
const DOUBLED: f64 = 0.1;

/// The day's stage.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) graph: Arc<GraphServer>,
    pub(crate) postern: Postern,
}

/// The address of a mailbox.
pub(crate) fn address(mailbox: usize) -> String {
    format!("m{mailbox:04}@example.org")
}

impl Stage {
    /// Sets it up.
    pub(crate) async fn set(settings: &Settings) -> Result<Self, BoxError> {
        let world = World::new();
        for mailbox in 0..settings.mailboxes {
            world.add_account(&address(mailbox), "Somebody");
        }
        let graph = Arc::new(GraphServer::start(GraphSettings::default(), world.clone()).await?);
        graph.recorder().keep(0);
        graph.throttle().allow_requests(Some(ALLOWANCE));
        let postern = Postern::start().await?;
        let channel = postern.moment().borrow().clone();
        for connection in 0..settings.mailboxes.div_ceil(MAILBOXES_A_CONNECTION) {
            connect(&channel, &graph, connection).await?;
        }
        let interval: prost_types::Duration = settings.interval.try_into()?;
        let making = (0..settings.mailboxes).flat_map(|mailbox| triggers(mailbox, interval));
        let making = making.map(|request| {
            let mut client = TriggerServiceClient::new(channel.clone());
            async move { client.create_trigger(request).await.map(drop) }
        });
        stream::iter(making).buffer_unordered(MADE_AT_ONCE).try_collect::<()>().await?;
        Ok(Self { world, graph, postern })
    }

    /// From now on requests fail and notifications go astray.
    pub(crate) fn disturb(&self, faults: f64, seed: u64) {
        let kinds = vec![
            Fault::Cut,
            Fault::CutAfter,
            Fault::CutAt(40),
            Fault::refuse(429, "activityLimitReached", Some("0.3")),
            Fault::refuse(500, "generalException", None),
            Fault::refuse(503, "serviceNotAvailable", None),
            Fault::refuse(504, "timeout", None),
            Fault::refuse(401, "InvalidAuthenticationToken", None),
            Fault::answer(502, "<html><body>Bad gateway</body></html>"),
            Fault::answer(200, "{\"value\": ["),
        ];
        self.graph.faults().show_at_random(faults, kinds, seed);
        self.graph.subscriptions().disturb(LOST, DOUBLED, seed);
    }
}

async fn connect(channel: &Channel, graph: &GraphServer, connection: usize) -> Result<(), BoxError> {
    let settings = GraphSettings::default();
    let outlook = OutlookSettings {
        tenant: settings.tenant,
        client_id: settings.client_id,
        mailbox: address(connection * MAILBOXES_A_CONNECTION),
        cloud: Cloud::Custom.into(),
        custom_cloud: Some(CustomCloud {
            graph_url: graph.url().into(),
            login_url: graph.url().into(),
            allow_plaintext: true,
            ..CustomCloud::default()
        }),
        ..OutlookSettings::default()
    };
    let sign_in = Some(SignIn::ClientSecret(settings.client_secret));
    let request = CreateConnectionRequest {
        connection_id: format!("office-{connection}"),
        connection: Some(Connection {
            settings: Some(ConnectionSettings::Outlook(outlook)),
            credentials: Some(Credentials::OutlookCredentials(OutlookCredentials { sign_in })),
            ..Connection::default()
        }),
        ..CreateConnectionRequest::default()
    };
    ConnectionServiceClient::new(channel.clone()).create_connection(request).await?;
    Ok(())
}

/// The triggers whose looks fail, and why: after the day none should.
pub(crate) async fn failing(channel: &Channel) -> Result<Vec<String>, BoxError> {
    let mut client = TriggerServiceClient::new(channel.clone());
    let (mut failing, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTriggersRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = client.list_triggers(request).await?.into_inner();
        for Trigger { name, status, .. } in page.triggers {
            let status = status.unwrap_or_default();
            if let Some(why) = status.last_failure.filter(|_| status.consecutive_failures > 2) {
                let times = status.consecutive_failures;
                failing.push(format!("{name} failed {times} times: {} {}", why.reason, why.message));
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(failing);
        }
    }
}

/// The triggers of a mailbox: one of each kind. Their ids end with the mailbox's number.
fn triggers(mailbox: usize, interval: prost_types::Duration) -> Vec<CreateTriggerRequest> {
    let whose = address(mailbox);
    let kinds = [
        ("mail", Kind::NewEmail(NewEmailTrigger { mailbox: whose.clone(), ..Default::default() })),
        ("made", Kind::EventCreated(EventCreatedTrigger { mailbox: whose.clone(), ..Default::default() })),
        (
            "changed",
            Kind::EventModified(EventModifiedTrigger { mailbox: whose.clone(), ..Default::default() }),
        ),
        (
            "soon",
            Kind::EventStartingSoon(EventStartingSoonTrigger {
                mailbox: whose,
                look_ahead_time_in_minutes: 1,
                ..Default::default()
            }),
        ),
    ];
    let request = |(id, kind)| CreateTriggerRequest {
        connection: format!("connections/office-{}", mailbox / MAILBOXES_A_CONNECTION),
        trigger_id: format!("{id}-{mailbox}"),
        trigger: Some(Trigger { interval: Some(interval), kind: Some(kind), ..Trigger::default() }),
        ..CreateTriggerRequest::default()
    };
    kinds.into_iter().map(request).collect()
}
