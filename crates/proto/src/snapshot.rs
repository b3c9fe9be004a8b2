//! What the site publishes to its gateways and connection points: a versioned snapshot and
//! the changes since, signed by the site signing key.
//!
//! It holds only what may stand on a host that an attacker may own: public keys, role ids,
//! ids of what is blocked. Internal addresses are for connection points and travel on the site
//! link ([`crate::link`]), never to a gateway.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::combination::Mode;
use crate::entra::PublishedTenant;
use crate::id::{ClientId, Guid, RoleId, SiteCode, Thumbprint};
use crate::identity::{Blocked, TokenBinding};
use crate::pki::{IssuerId, RevocationSettings, Revocations, RevocationsDelta, TrustList};
use crate::time::Timestamp;
use crate::trust::{Purpose, SiteRoot, TrustError};

/// A role as a gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedRole {
    /// Its number in external paths.
    pub role: RoleId,
    /// Its name, for logs and pages.
    pub name: String,
    /// Whether gateways pass requests to it.
    pub gateway_traffic: bool,
    /// How it speaks to clients: one in plain HTTP mode takes nothing from gateways.
    pub mode: Mode,
}

/// A token signing certificate, public as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCertificate {
    /// Base64 of the DER.
    #[serde(with = "base64_bytes")]
    pub der: Vec<u8>,
}

/// Site settings that a gateway obeys and cannot weaken (settled point 24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Whether a token counts without its key.
    pub token_binding: TokenBinding,
    /// How revocation of client certificates is judged.
    pub revocation: RevocationSettings,
}

/// One change of what is published. Changes are idempotent: applied twice they do no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change", content = "of")]
pub enum Change {
    /// A role is published, or published anew.
    SetRole(PublishedRole),
    /// A role is no longer published.
    RemoveRole(RoleId),
    /// The complete list of token signing certificates that verify.
    SetTokenCertificates(Vec<TokenCertificate>),
    /// The settings that gateways obey.
    SetSettings(GatewaySettings),
    /// A bulk registration token was blocked.
    BlockBulkToken(Guid),
    /// … and is let in again.
    UnblockBulkToken(Guid),
    /// A device was blocked: its tokens by id, its connections by certificate.
    BlockDevice {
        /// Its client id.
        device: ClientId,
        /// Its signing certificate.
        certificate: Thumbprint,
    },
    /// … and is let in again.
    UnblockDevice {
        /// Its client id.
        device: ClientId,
        /// Its signing certificate.
        certificate: Thumbprint,
    },
    /// A link certificate (connection point or gateway) was withdrawn.
    WithdrawLink(Thumbprint),
    /// The complete list of authorities whose client certificates are trusted.
    SetTrust(TrustList),
    /// An issuer's revocation list, whole.
    SetRevocations(Revocations),
    /// The next one of an issuer, as changes to the last.
    AmendRevocations(RevocationsDelta),
    /// An issuer's list is not kept any more: its authority is gone.
    RemoveRevocations(IssuerId),
    /// A tenant was onboarded, or something about it changed: its keys, its being on.
    SetTenant(PublishedTenant),
    /// A tenant is gone.
    RemoveTenant(Guid),
}

/// Everything a gateway knows of its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The site.
    pub site_code: SiteCode,
    /// Its hierarchy: `TenantId` and issuer of its tokens.
    pub hierarchy: Guid,
    /// Rises with every change; starts at 1.
    pub version: u64,
    /// When this version came to be.
    pub issued: Timestamp,
    /// Published roles.
    pub roles: BTreeMap<RoleId, PublishedRole>,
    /// Token signing certificates that verify: next, current and retired ones.
    pub token_certificates: Vec<TokenCertificate>,
    /// Settings.
    pub settings: GatewaySettings,
    /// Blocked bulk registration tokens that have not expired yet.
    pub blocked_bulk_tokens: HashSet<Guid>,
    /// Blocked devices.
    pub blocked_devices: HashSet<ClientId>,
    /// Certificates of blocked devices.
    pub blocked_certificates: HashSet<Thumbprint>,
    /// Withdrawn link certificates.
    pub withdrawn_links: HashSet<Thumbprint>,
    /// Authorities whose client certificates are trusted.
    pub trust: TrustList,
    /// Their revocation lists. Shared, because one may hold a million serials and every change of
    /// anything makes a new snapshot.
    #[serde(with = "shared_map")]
    pub revocations: BTreeMap<IssuerId, Arc<Revocations>>,
    /// Onboarded tenants.
    pub tenants: BTreeMap<Guid, PublishedTenant>,
}

