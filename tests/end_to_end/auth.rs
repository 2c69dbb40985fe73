//! Callers' tokens at the gateway's edge.

use std::sync::Arc;

use postern_gateway::auth::{Callers, new_token};
use postern_gateway::store::sqlite::Sqlite;
use postern_proto::connection::v1::ListConnectionsRequest;
use secrecy::ExposeSecret as _;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::edge::{Edge, Fake, SECRET, Say, reason, smtp, until};

#[tokio::test]
async fn without_a_good_token_nothing_is_reached_but_health() {
    let fake = Fake::of("smtp");
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().join("tokens");
    let (token, line) = new_token("billing").unwrap();
    std::fs::write(&path, line).unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let callers = Callers::read(&path).unwrap();
    let edge = Edge::over(folder, store, &[fake.address()], Some(callers)).await;
    edge.connectors.all_described(crate::edge::PATIENCE).await;

    let mut health = HealthClient::new(edge.channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();

    let refused = edge.client().list_connections(ListConnectionsRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, "TOKEN_MISSING".into()));
    let refused = edge.create("billing", smtp()).await.unwrap_err();
    assert_eq!(reason(&refused), "TOKEN_MISSING");
    let refused = edge.call("Unary", Say::new("echo")).await.unwrap_err();
    assert_eq!(reason(&refused), "TOKEN_MISSING");

    let with = |token: &str| {
        let mut request = Request::new(ListConnectionsRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    let refused = edge.client().list_connections(with(SECRET)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, "TOKEN_REFUSED".into()));
    assert!(!format!("{refused:?}").contains(SECRET));
    edge.client().list_connections(with(token.expose_secret())).await.unwrap();

    std::fs::write(&path, "").unwrap();
    until("a revoked token is refused", || async {
        edge.client().list_connections(with(token.expose_secret())).await.is_err()
    })
    .await;
}
