//! What a refused operator is told: what is wrong, and what to do. Never a secret, never a cause
//! that only a developer understands; that one is in the log.

use std::error::Error;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use runtime::telemetry::Chain;
use serde_json::json;
use site::SnapshotError;
use site::db::DbError;
use site::keys::CertificateError;
use tracing::error;

/// The sorts of refusal, as programs tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NotFound,
    Refused,
    Conflict,
    Invalid,
    Unauthorized,
    Busy,
    Internal,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Refused => StatusCode::FORBIDDEN,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct ApiError {
    code: Code,
    status: StatusCode,
    message: String,
    fix: String,
}

impl ApiError {
    pub(super) fn new(code: Code, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, status: code.status(), message: message.into(), fix: fix.into() }
    }

    /// A refusal in the words of an error and its causes.
    pub(super) fn told(code: Code, error: &(dyn Error + 'static), fix: impl Into<String>) -> Self {
        Self::new(code, Chain(error).to_string(), fix)
    }

    /// A failure of ours: the cause goes to the log under the request's id, and no further.
    pub(super) fn failed(cause: &(dyn Error + 'static)) -> Self {
        error!(error = %Chain(cause), "operator request failed");
        Self::new(
            Code::Internal,
            "something failed inside the site; nothing was changed",
            "SMS_REST_PROVIDER.log on the site's host has the whole cause. Please report it.",
        )
    }

    #[must_use]
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        if error.is_passing() {
            return Self::new(
                Code::Busy,
                "the site has more work waiting than it takes",
                "Try again in a moment; look at the disk of the site's host if it lasts.",
            );
        }
        Self::failed(&error)
    }
}

impl From<SnapshotError> for ApiError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Database(error) => error.into(),
            other => Self::failed(&other),
        }
    }
}

impl From<CertificateError> for ApiError {
    fn from(error: CertificateError) -> Self {
        Self::failed(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": { "code": self.code.as_str(), "message": self.message, "fix": self.fix },
        });
        let mut response = (self.status, Json(body)).into_response();
        if self.code == Code::Unauthorized {
            super::authenticate::challenge(response.headers_mut());
        }
        response
    }
}
