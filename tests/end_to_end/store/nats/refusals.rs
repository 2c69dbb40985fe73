//! Servers and streams that cannot be used.

use std::time::Duration;

use postern_gateway::store::nats::{Nats, NatsSettings, Servers};
use postern_gateway::store::{EventLog as _, Expect, Store as _, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::open;
use crate::outside;
use crate::store::conformance::{events, put};
use crate::store::nats_server::{NatsServer, of_stream};

/// Why it is refused.
async fn refusal(servers: &Servers, settings: &NatsSettings) -> String {
    match Nats::open(servers, settings).await {
        Err(StoreError::Unusable { place, problem }) => {
            assert!(place.starts_with(&servers.to_string()), "{place} {problem}");
            problem
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_refused_and_right_ones_are_not() {
    let more = "authorization { user: postern, password: secret-of-nats }\n";
    let Some(server) = NatsServer::start_with(more).await else { return };
    let with = |password: &str| NatsSettings {
        user: Some("postern".to_owned()),
        password: Some(password.to_owned().into()),
        ..of_stream("postern")
    };
    for settings in [of_stream("postern"), with("guessed")] {
        let problem = refusal(&server.servers(), &settings).await;
        assert!(problem.contains("refuses the credentials") && !problem.contains("guessed"), "{problem}");
    }
    let gateway = Nats::open(&server.servers(), &with("secret-of-nats")).await.unwrap();
    gateway.write(put("a", "value", Expect::Absent)).await.unwrap();
    assert!(!format!("{:?}", with("secret-of-nats")).contains("secret-of-nats"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_in() {
    let Some(server) = NatsServer::start_with("authorization { token: \"token-of-nats\" }\n").await else {
        return;
    };
    let settings = NatsSettings { token: Some("token-of-nats".to_owned().into()), ..of_stream("postern") };
    Nats::open(&server.servers(), &settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_small_messages_only_is_refused() {
    let Some(server) = NatsServer::start_with("max_payload: 500000\n").await else { return };
    let problem = refusal(&server.servers(), &of_stream("postern")).await;
    assert!(problem.contains("max_payload is 500000 bytes: expected"), "{problem}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = format!("nats://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let hello = "INFO {\"server_id\":\"x\",\"version\":\"2.11.9\",\"max_payload\":1048576,\"headers\":true}\r\n";
            client.write_all(hello.as_bytes()).await.unwrap();
            let mut said = [0; 4_096];
            while client.read(&mut said).await.is_ok_and(|bytes| bytes > 0) {
                client.write_all(b"PONG\r\n").await.unwrap();
            }
        }
    });
    let problem = refusal(&servers, &of_stream("postern")).await;
    assert!(problem.contains("version 2.11.9: expected 2.12 or newer"), "{problem}");
}

#[tokio::test]
async fn settings_that_do_not_go_together_are_refused_by_name() {
    let check = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(outside::program("gateway"));
        let checked = command.arg("check-config").args(more).output().await.unwrap();
        (checked.status.success(), String::from_utf8(checked.stderr).unwrap())
    };
    let nats = ["--store", "nats://127.0.0.1:4222"];
    let key = tempfile::NamedTempFile::new().unwrap();
    for (wrong, named) in [
        (&[][..], "--key-file"),
        (&["--nats-user", "postern"], "--nats-user"),
        (&["--nats-replicas", "2"], "--nats-replicas"),
        (&["--nats-stream", "a.b"], "--nats-stream"),
        (&["--nats-wait", "11m"], "--nats-wait"),
        (&["--nats-creds-file", "/nowhere"], "--nats-creds-file"),
        (&["--nats-ca-file", "/nowhere"], "--nats-ca-file"),
    ] {
        let (right, said) = check(&[&nats[..], wrong].concat()).await;
        assert!(!right && said.contains(named), "{wrong:?}: {said}");
    }
    let made = tokio::process::Command::new(outside::program("gateway")).arg("key").output().await.unwrap();
    std::fs::write(key.path(), made.stdout).unwrap();
    let (right, said) = check(&[&nats[..], &["--key-file", key.path().to_str().unwrap()]].concat()).await;
    assert!(right, "{said}");
    let (right, said) = check(&["--store", "nats://postern:secret@127.0.0.1"]).await;
    assert!(!right && said.contains("credentials do not belong in an address"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_of() {
    let servers = "nats://127.0.0.1:1".parse().unwrap();
    let impatient = NatsSettings { wait: Duration::from_secs(1), ..of_stream("postern") };
    let problem = refusal(&servers, &impatient).await;
    assert!(problem.contains("cannot be reached") && problem.contains("waited for 1s"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_another_program_is_refused_and_left_alone() {
    let Some(server) = NatsServer::start().await else { return };
    let client = async_nats::connect(server.servers().to_string()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let theirs = async_nats::jetstream::stream::Config {
        name: "theirs".to_owned(),
        subjects: vec!["theirs.>".to_owned()],
        ..Default::default()
    };
    context.create_stream(theirs).await.unwrap();
    let problem = refusal(&server.servers(), &of_stream("theirs")).await;
    assert!(problem.contains("another program's"), "{problem}");
    // Ours, changed so that it would lose what is acknowledged.
    open(&server).await.close().await.unwrap();
    let mut ours = context.get_stream("postern").await.unwrap().cached_info().config.clone();
    ours.max_messages = 1_000;
    context.update_stream(ours).await.unwrap();
    let problem = refusal(&server.servers(), &of_stream("postern")).await;
    assert!(problem.contains("max_msgs was changed"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_publish_there_is_passed_over() {
    let Some(server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    let client = async_nats::connect(server.servers().to_string()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    for subject in ["postern.e.1", "postern.h", "postern.else"] {
        context.publish(subject, "junk".into()).await.unwrap().await.unwrap();
        assert_eq!(gateway.append(events(subject, 2), Vec::new()).await.unwrap().stored, 2);
    }
    for gateway in [gateway, open(&server).await] {
        assert_eq!(gateway.bounds().await.unwrap().last, 6);
        assert_eq!(gateway.read(0, 100, 1 << 20).await.unwrap().len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_refuses_and_says_so() {
    let Some(server) = NatsServer::start().await else { return };
    let gateway = open(&server).await;
    gateway.close().await.unwrap();
    gateway.close().await.unwrap();
    let closed = |error: StoreError| assert!(error.to_string().contains("closed"), "{error}");
    closed(gateway.append(events("f", 1), Vec::new()).await.unwrap_err());
    closed(gateway.get("a").await.unwrap_err());
    closed(gateway.list("", "", 1).await.unwrap_err());
}
