//! What the overview says is wrong.

use super::stage::Stage;
use crate::ports::Port;

#[tokio::test]
async fn a_connector_that_does_not_answer_is_told_of() {
    let kept = Port::keep();
    // Nobody listens there.
    let gone = kept.address;
    let stage = Stage::with(&["--connectors", &format!("http://{gone}")]).await;
    let page = stage.page("/console", "").await;
    assert!(page.contains(&format!("The connector at http://{gone}/ does not answer.")), "{page}");
    assert!(!page.contains("all is well"));
}
