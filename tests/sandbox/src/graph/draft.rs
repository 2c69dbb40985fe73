//! A message as a client writes it in JSON, read strictly: a property that Graph does not know is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::refusal::{self, Refusal};
use crate::world::{Attachment, Body, Importance, Mailbox, Message};

/// How many header fields of its own a message may have.
const MAX_HEADERS: usize = 5;

/// Reads a message to be made.
pub(super) fn read(body: &Value) -> Result<Message, Refusal> {
    let mut message = Message::default();
    apply(body, &mut message)?;
    Ok(message)
}

/// Reads the properties of a message to be changed.
pub(super) fn apply(body: &Value, message: &mut Message) -> Result<(), Refusal> {
    for (field, value) in object(body, "microsoft.graph.message")? {
        match field.as_str() {
            "@odata.type" => {}
            "subject" => message.subject = text(value, field)?,
            "body" => message.body = body_of(value)?,
            "from" => message.from = Some(mailbox(value)?),
            "sender" => message.sender = Some(mailbox(value)?),
            "toRecipients" => message.to = mailboxes(value)?,
            "ccRecipients" => message.cc = mailboxes(value)?,
            "bccRecipients" => message.bcc = mailboxes(value)?,
            "replyTo" => message.reply_to = mailboxes(value)?,
            "importance" => message.importance = importance(value)?,
            "isRead" => message.is_read = value.as_bool().ok_or_else(|| wrong(field))?,
            "isReadReceiptRequested" => {
                message.wants_read_receipt = value.as_bool().ok_or_else(|| wrong(field))?;
            }
            "isDeliveryReceiptRequested" => {
                message.wants_delivery_receipt = value.as_bool().ok_or_else(|| wrong(field))?;
            }
            "attachments" => {
                message.attachments = list(value)?.iter().map(attachment).collect::<Result<_, _>>()?
            }
            "internetMessageHeaders" => message.headers = headers(value)?,
            "singleValueExtendedProperties" => {
                for property in list(value)? {
                    let property = object(property, "microsoft.graph.singleValueLegacyExtendedProperty")?;
                    let part = |name: &str| {
                        property.get(name).ok_or_else(|| wrong(name)).and_then(|value| text(value, name))
                    };
                    message.properties.insert(part("id")?, part("value")?);
                }
            }
            field => return Err(unknown(field, "microsoft.graph.message")),
        }
    }
    Ok(())
}

/// Reads a file to be uploaded in ranges, and its size.
pub(super) fn item(body: &Value) -> Result<(Attachment, usize), Refusal> {
    let (mut attachment, mut size, mut kind) = (Attachment::default(), 0, String::new());
    let item = object(body, "request")?;
    let item = item.get("AttachmentItem").or_else(|| item.get("attachmentItem"));
    for (field, value) in object(item.unwrap_or(&Value::Null), "microsoft.graph.attachmentItem")? {
        match field.as_str() {
            "attachmentType" => kind = text(value, field)?,
            "name" => attachment.name = text(value, field)?,
            "contentType" => attachment.content_type = text(value, field)?,
            "contentId" => attachment.content_id = Some(text(value, field)?),
            "isInline" => attachment.is_inline = value.as_bool().ok_or_else(|| wrong(field))?,
            "size" => size = value.as_u64().ok_or_else(|| wrong(field))? as usize,
            field => return Err(unknown(field, "microsoft.graph.attachmentItem")),
        }
    }
    if !kind.eq_ignore_ascii_case("file") || attachment.name.is_empty() {
        return Err(refusal::bad_body("attachmentType 'file' and a name are needed."));
    }
    Ok((attachment, size))
}

