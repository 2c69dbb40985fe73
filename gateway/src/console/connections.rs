//! Connections: their state, adding one, checking, signing in, deleting.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::connection::v1::{
    CheckConnectionRequest, CheckConnectionResponse, Connection, ConnectionState, CreateConnectionRequest,
    DeleteConnectionRequest, GetConnectionRequest, ListConnectionsRequest, SignIn, SignInKind,
    StartSignInRequest,
};
use serde::Deserialize;
use tonic::Status;

use super::failure::{Failure, failed, status_of};
use super::form::Fields;
use super::kinds::{self, account};
use super::paging::PageOf;
use super::session::Session;
use super::show::{exact, id, when};
use crate::pages::{page, plain};

const HERE: &str = "/connections";
/// How many a page shows.
const PAGE: i32 = 200;

#[derive(Template)]
#[template(path = "console/connections.html")]
struct List<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    connections: Vec<Connection>,
    next: String,
}

#[derive(Template)]
#[template(path = "console/connection.html")]
struct One<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    connection: Connection,
    checked: Option<CheckConnectionResponse>,
    failure: Option<Failure>,
    sign_in: Option<SignIn>,
}

#[derive(Template)]
#[template(path = "console/connection_new.html")]
struct New<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    kind: &'a str,
    fields: &'a Fields,
    failure: Option<Failure>,
}

impl New<'_> {
    /// What is wrong with a field, by any of the names that the services call it.
    fn wrong(&self, names: &[&str]) -> &str {
        let of = |failure| names.iter().map(|name| Failure::of(failure, name)).find(|text| !text.is_empty());
        self.failure.as_ref().and_then(of).unwrap_or_default()
    }
}

fn is_ready(connection: &Connection) -> bool {
    connection.state() == ConnectionState::Ready
}

/// `GET /console/connections`
pub(super) async fn list(session: Session, page_of: PageOf) -> Response {
    let request = ListConnectionsRequest { page_size: PAGE, page_token: page_of.token };
    match session.api.connections().list_connections(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let (connections, next) = (answer.connections, answer.next_page_token);
            let template = List { root: &session.root, here: HERE, session: &session, connections, next };
            page(StatusCode::OK, &template)
        }
        Err(status) => failed(&session, "", &status),
    }
}

/// `GET /console/connections/{connection}`
pub(super) async fn show(session: Session, Path(connection): Path<String>) -> Response {
    match get(&session, &connection).await {
        Ok(connection) => one(&session, connection, None, None, None),
        Err(status) => failed(&session, HERE, &status),
    }
}

async fn get(session: &Session, id: &str) -> Result<Connection, Status> {
    let request = GetConnectionRequest { name: format!("connections/{id}") };
    let answer = session.api.connections().get_connection(request).await?;
    Ok(answer.into_inner().connection.unwrap_or_default())
}

fn one(
    session: &Session,
    connection: Connection,
    checked: Option<CheckConnectionResponse>,
    failure: Option<Failure>,
    sign_in: Option<SignIn>,
) -> Response {
    let (root, here) = (session.root.as_str(), HERE);
    page(StatusCode::OK, &One { root, here, session, connection, checked, failure, sign_in })
}

/// `POST /console/connections/{connection}/{action}`
pub(super) async fn act(
    session: Session,
    Path((id, action)): Path<(String, String)>,
    fields: Fields,
) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let done = match action.as_str() {
        "check" => check(&session, &id).await,
        "sign-in" => sign_in(&session, &id, SignInKind::Browser).await,
        "device-code" => sign_in(&session, &id, SignInKind::DeviceCode).await,
        "delete" => {
            let request = DeleteConnectionRequest {
                name: format!("connections/{id}"),
                force: fields.is_set("force"),
                ..Default::default()
            };
            let deleted = session.api.connections().delete_connection(request).await;
            deleted.map(|_| Redirect::to(&format!("{}/console{HERE}", session.root)).into_response())
        }
        _ => Ok(plain(StatusCode::NOT_FOUND, "a connection can be checked, signed in and deleted")),
    };
    done.unwrap_or_else(|status| failed(&session, &format!("{HERE}/{id}"), &status))
}

async fn check(session: &Session, id: &str) -> Result<Response, Status> {
    let request = CheckConnectionRequest { name: format!("connections/{id}") };
    let checked = session.api.connections().check_connection(request).await;
    let connection = get(session, id).await?;
    Ok(match checked {
        Ok(checked) => one(session, connection, Some(checked.into_inner()), None, None),
        Err(status) => one(session, connection, None, Some((&status).into()), None),
    })
}

async fn sign_in(session: &Session, id: &str, kind: SignInKind) -> Result<Response, Status> {
    let name = format!("connections/{id}");
    let request = StartSignInRequest { name, kind: kind.into(), ..Default::default() };
    let begun = session.api.connections().start_sign_in(request).await?.into_inner().sign_in;
    // A link, not a redirect: forms lead to the gateway alone, as the pages' policy says.
    Ok(one(session, get(session, id).await?, None, None, begun))
}

/// Which kind of connection to add.
#[derive(Deserialize)]
pub(super) struct KindOf {
    #[serde(default)]
    kind: String,
}

/// `GET /console/connections/new`
pub(super) async fn form(session: Session, Query(kind): Query<KindOf>) -> Response {
    let kind = kinds::known(&kind.kind);
    new(&session, StatusCode::OK, kind, &Fields::default(), None)
}

fn new(
    session: &Session,
    status: StatusCode,
    kind: &str,
    fields: &Fields,
    failure: Option<Failure>,
) -> Response {
    page(status, &New { root: &session.root, here: HERE, session, kind, fields, failure })
}

/// `POST /console/connections`
pub(super) async fn add(session: Session, fields: Fields) -> Response {
    if let Err(response) = fields.check(&session) {
        return response;
    }
    let kind = kinds::known(fields.get("kind"));
    let (settings, credentials) = kinds::read(kind, &fields);
    let connection = Connection {
        display_name: fields.get("display_name").to_owned(),
        settings: Some(settings),
        credentials,
        ..Default::default()
    };
    let request = CreateConnectionRequest {
        connection_id: fields.get("id").to_owned(),
        connection: Some(connection),
        ..Default::default()
    };
    match session.api.connections().create_connection(request).await {
        Ok(answer) => {
            let connection = answer.into_inner().connection.unwrap_or_default();
            let to = format!("{}/console{HERE}/{}", session.root, id(&connection.name));
            Redirect::to(&to).into_response()
        }
        Err(status) => new(&session, status_of(&status), kind, &fields, Some((&status).into())),
    }
}
