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

use crate::folders::no_folder;
use crate::graph::Mailbox;
use crate::named::Kind;
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

/// Contacts.
const CONTACT: Kind = Kind { items: "contacts", tables: "contactFolders", no_table: no_folder };

/// The URL of the contacts of a folder.
fn contacts_of(mailbox: &Mailbox, table: &str) -> Url {
    match table {
        "" => mailbox.url(&["contacts"]),
        table => mailbox.url(&["contactFolders", table, "contacts"]),
    }
}
