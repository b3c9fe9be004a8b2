//! One message of the client protocol, in both directions.
//!
//! ```text
//! bytes -> Envelope -> Header + payload as stored -> (verify) -> inflate -> PlainMessage -> body
//! ```
//!
//! The order matters: signatures cover the payload as stored, so they are checked before
//! anything is inflated (section 12, point 3).

pub mod body;
pub mod endpoint;
pub mod envelope;
pub mod header;
pub mod header_identity;
pub mod hook;
pub mod reply;
pub mod request;
pub mod signature;

pub use body::PlainMessage;
pub use endpoint::{MessageEndpoint, endpoint_accepts};
pub use envelope::Envelope;
pub use header::{Header, ReplyCompression, ReplyMode};
pub use header_identity::HeaderIdentity;
pub use hook::{ClientAuth, Hook, SigningIdentity};
pub use reply::{ReplyMessage, ReplyStamp};
pub use request::{OutgoingRequest, RequestMessage};
pub use signature::{RsaPublicKey, Signature, SigningKey};

use crate::zlib::InflateError;

/// Why bytes are no message that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not an envelope.
    #[error("not a message envelope")]
    Envelope(#[source] envelope::EnvelopeError),
    /// No usable header.
    #[error("unusable message header")]
    Header(#[source] header::HeaderError),
    /// A hook that we cannot undo, such as encryption.
    #[error("the payload went through {0:?}, which is not supported")]
    UnsupportedHook(String),
    /// The payload lies elsewhere than in the message.
    #[error("a payload of type {0:?} is not supported")]
    UnsupportedPayload(String),
    /// The payload does not inflate, or to too much.
    #[error("the payload does not inflate")]
    Inflate(#[source] InflateError),
}

impl MessageError {
    /// Whether this is the question where to upload to, which we do not serve (section 8.6).
    pub fn is_upload_request(&self) -> bool {
        matches!(self, Self::Header(header::HeaderError::UploadRequest))
    }
}
