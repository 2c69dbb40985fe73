//! What is logged, and what never is.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use postern_proto::connection::v1::Connection;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{OFFICE, refused};
use crate::edge::{Edge, Fake, SECRET, outlook};

/// Where logs go in the one test that reads them.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The texts by which a secret would be known: itself, and what of it is sure to stand in base64 of anything around it.
fn traces_of(secret: &str) -> Vec<String> {
    let encoded = (0..3).map(|shift| {
        let shifted = [&vec![b' '; shift][..], secret.as_bytes()].concat();
        let text = STANDARD_NO_PAD.encode(shifted);
        text[4..text.len() - 4].to_owned()
    });
    encoded.chain([secret.to_owned()]).collect()
}

// On the test's own thread, so that the logs of no other test mix in.
#[tokio::test]
async fn no_secret_is_ever_logged() {
    // Where there is but one subscriber, tracing asks the thread that first comes by a line whether it is wanted, and
    // keeps the answer for all: those of other tests want nothing. With another beside it, it asks each.
    let _beside = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let logs = Logs::default();
    let to = logs.clone();
    let levels = "debug,postern_gateway=trace,tonic=trace,tower=trace".parse::<Targets>().unwrap();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || to.clone());
    let _logging = tracing_subscriber::registry().with(layer.with_filter(levels)).set_default();

    let mut fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    edge.office().await.unwrap();
    edge.check(OFFICE).await.unwrap();
    fake.state.spent.store(1_000, Ordering::SeqCst);
    fake.state.refresh_refusal.lock().unwrap().replace(refused());
    let mut errors = vec![edge.office().await.unwrap_err(), edge.check(OFFICE).await.unwrap_err()];
    edge.update(Connection { name: OFFICE.into(), ..outlook() }, None).await.unwrap();
    fake.kill();
    errors.push(edge.office().await.unwrap_err());
    errors.push(edge.create("other", outlook()).await.unwrap_err());

    let logged = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    for expected in
        ["a connector said what it is", "a connection changed state", "a connector is not reached"]
    {
        assert!(logged.contains(expected), "the logs are not those of the gateway: {logged}");
    }
    let seen = format!("{logged} {errors:?} {:?}", edge.connections);
    for secret in [SECRET, "grant-1"] {
        for trace in traces_of(secret) {
            assert!(!seen.contains(&trace), "{trace} is shown");
        }
    }
}
