//! Connections as callers keep them, and what the gateway does for them.

use postern_chassis::fault::Fault;
use postern_gateway::store::{EventLog as _, Expect, Store as _, Write};
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::*;
use postern_proto::connector::v1::OpenConnection;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::{ConnectionStateChanged, Event};
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings};
use prost::Message as _;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::edge::{Edge, Fake, SECRET, Said, Say, outlook, reason, smtp};
use crate::world::{self, World};

mod grants;
mod logs;
mod unstored;

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
async fn when_a_connection_was_last_used_is_told() {
    let world = World::connected().await;
    let mut client = ConnectionServiceClient::new(world.channel.clone());
    let request = GetConnectionRequest { name: world::SMTP.to_owned() };
    let unused = client.get_connection(request.clone()).await.unwrap().into_inner().connection.unwrap();
    assert_eq!(unused.last_use_time, None);
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(1);
    world::send(&world.channel, "", world::mail("used")).await.unwrap();
    let used = client.get_connection(request).await.unwrap().into_inner().connection.unwrap();
    assert!(std::time::SystemTime::try_from(used.last_use_time.unwrap()).unwrap() >= before);
    assert_eq!(used.etag, unused.etag, "to be used is no change");
    let list = client.list_connections(ListConnectionsRequest::default()).await.unwrap().into_inner();
    assert!(list.connections.iter().any(|it| it.name == world::SMTP && it.last_use_time.is_some()));
}
