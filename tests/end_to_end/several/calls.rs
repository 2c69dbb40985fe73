//! Calls to several gateways on one store: a change is made once, a grant is refreshed once, whoever is asked.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, UpdateConnectionRequest};
use prost_types::FieldMask;
use tonic::{Code, Request};

use super::on_each_engine;
use super::stage::{Gateway, Stage};
use crate::edge::{Fake, Say, ask};
use crate::store::conformance::Engine;
use crate::world::{OUTLOOK, until};

on_each_engine!(
    a_grant_is_refreshed_once_for_all_gateways,
    a_change_of_a_connection_holds_at_once_at_every_gateway,
    a_change_is_made_once_whichever_gateways_are_asked,
    a_repeat_waits_for_the_gateway_that_makes_the_change_and_asks_again_once_that_is_dead,
    a_repeat_of_what_cannot_be_asked_again_is_told_so_once_its_gateway_is_dead,
);

/// A method that changes nothing twice over: it carries no request id that the ledger heeds.
const ECHO: &str = "/test.echo.v1.EchoService/Unary";
/// A change that its connector can be asked for again, and one that it cannot.
const REPEATABLE: &str = "/postern.outlook.v1.MailService/SendEmail";
const ONCE_ONLY: &str = "/postern.smtp.v1.SmtpService/SendEmail";

fn say(request_id: &str, text: &str) -> Request<Say> {
    Request::new(Say { request_id: request_id.to_owned(), ..Say::to(OUTLOOK, text) })
}

async fn a_grant_is_refreshed_once_for_all_gateways<E: Engine>(apart: bool) {
    let Some((stage, gateways)) = Stage::<E>::set(Fake::granting("outlook"), 3, apart).await else { return };
    let refreshes = || stage.fake.state.refreshes.load(Ordering::SeqCst);
    let all_call = || async {
        let calls = gateways.iter().flat_map(|gateway| (0..8).map(move |_| gateway));
        for said in join_all(calls.map(|gateway| ask(&gateway.channel, ECHO, say("", "x")))).await {
            said.unwrap();
        }
    };
    all_call().await;
    assert_eq!(refreshes(), 1);
    // A token that is refused is renewed once too, and the caches of all forget the old one.
    for round in 2..5 {
        stage.fake.state.spent.store(round - 1, Ordering::SeqCst);
        all_call().await;
        assert_eq!(refreshes(), round);
    }
    // Whoever has claimed the refresh and died is not waited for.
    let mut gateways = gateways;
    gateways[0].kill();
    stage.fake.state.spent.store(4, Ordering::SeqCst);
    ask(&gateways[1].channel, ECHO, say("", "x")).await.unwrap();
    assert_eq!(refreshes(), 5);
}

async fn a_change_of_a_connection_holds_at_once_at_every_gateway<E: Engine>(apart: bool) {
    let Some((_stage, gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    for round in 0..5 {
        let (changing, seeing) = (&gateways[round % 2], &gateways[(round + 1) % 2]);
        ask(&seeing.channel, ECHO, say("", "cached")).await.unwrap();
        let display_name = format!("round {round}");
        let connection = Connection { name: OUTLOOK.into(), display_name, ..Connection::default() };
        let update_mask = Some(FieldMask { paths: vec!["display_name".into()] });
        let request =
            UpdateConnectionRequest { connection: Some(connection), update_mask, ..Default::default() };
        ConnectionServiceClient::new(changing.channel.clone()).update_connection(request).await.unwrap();
        until("the other sends the new one", || async {
            let said = ask(&seeing.channel, ECHO, say("", "x")).await.unwrap().into_inner();
            let opened = String::from_utf8_lossy(&said.opened).contains(&format!("round {round}"));
            opened.then_some(())
        })
        .await;
    }
}

async fn a_change_is_made_once_whichever_gateways_are_asked<E: Engine>(apart: bool) {
    let Some((stage, gateways)) = Stage::<E>::set(Fake::of("outlook"), 3, apart).await else { return };
    for round in 0..10 {
        let calls = gateways.iter().flat_map(|gateway| (0..4).map(move |_| gateway));
        let id = format!("request-{round}");
        let said = join_all(calls.map(|gateway| ask(&gateway.channel, ONCE_ONLY, say(&id, &id)))).await;
        assert!(said.into_iter().all(|said| said.unwrap().into_inner().text == id));
        assert_eq!(stage.fake.state.begun.load(Ordering::SeqCst), round + 1);
    }
}

/// Waits until a change hangs at the connector, made by one gateway, and asks for it at another.
async fn repeated_elsewhere<E: Engine>(
    stage: &Stage<E>,
    gateways: &[Gateway],
    path: &'static str,
) -> tokio::task::JoinHandle<Result<Say, tonic::Status>> {
    let (first, second) = (gateways[0].channel.clone(), gateways[1].channel.clone());
    tokio::spawn(async move { ask(&first, path, say("a", "hang-once")).await.map(drop) });
    until("it has begun", || async { (stage.fake.state.begun.load(Ordering::SeqCst) == 1).then_some(()) })
        .await;
    let repeat = tokio::spawn(async move {
        let said = ask(&second, path, say("a", "hang-once")).await?.into_inner();
        Ok(Say { text: said.metadata.join("\n"), ..Say::default() })
    });
    // Long enough for a repeat that does not wait to be made.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!repeat.is_finished());
    assert_eq!(stage.fake.state.begun.load(Ordering::SeqCst), 1);
    repeat
}

async fn a_repeat_waits_for_the_gateway_that_makes_the_change_and_asks_again_once_that_is_dead<E: Engine>(
    apart: bool,
) {
    let Some((stage, mut gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    let repeat = repeated_elsewhere(&stage, &gateways, REPEATABLE).await;
    gateways[0].kill();
    let said = tokio::time::timeout(crate::world::PATIENCE, repeat).await.unwrap().unwrap().unwrap();
    assert!(said.text.contains("postern-repeat: 1"), "{}", said.text);
    assert_eq!(stage.fake.state.begun.load(Ordering::SeqCst), 2);
}

async fn a_repeat_of_what_cannot_be_asked_again_is_told_so_once_its_gateway_is_dead<E: Engine>(apart: bool) {
    let Some((stage, mut gateways)) = Stage::<E>::set(Fake::of("outlook"), 2, apart).await else { return };
    let repeat = repeated_elsewhere(&stage, &gateways, ONCE_ONLY).await;
    gateways[0].kill();
    let unknown = tokio::time::timeout(crate::world::PATIENCE, repeat).await.unwrap().unwrap().unwrap_err();
    assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    assert_eq!(stage.fake.state.begun.load(Ordering::SeqCst), 1);
}
