//! Connections as callers keep them, and what the gateway does for them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use postern_chassis::fault::Fault;
use postern_gateway::store::{EventLog as _, Expect, Store as _, Write};
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::*;
use postern_proto::connector::v1::OpenConnection;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{ConnectionStateChanged, Event};
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};
use prost::Message as _;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::edge::{Edge, Fake, PATIENCE, SECRET, Said, Say, outlook, reason, smtp, until};

const OFFICE: &str = "connections/office";

fn fields(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request().expect("a BadRequest");
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() })
}

fn opened(said: &Said) -> Connection {
    OpenConnection::decode(&said.opened[..]).unwrap().connection.unwrap()
}

fn refused() -> Fault {
    Fault::new(Code::FailedPrecondition, "CREDENTIALS_REFUSED", "the provider says no")
}

impl Edge {
    async fn get(&self, name: &str) -> Result<Connection, Status> {
        let request = GetConnectionRequest { name: name.into() };
        Ok(self.client().get_connection(request).await?.into_inner().connection.unwrap())
    }

    async fn update(&self, connection: Connection, mask: Option<FieldMask>) -> Result<Connection, Status> {
        let request =
            UpdateConnectionRequest { connection: Some(connection), update_mask: mask, ..Default::default() };
        Ok(self.client().update_connection(request).await?.into_inner().connection.unwrap())
    }

    async fn check(&self, name: &str) -> Result<CheckConnectionResponse, Status> {
        let request = CheckConnectionRequest { name: name.into() };
        Ok(self.client().check_connection(request).await?.into_inner())
    }

    async fn delete(&self, name: &str, etag: &str, force: bool) -> Result<(), Status> {
        let request =
            DeleteConnectionRequest { name: name.into(), etag: etag.into(), force, ..Default::default() };
        self.client().delete_connection(request).await.map(|_| ())
    }

    async fn put(&self, key: &str) {
        let write = Write { key: key.into(), value: Some("x".into()), expect: Expect::Any };
        self.store.write(write).await.unwrap();
    }

    async fn office(&self) -> Result<Said, Status> {
        Ok(self.call("Unary", Say::to(OFFICE, "x")).await?.into_inner())
    }

