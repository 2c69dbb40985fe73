//! Grants and the state of a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_chassis::fault::Fault;
use postern_gateway::store::Store as _;
use postern_proto::connection::v1::connection::Settings;
use postern_proto::connection::v1::{Connection, ConnectionState};
use postern_proto::connector::v1::OpenConnection;
use postern_proto::event::v1::ConnectionStateChanged;
use postern_proto::outlook::v1::OutlookSettings;
use prost::Message as _;
use prost_types::FieldMask;
use tonic::Code;

use super::{OFFICE, opened, refused};
use crate::edge::{Edge, Fake, PATIENCE, Say, outlook, reason, until};

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
    // A newer one than the call before used is there before the call that uses it: none waited for it.
    let newest = AtomicU64::new(1);
    until("the grant is renewed", || async {
        let made = fake.state.refreshes.load(Ordering::SeqCst);
        let grant = OpenConnection::decode(&edge.office().await.unwrap().opened[..]).unwrap().grant;
        let used: u64 = String::from_utf8_lossy(&grant).trim_start_matches("grant-").parse().unwrap();
        newest.swap(used, Ordering::SeqCst) < used && made == used
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
async fn a_configuration_that_is_refused_is_told_apart_from_a_sign_in_that_is_needed() {
    let fake = Fake::granting("outlook");
    let edge = Edge::before(&[&fake]).await;
    edge.create("office", outlook()).await.unwrap();
    let expired = Fault::new(Code::FailedPrecondition, "CONFIGURATION_REFUSED", "the secret has expired");
    fake.state.refresh_refusal.lock().unwrap().replace(expired.clone());
    for _ in 0..3 {
        let status = edge.office().await.unwrap_err();
        let told = (status.code(), reason(&status));
        assert_eq!(told, (Code::FailedPrecondition, "CONFIGURATION_REFUSED".into()));
    }
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1, "the provider is asked no more");
    let state = || async { edge.get(OFFICE).await.unwrap().state() };
    assert_eq!(state().await, ConnectionState::Misconfigured);
    // A check asks, and so finds that it is the user's turn now.
    fake.state.refresh_refusal.lock().unwrap().replace(refused());
    assert_eq!(reason(&edge.check(OFFICE).await.unwrap_err()), "CREDENTIALS_REFUSED");
    assert_eq!(state().await, ConnectionState::NeedsSignIn);
    fake.state.refresh_refusal.lock().unwrap().replace(expired);
    assert_eq!(reason(&edge.check(OFFICE).await.unwrap_err()), "CONFIGURATION_REFUSED");
    assert_eq!(state().await, ConnectionState::Misconfigured);

    // Another name mends nothing; other settings may, without new credentials.
    fake.state.refresh_refusal.lock().unwrap().take();
    let renamed = Connection { name: OFFICE.into(), display_name: "Office".into(), ..Default::default() };
    edge.update(renamed, None).await.unwrap();
    assert_eq!(reason(&edge.office().await.unwrap_err()), "CONFIGURATION_REFUSED");
    let other = OutlookSettings { tenant: "another".into(), ..OutlookSettings::default() };
    let settings = Some(Settings::Outlook(other));
    let mended = Connection { name: OFFICE.into(), settings, ..Default::default() };
    let mask = FieldMask { paths: vec!["outlook.tenant".into()] };
    assert_eq!(edge.update(mended, Some(mask)).await.unwrap().state(), ConnectionState::Ready);
    edge.office().await.unwrap();
    let told: Vec<_> = edge.states().await.into_iter().map(|(_, it)| (it.state(), it.reason)).collect();
    let refused = [
        (ConnectionState::Misconfigured, "CONFIGURATION_REFUSED".to_owned()),
        (ConnectionState::NeedsSignIn, "CREDENTIALS_REFUSED".to_owned()),
        (ConnectionState::Misconfigured, "CONFIGURATION_REFUSED".to_owned()),
        (ConnectionState::Ready, String::new()),
    ];
    assert_eq!(told, refused);
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
        // Where both have come about on a busy machine, the call is dropped all the same.
        biased;
        () = until("it is asked for", || async { fake.state.refreshes.load(Ordering::SeqCst) == 1 }) => {}
        _ = edge.office() => panic!("a refresh takes longer"),
    }
    until("the grant is stored", || async { edge.store.get("grants/office").await.unwrap().is_some() }).await;
    edge.office().await.unwrap();
    assert_eq!(fake.state.refreshes.load(Ordering::SeqCst), 1);
}
