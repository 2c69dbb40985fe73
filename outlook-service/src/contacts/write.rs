//! Contacts as Graph wants them: only the fields that are named.

use postern_proto::outlook::v1::Contact;
use serde_json::{Map, Value};

use crate::error::Problems;
use crate::masks::Fields;
use crate::places;

/// The most addresses that Exchange keeps of a contact.
const MAX_ADDRESSES: usize = 3;
/// The most telephones of a kind.
const MAX_PHONES: usize = 2;
/// The most items of any other list.
const MAX_ITEMS: usize = 100;
/// The longest text other than notes.
const MAX_TEXT: usize = 4_096;
/// The largest notes.
const MAX_NOTES: usize = 1024 * 1024;

/// The fields of a contact.
pub(super) const FIELDS: Fields = Fields {
    message: "Contact",
    settable: &[
        "categories",
        "birthday",
        "file_as",
        "display_name",
        "given_name",
        "initials",
        "middle_name",
        "nick_name",
        "surname",
        "title",
        "yomi_given_name",
        "yomi_surname",
        "yomi_company_name",
        "generation",
        "email_addresses",
        "im_addresses",
        "job_title",
        "company_name",
        "department",
        "office_location",
        "profession",
        "business_home_page",
        "assistant_name",
        "manager",
        "home_phones",
        "mobile_phone",
        "business_phones",
        "home_address",
        "business_address",
        "other_address",
        "spouse_name",
        "personal_notes",
        "children",
    ],
    given: &["id", "parent_folder_id", "date_time_created", "date_time_last_modified", "change_key"],
};

/// A field of a contact.
enum Field<'a> {
    Text(&'a str),
    List(&'a [String], usize),
    Day(&'a str),
    People,
    Place(Option<&'a postern_proto::outlook::v1::PhysicalAddress>),
}

fn field<'a>(item: &'a Contact, name: &str) -> Field<'a> {
    match name {
        "categories" => Field::List(&item.categories, MAX_ITEMS),
        "birthday" => Field::Day(&item.birthday),
        "file_as" => Field::Text(&item.file_as),
        "display_name" => Field::Text(&item.display_name),
        "given_name" => Field::Text(&item.given_name),
        "initials" => Field::Text(&item.initials),
        "middle_name" => Field::Text(&item.middle_name),
        "nick_name" => Field::Text(&item.nick_name),
        "surname" => Field::Text(&item.surname),
        "title" => Field::Text(&item.title),
        "yomi_given_name" => Field::Text(&item.yomi_given_name),
        "yomi_surname" => Field::Text(&item.yomi_surname),
        "yomi_company_name" => Field::Text(&item.yomi_company_name),
        "generation" => Field::Text(&item.generation),
        "email_addresses" => Field::People,
        "im_addresses" => Field::List(&item.im_addresses, MAX_ITEMS),
        "job_title" => Field::Text(&item.job_title),
        "company_name" => Field::Text(&item.company_name),
        "department" => Field::Text(&item.department),
        "office_location" => Field::Text(&item.office_location),
        "profession" => Field::Text(&item.profession),
        "business_home_page" => Field::Text(&item.business_home_page),
        "assistant_name" => Field::Text(&item.assistant_name),
        "manager" => Field::Text(&item.manager),
        "home_phones" => Field::List(&item.home_phones, MAX_PHONES),
        "mobile_phone" => Field::Text(&item.mobile_phone),
        "business_phones" => Field::List(&item.business_phones, MAX_PHONES),
        "home_address" => Field::Place(item.home_address.as_ref()),
        "business_address" => Field::Place(item.business_address.as_ref()),
        "other_address" => Field::Place(item.other_address.as_ref()),
        "spouse_name" => Field::Text(&item.spouse_name),
        "personal_notes" => Field::Text(&item.personal_notes),
        "children" => Field::List(&item.children, MAX_ITEMS),
        _ => Field::Text(""),
    }
}

/// Whether a field is set.
pub(super) fn is_set(item: &Contact, name: &str) -> bool {
    match field(item, name) {
        Field::Text(text) | Field::Day(text) => !text.is_empty(),
        Field::List(list, _) => !list.is_empty(),
        Field::People => !item.email_addresses.is_empty(),
        Field::Place(place) => place.is_some(),
    }
}

/// The fields that are named. One that is not set is emptied.
pub(super) fn fields(item: &Contact, named: &[&str], problems: &mut Problems) -> Map<String, Value> {
    let mut written = Map::new();
    for name in named {
        let value = match field(item, name) {
            Field::Text(text) => {
                let max = if *name == "personal_notes" { MAX_NOTES } else { MAX_TEXT };
                if text.len() > max {
                    problems.push((format!("item.{name}"), format!("expected at most {max} bytes")));
                }
                text.into()
            }
            Field::Day(text) => birthday(text, problems),
            Field::List(list, max) => {
                if list.len() > max {
                    problems.push((format!("item.{name}"), format!("expected at most {max}")));
                }
                for (index, text) in list.iter().enumerate() {
                    if text.is_empty() || text.len() > MAX_TEXT {
                        let problem = format!("expected 1 to {MAX_TEXT} bytes");
                        problems.push((format!("item.{name}[{index}]"), problem));
                    }
                }
                list.to_vec().into()
            }
            Field::People => addresses(item, problems),
            Field::Place(place) => places::write(place),
        };
        written.insert(property(name), value);
    }
    written
}

fn birthday(text: &str, problems: &mut Problems) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    if text.len() != 10 || text.parse::<jiff::civil::Date>().is_err() {
        problems.push(("item.birthday".into(), "expected a day such as 1980-12-24".into()));
    }
    // Noon, so that it is the same day in nearly every zone that a client shows it in.
    format!("{text}T12:00:00Z").into()
}