    async fn states(&self) -> Vec<(String, ConnectionStateChanged)> {
        let events = self.store.read(0, 100, 1 << 20).await.unwrap();
        let events = events.into_iter().map(|event| Event::decode(event.encoded).unwrap());
        events
            .map(|event| {
                assert_eq!(event.r#type, "connection.state_changed");
                let Some(Kind::ConnectionStateChanged(changed)) = event.data.unwrap().kind else {
                    panic!("other data")
                };
                (event.source, changed)
            })
            .collect()
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_its_credentials_are_seen_by_its_connector_alone() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    let given =
        Connection { name: "connections/forged".into(), etag: "e".into(), kind: "k".into(), ..smtp() };
    let made = edge.create("billing", given).await.unwrap();
    assert_eq!((made.name.as_str(), made.kind.as_str()), ("connections/billing", "smtp"));
    assert_eq!(made.state(), ConnectionState::Ready);
    assert!(made.credentials.is_none() && made.create_time.is_some() && !made.etag.is_empty());
    assert_eq!(made.settings, smtp().settings);
    assert_eq!(edge.get("connections/billing").await.unwrap(), made);
    let request = ListConnectionsRequest::default();
    let listed = edge.client().list_connections(request).await.unwrap().into_inner().connections;
    assert_eq!(listed, std::slice::from_ref(&made));

    let said = edge.call("Unary", Say::new("x")).await.unwrap().into_inner();
    assert_eq!(opened(&said).credentials, smtp().credentials);
    edge.update(Connection { name: made.name.clone(), ..smtp() }, None).await.unwrap();
    edge.check(&made.name).await.unwrap();
    for file in std::fs::read_dir(edge.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
    let shown = format!("{:?} {:?}", edge.connections, edge.connections.open(&made.name).await.unwrap());
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn a_connection_that_cannot_be_kept_is_refused_with_its_fields() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    let create = async |id: &str, connection| edge.create(id, connection).await.unwrap_err();
    for (id, connection, field) in [
        ("Billing", smtp(), "connection_id"),
        ("billing", Connection { settings: None, ..smtp() }, "connection.settings"),
        (
            "billing",
            Connection { credentials: outlook().credentials, ..smtp() },
            "connection.outlook_credentials",
        ),
        ("billing", Connection { display_name: "n".repeat(129), ..smtp() }, "connection.display_name"),
    ] {
        let refused = create(id, connection).await;
        assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, "FIELD_INVALID".into()));
        assert_eq!(fields(&refused), [field]);
    }
    let settings = SmtpSettings { ca_certificates: "c".repeat(33 * 1024), ..Default::default() };
    let refused = create("billing", Connection { settings: Some(Settings::Smtp(settings)), ..smtp() }).await;
    assert_eq!(fields(&refused), ["connection"]);
    let refused = create("office", outlook()).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "CONNECTOR_MISSING".into()));

    fake.state.validate_refusal.lock().unwrap().replace(Fault::field("smtp.port", "is wrong"));
    assert_eq!(fields(&create("billing", smtp()).await), ["smtp.port"]);
    fake.state.validate_refusal.lock().unwrap().take();
    edge.billing().await;
    let refused = create("billing", smtp()).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::AlreadyExists, "CONNECTION_EXISTS".into()));
    let made = edge.create("", smtp()).await.unwrap();
    assert!(made.name.starts_with("connections/connection-"), "{}", made.name);
    let missing = edge.get("connections/nowhere").await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing)), (Code::NotFound, "CONNECTION_NOT_FOUND".into()));
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_the_next_call_has_it() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    let call = async || opened(edge.call("Unary", Say::new("x")).await.unwrap().get_ref());
    let Some(Settings::Smtp(before)) = call().await.settings else { panic!("other settings") };
    let wanted = |settings: SmtpSettings| Connection {
        name: "connections/billing".into(),
        display_name: "Other".into(),
        settings: Some(Settings::Smtp(settings)),
        ..Default::default()
    };
    let port = SmtpSettings { port: 2525, username: "other".into(), ..Default::default() };
    let updated = edge.update(wanted(port.clone()), mask(&["smtp.port"])).await.unwrap();
    assert_eq!(updated.display_name, "Billing");
    let expected = SmtpSettings { port: 2525, ..before.clone() };
    assert_eq!(updated.settings, Some(Settings::Smtp(expected.clone())));
    let seen = call().await;
    assert_eq!(seen.settings, Some(Settings::Smtp(expected)));
    assert_eq!(seen.credentials, smtp().credentials, "what was not named stays");

    let updated = edge.update(wanted(SmtpSettings { port: 26, ..Default::default() }), None).await.unwrap();
    assert_eq!(updated.display_name, "Other");
    assert_eq!(updated.settings, Some(Settings::Smtp(SmtpSettings { port: 26, ..before })));

    let credentials = Some(Credentials::SmtpCredentials(SmtpCredentials {
        password: "another".into(),
        ..Default::default()
    }));
    let named = Connection { name: "connections/billing".into(), ..Default::default() };
    let with = Connection { credentials: credentials.clone(), ..named.clone() };
    edge.update(with, mask(&["smtp_credentials"])).await.unwrap();
    assert_eq!(call().await.credentials, credentials);
    edge.update(named.clone(), mask(&["smtp_credentials"])).await.unwrap();
    assert_eq!(call().await.credentials, None);

    for path in ["state", "smtp_credentials.password", "smtp.colour", "name"] {
        let refused = edge.update(wanted(port.clone()), mask(&[path])).await.unwrap_err();
        assert_eq!(fields(&refused), ["update_mask"], "{path}");
    }
    let other = Connection { settings: outlook().settings, ..named.clone() };
    assert_eq!(fields(&edge.update(other, None).await.unwrap_err()), ["connection.settings"]);
    fake.state.validate_refusal.lock().unwrap().replace(Fault::field("smtp.port", "is wrong"));
    assert_eq!(fields(&edge.update(wanted(port), None).await.unwrap_err()), ["smtp.port"]);
    let renamed = edge.update(Connection { display_name: "New".into(), ..named }, None).await.unwrap();
    assert_eq!(renamed.display_name, "New", "a name is none of the connector's business");
}

