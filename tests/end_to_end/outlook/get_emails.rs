//! GetEmails: each parameter.

use postern_proto::outlook::v1::GetEmailsRequest;

use super::stage::Stage;

#[tokio::test]
async fn mails_are_listed_newest_first_and_the_inbox_is_the_default() {
    let stage = Stage::set().await;
    for subject in ["first", "second", "third"] {
        stage.deliver(subject);
    }
    assert_eq!(stage.subjects(GetEmailsRequest::default()).await, ["third", "second", "first"]);
}
