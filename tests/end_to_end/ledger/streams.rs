//! Streams with one answer, made once: large mails repeated, broken off, and cut by the gateway's death.

use std::path::Path;

use postern_chassis::fault::reason_of;
use postern_proto::smtp::v1::smtp_service_client::SmtpServiceClient;
use postern_proto::smtp::v1::{SendLargeEmailRequest, SendLargeEmailResponse};
use postern_sandbox::child::Gateway;
use postern_sandbox::place::Place;
use postern_sandbox::smtp::{Action, Stage, Times};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::outside;
use crate::smtp::large::{chunks, content, first, large};
use crate::world::{SMTP, World, connect, create, mail, place, until};

/// How many bytes are attached.
const SIZE: usize = 600_000;

/// A large mail, in parts.
fn parts(request_id: &str, subject: &str, bytes: &[u8]) -> Vec<SendLargeEmailRequest> {
    let mut beginning = first(request_id, mail(subject), vec![large("a.bin", SIZE)]);
    beginning.connection = SMTP.to_owned();
    [vec![beginning], chunks(0, bytes)].concat()
}

async fn send(
    channel: &Channel,
    parts: Vec<SendLargeEmailRequest>,
) -> Result<SendLargeEmailResponse, Status> {
    let mut client = SmtpServiceClient::new(channel.clone());
    Ok(client.send_large_email(tokio_stream::iter(parts)).await?.into_inner())
}

/// Begins a mail on a runtime of its own, and goes away without a word once the connector has it in hand.
async fn begin_and_vanish(address: String, place: &Place, parts: Vec<SendLargeEmailRequest>) {
    let caller = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    caller.spawn(async move {
        let mut client = SmtpServiceClient::new(connect(address).await);
        client.send_large_email(tokio_stream::iter(parts).chain(tokio_stream::pending())).await
    });
    // The server is asked for its SIZE once the first message is there.
    until("the mail has begun", || async { (place.smtp.control().connections_opened() > 0).then_some(()) })
        .await;
    caller.shutdown_background();
}

async fn start(folder: &Path) -> Gateway {
    Gateway::start(&outside::program("gateway"), &[], "127.0.0.1:0", folder, "error").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_is_sent_once_and_another_one_under_its_id_is_refused() {
    let mut world = World::connected().await;
    let bytes = content(5, SIZE);
    let answer = send(&world.channel, parts("large-1", "Once", &bytes)).await.unwrap();
    assert_eq!(send(&world.channel, parts("large-1", "Once", &bytes)).await.unwrap(), answer);
    world.restart().await;
    assert_eq!(send(&world.channel, parts("large-1", "Once", &bytes)).await.unwrap(), answer);

    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let longer = [&bytes[..], b"x"].concat();
    for (subject, bytes) in
        [("Once", &changed[..]), ("Once", &longer), ("Once", &bytes[..SIZE - 1]), ("Another", &bytes)]
    {
        let refused = send(&world.channel, parts("large-1", subject, bytes)).await.unwrap_err();
        let said = (refused.code(), reason_of(&refused));
        assert_eq!(
            said,
            (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()),
            "{subject} {}",
            bytes.len()
        );
    }
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_of_a_large_mail_at_the_same_time_share_one_sending() {
    let world = World::connected().await;
    let bytes = content(6, SIZE);
    let calls = (0..4).map(|_| {
        let (channel, parts) = (world.channel.clone(), parts("large-2", "Shared", &bytes));
        tokio::spawn(async move { send(&channel, parts).await.unwrap() })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers.dedup();
    assert_eq!((answers.len(), world.place.smtp.accepted().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_that_was_refused_leaves_its_id_free() {
    let world = World::connected().await;
    let bytes = content(7, SIZE);
    let refused = send(&world.channel, parts("large-3", "Short", &bytes[..10])).await.unwrap_err();
    assert_eq!(reason_of(&refused), "FIELD_INVALID");
    send(&world.channel, parts("large-3", "Corrected", &bytes)).await.unwrap();
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_that_its_caller_broke_off_is_tried_anew() {
    let world = World::connected().await;
    let bytes = content(8, SIZE);
    let begun = parts("large-4", "Again", &bytes[..SIZE / 2]);
    begin_and_vanish(world.address().to_string(), &world.place, begun).await;
    send(&world.channel, parts("large-4", "Again", &bytes)).await.unwrap();
    assert_eq!(world.place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_cut_by_the_gateways_death_is_tried_anew_while_its_end_was_not_handed_over() {
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let gateway = start(folder.path()).await;
    create(&connect(gateway.address()).await, SMTP, place.smtp_connection()).await.unwrap();
    let bytes = content(9, SIZE);
    let begun = parts("large-5", "Again", &bytes);
    let mut client = SmtpServiceClient::new(connect(gateway.address()).await);
    // All bytes are there; that they were all is not said.
    let sending = tokio::spawn(async move {
        client.send_large_email(tokio_stream::iter(begun).chain(tokio_stream::pending())).await
    });
    until("it has begun", || async { (place.smtp.control().connections_opened() > 0).then_some(()) }).await;
    gateway.kill().await.unwrap();
    sending.await.unwrap().unwrap_err();
    let gateway = start(folder.path()).await;
    let channel = connect(gateway.address()).await;
    send(&channel, parts("large-5", "Again", &bytes)).await.unwrap();
    send(&channel, parts("large-5", "Again", &bytes)).await.unwrap();
    assert_eq!(place.smtp.accepted().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_cut_by_the_gateways_death_after_its_end_is_of_unknown_outcome() {
    let (place, folder) = (place().await, tempfile::tempdir().unwrap());
    let gateway = start(folder.path()).await;
    let channel = connect(gateway.address()).await;
    create(&channel, SMTP, place.smtp_connection()).await.unwrap();
    place.smtp.control().at(Stage::Message, Action::Silence, Times::Once);
    let bytes = content(10, SIZE);
    let whole = parts("large-6", "Perhaps", &bytes);
    let sending = tokio::spawn(async move { send(&channel, whole).await });
    place.smtp.delivered(1).await.unwrap();
    gateway.kill().await.unwrap();
    sending.await.unwrap().unwrap_err();
    let gateway = start(folder.path()).await;
    let channel = connect(gateway.address()).await;
    for _ in 0..2 {
        let unknown = send(&channel, parts("large-6", "Perhaps", &bytes)).await.unwrap_err();
        assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::Unknown, "OUTCOME_UNKNOWN"));
    }
    let reused = send(&channel, parts("large-6", "Perhaps", &content(11, SIZE))).await.unwrap_err();
    assert_eq!(reason_of(&reused), "REQUEST_ID_REUSED");
    assert_eq!(place.smtp.accepted().len(), 1);
}