#[tokio::test]
async fn an_etag_that_has_passed_is_refused() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    let made = edge.create("billing", smtp()).await.unwrap();
    let renamed = Connection { display_name: "New".into(), ..made.clone() };
    let updated = edge.update(renamed.clone(), mask(&["display_name"])).await.unwrap();
    assert_ne!(updated.etag, made.etag);
    let refused = edge.update(renamed, mask(&["display_name"])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Aborted, "ETAG_MISMATCH".into()));
    let refused = edge.delete(&made.name, &made.etag, false).await.unwrap_err();
    assert_eq!(reason(&refused), "ETAG_MISMATCH");
    edge.delete(&made.name, &updated.etag, false).await.unwrap();
    assert_eq!(edge.get(&made.name).await.unwrap_err().code(), Code::NotFound);
    let gone = edge.call("Unary", Say::new("x")).await.unwrap_err();
    assert_eq!(reason(&gone), "CONNECTION_NOT_FOUND");
}

#[tokio::test]
async fn a_connection_in_use_is_deleted_by_force_only_and_its_triggers_with_it() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    edge.create("billing-2", smtp()).await.unwrap();
    for key in ["triggers/billing/one", "triggers/billing-2/one", "polls/billing/one", "polls/billing-2/one"]
    {
        edge.put(key).await;
    }
    let refused = edge.delete("connections/billing", "", false).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "CONNECTION_IN_USE".into()));
    edge.delete("connections/billing", "", true).await.unwrap();
    let mut left = Vec::new();
    for prefix in ["connections/", "triggers/", "polls/"] {
        let entries = edge.store.list(prefix, "", 10).await.unwrap();
        left.extend(entries.into_iter().map(|entry| entry.key));
    }
    assert_eq!(left, ["connections/billing-2", "triggers/billing-2/one", "polls/billing-2/one"]);
}

#[tokio::test]
async fn connections_are_listed_by_pages() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    for number in 0..5 {
        edge.create(&format!("c-{number}"), smtp()).await.unwrap();
    }
    let list = async |page_size, page_token: String| {
        let request = ListConnectionsRequest { page_size, page_token };
        Ok::<_, Status>(edge.client().list_connections(request).await?.into_inner())
    };
    let (mut names, mut token) = (Vec::new(), String::new());
    for size in [2, 2, 1] {
        let page = list(2, token).await.unwrap();
        assert_eq!(page.connections.len(), size);
        names.extend(page.connections.into_iter().map(|connection| connection.name));
        token = page.next_page_token;
    }
    assert_eq!(token, "");
    assert_eq!(names, (0..5).map(|number| format!("connections/c-{number}")).collect::<Vec<_>>());
    assert_eq!(fields(&list(-1, String::new()).await.unwrap_err()), ["page_size"]);
    assert_eq!(fields(&list(2, "forged".into()).await.unwrap_err()), ["page_token"]);
}

#[tokio::test]
async fn those_who_need_a_grant_at_the_same_time_share_one() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    let calls = (0..20).map(|_| edge.office());
    for said in futures_util::future::join_all(calls).await {
        let grant = OpenConnection::decode(&said.unwrap().opened[..]).unwrap().grant;
        assert_eq!(grant, "grant-1");
    }
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);

    // Another gateway on the same store has it as well.
    let other = Edge::over(edge.folder.clone(), edge.store.clone(), &[fake.address()], None).await;
    other.connectors.all_described(PATIENCE).await;
    other.office().await.unwrap();
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);

    // It is good for what it was given for, and not beyond.
    edge.update(Connection { name: OFFICE.into(), ..outlook() }, None).await.unwrap();
    edge.office().await.unwrap();
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_change_made_by_another_gateway_holds_here() {
    let fake = Fake::of("smtp");
    let edge = Edge::before(&[&fake]).await;
    edge.billing().await;
    edge.call("Unary", Say::new("x")).await.unwrap();
    let other = Edge::over(edge.folder.clone(), edge.store.clone(), &[fake.address()], None).await;
    other.connectors.all_described(PATIENCE).await;
    let renamed =
        Connection { name: "connections/billing".into(), display_name: "New".into(), ..Default::default() };
    other.update(renamed, None).await.unwrap();
    until("the new name is seen", || async {
        opened(edge.call("Unary", Say::new("x")).await.unwrap().get_ref()).display_name == "New"
    })
    .await;
}

