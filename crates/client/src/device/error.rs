//! Why the device could not do what it was to do at its site.

use proto::code::{self, Hresult};
use proto::id::RequestId;
use proto::message::reply::ReplyError;
use proto::reason::{Action, Reason};
use proto::request::BodyError;
use proto::request::registration::RegistrationStatus;

use crate::failure::CallError;
use crate::location::Rule;
use crate::state::StateError;
use crate::token::TokenFormError;

/// Why a question to the site was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is nobody to ask.
    #[error("there is no way to the site: {rule}")]
    NoWay {
        /// What the device knows of its whereabouts.
        rule: Rule,
        /// The last thing that was tried, if anything was.
        source: Option<Box<CallError>>,
    },
    /// The request did not get through, was refused, or its answer is not believed.
    #[error("the request did not succeed")]
    Call(#[source] CallError),
    /// Nothing to show the token service.
    #[error(
        "the device has no token to show: neither a self-prove token that still counts nor a bulk registration token"
    )]
    NoProof,
    /// A token is shown by HTTPS alone, and inside only plain HTTP is known.
    #[error(
        "the management point inside is known by plain HTTP only, where no token is shown, and no gateway is known"
    )]
    PlainOnly,
    /// Nothing at all to prove the device with; why not, method by method.
    #[error("there is nothing to prove this device with: {0}")]
    NoIdentity(String),
    /// The device is not registered.
    #[error("the device is not registered")]
    NotRegistered,
    /// The device waits for its approval.
    #[error("the device is registered and waits for approval")]
    NotApproved,
    /// The site root is not known yet.
    #[error("the site root is not known yet")]
    NoRoot,
    /// The token service gave something else than a token.
    #[error("the token service's answer holds no token")]
    TokenAnswer(#[source] serde_json::Error),
    /// A token that this device cannot use.
    #[error("the token that came cannot be used")]
    Token(#[source] TokenFormError),
    /// The answer is no message.
    #[error("the reply cannot be read")]
    Reply(#[source] ReplyError),
    /// The answer's body is not what belongs there.
    #[error("the reply's content cannot be read")]
    Body(#[source] BodyError),
    /// The site says that it does not take this registration.
    #[error("the site answered the registration with status {0}")]
    Registration(RegistrationStatus),
    /// The answer names another device.
    #[error("the answer is for another device")]
    OtherDevice,
    /// The device's memory failed.
    #[error("the device's state could not be kept")]
    State(#[source] StateError),
}

impl RequestError {
    /// The failed call underneath, if there is one.
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::Call(call) => Some(call),
            Self::NoWay { source, .. } => source.as_deref(),
            _ => None,
        }
    }

    /// The code that clients of this kind print.
    pub fn hresult(&self) -> Hresult {
        match self {
            Self::NoProof | Self::NoIdentity(_) => code::NO_CLIENT_CERTIFICATE,
            _ => self.call().map_or(code::TRANSIENT, CallError::hresult),
        }
    }

    /// The reason code, when one was given.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::NotApproved => Some(Reason::NotApproved),
            _ => self.call().and_then(CallError::reason),
        }
    }

    /// The request id, when one was given.
    pub fn request_id(&self) -> Option<RequestId> {
        self.call().and_then(CallError::refusal).and_then(|refusal| refusal.request_id)
    }

    /// Whether the same may succeed a little later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // Nothing but another network, or a word of whoever forbids it, opens that way.
            Self::NoWay { rule: Rule::GatewayForbidden | Rule::GatewayForbiddenHere, .. } => false,
            Self::NoWay { source, .. } => source.as_ref().is_some_and(|call| call.is_transient()),
            Self::Call(call) => call.is_transient(),
            _ => false,
        }
    }

    /// Whether a new CCM token may help. One that was given for a token of a tenant that is off by now is
    /// replaced by one for the site's own token, which needs no tenant.
    pub(crate) fn asks_for_new_token(&self) -> bool {
        self.call()
            .and_then(CallError::reason)
            .is_some_and(|reason| reason.row().action == Action::Renew || reason == Reason::TenantDisabled)
    }

    pub(crate) fn is_of_the_way(&self) -> bool {
        matches!(self, Self::Call(call) if call.is_of_the_way())
    }
}
