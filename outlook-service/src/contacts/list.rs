//! GetContacts and GetContact.

use postern_proto::outlook::v1::{
    GetContactRequest, GetContactResponse, GetContactsRequest, GetContactsResponse,
};

use super::{CONTACT, contacts_of, read};
use crate::calendar::{by_condition, check_conditions, lost};
use crate::error::{Error, refuse};
use crate::folders::no_folder;
use crate::graph::{Failure, with_options};
use crate::ids;
use crate::listing::{self, Bounds, Listing, Place};
use crate::named::Named;
use crate::outlook::{Call, Outlook};

/// Lists contacts.
pub(super) async fn get_contacts(
    outlook: &Outlook,
    call: &Call,
    asked: &GetContactsRequest,
) -> Result<GetContactsResponse, Error> {
    let mut problems = Vec::new();
    let bounds = Bounds::read(asked.top, asked.skip, listing::TOP, &mut problems);
    ids::check("table", &asked.table, &mut problems);
    check_conditions(&asked.filter, &asked.order_by, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let digest = listing::digest(&GetContactsRequest { skip_token: String::new(), skip: 0, ..asked.clone() });
    let place = if asked.skip_token.is_empty() {
        let (top, skip) = (bounds.page().to_string(), bounds.skip.to_string());
        let given = [("$filter", asked.filter.as_str()), ("$orderby", &asked.order_by)];
        let mut options = vec![("$top", top.as_str())];
        options.extend(given.into_iter().filter(|(_, text)| !text.is_empty()));
        if bounds.skip > 0 {
            options.push(("$skip", &skip));
        }
        Place { url: with_options(contacts_of(&mailbox, &asked.table), &options), position: 0, skip: 0 }
    } else {
        listing::read_token(&mailbox, "skip_token", &asked.skip_token, &digest, &["/contacts"])?
    };
    let contacts = Listing {
        mailbox: &mailbox,
        top: bounds.top,
        shape: |shown| Some(read::contact(shown)),
        cut: read::cut,
        refused: |failure| refused(asked, failure),
    };
    let (contacts, next) = contacts.read(place).await?;
    Ok(GetContactsResponse { contacts, skip_token: listing::write_token(next.as_ref(), digest) })
}

/// What Graph refuses of a list: the condition or the order may be at fault, or the place to go on from.
fn refused(asked: &GetContactsRequest, failure: Failure) -> Error {
    if ids::is_malformed(&failure) {
        return no_folder(failure);
    }
    lost(&asked.skip_token, "skip_token", failure)
        .or_else(|failure| by_condition(&asked.filter, &asked.order_by, failure))
        .unwrap_or_else(no_folder)
}

/// Gives one contact.
pub(super) async fn get_contact(
    outlook: &Outlook,
    call: &Call,
    asked: &GetContactRequest,
) -> Result<GetContactResponse, Error> {
    let mut problems = Vec::new();
    Named::check(&asked.table, &asked.id, &mut problems);
    refuse(problems)?;
    let mailbox = outlook.mailbox(call, "mailbox", &asked.mailbox)?;
    let named = Named { mailbox: &mailbox, kind: &CONTACT, table: &asked.table, id: &asked.id };
    match mailbox.read(named.url()).await {
        Ok(shown) => Ok(GetContactResponse { contact: Some(read::contact(shown)) }),
        Err(failure) => Err(named.refused(failure).await),
    }
}
