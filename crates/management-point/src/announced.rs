//! For whom a request counts before anything of it is judged.
//!
//! Whoever shares something out among devices cannot go by the address on the socket, which is a connection
//! point's for all that come through it. A token that the site has signed says more, also before its key is
//! proved: nobody makes one up, and who shows another's uses up no more than that other's share.

use hyper::HeaderMap;
use proto::entra::TenantSet;
use proto::id::{ClientId, Guid, Thumbprint};
use proto::identity::bearer;
use proto::link::PEER_CERTIFICATE_HEADER;
use proto::token::{Token, TokenClass};

use crate::body::{Claim, Sender};
use crate::bounds::Comes;
use crate::context::Context;
use crate::request::Peer;

/// What a request's token says of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    /// A token of the site for this device, or for its user.
    Device(ClientId),
    /// This bulk registration token, or one that was given for it.
    BulkToken(Guid),
    /// Another token of the site before registration or approval, bound to this key.
    Key(Thumbprint),
    /// A token that is none of the site's, or has ended.
    Unknown,
    /// No token, or one of a tenant, which is judged elsewhere.
    Nothing,
}

impl Announced {
    /// Reads it. What verified once is recognised, here and where it is judged.
    pub(crate) fn by(context: &Context, headers: &HeaderMap) -> Self {
        let Some(value) = headers.get("authorization") else { return Self::Nothing };
        let Some(text) = value.to_str().ok().and_then(bearer) else { return Self::Unknown };
        if TenantSet::looks_like(text) {
            return Self::Nothing;
        }
        let token = context.verified.verify(&context.site.token_keys(), text);
        token.ok().map_or(Self::Unknown, |token| Self::of(&token, context))
    }

    fn of(token: &Token, context: &Context) -> Self {
        let own = matches!(token.class, TokenClass::Device | TokenClass::User | TokenClass::SelfProve);
        // A device's own token that has ended buys a way back.
        if token.class != TokenClass::SelfProve && token.check_time(context.now()).is_err() {
            return Self::Unknown;
        }
        match (token.class, token.device, token.bulk, token.confirmation) {
            (_, Some(device), ..) if own => Self::Device(device),
            (TokenClass::Bulk, ..) => Self::BulkToken(token.unique_id),
            (.., Some(bulk), _) => Self::BulkToken(bulk),
            (.., Some(key)) => Self::Key(key),
            _ => Self::Unknown,
        }
    }

    /// How its request comes to its turn.
    pub(crate) fn comes(self) -> Comes {
        match self {
            Self::Device(_) | Self::Key(_) | Self::Nothing => Comes::Known,
            Self::BulkToken(id) => Comes::New(Some(id)),
            Self::Unknown => Comes::New(None),
        }
    }

    /// For whom its body counts. A certificate that a gateway names is no more than a claim (R39).
    pub(crate) fn sender(self, headers: &HeaderMap, peer: &Peer) -> Sender {
        let named = || headers.get(PEER_CERTIFICATE_HEADER)?.to_str().ok()?.trim().parse().ok();
        let claim = match self {
            Self::Device(device) => return Sender::Device(device),
            Self::BulkToken(id) => Some(Claim::BulkToken(id)),
            Self::Key(key) => Some(Claim::Key(key)),
            Self::Unknown | Self::Nothing => named().map(Claim::Key),
        };
        Sender::Unproved { source: peer.address, claim }
    }
}
