//! A contact as a client writes it in JSON, read strictly.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::graph::events::body::{object, only, unknown, wrong};
use crate::graph::refusal::{self, Refusal};

/// The properties of a contact.
pub(super) const PROPERTIES: [&str; 39] = [
    "id",
    "createdDateTime",
    "lastModifiedDateTime",
    "changeKey",
    "parentFolderId",
    "categories",
    "birthday",
    "fileAs",
    "displayName",
    "givenName",
    "initials",
    "middleName",
    "nickName",
    "surname",
    "title",
    "yomiGivenName",
    "yomiSurname",
    "yomiCompanyName",
    "generation",
    "emailAddresses",
    "imAddresses",
    "jobTitle",
    "companyName",
    "department",
    "officeLocation",
    "profession",
    "businessHomePage",
    "assistantName",
    "manager",
    "homePhones",
    "mobilePhone",
    "businessPhones",
    "homeAddress",
    "businessAddress",
    "otherAddress",
    "spouseName",
    "personalNotes",
    "children",
    "singleValueExtendedProperties",
];
/// Those that Graph sets.
const GIVEN: [&str; 5] = ["id", "createdDateTime", "lastModifiedDateTime", "changeKey", "parentFolderId"];
const LISTS: [&str; 5] = ["categories", "imAddresses", "homePhones", "businessPhones", "children"];
const PLACES: [&str; 3] = ["homeAddress", "businessAddress", "otherAddress"];

/// What is written of a contact.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) fields: Map<String, Value>,
    pub(super) properties: BTreeMap<String, String>,
}

/// What a property holds where nothing was written.
pub(super) fn empty(property: &str) -> Value {
    match property {
        property if LISTS.contains(&property) || property == "emailAddresses" => json!([]),
        property if PLACES.contains(&property) => json!({}),
        _ => Value::Null,
    }
}

/// Reads a contact.
pub(super) fn read(body: &Value) -> Result<Draft, Refusal> {
    let mut draft = Draft::default();
    for (field, value) in object(body, "contact")? {
        let name = field.as_str();
        if name == "@odata.type" {
            continue;
        }
        if !PROPERTIES.contains(&name) || GIVEN.contains(&name) {
            return Err(unknown(field, "contact"));
        }
        match name {
            "singleValueExtendedProperties" => {
                for property in value.as_array().ok_or_else(|| wrong(field))? {
                    only(property, &["id", "value"], "singleValueLegacyExtendedProperty")?;
                    let part =
                        |name: &str| property[name].as_str().map(str::to_owned).ok_or_else(|| wrong(name));
                    draft.properties.insert(part("id")?, part("value")?);
                }
                continue;
            }
            "emailAddresses" => {
                let addresses = value.as_array().ok_or_else(|| wrong(field))?;
                if addresses.len() > 3 {
                    return Err(refusal::property("A contact has at most three addresses."));
                }
                addresses.iter().try_for_each(|one| only(one, &["name", "address"], "emailAddress"))?;
            }
            "birthday" if !value.is_null() => {
                let time = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
                time.ok_or_else(|| wrong(field))?;
            }
            "birthday" => {}
            name if LISTS.contains(&name) => {
                let texts = value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
                texts.then_some(()).ok_or_else(|| wrong(field))?;
            }
            name if PLACES.contains(&name) => {
                only(
                    value,
                    &["street", "city", "state", "countryOrRegion", "postalCode"],
                    "physicalAddress",
                )?;
            }
            _ => {
                (value.is_string() || value.is_null()).then_some(()).ok_or_else(|| wrong(field))?;
            }
        }
        draft.fields.insert(field.clone(), value.clone());
    }
    Ok(draft)
}
