//! The identity platform's token endpoint, for applications that sign in by their secret.

use http::{Method, StatusCode};
use serde_json::json;

use super::exchange::{self, Exchange};
use super::refusal::Answered;
use super::{Shared, refusal};

/// How long a token holds good, in seconds, as the platform says it.
const LIFE_SECONDS: u32 = 3_599;

/// Answers `POST /{tenant}/oauth2/v2.0/token`.
pub(super) fn token(shared: &Shared, asked: &Exchange) -> Answered {
    let [tenant, _, "v2.0", "token"] = asked.segments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return refusal::unknown_segment("oauth2").into();
    };
    if asked.method != Method::POST {
        return refusal::method().into();
    }
    let form = exchange::options(&String::from_utf8_lossy(&asked.body));
    let field = |name: &str| {
        form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let settings = &shared.settings;
    let (status, error, number, text) = if tenant != settings.tenant {
        (400, "invalid_request", 90002, "Tenant not found.")
    } else if field("grant_type") != "client_credentials" {
        (400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
    } else if field("client_id") != settings.client_id {
        (400, "unauthorized_client", 700_016, "Application was not found in the directory.")
    } else if field("client_secret") != settings.client_secret {
        (401, "invalid_client", 7_000_215, "Invalid client secret provided.")
    } else if !field("scope").ends_with("/.default") {
        (400, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid.")
    } else {
        let token = shared.tokens.give();
        return Answered::ok(json!({
            "token_type": "Bearer", "expires_in": LIFE_SECONDS, "ext_expires_in": LIFE_SECONDS, "access_token": token,
        }));
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    Answered::json_of(
        status,
        json!({
            "error": error,
            "error_description": format!("AADSTS{number}: {text}"),
            "error_codes": [number],
            "timestamp": shared.world.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            "trace_id": "00000000-0000-4000-8000-000000000001",
            "correlation_id": "00000000-0000-4000-8000-000000000002",
        }),
    )
}
