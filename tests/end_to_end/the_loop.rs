//! The whole loop: a mail sent over SMTP comes back as an Outlook event, over a restart too.

use postern_proto::event::v1::start_position::Position;

use crate::world::{World, events, mail, new_mail, send, subject, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_sent_over_smtp_comes_back_as_an_event() {
    let world = World::connected().await;
    world.triggers().create_trigger(new_mail()).await.unwrap();
    let mut stream = subscribe(&world.channel, None).await;
    let sent = send(&world.channel, "first", mail("First")).await.unwrap();
    let told = events(&mut stream, 1).await;
    assert_eq!(subject(&told[0]), "First");
    let Some(postern_proto::event::v1::event_data::Kind::NewEmail(email)) =
        told[0].data.clone().unwrap().kind
    else {
        panic!("no mail in the event");
    };
    assert_eq!(email.internet_message_id, sent.message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_resumes_from_its_cursor_across_a_restart() {
    let mut world = World::connected().await;
    world.triggers().create_trigger(new_mail()).await.unwrap();
    let mut stream = subscribe(&world.channel, None).await;
    send(&world.channel, "first", mail("First")).await.unwrap();
    let first = events(&mut stream, 1).await.remove(0);

    world.restart().await;
    send(&world.channel, "second", mail("Second")).await.unwrap();
    let mut stream = subscribe(&world.channel, Some(Position::Cursor(first.cursor.clone()))).await;
    let second = events(&mut stream, 1).await.remove(0);
    assert_eq!(subject(&second), "Second");
    assert_ne!(second.id, first.id);

    let mut stream = subscribe(&world.channel, Some(Position::Earliest(()))).await;
    let all: Vec<_> = events(&mut stream, 2).await.iter().map(subject).collect();
    assert_eq!(all, ["First", "Second"]);
}
