//! The metrics of the programs, as a collector sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use postern_proto::event::v1::consume_request::Kind as Say;
use postern_proto::event::v1::event_service_client::EventServiceClient;
use postern_proto::event::v1::start_position::Position;
use postern_proto::event::v1::subscription_service_client::SubscriptionServiceClient;
use postern_proto::event::v1::{PullRequest, SeekSubscriptionRequest};
use postern_sandbox::child::Gateway;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::outside;
use crate::ports::Port;
use crate::subscriptions::world::{
    NAME, Subscriber, at, create as create_subscription, cursor_of, ordered, start,
};
use crate::world::{OUTLOOK, SMTP, connect, create, events, mail, new_mail, place, send, subscribe, until};

/// How long what was done may take to be counted.
const A_WHILE: Duration = Duration::from_secs(10);

/// What is answered to a request for a path.
async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// The page that a program tells at an address.
pub(crate) async fn page(address: SocketAddr) -> String {
    let answer = until("metrics are told", || get(address, "/metrics")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    body.to_owned()
}

/// The value of a series. 0 where there is none.
pub(crate) fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

fn is(page: &str, series: &str, expected: f64) -> bool {
    (value(page, series) - expected).abs() < 1e-9
}

/// The page once each of these series has its value, or after a while without it.
async fn standing_page(address: SocketAddr, exact: &[(String, f64)]) -> String {
    let end = Instant::now() + A_WHILE;
    loop {
        let page = page(address).await;
        if Instant::now() > end || exact.iter().all(|(series, expected)| is(&page, series, *expected)) {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The families of a page with their help and kind. It asserts that each sample stands in its family.
fn families(page: &str) -> BTreeMap<String, (String, String)> {
    let mut families = BTreeMap::new();
    let (mut name, mut help) = (String::new(), String::new());
    for line in page.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            let (named, text) = said.split_once(' ').unwrap();
            (name, help) = (named.to_owned(), text.to_owned());
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let (named, kind) = said.split_once(' ').unwrap();
            assert_eq!(named, name, "a kind without its help");
            let known = families.insert(name.clone(), (kind.to_owned(), help.clone()));
            assert_eq!(known, None, "{name} is there twice");
        } else if line != "# EOF" {
            let sample = line.split(['{', ' ']).next().unwrap();
            let suffix = sample.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} is not {name}"));
            let suffixes: &[&str] = match families[&name].0.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{line}");
        }
    }
    assert!(page.ends_with("# EOF\n"));
    families
}

fn from_the_first() -> SeekSubscriptionRequest {
    let to = at(Position::Earliest(()));
    SeekSubscriptionRequest { name: NAME.to_owned(), to, ..SeekSubscriptionRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_and_told_under_documented_names() {
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let port = Port::keep();
    let (told, listen) = (port.address, port.address.to_string());
    let program = outside::program("gateway");
    let lead = ["--metrics-listen", listen.as_str()];
    let gateway = Gateway::start(&program, &lead, "127.0.0.1:0", folder.path(), "error").await.unwrap();
    let channel = connect(gateway.address()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    create(&channel, OUTLOOK, place.outlook_connection()).await.unwrap();
    let mut triggers =
        postern_proto::event::v1::trigger_service_client::TriggerServiceClient::new(channel.clone());
    triggers.create_trigger(new_mail()).await.unwrap();
    let mut stream = subscribe(&channel, None).await;
    send(&channel, "counted-1", mail("Counted")).await.unwrap();
    send(&channel, "counted-1", mail("Counted")).await.unwrap();
    send(&channel, "counted-1", mail("Another")).await.unwrap_err();
    send(&channel, "a blank", mail("Never")).await.unwrap_err();
    events(&mut stream, 1).await;
    // A stored subscription's readers count like others.
    let mut subscriptions = SubscriptionServiceClient::new(channel.clone());
    subscriptions.create_subscription(create_subscription(ordered())).await.unwrap();
    let mut reader = EventServiceClient::new(channel.clone());
    let mut consuming = Subscriber::begin(reader.clone(), Say::Start(start("a"))).await;
    consuming.opened().await;
    let got = consuming.deliveries(1).await;
    consuming.commit(&cursor_of(&got[0])).await;
    consuming.confirmed().await;
    subscriptions.seek_subscription(from_the_first()).await.unwrap();
    assert_eq!(consuming.end().await.code(), tonic::Code::Aborted);
    let pull = PullRequest { subscription: NAME.into(), client_id: "a".into(), ..PullRequest::default() };
    assert_eq!(reader.pull(pull).await.unwrap().into_inner().deliveries.len(), 1);
    let mut consuming = Subscriber::begin(reader, Say::Start(start("b"))).await;
    consuming.opened().await;
    consuming.deliveries(1).await;

    let of = "program=\"gateway\",service=\"postern.smtp.v1.SmtpService\",method=\"SendEmail\"";
    let subscribed = "{program=\"gateway\",service=\"postern.event.v1.EventService\",method=\"Subscribe\"}";
    let exact = [
        (format!("postern_calls_total{{{of},code=\"OK\"}}"), 2.0),
        (format!("postern_calls_total{{{of},code=\"INVALID_ARGUMENT\"}}"), 2.0),
        (format!("postern_calls_in_flight{subscribed}"), 1.0),
        ("postern_ledger_changes_total{outcome=\"new\"}".into(), 1.0),
        ("postern_ledger_changes_total{outcome=\"repeat_answered\"}".into(), 1.0),
        ("postern_ledger_changes_total{outcome=\"refused\"}".into(), 1.0),
        ("postern_smtp_sends_total{outcome=\"taken\"}".into(), 1.0),
        ("postern_smtp_sockets_opened_total".into(), 1.0),
        ("postern_smtp_sockets_open".into(), 1.0),
        ("postern_events_appended_total".into(), 1.0),
        ("postern_events_delivered_total".into(), 4.0),
        ("postern_subscribers".into(), 2.0),
        ("postern_subscriber_lag_events".into(), 0.0),
        ("postern_log_last_sequence".into(), 1.0),
        ("postern_polls_total{outcome=\"failed\"}".into(), 0.0),
        ("postern_store_failures_total".into(), 0.0),
    ];
    // Whoever was served hears of it before it is counted, or that a stream has ended.
    let page = standing_page(told, &exact).await;
    for (series, expected) in exact {
        assert!(is(&page, &series, expected), "{series} is not {expected}:\n{page}");
    }
    for series in [
        "postern_forwarded_bytes_total{direction=\"to_connector\"}",
        "postern_forwarded_bytes_total{direction=\"to_caller\"}",
        "postern_polls_total{outcome=\"answered\"}",
        "postern_graph_requests_total{status=\"2xx\"}",
        "postern_store_commit_duration_seconds_count",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "process_open_fds",
    ] {
        assert!(value(&page, series) > 0.0, "{series} is not counted:\n{page}");
    }
    assert_eq!(page.matches("postern_connector_reached{").count(), 2);

    // The document names each of them, and none that is not there.
    let families = families(&page);
    assert!(families.values().all(|(_, help)| !help.is_empty()));
    let document = std::fs::read_to_string(crate::invariants::root().join("docs/metrics.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<_> = rows.map(|(name, _)| name.split('{').next().unwrap().to_owned()).collect();
    let suffixed = families.iter().map(|(name, (kind, _))| match kind.as_str() {
        "counter" => format!("{name}_total"),
        _ => name.clone(),
    });
    assert_eq!(suffixed.collect::<BTreeSet<_>>(), documented);
    // What callers choose, and what mails hold, is in none of them.
    for secret in ["counted-1", "connections/", "Counted", "@"] {
        assert!(!page.contains(secret), "{secret} is told:\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_for_metrics_gives_nothing_else() {
    let (folder, port) = (tempfile::tempdir().unwrap(), Port::keep());
    let told = port.address;
    let (listen, program) = (told.to_string(), outside::program("gateway"));
    let lead = ["--metrics-listen", listen.as_str()];
    let _gateway = Gateway::start(&program, &lead, "127.0.0.1:0", folder.path(), "error").await.unwrap();
    for path in ["/", "/metrics/x", "/v1/x"] {
        assert!(get(told, path).await.unwrap().starts_with("HTTP/1.1 404"), "{path}");
    }
    // A second gateway finds the address taken, and says which setting that is.
    let other = tempfile::tempdir().unwrap();
    let refused = std::process::Command::new(&program)
        .args(["--metrics-listen", &listen, "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(other.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--metrics-listen"), "{said}");
}
