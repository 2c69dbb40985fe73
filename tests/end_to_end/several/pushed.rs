//! What a provider pushes, to whichever gateway: the one that looks after the watch sees to its notification and looks.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use postern_gateway::seal::KeyRing;
use postern_sandbox::place::Place;

use super::on_each_engine;
use super::stage::{Gateway, Shared, divided, launch};
use super::way::Way;
use crate::client::Relay;
use crate::store::conformance::Engine;
use crate::world::{OUTLOOK, SMTP, create, events, mail, place, send, subject, subscribe, until};

/// How often something was asked of the provider's subscriptions.
fn asked(place: &Place, method: &str) -> usize {
    let exchanges = place.graph.recorder().exchanges();
    let is = |url: &str| url.starts_with("/v1.0/subscriptions");
    exchanges.iter().filter(|exchange| exchange.method == method && is(&exchange.url)).count()
}

on_each_engine!(what_is_pushed_to_any_gateway_is_told_at_once);

async fn what_is_pushed_to_any_gateway_is_told_at_once<E: Engine>(apart: bool) {
    let Some(shared) = Shared::<E>::start(apart).await else { return };
    let (folder, place) = (tempfile::tempdir().unwrap(), place().await);
    let keys = folder.path().join("keys");
    KeyRing::read_or_make(&keys).unwrap();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let doors = [0, 1].map(|_| std::net::TcpListener::bind(free).unwrap());
    let mut gateways: Vec<Gateway> = Vec::new();
    let mut relays = Vec::new();
    for own in 0..2 {
        // What a gateway asks to have pushed comes to the other.
        let relay = Relay::before(doors[1 - own].local_addr().unwrap()).await;
        let arguments: [OsString; 4] =
            ["--key-file".into(), keys.clone().into(), "--public-url".into(), relay.url().into()];
        relays.push(relay);
        let (store, log) = shared.open().await;
        let way = Way::new(store, log);
        let http = Some(doors[own].try_clone().unwrap());
        gateways.push(launch(way, arguments, http).await);
    }
    create(&gateways[0].channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&gateways[0].channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    let id = "inbox".to_owned();
    gateways[0].make(&id, Duration::from_secs(3_600)).await;
    let owner = divided(&gateways.iter().collect::<Vec<_>>(), std::slice::from_ref(&id)).await[&id];
    for gateway in &gateways {
        until("its provider pushes", || async { gateway.status(&id).await.push_expire_time }).await;
        until("it was looked after", || async { gateway.status(&id).await.last_poll_time }).await;
    }
    assert_eq!(asked(&place, "POST"), 1);
    let other = gateways.remove(1 - owner);
    let mut stream = subscribe(&other.channel, None).await;
    for number in 0..3 {
        send(&other.channel, "", mail(&format!("pushed {number}"))).await.unwrap();
        assert_eq!(subject(&events(&mut stream, 1).await[0]), format!("pushed {number}"));
    }
    // Who takes over has it pushed to itself, and what was agreed before is ended.
    relays[1 - owner].lead_to(doors[1 - owner].local_addr().unwrap());
    gateways.remove(0).stop().await;
    until("another is agreed on", || async { (asked(&place, "POST") == 2).then_some(()) }).await;
    until("it is stored", || async {
        let looks_after = other.looks_after(&id).await;
        (looks_after && other.status(&id).await.push_expire_time.is_some()).then_some(())
    })
    .await;
    send(&other.channel, "", mail("pushed again")).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "pushed again");
    until("the one before is ended", || async { (asked(&place, "DELETE") > 0).then_some(()) }).await;
    assert_eq!((asked(&place, "DELETE"), place.graph.subscriptions().count()), (1, 1));
}
