//! What Graph shows of the world: JSON by the official description, with `$select` kept to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::refusal::{self, Refusal};
use crate::world::{Account, Attachment, AttachmentKind, Folder, Importance, Mailbox, Message};

/// How much of a body its preview shows.
const PREVIEW: usize = 255;

/// A time in whole seconds, as Exchange gives it.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn person(mailbox: &Mailbox) -> Value {
    let name = if mailbox.name.is_empty() { &mailbox.address } else { &mailbox.name };
    json!({"emailAddress": {"name": name, "address": mailbox.address}})
}

fn people(mailboxes: &[Mailbox]) -> Value {
    mailboxes.iter().map(person).collect()
}

/// A message. `select` names its properties; absent: all that Graph gives unasked.
pub(super) fn message(
    message: &Message,
    immutable: bool,
    select: Option<&[String]>,
    with_attachments: bool,
) -> Result<Value, Refusal> {
    let key = format!("CQAAABYAAAB{:08X}", message.changed);
    let importance = match message.importance {
        Importance::Low => "low",
        Importance::Normal => "normal",
        Importance::High => "high",
    };
    let all = json!({
        "createdDateTime": time(message.created),
        "lastModifiedDateTime": time(message.created),
        "changeKey": key,
        "categories": [],
        "receivedDateTime": time(message.received),
        "sentDateTime": time(message.sent),
        "hasAttachments": message.attachments.iter().any(|attachment| !attachment.is_inline),
        "internetMessageId": message.internet_message_id,
        "subject": message.subject,
        "bodyPreview": preview(message),
        "importance": importance,
        "parentFolderId": message.folder,
        "conversationId": message.conversation_id(),
        "isDeliveryReceiptRequested": message.wants_delivery_receipt,
        "isReadReceiptRequested": message.wants_read_receipt,
        "isRead": message.is_read,
        "isDraft": message.is_draft,
        "webLink": format!("https://outlook.office365.com/owa/?ItemID={}", message.id),
        "inferenceClassification": "focused",
        "body": {"contentType": if message.body.is_html { "html" } else { "text" }, "content": message.body.content},
        "sender": message.sender.as_ref().or(message.from.as_ref()).map(person),
        "from": message.from.as_ref().map(person),
        "toRecipients": people(&message.to),
        "ccRecipients": people(&message.cc),
        "bccRecipients": people(&message.bcc),
        "replyTo": people(&message.reply_to),
        "flag": {"flagStatus": "notFlagged"},
    });
    let mut shown = selected(all, select, "microsoft.graph.message")?;
    let id = if immutable { message.id.clone() } else { message.mutable_id() };
    shown.insert("id".to_owned(), id.into());
    shown.insert("@odata.etag".to_owned(), format!("W/\"{key}\"").into());
    if with_attachments {
        let files: Result<Vec<_>, _> =
            message.attachments.iter().map(|file| attachment(file, None, message.created)).collect();
        shown.insert("attachments".to_owned(), files?.into());
    }
    Ok(shown.into())
}

/// The properties of an object that were selected. The id is always shown.
fn selected(all: Value, select: Option<&[String]>, kind: &str) -> Result<Map<String, Value>, Refusal> {
    let Value::Object(mut all) = all else { return Ok(Map::new()) };
    let Some(select) = select else { return Ok(all) };
    for field in select.iter().filter(|field| *field != "id" && *field != "internetMessageHeaders") {
        if !all.contains_key(field) {
            return Err(refusal::bad(format!(
                "Parsing OData Select and Expand failed: Could not find a property named '{field}' on type '{kind}'."
            )));
        }
    }
    all.retain(|field, _| select.contains(field));
    Ok(all)
}

fn preview(message: &Message) -> String {
    let mut within_tag = false;
    let text = message.body.content.chars().filter(|character| match character {
        '<' if message.body.is_html => {
            within_tag = true;
            false
        }
        '>' if within_tag => {
            within_tag = false;
            false
        }
        _ => !within_tag,
    });
    text.take(PREVIEW).collect::<String>().trim().to_owned()
}

/// An attachment. Its content is shown unless a selection leaves it out.
pub(super) fn attachment(
    attachment: &Attachment,
    select: Option<&[String]>,
    changed: Timestamp,
) -> Result<Value, Refusal> {
    let mut all = json!({
        "lastModifiedDateTime": time(changed),
        "name": attachment.name,
        "contentType": attachment.content_type,
        "size": attachment.content.len(),
        "isInline": attachment.is_inline,
    });
    let kind = match attachment.kind {
        AttachmentKind::File => "#microsoft.graph.fileAttachment",
        AttachmentKind::Item => "#microsoft.graph.itemAttachment",
        AttachmentKind::Reference => "#microsoft.graph.referenceAttachment",
    };
    let own = match attachment.kind {
        AttachmentKind::File => json!({
        "contentId": attachment.content_id,
        "contentLocation": null,
        "contentBytes": STANDARD.encode(&attachment.content),
        }),
        _ => match &attachment.source_url {
            Some(url) => json!({"sourceUrl": url}),
            None => json!({}),
        },
    };
    let (Some(fields), Value::Object(own)) = (all.as_object_mut(), own) else { return Ok(all) };
    match select {
        None => fields.extend(own),
        Some(select) => {
            for (field, value) in own {
                if select
                    .iter()
                    .any(|selected| *selected == format!("microsoft.graph.fileAttachment/{field}"))
                {
                    fields.insert(field, value);
                }
            }
        }
    }
    // What is selected of files is passed over where it is none.
    let of_this = |field: &&String| attachment.kind == AttachmentKind::File || !field.contains('/');
    let plain: Option<Vec<String>> = select.map(|select| {
        let fields = select.iter().filter(of_this);
        fields.map(|field| field.replace("microsoft.graph.fileAttachment/", "")).collect()
    });
    if let Some(field) = select
        .unwrap_or_default()
        .iter()
        .find(|field| field.starts_with("content") && *field != "contentType")
    {
        return Err(refusal::bad(format!(
            "Could not find a property named '{field}' on type 'microsoft.graph.attachment'."
        )));
    }
    let mut shown = selected(all, plain.as_deref(), "microsoft.graph.attachment")?;
    shown.insert("@odata.type".to_owned(), kind.into());
    shown.insert("id".to_owned(), attachment.id.clone().into());
    Ok(shown.into())
}

/// A folder.
pub(super) fn folder(
    account: &Account,
    folder: &Folder,
    select: Option<&[String]>,
) -> Result<Value, Refusal> {
    let messages = account.in_folder(&folder.id);
    let all = json!({
        "displayName": folder.display_name,
        "parentFolderId": folder.parent,
        "childFolderCount": account.folders.iter().filter(|child| child.parent == folder.id).count(),
        "unreadItemCount": messages.iter().filter(|message| !message.is_read).count(),
        "totalItemCount": messages.len(),
        "isHidden": folder.is_hidden,
    });
    let mut shown = selected(all, select, "microsoft.graph.mailFolder")?;
    shown.insert("id".to_owned(), folder.id.clone().into());
    Ok(shown.into())
}
