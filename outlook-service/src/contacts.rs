//! `postern.outlook.v1.ContactService`: decode, call, encode.

mod change;
mod folders;
mod list;
mod read;
mod write;

use std::sync::Arc;

use postern_proto::outlook::v1::contact_service_server::ContactService;
use postern_proto::outlook::v1::{
    CreateContactRequest, CreateContactResponse, DeleteContactRequest, DeleteContactResponse,
    GetContactFoldersRequest, GetContactFoldersResponse, GetContactRequest, GetContactResponse,
    GetContactsRequest, GetContactsResponse, UpdateContactRequest, UpdateContactResponse,
};
use reqwest::Url;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::folders::no_folder;
use crate::graph::{Failure, Mailbox, with_options};
use crate::ids;
use crate::outlook::{Outlook, answer};

/// The contact service.
pub(crate) struct Contacts {
    outlook: Arc<Outlook>,
}

impl Contacts {
    pub(crate) fn new(outlook: Arc<Outlook>) -> Self {
        Self { outlook }
    }
}

#[tonic::async_trait]
impl ContactService for Contacts {
    async fn get_contact_folders(
        &self,
        request: Request<GetContactFoldersRequest>,
    ) -> Result<Response<GetContactFoldersResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetContactFolders", folders::get(&self.outlook, &call, request.get_ref()).await)
    }

    async fn get_contacts(
        &self,
        request: Request<GetContactsRequest>,
    ) -> Result<Response<GetContactsResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetContacts", list::get_contacts(&self.outlook, &call, request.get_ref()).await)
    }

    async fn create_contact(
        &self,
        request: Request<CreateContactRequest>,
    ) -> Result<Response<CreateContactResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("CreateContact", change::create(&self.outlook, &call, request.get_ref()).await)
    }

    async fn get_contact(
        &self,
        request: Request<GetContactRequest>,
    ) -> Result<Response<GetContactResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("GetContact", list::get_contact(&self.outlook, &call, request.get_ref()).await)
    }

    async fn delete_contact(
        &self,
        request: Request<DeleteContactRequest>,
    ) -> Result<Response<DeleteContactResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("DeleteContact", change::delete(&self.outlook, &call, request.get_ref()).await)
    }

    async fn update_contact(
        &self,
        request: Request<UpdateContactRequest>,
    ) -> Result<Response<UpdateContactResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("UpdateContact", change::update(&self.outlook, &call, request.get_ref()).await)
    }
}

/// A contact by its id, and the folder that the caller says it is in.
struct Named<'a> {
    mailbox: &'a Mailbox,
    table: &'a str,
    id: &'a str,
}

impl Named<'_> {
    /// What is wrong with it before anybody is asked.
    fn check(table: &str, id: &str, problems: &mut Vec<(String, String)>) {
        ids::check("table", table, problems);
        ids::check_needed("id", id, problems);
    }

    fn url(&self) -> Url {
        match self.table {
            "" => self.mailbox.url(&["contacts", self.id]),
            table => self.mailbox.url(&["contactFolders", table, "contacts", self.id]),
        }
    }

    /// What a failure to reach the contact means. That the folder is not there is told from the contact not being there
    /// by asking for the folder.
    async fn refused(&self, failure: Failure) -> Error {
        if (failure.is_gone() || ids::is_malformed(&failure)) && !self.table.is_empty() {
            let url = with_options(self.mailbox.url(&["contactFolders", self.table]), &[("$select", "id")]);
            if let Err(failure) = self.mailbox.read::<serde_json::Value>(url).await {
                return no_folder(failure);
            }
        }
        ids::of_item("id", failure, Error::from)
    }
}

/// The URL of the contacts of a folder.
fn contacts_of(mailbox: &Mailbox, table: &str) -> Url {
    match table {
        "" => mailbox.url(&["contacts"]),
        table => mailbox.url(&["contactFolders", table, "contacts"]),
    }
}
