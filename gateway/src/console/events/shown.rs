//! One event as people are shown it: what happened, what it is about, and the whole of it.

use std::sync::LazyLock;

use postern_proto::FILE_DESCRIPTOR_SET;
use postern_proto::connection::v1::ConnectionState;
use postern_proto::event::v1::Event;
use postern_proto::event::v1::event_data::Kind;
use postern_proto::mail::v1::Failure;
use postern_proto::outbox::v1::GetQueuedEmailRequest;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::console::api::Api;
use crate::console::approvals::state_word;
use crate::console::show::{clock, exact};

/// How many bytes of HTML take a frame of each height: short, middle, else tall. A frame that may do nothing cannot tell
/// how tall it is.
const SHORT_HTML: usize = 300;
const MIDDLE_HTML: usize = 2_000;
/// How many recipients of a mail are named.
const NAMED: usize = 3;

static DESCRIPTORS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// An event as it is shown.
pub(crate) struct Shown {
    pub(crate) time: String,
    pub(crate) exact: String,
    /// What happened, in words.
    pub(crate) title: &'static str,
    pub(crate) event_type: String,
    pub(crate) source: String,
    /// What it is about, in a few words.
    pub(crate) about: String,
    /// The whole of it, as JSON.
    pub(crate) json: String,
    /// The body of a mail, where it is HTML: shown in a frame that may do nothing.
    pub(crate) html: String,
}

impl Shown {
    /// An event, by what it holds and what the outbox knows of the mail that it is about.
    pub(crate) async fn of(event: Event, api: &Api) -> Self {
        let kind = event.data.as_ref().and_then(|data| data.kind.as_ref());
        let html = match kind {
            Some(Kind::NewEmail(email)) if email.is_html => email.body.clone(),
            _ => String::new(),
        };
        let about = match kind {
            Some(kind) => about(kind, api).await,
            None => String::new(),
        };
        let time = event.record_time.as_ref().or(event.time.as_ref());
        Self {
            time: clock(time),
            exact: exact(time),
            title: title(&event.r#type),
            about,
            json: json(&event),
            html,
            event_type: event.r#type,
            source: event.source,
        }
    }

    /// How tall the frame of its mail is.
    pub(crate) fn height(&self) -> &'static str {
        match self.html.len() {
            0..SHORT_HTML => "short",
            SHORT_HTML..MIDDLE_HTML => "middle",
            _ => "tall",
        }
    }
}

fn title(event_type: &str) -> &'static str {
    match event_type {
        "email.received" => "Mail received",
        "email.delivered" => "Mail delivered",
        "email.deferred" => "Mail deferred",
        "email.failed" => "Mail failed",
        "calendar_event.created" => "Calendar entry created",
        "calendar_event.modified" => "Calendar entry changed",
        "calendar_event.starting_soon" => "Calendar entry starts soon",
        "connection.state_changed" => "Connection changed",
        "trigger.gap" => "Gap in a trigger's events",
        "approval.responded" => "Approval answered",
        "approval.ended" => "Approval ended",
        _ => "Event",
    }
}

async fn about(kind: &Kind, api: &Api) -> String {
    match kind {
        Kind::NewEmail(email) => {
            let from = email.from.as_ref().map(|from| from.address.as_str()).unwrap_or_default();
            format!("{from}: {}", email.subject)
        }
        Kind::EventCreated(entry) | Kind::EventStartingSoon(entry) => entry.subject.clone(),
        Kind::EventModified(modified) => {
            let subject = modified.event.as_ref().map(|entry| entry.subject.as_str()).unwrap_or_default();
            format!("{subject} ({})", modified.changed_fields.join(", "))
        }
        Kind::ConnectionStateChanged(changed) => match changed.state() {
            ConnectionState::Ready => "it is ready".to_owned(),
            _ if changed.reason.is_empty() => "it needs a sign-in".to_owned(),
            _ => format!("it needs a sign-in ({})", changed.reason),
        },
        Kind::TriggerGap(gap) => gap.reason.clone(),
        Kind::EmailDelivered(it) => mail(&it.queued_email, api).await,
        Kind::EmailDeferred(it) => why(mail(&it.queued_email, api).await, it.failure.as_ref()),
        Kind::EmailFailed(it) => why(mail(&it.queued_email, api).await, it.failure.as_ref()),
        Kind::ApprovalResponded(it) => format!("{}: {}", it.subject, it.selected_option),
        Kind::ApprovalEnded(it) => format!("{}: {}", it.subject, state_word(it.state()).0),
    }
}

/// A queued mail by its subject and recipients; by its name where the outbox has it no more.
async fn mail(name: &str, api: &Api) -> String {
    let request = GetQueuedEmailRequest { name: name.to_owned() };
    let found = api.outbox().get_queued_email(request).await.ok();
    let Some(email) = found.and_then(|found| found.into_inner().queued_email) else { return name.to_owned() };
    let more = email.to.len().saturating_sub(NAMED);
    let to: Vec<_> = email.to.into_iter().take(NAMED).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("“{}” to {}{more}", email.subject, to.join(", "))
}

fn why(mail: String, failure: Option<&Failure>) -> String {
    format!("{mail}: {}", failure.map(|failure| failure.message.as_str()).unwrap_or_default())
}

/// An event as JSON, in the proto3 mapping.
fn json(event: &Event) -> String {
    let descriptor = DESCRIPTORS.as_ref().and_then(|pool| pool.get_message_by_name("postern.event.v1.Event"));
    let message = descriptor
        .and_then(|descriptor| DynamicMessage::decode(descriptor, event.encode_to_vec().as_slice()).ok());
    message.and_then(|message| serde_json::to_string_pretty(&message).ok()).unwrap_or_default()
}
