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
        (draft(json!({"isReadReceiptRequested": "yes"})), 400, "RequestBodyRead"),
        (get("/messages?$filter=singleValueExtendedProperties/Any(ep: ep/id eq 'a')"), 400, "BadRequest"),
        (get("/mailFolders?includeHiddenFolders=perhaps"), 400, "BadRequest"),
        (
            draft(json!({"internetMessageHeaders": [{"name": "Subject", "value": "x"}]})),
            400,
            "InvalidInternetMessageHeaderCollection",
        ),
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

/// A draft's path, and a received message's.
async fn with_messages(world: &World, caller: &Caller) -> (String, String) {
    let (status, _) = caller.call(Method::POST, &format!("/users/{ANN}/messages"), Some(json!({}))).await;
    assert_eq!(status, 201);
    let got = world.deliver("bo@x.example", &[ANN.into()], b"Subject: x\r\n\r\n").remove(0);
    let draft = world.messages(ANN, "drafts").remove(0).id;
    (format!("/users/{ANN}/messages/{draft}"), format!("/users/{ANN}/messages/{got}"))
}

#[tokio::test]
async fn what_graph_refuses_of_answers_and_uploads_the_sandbox_refuses() {
    let world = World::new();
    world.add_account(ANN, "Ann");
    let settings = GraphSettings::default();
    let graph = GraphServer::start(settings.clone(), world.clone()).await.unwrap();
    let caller = Caller::sign_in(&graph, &settings).await;
    let (draft, got) = with_messages(&world, &caller).await;
    let item = |size: u64| json!({"AttachmentItem": {"attachmentType": "file", "name": "a", "size": size}});
    let both = json!({"comment": "a", "message": {"body": {"content": "b"}}});
    let large = json!({"body": {"content": "x".repeat(4 * 1024 * 1024)}});
    let too_small = "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize";
    for (target, body, status, code) in [
        (format!("{got}/createReply"), both, 400, "ErrorInvalidParameter"),
        (format!("{got}/createReplyAll"), json!({"wish": 1}), 400, "RequestBodyRead"),
        (format!("{got}/createReply"), json!({"comment": "a"}), 201, ""),
        (format!("{got}/createReply"), large, 413, "RequestEntityTooLarge"),
        (format!("{got}/attachments/createUploadSession"), item(3_000_000), 404, "ErrorItemNotFound"),
        (format!("{draft}/attachments/createUploadSession"), item(2_999_999), 400, too_small),
        (format!("{draft}/attachments/createUploadSession"), item(36 << 20), 400, "ErrorMessageSizeExceeded"),
        (format!("{draft}/attachments/createUploadSession"), json!({}), 400, "RequestBodyRead"),
        (format!("{draft}/attachments/createUploadSession"), item(3_000_000), 201, ""),
        (format!("{draft}/permanentDelete"), json!({}), 204, ""),
        (format!("{draft}/permanentDelete"), json!({}), 404, "ErrorItemNotFound"),
    ] {
        assert_eq!(
            caller.call(Method::POST, &target, Some(body)).await,
            (status, code.to_owned()),
            "{target}"
        );
    }
    let change = caller.call(Method::PATCH, &got, Some(json!({"subject": "another"}))).await;
    assert_eq!(change, (400, "BadRequest".to_owned()));
}

#[tokio::test]
async fn an_upload_session_takes_ranges_in_order_without_a_token_while_it_lives() {
    let world = World::new();
    world.add_account(ANN, "Ann");
    let settings = GraphSettings::default();
    let graph = GraphServer::start(settings.clone(), world.clone()).await.unwrap();
    let caller = Caller::sign_in(&graph, &settings).await;
    let (draft, _) = with_messages(&world, &caller).await;
    let item = json!({"AttachmentItem": {"attachmentType": "file", "name": "a", "size": 3_000_000}});
    let target = format!("{}/v1.0{draft}/attachments/createUploadSession", graph.url());
    let session = caller.http.post(target).bearer_auth(&caller.token).json(&item).send().await.unwrap();
    let session: Value = session.json().await.unwrap();
    let url = session["uploadUrl"].as_str().unwrap();
    let put_as = |kind: &str, range: &str, size: usize| {
        let put = caller.http.put(url).header("content-type", kind).header("content-range", range);
        put.body(vec![0; size])
    };
    let put = |range: &str, size: usize| put_as("application/octet-stream", range, size);
    let authorized = put("bytes 0-9/3000000", 10).bearer_auth(&caller.token);
    let odd = put_as("text/plain", "bytes 0-9/3000000", 10);
    for (request, status) in [
        (authorized, 401),
        (odd, 400),
        (put("bytes 10-19/3000000", 10), 416),
        (put("bytes 0-9/3000001", 10), 416),
        (put("bytes 0-8/3000000", 10), 416),
        (put("bytes 0-3999999/4000000", 4_000_000), 413),
        (put("bytes 0-9/3000000", 10), 200),
        (put("bytes 0-9/3000000", 10), 416),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    let stands: Value = caller.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(stands["nextExpectedRanges"], json!(["10-"]));
    world.set_clock_ahead(jiff::SignedDuration::from_hours(25));
    assert_eq!(put("bytes 10-19/3000000", 10).send().await.unwrap().status().as_u16(), 404);
}