impl Snapshot {
    /// Applies one change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::SetRole(role) => {
                self.roles.insert(role.role, role);
            }
            Change::RemoveRole(role) => {
                self.roles.remove(&role);
            }
            Change::SetTokenCertificates(certificates) => self.token_certificates = certificates,
            Change::SetSettings(settings) => self.settings = settings,
            Change::BlockBulkToken(id) => {
                self.blocked_bulk_tokens.insert(id);
            }
            Change::UnblockBulkToken(id) => {
                self.blocked_bulk_tokens.remove(&id);
            }
            Change::BlockDevice { device, certificate } => {
                self.blocked_devices.insert(device);
                self.blocked_certificates.insert(certificate);
            }
            Change::UnblockDevice { device, certificate } => {
                self.blocked_devices.remove(&device);
                self.blocked_certificates.remove(&certificate);
            }
            Change::WithdrawLink(thumbprint) => {
                self.withdrawn_links.insert(thumbprint);
            }
            Change::SetTrust(list) => self.trust = list,
            Change::SetRevocations(list) => {
                self.revocations.insert(list.issuer, Arc::new(list));
            }
            Change::AmendRevocations(delta) => {
                if let Some(list) = self.revocations.get_mut(&delta.issuer) {
                    Arc::make_mut(list).amend(delta);
                }
            }
            Change::RemoveRevocations(issuer) => {
                self.revocations.remove(&issuer);
            }
            Change::SetTenant(tenant) => {
                self.tenants.insert(tenant.tenant, tenant);
            }
            Change::RemoveTenant(tenant) => {
                self.tenants.remove(&tenant);
            }
        }
    }

    /// Applies the changes that lead from this version to a later one. A delta that starts
    /// elsewhere changes nothing and is refused: the receiver asks for a whole snapshot.
    pub fn apply_delta(&mut self, delta: Delta) -> Result<(), DeltaError> {
        if delta.from != self.version {
            return Err(DeltaError { have: self.version, from: delta.from });
        }
        for change in delta.changes {
            self.apply(change);
        }
        self.version = delta.to;
        self.issued = delta.issued;
        Ok(())
    }
}

impl Blocked for Snapshot {
    fn is_bulk_token_blocked(&self, id: Guid) -> bool {
        self.blocked_bulk_tokens.contains(&id)
    }
    fn is_device_blocked(&self, id: ClientId) -> bool {
        self.blocked_devices.contains(&id)
    }
    fn is_tenant_off(&self, tenant: Guid) -> bool {
        self.tenants.get(&tenant).is_none_or(|tenant| !tenant.enabled)
    }
}

/// The changes from one version to a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The version that it starts from.
    pub from: u64,
    /// The version that it leads to.
    pub to: u64,
    /// When that version came to be.
    pub issued: Timestamp,
    /// In order.
    pub changes: Vec<Change>,
}

/// A delta that does not follow what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delta starts at version {from}, and version {have} is here")]
pub struct DeltaError {
    /// The version that is here.
    pub have: u64,
    /// The version that the delta starts from.
    pub from: u64,
}

