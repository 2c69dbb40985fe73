//! `ConnectionService`, as callers see it.

use std::sync::Arc;

use postern_proto::connection::v1::connection_service_server::ConnectionService;
use postern_proto::connection::v1::{
    CheckConnectionRequest, CheckConnectionResponse, Connection, CreateConnectionRequest,
    CreateConnectionResponse, DeleteConnectionRequest, DeleteConnectionResponse, GetConnectionRequest,
    GetConnectionResponse, GetSignInRequest, GetSignInResponse, ListConnectionsRequest,
    ListConnectionsResponse, StartSignInRequest, StartSignInResponse, UpdateConnectionRequest,
    UpdateConnectionResponse,
};
use tonic::{Request, Response, Status};

use super::Connections;
use super::record::{CONNECTIONS, Stored};
use crate::error::Error;
use crate::names;
use crate::page::Page;

/// The service over the connections of a gateway.
#[derive(Debug)]
pub struct ConnectionRpc {
    connections: Arc<Connections>,
}

impl ConnectionRpc {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self { connections }
    }

    async fn get(&self, name: &str) -> Result<Stored, Error> {
        names::connection("name", name)?;
        self.connections.room.stored(name).await
    }

    /// A connection as callers see it who ask for it.
    fn shown(&self, stored: &Stored) -> Connection {
        let shown = stored.shown();
        let last_use_time = self.connections.room.uses.last(&shown.name).map(Into::into);
        Connection { last_use_time, ..shown }
    }

    async fn list(&self, request: ListConnectionsRequest) -> Result<ListConnectionsResponse, Error> {
        let page = Page::read(request.page_size, &request.page_token, &["ListConnections"])?;
        let (entries, next_page_token) = page.list(self.connections.room.store.as_ref(), CONNECTIONS).await?;
        let connections = entries.iter().map(|entry| Ok(self.shown(&Stored::read(entry)?)));
        Ok(ListConnectionsResponse {
            connections: connections.collect::<Result<_, Error>>()?,
            next_page_token,
        })
    }
}

#[tonic::async_trait]
impl ConnectionService for ConnectionRpc {
    async fn create_connection(
        &self,
        request: Request<CreateConnectionRequest>,
    ) -> Result<Response<CreateConnectionResponse>, Status> {
        let connection = Some(self.connections.room.create(request.into_inner()).await?);
        Ok(Response::new(CreateConnectionResponse { connection }))
    }

    async fn get_connection(
        &self,
        request: Request<GetConnectionRequest>,
    ) -> Result<Response<GetConnectionResponse>, Status> {
        let connection = Some(self.shown(&self.get(&request.into_inner().name).await?));
        Ok(Response::new(GetConnectionResponse { connection }))
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn update_connection(
        &self,
        request: Request<UpdateConnectionRequest>,
    ) -> Result<Response<UpdateConnectionResponse>, Status> {
        let connection = Some(self.connections.room.update(request.into_inner()).await?);
        Ok(Response::new(UpdateConnectionResponse { connection }))
    }

    async fn delete_connection(
        &self,
        request: Request<DeleteConnectionRequest>,
    ) -> Result<Response<DeleteConnectionResponse>, Status> {
        self.connections.room.delete(request.into_inner()).await?;
        Ok(Response::new(DeleteConnectionResponse {}))
    }

    async fn check_connection(
        &self,
        request: Request<CheckConnectionRequest>,
    ) -> Result<Response<CheckConnectionResponse>, Status> {
        Ok(Response::new(self.connections.room.check(&request.into_inner().name).await?))
    }

    async fn start_sign_in(
        &self,
        request: Request<StartSignInRequest>,
    ) -> Result<Response<StartSignInResponse>, Status> {
        let sign_in = Some(self.connections.room.start_sign_in(request.into_inner()).await?);
        Ok(Response::new(StartSignInResponse { sign_in }))
    }

    async fn get_sign_in(
        &self,
        request: Request<GetSignInRequest>,
    ) -> Result<Response<GetSignInResponse>, Status> {
        let sign_in = Some(self.connections.room.sign_in(&request.into_inner().name).await?);
        Ok(Response::new(GetSignInResponse { sign_in }))
    }
}
