//! Connections: their state, adding one, checking, signing in, giving new credentials, deleting.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::connection::v1::{
    CheckConnectionRequest, CheckConnectionResponse, Connection, ConnectionState, CreateConnectionRequest,
    DeleteConnectionRequest, GetConnectionRequest, ListConnectionsRequest, SignIn, SignInKind,
    StartSignInRequest, UpdateConnectionRequest,
};
use serde::Deserialize;
use tonic::Status;

use super::failure::{Failure, failed, status_of};
use super::form::Fields;
use super::kinds::{self, account};
use super::paging::PageOf;
use super::session::Session;
use super::show::{date, exact, id, when};
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

/// What was done with a connection, and how that ended.
#[derive(Default)]
struct Done {
    checked: Option<CheckConnectionResponse>,
    /// Why the check, or what else was wanted, failed.
    failure: Option<Failure>,
    sign_in: Option<SignIn>,
    /// New credentials were stored.
    is_updated: bool,
}

#[derive(Template)]
#[template(path = "console/connection.html")]
struct One<'a> {
    root: &'a str,
    here: &'a str,
    session: &'a Session,
    connection: Connection,
    sign_ins: kinds::SignIns,
    done: Done,
}

impl One<'_> {
    /// Whether new credentials are what helps.
    fn wants_credentials(&self) -> bool {
        !is_ready(&self.connection) && !self.sign_ins.browser && !self.sign_ins.code
    }
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
    /// What is wrong with a field of the form.
    fn wrong(&self, name: &str) -> String {
        let fields = self.failure.iter().flat_map(|failure| &failure.fields);
        let mut found = fields.filter(|(field, _)| kinds::form_name(field) == name);
        let Some((_, problem)) = found.next() else { return String::new() };
        if name == "connection_id" {
            return "This cannot be an id: expected 3 to 63 lower case letters, digits and hyphens, a letter first."
                .to_owned();
        }
        super::failure::sentence(problem)
    }

    /// What is wrong with fields that the form does not ask for.
    fn elsewhere(&self) -> Vec<&(String, String)> {
        let fields = self.failure.iter().flat_map(|failure| &failure.fields);
        fields.filter(|(field, _)| !kinds::ASKED.contains(&kinds::form_name(field).as_str())).collect()
    }

    /// Whether something is wrong that is not a field's.
    fn is_beyond_fields(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.fields.is_empty())
    }

    fn is_by_oauth(&self) -> bool {
        self.fields.get("auth_mechanism") == "AUTH_MECHANISM_XOAUTH2"
    }
}

fn is_ready(connection: &Connection) -> bool {
    connection.state() == ConnectionState::Ready
}

fn is_misconfigured(connection: &Connection) -> bool {
    connection.state() == ConnectionState::Misconfigured
}

/// Its state in words.
fn state(connection: &Connection) -> &'static str {
    match connection.state() {
        ConnectionState::Misconfigured => "misconfigured",
        _ if is_ready(connection) => "ready",
        _ => "needs sign-in",
    }
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
        Ok(connection) => one(&session, connection, Done::default()),
        Err(status) => failed(&session, HERE, &status),
    }
}

async fn get(session: &Session, id: &str) -> Result<Connection, Status> {
    let request = GetConnectionRequest { name: format!("connections/{id}") };
    let answer = session.api.connections().get_connection(request).await?;
    Ok(answer.into_inner().connection.unwrap_or_default())
}

fn one(session: &Session, connection: Connection, done: Done) -> Response {
    let (root, here, sign_ins) = (session.root.as_str(), HERE, kinds::sign_ins(&connection));
    page(StatusCode::OK, &One { root, here, session, connection, sign_ins, done })
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
        "check" => check(&session, &id, false).await,
        "sign-in" => sign_in(&session, &id, SignInKind::Browser).await,
        "device-code" => sign_in(&session, &id, SignInKind::DeviceCode).await,
        "credentials" => update(&session, &id, &fields).await,
        "delete" => {
            let request = DeleteConnectionRequest {
                name: format!("connections/{id}"),
                force: fields.is_set("force"),
                ..Default::default()
            };
            let deleted = session.api.connections().delete_connection(request).await;
            deleted.map(|_| Redirect::to(&format!("{}/console{HERE}", session.root)).into_response())
        }
        _ => Ok(plain(StatusCode::NOT_FOUND, "a connection can be checked, signed in, changed and deleted")),
    };
    done.unwrap_or_else(|status| failed(&session, &format!("{HERE}/{id}"), &status))
}

async fn check(session: &Session, id: &str, is_updated: bool) -> Result<Response, Status> {
    let request = CheckConnectionRequest { name: format!("connections/{id}") };
    let checked = session.api.connections().check_connection(request).await;
    let connection = get(session, id).await?;
    let done = match checked {
        Ok(checked) => Done { checked: Some(checked.into_inner()), is_updated, ..Done::default() },
        Err(status) => Done { failure: Some((&status).into()), is_updated, ..Done::default() },
    };
    Ok(one(session, connection, done))
}

async fn sign_in(session: &Session, id: &str, kind: SignInKind) -> Result<Response, Status> {
    let name = format!("connections/{id}");
    let request = StartSignInRequest { name, kind: kind.into(), ..Default::default() };
    let sign_in = session.api.connections().start_sign_in(request).await?.into_inner().sign_in;
    // A link, not a redirect: forms lead to the gateway alone, as the pages' policy says.
    Ok(one(session, get(session, id).await?, Done { sign_in, ..Done::default() }))
}

/// Replaces a connection's credentials, and checks them where no user has to sign in first.
async fn update(session: &Session, id: &str, fields: &Fields) -> Result<Response, Status> {
    let known = get(session, id).await?;
    let Some(credentials) = kinds::credentials(&known.kind, fields) else {
        return Err(Status::invalid_argument("no credentials were typed: nothing was changed"));
    };
    let paths = vec![format!("{}_credentials", known.kind)];
    let changed = Connection { name: known.name, credentials: Some(credentials), ..Default::default() };
    let request = UpdateConnectionRequest {
        connection: Some(changed),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    let answer = session.api.connections().update_connection(request).await?.into_inner();
    let connection = answer.connection.unwrap_or_default();
    if is_ready(&connection) {
        return check(session, id, true).await;
    }
    Ok(one(session, connection, Done { is_updated: true, ..Done::default() }))
}

/// Which kind of connection to add, and what its form begins with.
#[derive(Deserialize)]
pub(super) struct KindOf {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    preset: String,
}

/// `GET /console/connections/new`
pub(super) async fn form(session: Session, Query(kind): Query<KindOf>) -> Response {
    let fields = kinds::preset(&kind.preset);
    new(&session, StatusCode::OK, kinds::known(&kind.kind), &fields, None)
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
        connection_id: fields.get("connection_id").to_owned(),
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
