//! The sandbox's `$batch`, held against Graph's documentation of JSON batching: what is measured over it is to mean
//! something.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_sandbox::graph::{Allowance, Fault, GraphServer, GraphSettings};
use postern_sandbox::world::World;
use serde_json::{Value, json};

use super::stage::ANN;

struct Caller {
    graph: GraphServer,
    http: reqwest::Client,
    token: String,
}

impl Caller {
    async fn sign_in() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let world = World::new();
        world.add_account(ANN, "Ann");
        let settings = GraphSettings::default();
        let graph = GraphServer::start(settings.clone(), world).await.unwrap();
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
        Self { graph, http, token }
    }

    /// Status and body.
    async fn batch(&self, requests: Value) -> (u16, Value) {
        let url = format!("{}/v1.0/$batch", self.graph.url());
        let request = self.http.post(url).bearer_auth(&self.token).json(&json!({"requests": requests}));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The statuses of a batch that was taken, by id.
    async fn statuses(&self, requests: Value) -> BTreeMap<String, u64> {
        let (status, body) = self.batch(requests).await;
        assert_eq!(status, 200, "{body}");
        let responses = body["responses"].as_array().unwrap().iter();
        responses
            .map(|response| {
                (response["id"].as_str().unwrap().to_owned(), response["status"].as_u64().unwrap())
            })
            .collect()
    }
}

fn get(id: impl ToString) -> Value {
    json!({"id": id.to_string(), "method": "GET", "url": format!("/users/{ANN}/mailFolders/inbox")})
}

#[tokio::test]
async fn a_batch_answers_each_request_by_its_id_and_runs_four_at_once() {
    let caller = Caller::sign_in().await;
    caller.graph.faults().set_delay(Some(Duration::from_millis(10)));
    let mut requests: Vec<Value> = (0..19).map(get).collect();
    requests.push(json!({"id": "gone", "method": "GET", "url": format!("/users/{ANN}/messages/none")}));
    let statuses = caller.statuses(requests.into()).await;
    assert_eq!(statuses.len(), 20);
    assert!(
        statuses.iter().all(|(id, status)| *status == if id == "gone" { 404 } else { 200 }),
        "{statuses:?}"
    );
    assert_eq!(caller.graph.most_at_once(), 4);
    assert_eq!(caller.graph.throttle().turned_away(), 0);
}

#[tokio::test]
async fn each_request_of_a_batch_is_throttled_on_its_own() {
    let caller = Caller::sign_in().await;
    let hour = Duration::from_secs(3_600);
    caller.graph.throttle().allow_requests(Some(Allowance { most: 3, within: hour }));
    let statuses = caller.statuses((0..5).map(get).collect()).await;
    assert_eq!(statuses.values().filter(|status| **status == 200).count(), 3);
    assert_eq!(statuses.values().filter(|status| **status == 429).count(), 2);
}

#[tokio::test]
async fn what_depends_on_a_request_that_failed_is_not_run() {
    let caller = Caller::sign_in().await;
    caller.graph.faults().plan(None, "/users", 1, Fault::refuse(503, "serviceNotAvailable", None));
    let after = |id: &str, on: &str| {
        let mut request = get(id);
        request["dependsOn"] = json!([on]);
        request
    };
    let statuses = caller.statuses(json!([after("c", "b"), after("b", "a"), get("a")])).await;
    assert_eq!(
        statuses.into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), 503), ("b".to_owned(), 424), ("c".to_owned(), 424)]
    );
    let statuses = caller.statuses(json!([after("b", "a"), get("a")])).await;
    assert!(statuses.values().all(|status| *status == 200));
}

#[tokio::test]
async fn a_batch_that_graph_would_refuse_is_refused_whole() {
    let caller = Caller::sign_in().await;
    let bodiless = json!({"id": "1", "method": "POST", "url": format!("/users/{ANN}/messages"), "body": {}});
    let on_nobody = json!({"id": "1", "method": "GET", "url": "/x", "dependsOn": ["2"]});
    let on_itself = json!({"id": "1", "method": "GET", "url": "/x", "dependsOn": ["1"]});
    for requests in [
        json!([]),
        (0..21).map(get).collect(),
        json!([get(1), get(1)]),
        json!([{"id": "1", "method": "GET"}]),
        json!([bodiless]),
        json!([on_nobody]),
        json!([on_itself]),
    ] {
        assert_eq!(caller.batch(requests.clone()).await.0, 400, "{requests}");
    }
}
