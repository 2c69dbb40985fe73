//! From the provider's change to its event in the log, as a subscriber sees it: pushed by a change notification, and
//! polled; for mail and for the calendar.

use std::time::Duration;

use http::Method;
use postern_chassis::serve::BoxError;
use postern_proto::connection::v1::connection_service_client::ConnectionServiceClient;
use postern_proto::connection::v1::{Connection, CreateConnectionRequest};
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::subscribe_response::Kind as Answer;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::trigger_service_client::TriggerServiceClient;
use postern_proto::event::v1::{
    CreateTriggerRequest, GetTriggerRequest, SubscribeRequest, SubscribeResponse, Trigger,
};
use postern_proto::outlook::v1::{EventCreatedTrigger, NewEmailTrigger};
use postern_sandbox::child::Gateway;
use postern_sandbox::place::{ANNA, BO, Place, PlaceSettings};
use serde_json::json;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::figures::{Table, millis, quantile};
use crate::peers::program;

const OUTLOOK: &str = "connections/office";
/// How many changes are pushed of each kind; the first few warm things up and do not count.
const PUSHED: usize = 110;
const WARM_UP: usize = 10;
/// How long from one pushed change to the next: slower than the pace that a flood of pushes is held to.
const APART: Duration = Duration::from_millis(270);
/// How many changes are polled for, of each kind.
const POLLED: usize = 30;
/// The interval that they are polled at.
const INTERVAL: Duration = Duration::from_secs(2);
/// How late a polled event may be, after the interval.
const LATE: Duration = Duration::from_secs(1);
/// Within what time 99 of 100 pushed events are to be told.
const PUSHED_GOAL: Duration = Duration::from_millis(150);
/// How long a trigger may take to be looked after and pushed.
const BEGIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures, and gives the section.
pub(crate) async fn section() -> Result<String, BoxError> {
    let columns = ["", "median", "99 of 100", "longest", "goal"];
    let mut table = Table::new("From the provider's change to its event", &columns);
    for (name, pushes, goal) in [
        ("pushed", true, format!("99 of 100 within {} ms", PUSHED_GOAL.as_millis())),
        ("polled", false, format!("all within {} s", (INTERVAL + LATE).as_secs())),
    ] {
        let (mails, entries) = measure(pushes).await?;
        for (what, mut times) in [("a new mail", mails), ("a new calendar entry", entries)] {
            if times.is_empty() {
                table.note(&format!(
                    "{}, {name}: not measured, for the connector has no such thing pushed.",
                    capital(what)
                ));
                continue;
            }
            let [median, most, longest] = [0.5, 0.99, 1.0].map(|q| quantile(&mut times, q));
            let is_met = if pushes { most <= PUSHED_GOAL } else { longest <= INTERVAL + LATE };
            let goal = format!("{goal}: {}", if is_met { "met" } else { "**missed**" });
            let figures = [median, most, longest].map(millis).to_vec();
            table.row(&[vec![format!("{what}, {name}")], figures, vec![goal]].concat());
        }
    }
    table.note(&format!(
        "From when the sandbox's mailbox has what is new until a subscriber of the gateway in another process reads the \
         event: the sandbox's change notification and the connector's check of it, or the rest of the interval of {} s; \
         the look (two requests to the sandbox's Graph); the durable append; the stream. {} changes of each kind pushed, \
         {} ms apart, and {POLLED} polled for, at random moments.",
        INTERVAL.as_secs(),
        PUSHED - WARM_UP,
        APART.as_millis(),
    ));
    Ok(table.markdown())
}

fn capital(text: &str) -> String {
    text.get(..1).map(str::to_uppercase).unwrap_or_default() + text.get(1..).unwrap_or_default()
}

