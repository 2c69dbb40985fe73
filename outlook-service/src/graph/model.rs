//! The parts of Graph's objects that are read. What may be absent or null is: Graph leaves out what was not asked for.

use serde::Deserialize;
use serde_json::Value;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) value: Vec<T>,
    /// Where the list goes on.
    #[serde(rename = "@odata.nextLink")]
    pub(crate) next: Option<String>,
    /// Where the next round of changes begins.
    #[serde(rename = "@odata.deltaLink")]
    pub(crate) delta: Option<String>,
}

/// A message, or what a round of changes says of one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Message {
    pub(crate) id: String,
    #[serde(rename = "@removed")]
    pub(crate) removed: Option<Value>,
    pub(crate) subject: Option<String>,
    pub(crate) body: Option<Body>,
    pub(crate) body_preview: Option<String>,
    pub(crate) from: Option<Recipient>,
    pub(crate) to_recipients: Option<Vec<Recipient>>,
    pub(crate) cc_recipients: Option<Vec<Recipient>>,
    pub(crate) bcc_recipients: Option<Vec<Recipient>>,
    pub(crate) reply_to: Option<Vec<Recipient>>,
    pub(crate) importance: Option<String>,
    pub(crate) has_attachments: Option<bool>,
    pub(crate) is_read: Option<bool>,
    pub(crate) is_draft: Option<bool>,
    pub(crate) received_date_time: Option<String>,
    pub(crate) internet_message_id: Option<String>,
    pub(crate) conversation_id: Option<String>,
    pub(crate) parent_folder_id: Option<String>,
}

/// The body of a message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Body {
    pub(crate) content_type: Option<String>,
    pub(crate) content: Option<String>,
}

/// Somebody who sends or receives.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Recipient {
    pub(crate) email_address: Option<EmailAddress>,
}

/// An address with its name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EmailAddress {
    pub(crate) address: Option<String>,
    pub(crate) name: Option<String>,
}

/// An attachment, without its content.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Attachment {
    #[serde(rename = "@odata.type")]
    pub(crate) kind: Option<String>,
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) size: Option<i64>,
    pub(crate) is_inline: Option<bool>,
    pub(crate) content_id: Option<String>,
    /// Where the file of an attached link lies. Graph's v1.0 does not describe it, though some clouds give it.
    pub(crate) source_url: Option<String>,
}

/// Where the bytes of a large attachment are put.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UploadSession {
    pub(crate) upload_url: String,
}

/// A folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Folder {
    pub(crate) id: String,
    pub(crate) display_name: Option<String>,
    pub(crate) total_item_count: Option<i64>,
    pub(crate) unread_item_count: Option<i64>,
}
