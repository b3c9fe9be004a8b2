//! What requests say: a path element, a query, a JSON body, each bounded and refused in words.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::StatusCode;
use http::request::Parts;
use runtime::http::{BodyError, read_body};
use serde::de::DeserializeOwned;

use super::error::{ApiError, Code};

/// Largest body in bytes: a policy of a megabyte, and room.
const BODY_BYTES: usize = 2 * 1024 * 1024;
/// Longest time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Longest path element that is looked at, in bytes.
const NAME_BYTES: usize = 1024;
/// Longest quotation of what a parser says, in characters.
const PARSER_CHARS: usize = 200;

/// The one element of the path that a route leaves open: an id or a name.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = Path::<String>::from_request_parts(parts, state).await.ok();
        found.filter(|Path(name)| name.len() <= NAME_BYTES).map(|Path(name)| Self(name)).ok_or_else(|| {
            ApiError::new(
                Code::Invalid,
                "the address is not readable",
                "Write the id or the name as lists show it.",
            )
        })
    }
}

/// The two elements of the path that a route leaves open, in their order.
pub(super) struct TwoNames(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for TwoNames {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = Path::<(String, String)>::from_request_parts(parts, state).await.ok();
        let short = |name: &String| name.len() <= NAME_BYTES;
        let found = found.filter(|Path((first, second))| short(first) && short(second));
        found.map(|Path((first, second))| Self(first, second)).ok_or_else(|| {
            ApiError::new(
                Code::Invalid,
                "the address is not readable",
                "Write ids or names as lists show them.",
            )
        })
    }
}

/// The query of the address.
pub(super) struct Filter<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Filter<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(filter)| Self(filter)).map_err(|error| {
            let said: String = error.body_text().chars().take(PARSER_CHARS).collect();
            ApiError::new(
                Code::Invalid,
                format!("the query is not understood: {said}"),
                "Leave it out, or correct it.",
            )
        })
    }
}

/// A JSON body; nothing counts as `{}`. Unknown members are refused, so that a misspelt one is not
/// taken for its absence. `MOST` is the largest body in bytes.
pub(super) struct JsonBody<T, const MOST: usize = BODY_BYTES>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned, const MOST: usize> FromRequest<S> for JsonBody<T, MOST> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body =
            read_body(request.into_body(), MOST, BODY_TIME).await.map_err(|error| refuse_body(&error))?;
        let text = if body.is_empty() { b"{}" } else { body.as_ref() };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            let said: String = error.to_string().chars().take(PARSER_CHARS).collect();
            ApiError::new(
                Code::Invalid,
                format!("the body is not understood: {said}"),
                "Correct the member, or leave it out.",
            )
        })
    }
}

fn refuse_body(error: &BodyError<axum::Error>) -> ApiError {
    match error {
        BodyError::TooLarge { limit } => ApiError::new(
            Code::Invalid,
            format!("the body has more than {limit} bytes"),
            "No request of an operator is that large.",
        )
        .with_status(StatusCode::PAYLOAD_TOO_LARGE),
        BodyError::TooSlow | BodyError::Broken(_) => {
            ApiError::new(Code::Invalid, "the body did not arrive", "Try again, over a better line.")
                .with_status(StatusCode::REQUEST_TIMEOUT)
        }
    }
}
