//! What the overview says is wrong.

use super::stage::Stage;

#[tokio::test]
async fn a_connector_that_does_not_answer_is_told_of() {
    // Nobody listens there any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stage = Stage::with(&["--connectors", &format!("http://{gone}")]).await;
    let page = stage.page("/console", "").await;
    assert!(page.contains(&format!("The connector at http://{gone}/ does not answer.")), "{page}");
    assert!(!page.contains("all is well"));
}