/// Reads a file to be added to a message.
pub(super) fn attachment(value: &Value) -> Result<Attachment, Refusal> {
    let mut attachment = Attachment::default();
    let mut kind = String::new();
    for (field, value) in object(value, "microsoft.graph.fileAttachment")? {
        match field.as_str() {
            "@odata.type" => kind = text(value, field)?,
            "name" => attachment.name = text(value, field)?,
            "contentType" => attachment.content_type = text(value, field)?,
            "contentId" => attachment.content_id = Some(text(value, field)?),
            "isInline" => attachment.is_inline = value.as_bool().ok_or_else(|| wrong(field))?,
            "contentBytes" => {
                attachment.content = STANDARD.decode(text(value, field)?).map_err(|_| wrong(field))?;
            }
            field => return Err(unknown(field, "microsoft.graph.fileAttachment")),
        }
    }
    if kind.trim_start_matches('#') != "microsoft.graph.fileAttachment" {
        return Err(refusal::bad_body(
            "A type named '' could not be resolved by the model: '@odata.type' is needed.",
        ));
    }
    Ok(attachment)
}

fn object<'a>(value: &'a Value, kind: &str) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| refusal::bad_body(format!("An object of type '{kind}' was expected.")))
}

fn list(value: &Value) -> Result<&[Value], Refusal> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| refusal::bad_body("A list was expected."))
}

fn text(value: &Value, field: &str) -> Result<String, Refusal> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(field))
}

fn wrong(field: &str) -> Refusal {
    refusal::bad_body(format!("Cannot convert the literal of '{field}' to the expected type."))
}

fn unknown(field: &str, kind: &str) -> Refusal {
    refusal::bad_body(format!(
        "The property '{field}' does not exist on type '{kind}'. Make sure to only use property names that are defined by the type."
    ))
}

fn body_of(value: &Value) -> Result<Body, Refusal> {
    let mut body = Body::default();
    for (field, value) in object(value, "microsoft.graph.itemBody")? {
        match field.as_str() {
            "content" => body.content = text(value, field)?,
            "contentType" => {
                body.is_html = match text(value, field)?.to_ascii_lowercase().as_str() {
                    "html" => true,
                    "text" => false,
                    _ => return Err(wrong(field)),
                }
            }
            field => return Err(unknown(field, "microsoft.graph.itemBody")),
        }
    }
    Ok(body)
}

fn importance(value: &Value) -> Result<Importance, Refusal> {
    match text(value, "importance")?.to_ascii_lowercase().as_str() {
        "low" => Ok(Importance::Low),
        "normal" => Ok(Importance::Normal),
        "high" => Ok(Importance::High),
        _ => Err(wrong("importance")),
    }
}

fn mailboxes(value: &Value) -> Result<Vec<Mailbox>, Refusal> {
    list(value)?.iter().map(mailbox).collect()
}

fn mailbox(value: &Value) -> Result<Mailbox, Refusal> {
    let recipient = object(value, "microsoft.graph.recipient")?;
    if let Some(field) = recipient.keys().find(|field| *field != "emailAddress") {
        return Err(unknown(field, "microsoft.graph.recipient"));
    }
    let mut mailbox = Mailbox::default();
    let address = recipient.get("emailAddress").ok_or_else(|| wrong("emailAddress"))?;
    for (field, value) in object(address, "microsoft.graph.emailAddress")? {
        match field.as_str() {
            "address" => mailbox.address = text(value, field)?,
            "name" => mailbox.name = text(value, field)?,
            field => return Err(unknown(field, "microsoft.graph.emailAddress")),
        }
    }
    Ok(mailbox)
}

fn headers(value: &Value) -> Result<Vec<(String, String)>, Refusal> {
    let headers = list(value)?.iter().map(|header| {
        let header = object(header, "microsoft.graph.internetMessageHeader")?;
        let part =
            |name: &str| header.get(name).ok_or_else(|| wrong(name)).and_then(|value| text(value, name));
        Ok((part("name")?, part("value")?))
    });
    let headers = headers.collect::<Result<Vec<_>, Refusal>>()?;
    let own = |(name, _): &(String, String)| name.to_ascii_lowercase().starts_with("x-");
    if headers.is_empty() || headers.len() > MAX_HEADERS || !headers.iter().all(own) {
        return Err(refusal::headers());
    }
    Ok(headers)
}