/// A document of the site with its signature. The payload is kept as the text that was
/// signed, never written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// JSON text.
    pub payload: String,
    /// RSASSA-PKCS1-v1_5 with SHA-256 over the payload's bytes.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
    /// The site signing certificate and its intermediate, DER, leaf first.
    #[serde(with = "base64_list")]
    pub chain: Vec<Vec<u8>>,
}

/// What a site signs for its gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publication {
    /// All of it.
    Snapshot(Box<Snapshot>),
    /// The changes since a version.
    Delta(Delta),
}

/// Why a signed document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The certificate does not speak for the site.
    #[error("not signed by the site")]
    Trust(#[source] TrustError),
    /// The signature does not fit.
    #[error("the signature does not fit")]
    Signature,
    /// Signed, but not a document that this version understands.
    #[error("not a publication of the site")]
    Payload(#[source] serde_json::Error),
}

impl Signed {
    /// The publication inside, if the site signed it.
    pub fn open(&self, root: &SiteRoot, now: Timestamp) -> Result<Publication, SignedError> {
        root.verify(&self.chain, Purpose::SiteSigning, now).map_err(SignedError::Trust)?;
        let leaf = self.chain.first().ok_or(SignedError::Signature)?;
        crate::trust::verify_rsa(leaf, self.payload.as_bytes(), &self.signature)
            .map_err(|_| SignedError::Signature)?;
        serde_json::from_str(&self.payload).map_err(SignedError::Payload)
    }
}

/// A map of shared values in JSON, as if they were not shared.
mod shared_map {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::pki::{IssuerId, Revocations};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<IssuerId, Arc<Revocations>>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_map(map.iter().map(|(issuer, list)| (issuer, &**list)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<IssuerId, Arc<Revocations>>, D::Error> {
        let map = BTreeMap::<IssuerId, Revocations>::deserialize(d)?;
        Ok(map.into_iter().map(|(issuer, list)| (issuer, Arc::new(list))).collect())
    }
}

/// Bytes as standard base64 in JSON.
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes them.
    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// A list of byte strings as standard base64 in JSON.
pub mod base64_list {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(list: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(list.iter().map(|bytes| STANDARD.encode(bytes)))
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts.iter().map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            site_code: "RG1".parse().unwrap(),
            hierarchy: Guid::nil(),
            version: 3,
            issued: Timestamp::from_seconds(1),
            roles: BTreeMap::new(),
            token_certificates: Vec::new(),
            settings: GatewaySettings::default(),
            blocked_bulk_tokens: HashSet::new(),
            blocked_devices: HashSet::new(),
            blocked_certificates: HashSet::new(),
            withdrawn_links: HashSet::new(),
            trust: TrustList::default(),
            revocations: BTreeMap::new(),
            tenants: BTreeMap::new(),
        }
    }

    #[test]
    fn a_delta_applies_to_its_own_version_only() {
        let delta = Delta {
            from: 3,
            to: 5,
            issued: Timestamp::from_seconds(2),
            changes: vec![Change::BlockBulkToken(Guid::nil())],
        };
        let mut current = snapshot();
        current.apply_delta(delta.clone()).unwrap();
        assert!(current.is_bulk_token_blocked(Guid::nil()));
        assert_eq!(current.version, 5);
        assert_eq!(current.apply_delta(delta), Err(DeltaError { have: 5, from: 3 }));
    }

    #[test]
    fn a_snapshot_comes_back_from_json_as_it_was() {
        let mut full = snapshot();
        full.apply(Change::SetRole(PublishedRole {
            role: RoleId::FIRST,
            name: "mp".into(),
            gateway_traffic: true,
            mode: Mode::Ehttp,
        }));
        full.apply(Change::BlockDevice {
            device: ClientId::new(Guid::nil()),
            certificate: Thumbprint::of(b"c"),
        });
        let text = serde_json::to_string(&Publication::Snapshot(Box::new(full.clone()))).unwrap();
        assert_eq!(
            serde_json::from_str::<Publication>(&text).unwrap(),
            Publication::Snapshot(Box::new(full))
        );
    }
}
