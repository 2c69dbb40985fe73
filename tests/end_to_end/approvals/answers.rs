//! Answers: who decides, and what the others are told.

use postern_proto::approval::v1::approval_policy::Kind as Policy;
use postern_proto::approval::v1::*;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::event::v1::start_position::Position;

use super::browser::Browser;
use super::stage::Stage;
use super::*;
use crate::world::{event_of, events, subscribe};

fn told(event: &Event) -> (&str, &Approval) {
    match event.data.as_ref().unwrap().kind.as_ref().unwrap() {
        Kind::ApprovalResponded(approval) | Kind::ApprovalEnded(approval) => (&event.r#type, approval),
        other => panic!("{other:?}"),
    }
}

fn policy(kind: Policy) -> Question {
    Question { policy: Some(ApprovalPolicy { kind: Some(kind) }), ..question(&[CARLA, DAN, EVE]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_wins_and_a_second_click_says_who_answered_and_what() {
    let stage = Stage::start().await;
    let mut stream = subscribe(&stage.channel, Some(Position::Earliest(()))).await;
    let name = ask(&stage.channel, question(&[CARLA, DAN])).await.name;
    let (carla, dan) = (stage.links_to(CARLA).await, stage.links_to(DAN).await);
    let mut slow = Browser::new();
    let form = slow.open(&dan[0]).await.form();
    Browser::new().answer(&carla[1]).await.says(200, &["Thank you", "“Reject” has been taken down"]);
    let now = get(&stage.channel, &name).await.unwrap();
    assert_eq!(
        (now.state(), &*now.selected_option, &*now.responder),
        (ApprovalState::Answered, "Reject", CARLA)
    );
    assert!(now.respond_time.is_some() && now.recipients[1].selected_option.is_empty());
    let when = jiff::Timestamp::from_second(now.respond_time.unwrap().seconds).unwrap();
    let when = when.strftime("carla@example.org answered “Reject” on %-d %B %Y, %H:%M UTC.").to_string();
    for link in [&carla[0], &carla[1], &dan[0], &dan[1]] {
        let page = Browser::new().open(link).await;
        page.says(200, &["Already answered", &when]);
        assert!(page.forms().is_empty());
    }
    slow.press(&dan[0], &form).await.says(409, &["carla@example.org answered “Reject”"]);
    assert_eq!(get(&stage.channel, &name).await.unwrap(), now);
    let responded = event_of(&mut stream, "approval.responded").await;
    assert_eq!((&*responded.source, told(&responded)), (&*name, ("approval.responded", &now)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_answers_at_the_same_time_one_wins() {
    let stage = Stage::start().await;
    let people: Vec<_> = (0..8).map(|number| format!("person-{number}@example.org")).collect();
    let name =
        ask(&stage.channel, question(&people.iter().map(String::as_str).collect::<Vec<_>>())).await.name;
    let mut links = Vec::new();
    for person in &people {
        links.push(stage.links_to(person).await.remove(0));
    }
    let answers = links.iter().map(|link| async move { Browser::new().answer(link).await.status.as_u16() });
    let mut statuses = futures_util::future::join_all(answers).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200][..], &[409; 7]].concat());
    let now = get(&stage.channel, &name).await.unwrap();
    assert_eq!(now.recipients.iter().filter(|it| !it.selected_option.is_empty()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_answers_where_everybody_has_to_and_each_answer_is_told() {
    let stage = Stage::start().await;
    let mut stream = subscribe(&stage.channel, Some(Position::Earliest(()))).await;
    let name = ask(&stage.channel, policy(Policy::Everybody(true))).await.name;
    let mut last = None;
    for (person, option, state) in [
        (DAN, 1, ApprovalState::Pending),
        (CARLA, 0, ApprovalState::Pending),
        (EVE, 0, ApprovalState::Answered),
    ] {
        let links = stage.links_to(person).await;
        let page = Browser::new().answer(&links[option]).await;
        page.says(200, &["Thank you"]);
        assert_eq!(page.text.contains("once others have answered"), state == ApprovalState::Pending);
        assert_eq!(get(&stage.channel, &name).await.unwrap().state(), state);
        // Once each, whatever the option.
        Browser::new().open(&links[1 - option]).await.says(200, &["Already answered", "You answered"]);
        last = Some(person);
    }
    let now = get(&stage.channel, &name).await.unwrap();
    // They differ: the last option of the list that anybody chose.
    assert_eq!((&*now.selected_option, Some(&*now.responder)), ("Reject", last));
    let page = Browser::new().open(&stage.links_to(EVE).await[1]).await;
    page.says(200, &["You answered “Approve”", "It was decided on “Reject”", "came from eve@example.org"]);
    let mut states = Vec::new();
    while states.len() < 3 {
        let some = events(&mut stream, 1).await;
        states
            .extend(some.iter().filter(|it| it.r#type == "approval.responded").map(|it| told(it).1.state()));
    }
    assert_eq!(states, [ApprovalState::Pending, ApprovalState::Pending, ApprovalState::Answered]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_decides_and_one_that_cannot_be_reached_ends_without_an_option() {
    let stage = Stage::start().await;
    let name = ask(&stage.channel, policy(Policy::Quorum(2))).await.name;
    for (person, option) in [(CARLA, 0), (DAN, 1), (EVE, 1)] {
        assert_eq!(get(&stage.channel, &name).await.unwrap().state(), ApprovalState::Pending);
        Browser::new().answer(&stage.links_to(person).await[option]).await.says(200, &[]);
    }
    let now = get(&stage.channel, &name).await.unwrap();
    assert_eq!((&*now.selected_option, &*now.responder), ("Reject", EVE));

    let (a, b) = ("a@example.org", "b@example.org");
    let both = Question { to: vec![a.into(), b.into()], ..policy(Policy::Quorum(2)) };
    let name = ask(&stage.channel, both).await.name;
    for (person, option) in [(a, 0), (b, 1)] {
        Browser::new().answer(&stage.links_to(person).await[option]).await.says(200, &[]);
    }
    let now = get(&stage.channel, &name).await.unwrap();
    assert_eq!((now.state(), &*now.selected_option), (ApprovalState::Answered, ""));
    Browser::new()
        .open(&stage.links_to(a).await[0])
        .await
        .says(200, &["You answered “Approve”", "did not agree"]);
}
