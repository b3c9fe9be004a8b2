//! Refusals in the form that Entra gives them.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use proto::id::Guid;
use proto::time::Timestamp;
use serde_json::json;

/// A refused request for a token: what RFC 6749 calls it, and Entra's number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    code: u32,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error, code, text: text.into() }
    }

    /// 400 with this name and number.
    pub(crate) fn bad(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, code, text)
    }

    /// 401: the app or device did not prove who it is.
    pub(crate) fn client(code: u32, text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", code, text)
    }

    pub(crate) fn unknown_tenant(segment: &str) -> Self {
        let shown: String = segment.chars().take(40).collect();
        Self::bad("invalid_tenant", 90_002, format!("Tenant '{shown}' is not known here."))
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::bad("invalid_request", 900_144, format!("The request body has no parameter '{parameter}'."))
    }

    pub(crate) fn unknown_app(app: &str) -> Self {
        let shown: String = app.chars().take(40).collect();
        let text = format!("Application '{shown}' is not in the directory.");
        Self::bad("unauthorized_client", 700_016, text)
    }

    /// RFC 6749's name for it.
    #[cfg(test)]
    pub(crate) fn error(&self) -> &'static str {
        self.error
    }

    /// Entra's number for it.
    #[cfg(test)]
    pub(crate) fn code(&self) -> u32 {
        self.code
    }

    pub(crate) fn answer(self, now: Timestamp) -> Response {
        let moment = now.iso8601().replace('T', " ");
        let (trace, correlation) = (random_guid(), random_guid());
        let description = format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {moment}",
            self.code, self.text
        );
        let body = json!({
            "error": self.error,
            "error_description": description,
            "error_codes": [self.code],
            "timestamp": moment,
            "trace_id": trace,
            "correlation_id": correlation,
        });
        (self.status, Json(body)).into_response()
    }
}

fn random_guid() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}