#[tokio::test]
async fn a_grant_is_renewed_ahead_of_its_end_without_a_call_waiting_for_it() {
    let fake = Fake::granting("outlook");
    fake.state.grant_life.lock().unwrap().replace(Duration::from_millis(2_500));
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    edge.office().await.unwrap();
    until("the grant is renewed", || async {
        edge.office().await.unwrap();
        fake.state.refreshes.load(Ordering::SeqCst) > 1
    })
    .await;
    // While it is out of reach, the grant that is there is used as long as it lasts.
    let away = Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "away");
    fake.state.refresh_refusal.lock().unwrap().replace(away);
    edge.office().await.unwrap();
    until("it has passed", || async {
        matches!(edge.office().await, Err(refused) if reason(&refused) == "PROVIDER_UNAVAILABLE")
    })
    .await;
    assert_eq!(edge.get(OFFICE).await.unwrap().state(), ConnectionState::Ready);
}

#[tokio::test]
async fn credentials_refused_for_good_turn_a_connection_and_new_ones_heal_it() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    fake.state.refresh_refusal.lock().unwrap().replace(refused());
    for _ in 0..3 {
        let status = edge.office().await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::FailedPrecondition, "CREDENTIALS_REFUSED".into())
        );
    }
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1, "the provider is asked no more");
    assert_eq!(edge.get(OFFICE).await.unwrap().state(), ConnectionState::NeedsSignIn);
    let turned = |state: ConnectionState, reason: &str| {
        (OFFICE.to_owned(), ConnectionStateChanged { state: state.into(), reason: reason.into() })
    };
    let first = turned(ConnectionState::NeedsSignIn, "CREDENTIALS_REFUSED");
    assert_eq!(edge.states().await, std::slice::from_ref(&first));

    fake.state.refresh_refusal.lock().unwrap().take();
    let renamed = Connection { name: OFFICE.into(), display_name: "Office".into(), ..Default::default() };
    edge.update(renamed, None).await.unwrap();
    assert_eq!(reason(&edge.office().await.unwrap_err()), "CREDENTIALS_REFUSED");
    let updated = edge.update(Connection { name: OFFICE.into(), ..outlook() }, None).await.unwrap();
    assert_eq!(updated.state(), ConnectionState::Ready);
    edge.office().await.unwrap();
    assert_eq!(edge.states().await, [first, turned(ConnectionState::Ready, "")]);
}

#[tokio::test]
async fn a_check_asks_the_provider_and_brings_the_state_up_to_date() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    fake.state.refresh_refusal.lock().unwrap().replace(refused());
    assert_eq!(reason(&edge.check(OFFICE).await.unwrap_err()), "CREDENTIALS_REFUSED");
    assert_eq!(edge.get(OFFICE).await.unwrap().state(), ConnectionState::NeedsSignIn);
    assert!(edge.check(OFFICE).await.is_err());
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 2, "a check asks each time");
    fake.state.refresh_refusal.lock().unwrap().take();
    let checked = edge.check(OFFICE).await.unwrap();
    assert_eq!((checked.account.as_str(), checked.details), ("billing", vec!["hello".to_owned()]));
    let connection = checked.connection.unwrap();
    assert_eq!(connection.state(), ConnectionState::Ready);
    assert_eq!(edge.get(OFFICE).await.unwrap(), connection);
    edge.office().await.unwrap();

    fake.state.check_refusal.lock().unwrap().replace(refused());
    assert_eq!(reason(&edge.check(OFFICE).await.unwrap_err()), "CREDENTIALS_REFUSED");
    assert_eq!(edge.get(OFFICE).await.unwrap().state(), ConnectionState::NeedsSignIn);
    assert_eq!(edge.states().await.len(), 3);
}

#[tokio::test]
async fn a_refresh_goes_on_when_the_call_that_wanted_it_is_gone() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    tokio::select! {
        _ = edge.office() => panic!("a refresh takes longer"),
        () = until("it is asked for", || async { fake.state.refreshes.load(Ordering::SeqCst) == 1 }) => {}
    }
    until("the grant is stored", || async { edge.store.get("grants/office").await.unwrap().is_some() }).await;
    edge.office().await.unwrap();
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);
}

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
