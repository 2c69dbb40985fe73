//! Connections: their state, adding one, checking, signing in, deleting.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use postern_proto::connection::v1::connection::{Credentials, Settings};
use postern_proto::connection::v1::{
    CheckConnectionRequest, CheckConnectionResponse, Connection, ConnectionState, CreateConnectionRequest,
    DeleteConnectionRequest, GetConnectionRequest, ListConnectionsRequest, SignIn, SignInKind,
    StartSignInRequest,
};
use postern_proto::outlook::v1::{OutlookCredentials, OutlookSettings, outlook_credentials};
use postern_proto::smtp::v1::{SmtpCredentials, SmtpSettings, TlsMode};
use serde::Deserialize;
use tonic::Status;

use super::failure::{Failure, failed, status_of};
use super::form::Fields;
use super::page::PageOf;
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

/// The account that a connection is of, as its settings say.
fn account(connection: &Connection) -> String {
    match &connection.settings {
        Some(Settings::Smtp(smtp)) if smtp.username.is_empty() => smtp.server.clone(),
        Some(Settings::Smtp(smtp)) => format!("{} at {}", smtp.username, smtp.server),
        Some(Settings::Outlook(outlook)) => outlook.mailbox.clone(),
        None => String::new(),
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
    let begun = begun.unwrap_or_default();
    if kind == SignInKind::Browser {
        return Ok(Redirect::to(&begun.authorization_url).into_response());
    }
    Ok(one(session, get(session, id).await?, None, None, Some(begun)))
}

/// Which kind of connection to add.
#[derive(Deserialize)]
pub(super) struct KindOf {
    #[serde(default)]
    kind: String,
}

/// `GET /console/connections/new`
pub(super) async fn form(session: Session, Query(kind): Query<KindOf>) -> Response {
    let kind = if kind.kind == "outlook" { "outlook" } else { "smtp" };
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
    let kind = if fields.get("kind") == "outlook" { "outlook" } else { "smtp" };
    let (settings, credentials) = if kind == "outlook" { outlook(&fields) } else { smtp(&fields) };
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

fn smtp(fields: &Fields) -> (Settings, Option<Credentials>) {
    let tls_mode = TlsMode::from_str_name(fields.get("tls_mode")).unwrap_or_default();
    let settings = SmtpSettings {
        server: fields.get("server").to_owned(),
        // What is no number is no port either, and is refused as that.
        port: if fields.is_set("port") { fields.get("port").parse().unwrap_or(u32::MAX) } else { 0 },
        tls_mode: tls_mode.into(),
        username: fields.get("username").to_owned(),
        default_from: fields.get("default_from").to_owned(),
        ca_certificates: fields.get("ca_certificates").to_owned(),
        ..Default::default()
    };
    let password = fields.text("password").to_owned();
    let credentials = (!password.is_empty()).then(|| SmtpCredentials { password, ..Default::default() });
    (Settings::Smtp(settings), credentials.map(Credentials::SmtpCredentials))
}

fn outlook(fields: &Fields) -> (Settings, Option<Credentials>) {
    let settings = OutlookSettings {
        tenant: fields.get("tenant").to_owned(),
        client_id: fields.get("client_id").to_owned(),
        mailbox: fields.get("mailbox").to_owned(),
        ..Default::default()
    };
    let secret = fields.text("client_secret");
    let sign_in = outlook_credentials::SignIn::ClientSecret(secret.to_owned());
    let credentials = (!secret.is_empty()).then_some(OutlookCredentials { sign_in: Some(sign_in) });
    (Settings::Outlook(settings), credentials.map(Credentials::OutlookCredentials))
}
