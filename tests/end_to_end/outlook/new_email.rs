//! The new-mail trigger: what is told, once, and what is not.

use postern_proto::outlook::v1::NewEmailTrigger;

use super::stage::{ANN, Stage};

#[tokio::test]
async fn a_first_round_tells_nothing_old_and_a_new_mail_is_told_once() {
    let stage = Stage::set().await;
    stage.deliver_old("old");
    let mut watch = stage.watch(NewEmailTrigger::default());
    assert!(watch.subjects().await.is_empty());
    stage.deliver("new");
    let before = watch.cursor.clone();
    assert_eq!(watch.subjects().await, ["new"]);
    assert!(watch.subjects().await.is_empty());
    // The same look made again gives the same keys.
    watch.cursor = before.clone();
    let first = watch.look_all().await.unwrap();
    watch.cursor = before;
    let second = watch.look_all().await.unwrap();
    assert_eq!(first[0].key, second[0].key);
    assert!(!stage.world.messages(ANN, "inbox").is_empty());
}