/// How long the events of mails and of calendar entries take; none of what is not pushed though it should be.
async fn measure(pushes: bool) -> Result<(Vec<Duration>, Vec<Duration>), BoxError> {
    let free = "127.0.0.1:0".parse()?;
    let place = Place::start(PlaceSettings { listen_smtp: free, listen_graph: free, host: None }).await?;
    let folder = tempfile::tempdir()?;
    // Free a moment ago: whoever takes it in between makes the gateway say so.
    let http = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let url = format!("http://{http}");
    let lead = ["--http-listen", &http, "--public-url", &url];
    let lead: &[&str] = if pushes { &lead } else { &[] };
    let gateway = Gateway::start(&program("gateway")?, lead, "127.0.0.1:0", folder.path(), "error").await?;
    let channel = Channel::from_shared(format!("http://{}", gateway.address()))?.connect().await?;
    let (settings, credentials) = place.outlook_connection();
    let connection =
        Connection { settings: Some(settings), credentials: Some(credentials), ..Default::default() };
    let request = CreateConnectionRequest {
        connection_id: OUTLOOK.trim_start_matches("connections/").to_owned(),
        connection: Some(connection),
        ..Default::default()
    };
    ConnectionServiceClient::new(channel.clone()).create_connection(request).await?;
    let request = SubscribeRequest::default();
    let mut stream = EventServiceClient::new(channel.clone()).subscribe(request).await?.into_inner();
    let kinds = [
        ("mail", Kind::NewEmail(NewEmailTrigger::default())),
        ("entries", Kind::EventCreated(EventCreatedTrigger::default())),
    ];
    let mut begun = Vec::new();
    for (id, kind) in kinds {
        begun.push(begin(&channel, id, kind, pushes).await?);
    }

    let mut mails = Vec::new();
    let mut entries = Vec::new();
    for number in 0..if pushes { PUSHED } else { POLLED } {
        for (is_mail, times) in [(true, &mut mails), (false, &mut entries)] {
            if !begun[usize::from(!is_mail)] {
                continue;
            }
            let pause = if pushes { APART } else { INTERVAL.mul_f64(fastrand::f64()) };
            tokio::time::sleep(pause).await;
            let begun = Instant::now();
            if is_mail {
                let raw = format!("From: {BO}\r\nTo: {ANNA}\r\nSubject: Mail {number}\r\n\r\nHello\r\n");
                place.world.deliver(BO, &[ANNA.to_owned()], raw.as_bytes());
            } else {
                let time = |hour| json!({"dateTime": format!("2030-01-01T{hour}:00:00"), "timeZone": "UTC"});
                let entry = json!({"subject": format!("Entry {number}"), "start": time(10), "end": time(11)});
                let (status, body) = place.graph.perform(Method::POST, ANNA, "events", &entry);
                if status != 201 {
                    return Err(format!("the sandbox takes no entry: {status} {body}").into());
                }
            }
            tokio::time::timeout(PATIENCE, event(&mut stream)).await.map_err(|_| "no event came")??;
            if !pushes || number >= WARM_UP {
                times.push(begun.elapsed());
            }
        }
    }
    gateway.stop().await?;
    Ok((mails, entries))
}

/// Makes a trigger, and waits until it has been looked after and, where that is so, its provider pushes. Gives whether
/// that has come to be.
async fn begin(channel: &Channel, id: &str, kind: Kind, pushes: bool) -> Result<bool, BoxError> {
    let interval = if pushes { Duration::from_secs(3_600) } else { INTERVAL };
    let trigger = Trigger { interval: Some(interval.try_into()?), kind: Some(kind), ..Trigger::default() };
    let request = CreateTriggerRequest {
        connection: OUTLOOK.into(),
        trigger_id: id.into(),
        trigger: Some(trigger),
        ..Default::default()
    };
    let mut triggers = TriggerServiceClient::new(channel.clone());
    triggers.create_trigger(request).await?;
    let deadline = Instant::now() + BEGIN_PATIENCE;
    let name = format!("{OUTLOOK}/triggers/{id}");
    while Instant::now() < deadline {
        let request = GetTriggerRequest { name: name.clone() };
        let trigger = triggers.get_trigger(request).await?.into_inner().trigger.unwrap_or_default();
        let status = trigger.status.unwrap_or_default();
        if status.last_poll_time.is_some() && (!pushes || status.push_expire_time.is_some()) {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(false)
}

async fn event(stream: &mut Streaming<SubscribeResponse>) -> Result<(), BoxError> {
    loop {
        match stream.message().await?.and_then(|answer| answer.kind) {
            Some(Answer::Batch(_)) => return Ok(()),
            Some(Answer::Opened(_) | Answer::Heartbeat(_)) => {}
            other => return Err(format!("unexpected on the stream: {other:?}").into()),
        }
    }
}
