//! The sandbox's Graph says no where Graph does: a sandbox that took everything would prove nothing.

use http::Method;
use postern_sandbox::graph::{GraphServer, GraphSettings};
use postern_sandbox::world::World;
use serde_json::{Value, json};

use super::stage::ANN;

struct Caller {
    http: reqwest::Client,
    token: String,
    url: String,
}

impl Caller {
    async fn sign_in(graph: &GraphServer, settings: &GraphSettings) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &settings.client_id),
            ("client_secret", &settings.client_secret),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", graph.url(), settings.tenant);
        let answer: Value = http.post(url).form(&form).send().await.unwrap().json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Self { http, token, url: graph.url().to_owned() }
    }

    /// Status and error code.
    async fn call(&self, method: Method, target: &str, body: Option<Value>) -> (u16, String) {
        let request =
            self.http.request(method, format!("{}/v1.0{target}", self.url)).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or_default();
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn what_graph_refuses_the_sandbox_refuses() {
    let world = World::new();
    world.add_account(ANN, "Ann");
    let settings = GraphSettings::default();
    let graph = GraphServer::start(settings.clone(), world.clone()).await.unwrap();
    let mut caller = Caller::sign_in(&graph, &settings).await;
    let mailbox = format!("/users/{ANN}");
    let get = |target: &str| (Method::GET, format!("{mailbox}{target}"), None);
    let draft = |body: Value| (Method::POST, format!("{mailbox}/messages"), Some(body));
    for ((method, target, body), status, code) in [
        (get(""), 200, ""),
        (get("/mailFolders/inbox/messages"), 200, ""),
        (get("/nonsense"), 400, "BadRequest"),
        (get("/mailFolders/nowhere"), 404, "ErrorItemNotFound"),
        (get("/messages/nothing"), 404, "ErrorItemNotFound"),
        (get("/messages?$wish=1"), 400, "BadRequest"),
        (get("/messages?$top=0"), 400, "BadRequest"),
        (get("/messages?$top=1001"), 400, "BadRequest"),
        (get("/messages?$select=wish"), 200, ""),
        (get("/messages?$filter=isRead"), 400, "BadRequest"),
        (get("/messages?$search=bare"), 400, "BadRequest"),
        (get("/messages?$search=\"a\"&$filter=isRead eq false"), 400, "SearchWithOther"),
        (get("/messages?$filter=isRead eq false&$orderby=receivedDateTime desc"), 400, "InefficientFilter"),
        (get("/mailFolders/inbox/messages/delta?$deltatoken=x"), 400, "SyncStateInvalid"),
        (get("/mailFolders/inbox/messages/delta?changeType=moved"), 400, "BadRequest"),
        ((Method::PUT, format!("{mailbox}/messages"), None), 405, "Request_BadRequest"),
        ((Method::GET, "/me/messages".to_owned(), None), 400, "BadRequest"),
        ((Method::GET, "/users/nobody@x.example/messages".to_owned(), None), 404, "ErrorInvalidUser"),
        (draft(json!({"subject": "x"})), 201, ""),
        (draft(json!({"wish": "x"})), 400, "RequestBodyRead"),
        (draft(json!({"subject": 7})), 400, "RequestBodyRead"),
        (draft(json!({"toRecipients": [{"address": "x"}]})), 400, "RequestBodyRead"),
        (draft(json!({"attachments": [{"name": "x"}]})), 400, "RequestBodyRead"),
        (draft(json!({"internetMessageHeaders": [{"name": "Subject", "value": "x"}]})), 400, "BadRequest"),
    ] {
        let answered = caller.call(method, &target, body).await;
        assert_eq!(answered, (status, code.to_owned()), "{target}");
    }
    caller.token = "forged".into();
    let answered = caller.call(Method::GET, &mailbox, None).await;
    assert_eq!(answered, (401, "InvalidAuthenticationToken".to_owned()));
}

#[tokio::test]
async fn ids_that_are_not_asked_to_be_immutable_change_with_a_move() {
    let world = World::new();
    world.add_account(ANN, "Ann");
    let settings = GraphSettings::default();
    let graph = GraphServer::start(settings.clone(), world.clone()).await.unwrap();
    let caller = Caller::sign_in(&graph, &settings).await;
    let id = world.deliver("x@x.example", &[ANN.into()], b"Subject: x\r\n\r\n").remove(0);
    let mutable = world.messages(ANN, "inbox")[0].mutable_id();
    let target = format!("/users/{ANN}/messages/{mutable}");
    assert_eq!(caller.call(Method::GET, &target, None).await.0, 200);
    assert!(world.move_message(ANN, &id, "archive"));
    assert_eq!(caller.call(Method::GET, &target, None).await.0, 404);
}
