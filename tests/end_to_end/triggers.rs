//! Triggers: what TriggerService promises, and when triggers are looked after.

mod interleaved;
mod many;
mod shared;
mod stage;

use std::time::Duration;

use jiff::SignedDuration;
use postern_chassis::fault::reason_of;
use postern_proto::connection::v1::DeleteConnectionRequest;
use postern_proto::event::v1::trigger::Kind;
use postern_proto::event::v1::{
    CreateTriggerRequest, DeleteTriggerRequest, GetTriggerRequest, ListTriggersRequest, NudgeTriggerRequest,
    PauseTriggerRequest, ResumeTriggerRequest, Trigger, TriggerState, TryTriggerRequest,
    UpdateTriggerRequest,
};
use postern_proto::outlook::v1::{EventCreatedTrigger, NewEmailTrigger};
use postern_sandbox::graph::Fault;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::triggers::{HOUR, looked_after, status};
use crate::world::{OUTLOOK, SMTP, TRIGGER, World, events, mail, new_mail, send, subject, subscribe, until};

/// The trigger of [`new_mail`] with another interval.
fn each(interval: Duration) -> CreateTriggerRequest {
    let mut request = new_mail();
    request.trigger.as_mut().unwrap().interval = Some(interval.try_into().unwrap());
    request
}

