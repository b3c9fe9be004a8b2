//! By what registrations are counted together: by what they proved. The address is that of the connection
//! point for whatever comes through one, and says nothing about who comes.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use proto::id::{Guid, Thumbprint};
use proto::limits::NAME_CHARS;
use proto::token::EntraOrigin;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::approval::Evidence;
use crate::device::SeenVia;
use crate::method::PkiCredential;
use crate::registration::NewRegistration;

/// By what registrations are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// A bulk registration token.
    Token(Guid),
    /// A tenant that vouched for device or user.
    Tenant(Guid),
    /// The authority of a trusted certificate, by its name there.
    Authority(Arc<str>),
    /// A trusted certificate.
    Certificate(Thumbprint),
    /// A device of a tenant.
    TenantDevice {
        /// The tenant.
        tenant: Guid,
        /// Its id there.
        device: Guid,
    },
    /// A user of a tenant.
    TenantUser {
        /// The tenant.
        tenant: Guid,
        /// Its object id there.
        user: Guid,
    },
    /// Straight from an address, with nothing proved but a key; of version 6 the network of 64 bits that one
    /// host chooses freely in.
    Source(IpAddr),
    /// The same through the connection point at this address.
    Through(IpAddr),
    /// All that do not fit into their table.
    Others,
}

/// The doors that one registration comes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registration) struct Doors {
    /// What is one device's or one user's.
    pub(super) own: Option<Door>,
    /// What many devices come by.
    pub(super) shared: Door,
}

impl Doors {
    /// `None`: no network was involved, so it is the site's own doing.
    pub(in crate::registration) fn of(
        new: &NewRegistration,
        evidence: Evidence,
        from: Option<IpAddr>,
    ) -> Option<Self> {
        let token = match evidence {
            Evidence::BulkToken { id } => Some(id),
            _ => new.credentials.bulk,
        };
        let (pki, entra) = (new.credentials.pki.as_ref(), new.credentials.entra);
        let address = || match (from.map(host)?, new.via) {
            (address, SeenVia::Intranet) => Some(Door::Source(address)),
            (address, SeenVia::Gateway) => Some(Door::Through(address)),
        };
        // A token is the operator's word for this very roll-out, and it has an end.
        let shared = token.map(Door::Token).or_else(|| pki.and_then(authority));
        let shared = shared.or_else(|| entra.map(|entra| Door::Tenant(entra.tenant))).or_else(address)?;
        let own = pki.map(|pki| Door::Certificate(pki.thumbprint)).or_else(|| entra.and_then(identity));
        Some(Self { own, shared })
    }
}

/// The name of the authority that signed the leaf. A leaf that cannot be read was trusted by nobody.
fn authority(pki: &PkiCredential) -> Option<Door> {
    let (_, leaf) = X509Certificate::from_der(pki.chain.first()?).ok()?;
    let name: String = leaf.issuer().to_string().chars().take(NAME_CHARS).collect();
    Some(Door::Authority(name.into()))
}

fn identity(EntraOrigin { tenant, device, user }: EntraOrigin) -> Option<Door> {
    let device = device.map(|device| Door::TenantDevice { tenant, device });
    device.or_else(|| user.map(|user| Door::TenantUser { tenant, user }))
}

fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(id) => write!(f, "bulk token {id}"),
            Self::Tenant(id) => write!(f, "tenant {id}"),
            Self::Authority(name) => write!(f, "certificates of {name}"),
            Self::Certificate(thumbprint) => write!(f, "certificate {thumbprint}"),
            Self::TenantDevice { tenant, device } => write!(f, "device {device} of tenant {tenant}"),
            Self::TenantUser { tenant, user } => write!(f, "user {user} of tenant {tenant}"),
            Self::Source(address) => write!(f, "address {address}"),
            Self::Through(address) => write!(f, "connection point at {address} without proof"),
            Self::Others => f.write_str("others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Credentials;

    fn new(credentials: Credentials, via: SeenVia) -> NewRegistration {
        NewRegistration {
            signing_certificate: Vec::new(),
            encryption_certificate: Vec::new(),
            name: "PC1".to_owned(),
            fqdn: String::new(),
            hardware_id: None,
            client_version: String::new(),
            signs_requests: true,
            join: None,
            credentials,
            refused: Vec::new(),
            method_reason: String::new(),
            via,
        }
    }

    fn id(number: u8) -> Guid {
        Guid::from_bytes([number; 16])
    }

    fn doors(credentials: Credentials) -> Doors {
        let from = "192.0.2.1".parse().ok();
        Doors::of(&new(credentials, SeenVia::Gateway), Evidence::None, from).unwrap()
    }

    #[test]
    fn through_a_connection_point_it_counts_what_was_proved_and_not_where_it_came_from() {
        let (tenant, device, user) = (id(1), id(2), id(3));
        let entra = |device, user| Credentials {
            entra: Some(EntraOrigin { tenant, device, user }),
            ..Credentials::default()
        };
        let by_user = doors(entra(None, Some(user)));
        assert_eq!(by_user.own, Some(Door::TenantUser { tenant, user }));
        assert_eq!(by_user.shared, Door::Tenant(tenant));
        assert_eq!(
            doors(entra(Some(device), Some(user))).own,
            Some(Door::TenantDevice { tenant, device }),
            "the device is narrower"
        );
        let der = rcgen::generate_simple_self_signed(["pc1".to_owned()]).unwrap().cert.der().to_vec();
        let thumbprint = Thumbprint::of(&der);
        let pki = PkiCredential {
            thumbprint,
            subject: "CN=PC1".to_owned(),
            not_after: proto::time::Timestamp::from_seconds(0),
            chain: vec![der],
        };
        let by_certificate = doors(Credentials { pki: Some(pki.clone()), ..Credentials::default() });
        assert_eq!(by_certificate.own, Some(Door::Certificate(thumbprint)));
        assert_eq!(by_certificate.shared, Door::Authority("CN=rcgen self signed cert".into()));
        let with_token = doors(Credentials { pki: Some(pki), bulk: Some(id(4)), ..Credentials::default() });
        assert_eq!(with_token.shared, Door::Token(id(4)));
        assert_eq!(with_token.own, Some(Door::Certificate(thumbprint)));
    }

    #[test]
    fn without_proof_it_counts_by_address_and_road() {
        let of = |via, address: &str| {
            let new = new(Credentials::default(), via);
            Doors::of(&new, Evidence::None, address.parse().ok())
        };
        let shared = |via, address| of(via, address).map(|doors| doors.shared);
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(shared(SeenVia::Intranet, "192.0.2.1"), Some(Door::Source(address)));
        assert_eq!(shared(SeenVia::Gateway, "192.0.2.1"), Some(Door::Through(address)));
        assert_eq!(shared(SeenVia::Intranet, "::ffff:192.0.2.1"), Some(Door::Source(address)));
        assert_eq!(shared(SeenVia::Intranet, "none"), None, "the site's own doing");
        let of_host = |address| shared(SeenVia::Intranet, address);
        assert_eq!(of_host("2001:db8::1"), of_host("2001:db8::ffff:1:2:3"), "one host is one door");
        assert_ne!(of_host("2001:db8::1"), of_host("2001:db8:0:1::1"));
    }
}
