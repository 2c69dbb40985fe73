//! What retention has passed leaves the server, though removing it failed at first.

use std::time::Duration;

use futures_util::StreamExt as _;
use postern_gateway::store::nats::{Nats, NatsSettings};
use postern_gateway::store::{EventLog as _, Retention};

use crate::store::conformance::event;
use crate::store::nats_server::{NatsServer, of_stream};
use crate::world::until;

const ALL: Retention = Retention { age: Duration::from_secs(60), bytes: 0 };
/// Two users, one of whom may not remove anything.
const LIMITED: &str = "authorization { users: [
    { user: limited, password: secret, permissions: { publish: { deny: [\"$JS.API.STREAM.PURGE.>\"] } } },
    { user: free, password: secret }
] }\n";
/// The same, when both may.
const FREED: &str = "authorization { users: [
    { user: limited, password: secret }, { user: free, password: secret }
] }\n";

fn of_user(name: &str) -> NatsSettings {
    NatsSettings {
        user: Some(name.to_owned()),
        password: Some("secret".to_owned().into()),
        ..of_stream("postern")
    }
}

/// How many messages of events the server holds.
async fn kept(server: &NatsServer) -> usize {
    let options = async_nats::ConnectOptions::with_user_and_password("free".into(), "secret".into());
    let client = options.connect(server.servers().to_string()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("postern").await.unwrap();
    let subjects = stream.info_with_subjects("postern.e.>").await.unwrap();
    subjects.count().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_removed_is_removed_by_a_later_trim() {
    let Some(mut server) = NatsServer::start_with(LIMITED).await else { return };
    let limited = Nats::open(&server.servers(), &of_user("limited")).await.unwrap();
    for key in ["a", "b", "c"] {
        limited.append(vec![event(key)], Vec::new()).await.unwrap();
    }
    assert_eq!(limited.trim(ALL).await.unwrap(), 3);
    assert_eq!(kept(&server).await, 3);
    // Whoever comes later finds nothing to trim, and removes what was left.
    let free = Nats::open(&server.servers(), &of_user("free")).await.unwrap();
    assert_eq!(free.trim(ALL).await.unwrap(), 0);
    assert_eq!(kept(&server).await, 0);
    limited.append(vec![event("d")], Vec::new()).await.unwrap();
    assert_eq!(limited.trim(ALL).await.unwrap(), 1);
    assert_eq!(kept(&server).await, 1);
    // So does the one that failed, once it may; and what came since stays.
    limited.append(vec![event("e")], Vec::new()).await.unwrap();
    server.kill();
    server.set(FREED);
    server.run().await;
    let nothing = Retention { bytes: 1 << 20, ..ALL };
    until("what was left is removed", || async {
        assert_eq!(limited.trim(nothing).await.unwrap(), 0);
        (kept(&server).await == 1).then_some(())
    })
    .await;
    assert_eq!(limited.read(0, 10, 1 << 20).await.unwrap().len(), 1);
}
