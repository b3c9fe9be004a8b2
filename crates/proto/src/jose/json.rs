//! JSON as tokens may hold it: UTF-8, no member twice, at most 16 levels deep.

/// A JSON value without duplicate members.
pub type Json = serde_json::Value;

/// Text that is not such JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON")]
    Malformed,
}
