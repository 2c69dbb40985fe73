//! What Graph sends to a notification's URL: the question whether the URL is ours, changes, and what becomes of the
//! notification itself. Read without asking anybody.

use postern_chassis::digest;
use postern_proto::connector::v1::{NotificationResult, ReadNotificationRequest, ReadNotificationResponse};
use serde::Deserialize;

/// The longest validation token that is given back: Graph's have some hundred bytes.
const MAX_TOKEN: usize = 4_096;
/// The parameter of the URL that asks for validation.
const VALIDATION: &str = "validationToken";

/// What was sent: notifications of one or several subscriptions.
#[derive(Debug, Deserialize)]
struct Sent {
    value: Vec<Item>,
}

/// A notification.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item {
    subscription_id: String,
    client_state: Option<String>,
    lifecycle_event: Option<String>,
}

/// Says what to answer, and what follows. Who does not know the secret is answered as all others, and heeded by nobody.
pub(crate) fn read(asked: &ReadNotificationRequest) -> ReadNotificationResponse {
    let query = form(&asked.query);
    if let Some((_, token)) = query.iter().find(|(name, _)| name == VALIDATION) {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return answer(400);
        }
        let body = token.clone().into_bytes().into();
        return ReadNotificationResponse { content_type: "text/plain".to_owned(), body, ..answer(200) };
    }
    let Ok(sent) = serde_json::from_slice::<Sent>(&asked.body) else { return answer(400) };
    let ours = super::agreed(&asked.notification).ok().flatten().map(|agreed| agreed.id);
    let mut results = Vec::new();
    let secret = digest::of(asked.secret.as_bytes());
    for item in &sent.value {
        // Digests are compared, so that the time it takes tells nothing of the secret.
        let state = item.client_state.as_deref().unwrap_or_default();
        if asked.secret.is_empty() || digest::of(state.as_bytes()) != secret {
            continue;
        }
        let is_current = ours.as_ref().is_none_or(|ours| *ours == item.subscription_id);
        let event = item.lifecycle_event.as_deref().unwrap_or_default().to_ascii_lowercase();
        let result = match event.as_str() {
            "reauthorizationrequired" | "subscriptionremoved" if !is_current => continue,
            "reauthorizationrequired" => NotificationResult::Reauthorize,
            "subscriptionremoved" => NotificationResult::Recreate,
            _ => NotificationResult::Look,
        };
        if !results.contains(&i32::from(result)) {
            results.push(result.into());
        }
    }
    ReadNotificationResponse { results, ..answer(202) }
}

fn answer(status: i32) -> ReadNotificationResponse {
    ReadNotificationResponse { status, ..ReadNotificationResponse::default() }
}

/// The decoded parameters of a query.
fn form(query: &str) -> Vec<(String, String)> {
    let Ok(mut url) = reqwest::Url::parse("https://x.invalid/") else { return Vec::new() };
    url.set_query(Some(query));
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(body: &str) -> ReadNotificationResponse {
        read(&ReadNotificationRequest {
            body: body.as_bytes().to_vec().into(),
            secret: "sesame".into(),
            notification: br#"{"id":"ours"}"#.to_vec().into(),
            ..ReadNotificationRequest::default()
        })
    }

    #[test]
    fn a_validation_token_is_given_back_decoded_and_as_nothing_but_text() {
        let query = "a=b&validationToken=Validation%3a+Testing+%3Cb%3E%C3%BC".to_owned();
        let answer = read(&ReadNotificationRequest { query, ..ReadNotificationRequest::default() });
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain"));
        assert_eq!(answer.body, "Validation: Testing <b>ü".as_bytes());
        let long = format!("validationToken={}", "x".repeat(MAX_TOKEN + 1));
        let answer = read(&ReadNotificationRequest { query: long, ..ReadNotificationRequest::default() });
        assert_eq!(answer.status, 400);
    }

    #[test]
    fn what_follows_is_read_off_and_each_thing_follows_once() {
        let item = |rest: &str| format!(r#"{{"subscriptionId":"ours","clientState":"sesame"{rest}}}"#);
        let life = |event: &str| item(&format!(r#","lifecycleEvent":"{event}""#));
        let all = [
            item(r#","changeType":"created""#),
            item(""),
            life("missed"),
            life("reauthorizationRequired"),
            life("subscriptionRemoved"),
        ];
        let answer = sent(&format!(r#"{{"value":[{}]}}"#, all.join(",")));
        let results: Vec<_> = answer.results().collect();
        assert_eq!(answer.status, 202);
        assert_eq!(
            results,
            [NotificationResult::Look, NotificationResult::Reauthorize, NotificationResult::Recreate]
        );
    }

    #[test]
    fn who_does_not_know_the_secret_or_speaks_of_another_is_not_heeded() {
        for body in [
            r#"{"value":[{"subscriptionId":"ours","clientState":"open"}]}"#,
            r#"{"value":[{"subscriptionId":"ours"}]}"#,
            r#"{"value":[{"subscriptionId":"other","clientState":"sesame","lifecycleEvent":"subscriptionRemoved"}]}"#,
            r#"{"value":[]}"#,
        ] {
            let answer = sent(body);
            assert_eq!((answer.status, answer.results.len()), (202, 0), "{body}");
        }
        for body in ["", "[]", "<html>", r#"{"value":7}"#] {
            assert_eq!(sent(body).status, 400, "{body}");
        }
    }
}
