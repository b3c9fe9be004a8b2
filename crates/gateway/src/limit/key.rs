//! Who is limited.

use std::net::IpAddr;

use proto::id::{ClientId, Guid, Thumbprint};
use proto::identity::Identity;
use proto::token::TokenClass;

/// What is counted under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    V4([u8; 4]),
    /// The first 64 bits: the least that one customer of a provider has.
    V6(u64),
    /// The first 48 bits: what one organisation has, and what anybody gets for little money.
    V6Site(u64),
    Device(ClientId),
    Certificate(Thumbprint),
    /// A bulk token, by the id that operators know it by.
    Bulk(Guid),
}

impl Key {
    /// Where somebody comes from.
    pub(super) fn source(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    /// The wider network around it, where the address tells one.
    pub(super) fn site(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Self::V6Site((address.to_bits() >> 80) as u64)),
        }
    }

    /// The device that asks: the client id of its token, or the certificate whose key it proved.
    pub(super) fn device(identity: &Identity, shown: Option<Thumbprint>) -> Option<Self> {
        match identity {
            Identity::Certificate { thumbprint } => Some(Self::Certificate(*thumbprint)),
            identity => identity.device().map(Self::Device).or(shown.map(Self::Certificate)),
        }
    }

    /// The bulk token that opens the token service.
    pub(super) fn bulk(identity: &Identity) -> Option<Self> {
        match identity {
            Identity::Token(token) if token.class == TokenClass::Bulk => {
                Some(Self::Bulk(token.bulk.unwrap_or(token.unique_id)))
            }
            _ => None,
        }
    }
}

/// Whether the site knows no device or certificate behind it. Then a key is worth nothing as a name: its holder
/// makes as many as it likes.
pub(super) fn is_stranger(identity: &Identity) -> bool {
    identity.device().is_none() && !matches!(identity, Identity::Certificate { .. })
}
