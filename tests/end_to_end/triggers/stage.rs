//! A gateway before a fake provider that holds looks until they are let go.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use postern_gateway::settings::Settings;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    DeleteTriggerRequest, PauseTriggerRequest, ResumeTriggerRequest, SubscribeResponse, Trigger,
    TriggerStatus, UpdateTriggerRequest,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::edge::{Fake, outlook};
use crate::world::triggers::{self, HOUR, mail_in, name};
use crate::world::{OUTLOOK, connect, create, events, subject, subscribe, until};

/// The folder that most is put in.
pub(super) const FOLDER: &str = "inbox";
/// As many folders as looks of a connection are made at once.
const OTHERS: [&str; 4] = ["one", "two", "three", "four"];

/// A gateway before a fake provider.
pub(super) struct Stage {
    pub(super) fake: Fake,
    pub(super) channel: Channel,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
    /// What was told, and not asked for yet.
    stream: Streaming<SubscribeResponse>,
    ids: BTreeSet<String>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(fake: &Fake, folder: &tempfile::TempDir) -> (Channel, CancellationToken, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut arguments: Vec<OsString> = vec!["gateway".into(), "--stop-grace".into(), "1s".into()];
    arguments.extend(["--connectors".into(), format!("http://{}", fake.address()).into()]);
    arguments.extend(["--data-dir".into(), folder.path().join("data").into()]);
    let (settings, stop) = (Settings::parse_from(arguments), CancellationToken::new());
    let serving = postern_gateway::serve::serve(listener, settings, stop.clone());
    let serving = tokio::spawn(async move { serving.await.unwrap() });
    (connect(address).await, stop, serving)
}

impl Stage {
    /// A stage with a connection and a trigger `steady` that has looked at the folder.
    pub(super) async fn set() -> Self {
        let (fake, folder) = (Fake::of("outlook"), tempfile::tempdir().unwrap());
        let (channel, stop, serving) = serve(&fake, &folder).await;
        let connection = outlook();
        let parts = (connection.settings.unwrap(), connection.credentials.unwrap());
        create(&channel, OUTLOOK, parts).await.unwrap();
        let stream = subscribe(&channel, None).await;
        let serving = Some(serving);
        let stage = Self { fake, channel, folder, stop, serving, stream, ids: BTreeSet::new() };
        stage.make("steady", FOLDER, "").await;
        stage.looked("steady").await;
        stage
    }

    pub(super) fn triggers(&self) -> TriggerServiceClient<Channel> {
        TriggerServiceClient::new(self.channel.clone())
    }

    pub(super) fn put(&self, thing: &str) {
        self.fake.state.watching.put(FOLDER, thing);
    }

    pub(super) async fn make(&self, id: &str, folder_path: &str, filter: &str) {
        triggers::make(&self.channel, id, HOUR, mail_in(folder_path, filter)).await;
    }

    pub(super) async fn status(&self, id: &str) -> TriggerStatus {
        triggers::status(&self.channel, id).await
    }

    pub(super) async fn looked(&self, id: &str) {
        triggers::looked_after(&self.channel, id).await;
    }

    pub(super) async fn nudge(&self, id: &str) {
        triggers::nudge(&self.channel, id).await;
    }

    /// Has a look of the folder begin, which waits until it is let go.
    pub(super) async fn begin_a_look(&self) {
        triggers::at_rest(&self.channel, "steady").await;
        let watching = &self.fake.state.watching;
        let looks = watching.looks(FOLDER);
        watching.hold(FOLDER);
        self.nudge("steady").await;
        watching.begun(FOLDER, looks + 1).await;
    }

    pub(super) async fn pause(&self, id: &str) {
        let request = PauseTriggerRequest { name: name(id), ..Default::default() };
        self.triggers().pause_trigger(request).await.unwrap();
    }

    pub(super) async fn resume(&self, id: &str) {
        let request = ResumeTriggerRequest { name: name(id), ..Default::default() };
        self.triggers().resume_trigger(request).await.unwrap();
    }

    /// Has a trigger tell of what holds another word.
    pub(super) async fn filter(&self, id: &str, filter: &str) {
        let trigger = Trigger { name: name(id), kind: Some(mail_in(FOLDER, filter)), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["new_email".into()] });
        let request = UpdateTriggerRequest { trigger: Some(trigger), update_mask, ..Default::default() };
        self.triggers().update_trigger(request).await.unwrap();
    }

    pub(super) async fn delete(&self, id: &str) {
        let request = DeleteTriggerRequest { name: name(id), ..Default::default() };
        self.triggers().delete_trigger(request).await.unwrap();
    }

    /// Takes the places of all looks of the connection; the next one waits for its turn.
    pub(super) async fn take_all_places(&self) {
        for folder in OTHERS {
            self.fake.state.watching.hold(folder);
            self.make(folder, folder, "").await;
            self.fake.state.watching.begun(folder, 1).await;
        }
    }

    pub(super) fn give_back_all_places(&self) {
        OTHERS.into_iter().for_each(|folder| self.fake.state.watching.let_go(folder));
    }

    /// Waits until a trigger has been due for a while: a look for it has begun, and waits for its turn.
    pub(super) async fn due(&self, id: &str) {
        until("it is due", || async {
            let due = SystemTime::try_from(self.status(id).await.next_poll_time?).unwrap();
            (due + Duration::from_millis(100) < SystemTime::now()).then_some(())
        })
        .await;
    }

    /// Waits until all these are told, each by its trigger. Whatever else is told must be told once.
    pub(super) async fn told(&mut self, expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut missing: BTreeSet<_> =
            expected.iter().map(|(id, thing)| (name(id), (*thing).to_owned())).collect();
        let mut all = Vec::new();
        while !missing.is_empty() {
            for event in events(&mut self.stream, 1).await {
                assert!(self.ids.insert(event.id.clone()), "told twice: {event:?}");
                let told = (event.trigger.clone(), subject(&event));
                missing.remove(&told);
                all.push(told);
            }
        }
        all
    }

    pub(super) async fn restart(&mut self) {
        self.stop.cancel();
        self.serving.take().unwrap().await.unwrap();
        let (channel, stop, serving) = serve(&self.fake, &self.folder).await;
        let stream = subscribe(&channel, None).await;
        (self.channel, self.stop, self.serving, self.stream) = (channel, stop, Some(serving), stream);
    }
}
