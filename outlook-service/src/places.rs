//! People and postal addresses as calendars and contacts share them, both ways.

use postern_proto::mail::v1::Mailbox;
use postern_proto::outlook::v1::PhysicalAddress;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::addresses::is_address;
use crate::error::Problems;
use crate::graph::model::EmailAddress;

/// `physicalAddress` of Graph.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Address {
    street: Option<String>,
    city: Option<String>,
    state: Option<String>,
    country_or_region: Option<String>,
    postal_code: Option<String>,
}

/// An address as the contract has it; nothing where it says nothing.
pub(crate) fn read(address: Address) -> Option<PhysicalAddress> {
    let read = PhysicalAddress {
        street: address.street.unwrap_or_default(),
        city: address.city.unwrap_or_default(),
        state: address.state.unwrap_or_default(),
        country_or_region: address.country_or_region.unwrap_or_default(),
        postal_code: address.postal_code.unwrap_or_default(),
    };
    (read != PhysicalAddress::default()).then_some(read)
}

/// An address as Graph wants it: whole, so that nothing of the one before stays.
pub(crate) fn write(address: Option<&PhysicalAddress>) -> Value {
    let Some(address) = address else { return json!({}) };
    json!({
        "street": address.street,
        "city": address.city,
        "state": address.state,
        "countryOrRegion": address.country_or_region,
        "postalCode": address.postal_code,
    })
}

/// Somebody as the contract has them. Nothing where there is neither name nor address.
pub(crate) fn mailbox(address: EmailAddress) -> Option<Mailbox> {
    let (name, address) = (address.name.unwrap_or_default(), address.address.unwrap_or_default());
    // Where there is no name Graph repeats the address.
    let name = if name == address { String::new() } else { name };
    (!name.is_empty() || !address.is_empty()).then_some(Mailbox { address, name })
}

/// Somebody as Graph wants them (`emailAddress`).
pub(crate) fn write_mailbox(mailbox: Option<&Mailbox>, path: &str, problems: &mut Problems) -> Value {
    let address = mailbox.map(|mailbox| mailbox.address.as_str()).unwrap_or_default();
    if !is_address(address) {
        problems.push((format!("{path}.address"), "expected an address such as bo@example.org".to_owned()));
    }
    match mailbox.map(|mailbox| mailbox.name.as_str()).unwrap_or_default() {
        "" => json!({"address": address}),
        name => json!({"address": address, "name": name}),
    }
}