fn addresses(item: &Contact, problems: &mut Problems) -> Value {
    if item.email_addresses.len() > MAX_ADDRESSES {
        problems.push(("item.email_addresses".into(), format!("expected at most {MAX_ADDRESSES}")));
    }
    let written = item.email_addresses.iter().enumerate().map(|(index, mailbox)| {
        places::write_mailbox(Some(mailbox), &format!("item.email_addresses[{index}]"), problems)
    });
    written.collect()
}

/// Graph's name for a field of the contract: the same in camel case.
fn property(name: &str) -> String {
    let mut property = String::new();
    let mut upper = false;
    for character in name.chars() {
        match character {
            '_' => upper = true,
            character if upper => {
                property.push(character.to_ascii_uppercase());
                upper = false;
            }
            character => property.push(character),
        }
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_proto::mail::v1::Mailbox;
    use serde_json::json;

    #[test]
    fn every_field_of_the_contract_is_one_or_the_other_and_has_its_name_in_graph() {
        assert_eq!(FIELDS.settable.len() + FIELDS.given.len(), 38, "the contract's Contact has 38 fields");
        assert_eq!(property("yomi_company_name"), "yomiCompanyName");
        assert_eq!(property("im_addresses"), "imAddresses");
    }

    #[test]
    fn what_is_named_and_not_set_is_emptied() {
        let item = Contact { surname: "kept".into(), ..Contact::default() };
        let named = ["mobile_phone", "home_phones", "home_address", "birthday", "email_addresses"];
        let expected = json!({
            "mobilePhone": "", "homePhones": [], "homeAddress": {}, "birthday": null, "emailAddresses": [],
        });
        assert_eq!(Value::from(fields(&item, &named, &mut Vec::new())), expected);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mailbox = |address: &str| Mailbox { address: address.into(), name: String::new() };
        let item = Contact {
            birthday: "24.12.1980".into(),
            email_addresses: ["a@x.example", "b", "c@x.example", "d@x.example"].map(mailbox).to_vec(),
            home_phones: vec!["1".into(), String::new(), "3".into()],
            title: "x".repeat(MAX_TEXT + 1),
            ..Contact::default()
        };
        let mut problems = Vec::new();
        fields(&item, FIELDS.settable, &mut problems);
        let paths: Vec<_> = problems.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "item.birthday",
                "item.title",
                "item.email_addresses",
                "item.email_addresses[1].address",
                "item.home_phones",
                "item.home_phones[1]",
            ]
        );
    }
}
