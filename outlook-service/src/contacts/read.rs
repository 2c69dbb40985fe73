//! Graph's contacts in the shape of the contract.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postern_proto::outlook::v1::Contact;
use serde::Deserialize;

use crate::graph::model::EmailAddress;
use crate::places::{self, Address};
use crate::times;

/// A contact of Graph's, as far as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Shown {
    id: String,
    parent_folder_id: Option<String>,
    created_date_time: Option<String>,
    last_modified_date_time: Option<String>,
    change_key: Option<String>,
    categories: Option<Vec<String>>,
    birthday: Option<String>,
    file_as: Option<String>,
    display_name: Option<String>,
    given_name: Option<String>,
    initials: Option<String>,
    middle_name: Option<String>,
    nick_name: Option<String>,
    surname: Option<String>,
    title: Option<String>,
    yomi_given_name: Option<String>,
    yomi_surname: Option<String>,
    yomi_company_name: Option<String>,
    generation: Option<String>,
    email_addresses: Option<Vec<EmailAddress>>,
    im_addresses: Option<Vec<String>>,
    job_title: Option<String>,
    company_name: Option<String>,
    department: Option<String>,
    office_location: Option<String>,
    profession: Option<String>,
    business_home_page: Option<String>,
    assistant_name: Option<String>,
    manager: Option<String>,
    home_phones: Option<Vec<String>>,
    mobile_phone: Option<String>,
    business_phones: Option<Vec<String>>,
    home_address: Option<Address>,
    business_address: Option<Address>,
    other_address: Option<Address>,
    spouse_name: Option<String>,
    personal_notes: Option<String>,
    children: Option<Vec<String>>,
}

/// A contact as the contract has it.
pub(super) fn contact(shown: Shown) -> Contact {
    let time = |text: Option<String>| text.as_deref().and_then(times::from_graph).map(times::to_proto);
    Contact {
        id: shown.id,
        parent_folder_id: shown.parent_folder_id.unwrap_or_default(),
        date_time_created: time(shown.created_date_time),
        date_time_last_modified: time(shown.last_modified_date_time),
        change_key: shown.change_key.unwrap_or_default(),
        categories: shown.categories.unwrap_or_default(),
        birthday: shown.birthday.as_deref().and_then(times::from_graph).map(day).unwrap_or_default(),
        file_as: shown.file_as.unwrap_or_default(),
        display_name: shown.display_name.unwrap_or_default(),
        given_name: shown.given_name.unwrap_or_default(),
        initials: shown.initials.unwrap_or_default(),
        middle_name: shown.middle_name.unwrap_or_default(),
        nick_name: shown.nick_name.unwrap_or_default(),
        surname: shown.surname.unwrap_or_default(),
        title: shown.title.unwrap_or_default(),
        yomi_given_name: shown.yomi_given_name.unwrap_or_default(),
        yomi_surname: shown.yomi_surname.unwrap_or_default(),
        yomi_company_name: shown.yomi_company_name.unwrap_or_default(),
        generation: shown.generation.unwrap_or_default(),
        email_addresses: shown
            .email_addresses
            .unwrap_or_default()
            .into_iter()
            .filter_map(places::mailbox)
            .collect(),
        im_addresses: shown.im_addresses.unwrap_or_default(),
        job_title: shown.job_title.unwrap_or_default(),
        company_name: shown.company_name.unwrap_or_default(),
        department: shown.department.unwrap_or_default(),
        office_location: shown.office_location.unwrap_or_default(),
        profession: shown.profession.unwrap_or_default(),
        business_home_page: shown.business_home_page.unwrap_or_default(),
        assistant_name: shown.assistant_name.unwrap_or_default(),
        manager: shown.manager.unwrap_or_default(),
        home_phones: shown.home_phones.unwrap_or_default(),
        mobile_phone: shown.mobile_phone.unwrap_or_default(),
        business_phones: shown.business_phones.unwrap_or_default(),
        home_address: shown.home_address.and_then(places::read),
        business_address: shown.business_address.and_then(places::read),
        other_address: shown.other_address.and_then(places::read),
        spouse_name: shown.spouse_name.unwrap_or_default(),
        personal_notes: shown.personal_notes.unwrap_or_default(),
        children: shown.children.unwrap_or_default(),
    }
}

/// The day of a birthday. Exchange keeps an instant of that day: noon here, 11:59 in Outlook, or midnight of some zone;
/// what is late in the day by UTC began as midnight of a zone east of it.
fn day(instant: Timestamp) -> String {
    let nearest = instant.checked_add(jiff::SignedDuration::from_hours(2)).unwrap_or(instant);
    let clock = TimeZone::UTC.to_datetime(instant);
    let told = if clock.hour() >= 22 { nearest } else { instant };
    TimeZone::UTC.to_datetime(told).date().to_string()
}

/// Makes a contact smaller by some bytes: its notes are cut.
pub(super) fn cut(contact: &mut Contact, excess: usize) {
    let mut end = contact.personal_notes.len().saturating_sub(excess);
    while !contact.personal_notes.is_char_boundary(end) {
        end -= 1;
    }
    contact.personal_notes.truncate(end);
}
