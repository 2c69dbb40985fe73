//! Every property of the original connector's entries and contacts, by its name there, and the field that has it here.

use prost_reflect::{DescriptorPool, Kind};

/// The properties of the original's `CalendarEvent` (Microsoft's Office 365 API: `Event`).
const OF_EVENT: [(&str, &str); 36] = [
    ("Id", "id"),
    ("Subject", "subject"),
    ("Start", "start"),
    ("StartTimeZone", "start_time_zone"),
    ("End", "end"),
    ("EndTimeZone", "end_time_zone"),
    ("IsAllDay", "is_all_day"),
    ("IsCancelled", "is_cancelled"),
    ("SeriesMasterId", "series_master_id"),
    ("iCalUId", "ical_uid"),
    ("ChangeKey", "change_key"),
    ("DateTimeCreated", "date_time_created"),
    ("DateTimeLastModified", "date_time_last_modified"),
    ("Attendees", "attendees"),
    ("Body", "body"),
    ("BodyPreview", "body_preview"),
    ("Categories", "categories"),
    ("HasAttachments", "has_attachments"),
    ("Importance", "importance"),
    ("IsOrganizer", "is_organizer"),
    ("Location", "location"),
    ("Organizer", "organizer"),
    ("Recurrence", "recurrence"),
    ("IsReminderOn", "is_reminder_on"),
    ("Reminder", "reminder"),
    ("ResponseRequested", "response_requested"),
    ("ResponseStatus", "response_status"),
    ("Sensitivity", "sensitivity"),
    ("ShowAs", "show_as"),
    ("Type", "type"),
    ("WebLink", "web_link"),
    ("IsOnlineMeeting", "is_online_meeting"),
    ("OnlineMeetingUrl", "online_meeting_url"),
    ("OriginalStart", "original_start"),
    ("TransactionId", "transaction_id"),
    ("Calendar", "calendar_id"),
];

/// The properties of the original's `Contact`.
const OF_CONTACT: [(&str, &str); 38] = [
    ("Id", "id"),
    ("ParentFolderId", "parent_folder_id"),
    ("DateTimeCreated", "date_time_created"),
    ("DateTimeLastModified", "date_time_last_modified"),
    ("ChangeKey", "change_key"),
    ("Categories", "categories"),
    ("Birthday", "birthday"),
    ("FileAs", "file_as"),
    ("DisplayName", "display_name"),
    ("GivenName", "given_name"),
    ("Initials", "initials"),
    ("MiddleName", "middle_name"),
    ("NickName", "nick_name"),
    ("Surname", "surname"),
    ("Title", "title"),
    ("YomiGivenName", "yomi_given_name"),
    ("YomiSurname", "yomi_surname"),
    ("YomiCompanyName", "yomi_company_name"),
    ("Generation", "generation"),
    ("EmailAddresses", "email_addresses"),
    ("ImAddresses", "im_addresses"),
    ("JobTitle", "job_title"),
    ("CompanyName", "company_name"),
    ("Department", "department"),
    ("OfficeLocation", "office_location"),
    ("Profession", "profession"),
    ("BusinessHomePage", "business_home_page"),
    ("AssistantName", "assistant_name"),
    ("Manager", "manager"),
    ("HomePhones", "home_phones"),
    ("MobilePhone1", "mobile_phone"),
    ("BusinessPhones", "business_phones"),
    ("HomeAddress", "home_address"),
    ("BusinessAddress", "business_address"),
    ("OtherAddress", "other_address"),
    ("SpouseName", "spouse_name"),
    ("PersonalNotes", "personal_notes"),
    ("Children", "children"),
];

#[test]
fn every_property_of_the_original_has_its_field() {
    let contract = DescriptorPool::decode(postern_proto::FILE_DESCRIPTOR_SET).unwrap();
    for (message, properties) in [("CalendarEvent", &OF_EVENT[..]), ("Contact", &OF_CONTACT[..])] {
        let message = contract.get_message_by_name(&format!("postern.outlook.v1.{message}")).unwrap();
        for (original, field) in properties {
            assert!(message.get_field_by_name(field).is_some(), "{original}: there is no {field}");
        }
        // What is more than a text is typed.
        for (field, kind) in [
            ("start", "google.protobuf.Timestamp"),
            ("date_time_created", "google.protobuf.Timestamp"),
            ("recurrence", "postern.outlook.v1.Recurrence"),
            ("location", "postern.outlook.v1.Location"),
            ("home_address", "postern.outlook.v1.PhysicalAddress"),
        ] {
            if let Some(field) = message.get_field_by_name(field) {
                assert!(matches!(field.kind(), Kind::Message(of) if of.full_name() == kind), "{field:?}");
            }
        }
    }
}
