//! A subscriber that follows the log over every restart, from its cursor on, and keeps what it saw.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::{Event, StartPosition, SubscribeRequest, SubscribeResponse};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long to wait before a gateway that is not there is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the log may take to give what it holds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the subscriber saw so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Arc<Event>>>>);

impl Log {
    /// The events so far.
    pub(crate) fn events(&self) -> Vec<Arc<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Follows the log until it is aborted.
pub(crate) fn follow(moment: watch::Receiver<Channel>) -> (Log, JoinHandle<()>) {
    let log = Log::default();
    let seen = log.clone();
    let following = tokio::spawn(async move {
        let mut position = Position::Earliest(());
        loop {
            let channel = moment.borrow().clone();
            let Ok(mut stream) = open(&channel, position.clone()).await else {
                sleep(PAUSE).await;
                continue;
            };
            while let Ok(Some(answer)) = stream.message().await {
                let Some(Answer::Batch(batch)) = answer.kind else { continue };
                if let Some(last) = batch.events.last() {
                    position = Position::Cursor(last.cursor.clone());
                }
                let events = batch.events.into_iter().map(Arc::new);
                seen.0.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
            }
        }
    });
    (log, following)
}

/// The ids of the log's events from its beginning, `count` of them or more.
pub(crate) async fn read(channel: &Channel, count: usize) -> Result<Vec<String>, BoxError> {
    let mut stream = open(channel, Position::Earliest(())).await?;
    let mut ids = Vec::new();
    while ids.len() < count {
        let answer = timeout(PATIENCE, stream.message()).await.map_err(|_| "the log does not go on")??;
        if let Some(Answer::Batch(batch)) = answer.and_then(|answer| answer.kind) {
            ids.extend(batch.events.into_iter().map(|event| event.id));
        }
    }
    Ok(ids)
}

async fn open(channel: &Channel, position: Position) -> Result<Streaming<SubscribeResponse>, Status> {
    let start = Some(StartPosition { position: Some(position) });
    let request = SubscribeRequest { start, ..SubscribeRequest::default() };
    Ok(EventServiceClient::new(channel.clone()).subscribe(request).await?.into_inner())
}