fn violations(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|details| details.field_violations);
    violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nudge_makes_a_trigger_due_now() {
    let world = World::connected().await;
    world.triggers().create_trigger(each(HOUR)).await.unwrap();
    looked_after(&world.channel, "new-mail").await;
    let mut stream = subscribe(&world.channel, None).await;
    send(&world.channel, "", mail("Nudged")).await.unwrap();
    world.triggers().nudge_trigger(NudgeTriggerRequest { name: TRIGGER.to_owned() }).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "Nudged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_a_trigger_is_not_told() {
    let world = World::connected().await;
    // Received an hour ago: times have whole seconds, and what came in the second of the making may be told.
    world.place.world.set_clock_ahead(SignedDuration::from_hours(-1));
    send(&world.channel, "", mail("Old")).await.unwrap();
    world.place.world.set_clock_ahead(SignedDuration::ZERO);
    let mut stream = subscribe(&world.channel, None).await;
    world.triggers().create_trigger(new_mail()).await.unwrap();
    send(&world.channel, "", mail("New")).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "New");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_trigger_keeps_its_place_and_tells_later() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    triggers.create_trigger(new_mail()).await.unwrap();
    looked_after(&world.channel, "new-mail").await;
    let paused =
        triggers.pause_trigger(PauseTriggerRequest { name: TRIGGER.into(), ..Default::default() }).await;
    let paused = paused.unwrap().into_inner().trigger.unwrap();
    assert_eq!(paused.state(), TriggerState::Paused);
    assert_eq!(paused.status.unwrap().next_poll_time, None);
    let mut stream = subscribe(&world.channel, None).await;
    send(&world.channel, "", mail("Meanwhile")).await.unwrap();
    // A nudge does not wake it: the try below would find nothing left to tell if it had.
    triggers.nudge_trigger(NudgeTriggerRequest { name: TRIGGER.to_owned() }).await.unwrap();
    let tried = triggers.try_trigger(TryTriggerRequest { name: TRIGGER.into(), since: None }).await.unwrap();
    assert_eq!(tried.into_inner().events.iter().map(subject).collect::<Vec<_>>(), ["Meanwhile"]);
    triggers
        .resume_trigger(ResumeTriggerRequest { name: TRIGGER.into(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "Meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_shows_what_would_be_told_and_changes_nothing() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    triggers.create_trigger(each(HOUR)).await.unwrap();
    looked_after(&world.channel, "new-mail").await;
    send(&world.channel, "", mail("Tried")).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let tried =
            triggers.try_trigger(TryTriggerRequest { name: TRIGGER.into(), since: None }).await.unwrap();
        let tried = tried.into_inner();
        assert_eq!(tried.events.iter().map(subject).collect::<Vec<_>>(), ["Tried"]);
        assert!(tried.events[0].cursor.is_empty());
        ids.push(tried.events[0].id.clone());
    }
    let mut stream = subscribe(&world.channel, None).await;
    triggers.nudge_trigger(NudgeTriggerRequest { name: TRIGGER.to_owned() }).await.unwrap();
    let told = events(&mut stream, 1).await;
    assert_eq!(ids, [told[0].id.clone(), told[0].id.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_the_mask_names_and_nothing_else() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    let made = triggers.create_trigger(new_mail()).await.unwrap().into_inner().trigger.unwrap();
    let mask = |path: &str| Some(FieldMask { paths: vec![path.to_owned()] });
    let filter = NewEmailTrigger {
        subject_filter: "invoice".into(),
        folder_path: "Drafts".into(),
        ..Default::default()
    };
    let trigger = Trigger { name: TRIGGER.into(), kind: Some(Kind::NewEmail(filter)), ..Default::default() };
    let request = UpdateTriggerRequest {
        trigger: Some(trigger.clone()),
        update_mask: mask("new_email.subject_filter"),
        ..Default::default()
    };
    let changed = triggers.update_trigger(request).await.unwrap().into_inner().trigger.unwrap();
    let Some(Kind::NewEmail(kind)) = changed.kind.clone() else { panic!("another kind: {changed:?}") };
    assert_eq!((kind.subject_filter.as_str(), kind.folder_path.as_str()), ("invoice", ""));
    assert_eq!(changed.interval, made.interval);
    assert_ne!(changed.etag, made.etag);
    assert_ne!(changed.watch_time, made.watch_time);

    let stale = Trigger { etag: made.etag, ..trigger.clone() };
    let request = UpdateTriggerRequest { trigger: Some(stale), ..Default::default() };
    let refused = triggers.update_trigger(request).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    for path in ["name", "status", "new_email.nonsense", ""] {
        let request = UpdateTriggerRequest {
            trigger: Some(trigger.clone()),
            update_mask: mask(path),
            ..Default::default()
        };
        let refused = triggers.update_trigger(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{path}");
        assert_eq!(violations(&refused), ["update_mask"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_are_both_made() {
    let world = World::connected().await;
    let (mut triggers, mut others) = (world.triggers(), world.triggers());
    triggers.create_trigger(new_mail()).await.unwrap();
    // The update's check takes long enough for the pause to come between its reading and its writing.
    world.place.graph.faults().set_delay(Some(Duration::from_millis(500)));
    let trigger =
        Trigger { name: TRIGGER.into(), interval: Some(HOUR.try_into().unwrap()), ..Default::default() };
    let update = UpdateTriggerRequest { trigger: Some(trigger), ..Default::default() };
    let pause = PauseTriggerRequest { name: TRIGGER.into(), ..Default::default() };
    let (updated, paused) = tokio::join!(triggers.update_trigger(update), others.pause_trigger(pause));
    updated.unwrap();
    paused.unwrap();
    let request = GetTriggerRequest { name: TRIGGER.to_owned() };
    let trigger = triggers.get_trigger(request).await.unwrap().into_inner().trigger.unwrap();
    assert_eq!(trigger.state(), TriggerState::Paused);
    assert_eq!(trigger.interval, Some(HOUR.try_into().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_made_while_its_connection_goes_goes_with_it() {
    let world = World::connected().await;
    let (mut triggers, mut connections) = (world.triggers(), world.connections());
    world.place.graph.faults().set_delay(Some(Duration::from_secs(2)));
    let delete = DeleteConnectionRequest { name: OUTLOOK.into(), force: true, ..Default::default() };
    let (made, deleted) =
        tokio::join!(triggers.create_trigger(new_mail()), connections.delete_connection(delete));
    deleted.unwrap();
    assert_eq!(reason_of(&made.unwrap_err()), "CONNECTION_NOT_FOUND");
    let left = triggers.list_triggers(ListTriggersRequest::default()).await.unwrap().into_inner().triggers;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_trigger_is_said() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    let kind = |kind: Option<Kind>| {
        let mut request = new_mail();
        request.trigger.as_mut().unwrap().kind = kind;
        request
    };
    let condition = EventCreatedTrigger { filter: "subject is new".into(), ..Default::default() };
    let folder = NewEmailTrigger { folder_path: "Inbox/No such folder".into(), ..Default::default() };
    let cases = [
        (each(Duration::from_millis(10)), Code::InvalidArgument, "FIELD_INVALID", "trigger.interval"),
        (each(HOUR * 25), Code::InvalidArgument, "FIELD_INVALID", "trigger.interval"),
        (kind(None), Code::InvalidArgument, "FIELD_INVALID", "trigger.kind"),
        (
            kind(Some(Kind::EventCreated(condition))),
            Code::InvalidArgument,
            "FIELD_INVALID",
            "trigger.event_created.filter",
        ),
        (kind(Some(Kind::NewEmail(folder))), Code::NotFound, "FOLDER_NOT_FOUND", ""),
        (
            CreateTriggerRequest { connection: SMTP.into(), ..new_mail() },
            Code::InvalidArgument,
            "TRIGGER_KIND_UNSUPPORTED",
            "",
        ),
        (
            CreateTriggerRequest { connection: "connections/none".into(), ..new_mail() },
            Code::NotFound,
            "CONNECTION_NOT_FOUND",
            "",
        ),
        (
            CreateTriggerRequest { connection: "office".into(), ..new_mail() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "connection",
        ),
        (
            CreateTriggerRequest { trigger_id: "Not An Id".into(), ..new_mail() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "trigger_id",
        ),
    ];
    for (request, code, reason, field) in cases {
        let refused = triggers.create_trigger(request).await.unwrap_err();
        assert_eq!((refused.code(), reason_of(&refused).as_str()), (code, reason), "{refused:?}");
        assert_eq!(violations(&refused).first().map_or("", String::as_str), field, "{refused:?}");
    }
    let refused = triggers.get_trigger(GetTriggerRequest { name: TRIGGER.into() }).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::NotFound, "TRIGGER_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_listed_until_it_is_deleted() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    for number in 0..5 {
        let request = CreateTriggerRequest { trigger_id: format!("mail-{number}"), ..each(HOUR) };
        triggers.create_trigger(request).await.unwrap();
    }
    let twice =
        triggers.create_trigger(CreateTriggerRequest { trigger_id: "mail-1".into(), ..each(HOUR) }).await;
    assert_eq!(reason_of(&twice.unwrap_err()), "TRIGGER_EXISTS");

    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTriggersRequest { connection: OUTLOOK.into(), page_size: 2, page_token };
        let page = triggers.list_triggers(request).await.unwrap().into_inner();
        assert!(page.triggers.len() <= 2);
        seen.extend(page.triggers.into_iter().map(|trigger| trigger.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..5).map(|n| format!("{OUTLOOK}/triggers/mail-{n}")).collect::<Vec<_>>());

    let delete = DeleteTriggerRequest { name: seen[0].clone(), ..Default::default() };
    triggers.delete_trigger(delete.clone()).await.unwrap();
    assert_eq!(reason_of(&triggers.delete_trigger(delete).await.unwrap_err()), "TRIGGER_NOT_FOUND");

    let mut connections = world.connections();
    let delete = DeleteConnectionRequest { name: OUTLOOK.into(), ..Default::default() };
    let refused = connections.delete_connection(delete.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_str()),
        (Code::FailedPrecondition, "CONNECTION_IN_USE")
    );
    connections.delete_connection(DeleteConnectionRequest { force: true, ..delete }).await.unwrap();
    let left = triggers.list_triggers(ListTriggersRequest::default()).await.unwrap().into_inner().triggers;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_shows_in_the_status_and_heals() {
    let world = World::connected().await;
    let mut triggers = world.triggers();
    triggers.create_trigger(new_mail()).await.unwrap();
    looked_after(&world.channel, "new-mail").await;
    let refused = Fault::refuse(403, "ErrorAccessDenied", None);
    world.place.graph.faults().plan(None, "/delta", 1_000, refused);
    let failure =
        until("the failure shows", || async { status(&world.channel, "new-mail").await.last_failure }).await;
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::FailedPrecondition as i32, "PROVIDER_REFUSED")
    );
    world.place.graph.faults().forget();
    let mut stream = subscribe(&world.channel, None).await;
    send(&world.channel, "", mail("Late")).await.unwrap();
    assert_eq!(subject(&events(&mut stream, 1).await[0]), "Late");
}
