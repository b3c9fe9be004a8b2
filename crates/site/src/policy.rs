//! Policy: bodies, their versions, and at whom they are aimed. What a device is told of them is in
//! [`crate::assignment`].

use aws_lc_rs::digest::{SHA256, digest};
use proto::id::{Guid, SiteCode};
use proto::request::policy::ResourceType;
use proto::text::write::XmlWriter;
use proto::text::{check_xml, encode_with_bom, hex};
use proto::time::Timestamp;
use proto::zlib;
use serde::Serialize;
use serde_json::json;

use crate::assignment::UserTarget;
use crate::audit::By;
use crate::db::{self, DbError};
use crate::keys::{SealError, SignError};
use crate::name::{NameError, check_name};
use crate::{Site, limits, random_guid};

/// The collection that every device is in. Its id is the field's own for all systems.
pub(crate) const ALL_DEVICES: &str = "SMS00001";

/// Bits of `PolicyFlags` [sdk-meta, clients].
pub mod flags {
    /// The body needs client identity.
    pub const REQUIRES_AUTH: u32 = 2;
    /// The body is encrypted to the client.
    pub const SECRET: u32 = 4;
    /// The body is a `PolicyXML` wrapper.
    pub const COMPRESSED: u32 = 64;
}

/// How a body is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyProtection {
    /// As it is, to anybody who may ask for policy.
    Public,
    /// The same, compressed.
    Compressed,
    /// Encrypted to the device that asks and proves who it is. At rest it is sealed under the key file.
    Secret,
}

impl PolicyProtection {
    /// The bits that say so.
    pub const fn flags(self) -> u32 {
        match self {
            Self::Public => 0,
            Self::Compressed => flags::COMPRESSED,
            Self::Secret => flags::SECRET | flags::REQUIRES_AUTH,
        }
    }

    /// What the bits say; secret wins.
    pub const fn from_flags(bits: u32) -> Self {
        if bits & flags::SECRET != 0 {
            Self::Secret
        } else if bits & flags::COMPRESSED != 0 {
            Self::Compressed
        } else {
            Self::Public
        }
    }
}

/// A policy to be added, or a new version of one.
#[derive(Debug, Clone)]
pub struct NewPolicy {
    /// The policy; `None` makes a new one.
    pub id: Option<Guid>,
    /// Category, such as `SoftwareDistribution`; may be empty.
    pub category: String,
    /// How it is served.
    pub protection: PolicyProtection,
    /// The `PolicyRule` elements; the site writes the `Policy` element around them.
    pub rules: String,
    /// The collection that it is aimed at, by id or name; `None` means all devices.
    pub collection: Option<String>,
}

/// A policy in one version, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Id as written in assignments: `{guid}` in lower case.
    pub id: String,
    /// Version as written in assignments.
    pub version: String,
    /// `SHA256:` and the hash of the body's bytes as served; of a secret one, of what is encrypted.
    pub hash: String,
    /// Category; may be empty.
    pub category: String,
    /// `PolicyFlags`.
    pub flags: u32,
    /// When this version was made.
    pub created_at: Timestamp,
}

/// A body on its way to a device.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyBody {
    /// What it is.
    pub policy: Policy,
    /// The bytes to serve; of a secret policy, the bytes to encrypt to the device's key.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for PolicyBody {
    /// Without the body: it may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyBody").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// A policy operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A name is not taken.
    #[error("policy not taken")]
    Name(#[from] NameError),
    /// Too large.
    #[error("the policy is larger than {} bytes", limits::POLICY_BYTES)]
    TooLarge,
    /// The rules are no XML.
    #[error("the policy rules are not well-formed XML")]
    Xml,
    /// No such collection.
    #[error("there is no collection {0:?}")]
    UnknownCollection(String),
    /// Seeding is for the lab.
    #[error("only the lab takes policy as it is")]
    NotALab,
    /// A secret body was not sealed or does not open.
    #[error("secret policy")]
    Seal(#[from] SealError),
    /// A policy for users is aimed at users only.
    #[error("a policy for users is aimed at no collection of devices")]
    UsersAndDevices,
    /// The signature was not made.
    #[error("policy not signed")]
    Sign(#[from] SignError),
    /// The database failed.
    #[error("policy not read or written")]
    Database(#[from] DbError),
}

/// Version text of a revision: `1.00`, `2.00`, … as clients expect a number with a fraction [observed].
pub(crate) fn version(revision: u32) -> String {
    format!("{revision}.00")
}

/// At whom a policy is aimed.
#[derive(Debug, Clone)]
pub(crate) enum Aim {
    /// The devices of a collection.
    Collection(String),
    /// Users of a tenant.
    Users(UserTarget),
}

impl Aim {
    const fn resource(&self) -> ResourceType {
        match self {
            Self::Collection(_) => ResourceType::Machine,
            Self::Users(_) => ResourceType::User,
        }
    }
}

/// The policy document around its rules (protocol reference 6.3).
fn compose(id: &str, revision: u32, site: SiteCode, resource: ResourceType, rules: &str) -> String {
    let mut xml = XmlWriter::with_declaration("<?xml version=\"1.0\"?>");
    xml.start("Policy").attribute("PolicyType", resource).attribute("SchemaVersion", "1.00");
    xml.attribute("PolicyID", id).attribute("PolicyVersion", version(revision));
    xml.attribute("PolicySource", format_args!("SMS:{site}"));
    xml.verbatim(rules);
    xml.finish()
}

/// The bytes as served: BOM and UTF-16LE, compressed ones in their wrapper (protocol reference 6.3).
pub(crate) fn serve(document: &str, protection: PolicyProtection) -> Vec<u8> {
    let plain = encode_with_bom(document);
    if protection != PolicyProtection::Compressed {
        return plain;
    }
    let mut wrapper = XmlWriter::new();
    wrapper.start("PolicyXML").attribute("Compression", "zlib").attribute("Version", "1");
    wrapper.cdata(&hex::encode(&zlib::deflate(&plain)));
    encode_with_bom(&wrapper.finish())
}

/// The hash in the form of assignments and of `.sms_pol` queries.
pub(crate) fn hash(served: &[u8]) -> Vec<u8> {
    digest(&SHA256, served).as_ref().to_vec()
}

/// Rules with 128 random bits behind them: the hash of a secret body stands in the clear in
/// assignments, and a short secret in a known text could be guessed by it.
fn salted(rules: &str) -> String {
    format!("{rules}<!--{}-->", random_guid())
}

/// What a sealed body is bound to.
fn record(id: &str, version: &str) -> Vec<u8> {
    format!("{id} {version}").into_bytes()
}

/// Purpose under which secret bodies are sealed.
const SEALED_AS: &str = "policy";

impl Site {
    /// Adds a policy, or a new version of one, and aims it at a collection.
    pub async fn add_policy(&self, by: &By, new: NewPolicy) -> Result<Policy, PolicyError> {
        let collection = new.collection.clone().unwrap_or_else(|| ALL_DEVICES.to_owned());
        self.add_aimed(by, new, Aim::Collection(collection)).await
    }

    /// Adds a policy, or a new version of one, and aims it at users.
    pub async fn add_user_policy(
        &self,
        by: &By,
        new: NewPolicy,
        target: UserTarget,
    ) -> Result<Policy, PolicyError> {
        if new.collection.is_some() {
            return Err(PolicyError::UsersAndDevices);
        }
        self.add_aimed(by, new, Aim::Users(target)).await
    }

    async fn add_aimed(&self, by: &By, new: NewPolicy, aim: Aim) -> Result<Policy, PolicyError> {
        if new.rules.len() > limits::POLICY_BYTES {
            return Err(PolicyError::TooLarge);
        }
        if !new.category.is_empty() {
            check_name("policy category", &new.category)?;
        }
        let id = new.id.unwrap_or_else(random_guid);
        let id = format!("{{{id}}}");
        let site = self.facts().code;
        let resource = aim.resource();
        check_xml(&compose(&id, 1, site, resource, &new.rules)).map_err(|_| PolicyError::Xml)?;

        let read_id = id.clone();
        let revision = self.db().read(move |tx| db::policy::newest_revision(tx, &read_id)).await? + 1;
        let rules =
            if new.protection == PolicyProtection::Secret { salted(&new.rules) } else { new.rules.clone() };
        let served = serve(&compose(&id, revision, site, resource, &rules), new.protection);
        self.store_policy(by, id, version(revision), revision, served, &new, aim).await
    }

    /// Stores a policy under a given id and version with exactly these served bytes: for the lab,
    /// which replays recorded clients.
    pub async fn seed_policy(
        &self,
        id: &str,
        version: &str,
        served: Vec<u8>,
        new: NewPolicy,
    ) -> Result<Policy, PolicyError> {
        if !self.is_lab() {
            return Err(PolicyError::NotALab);
        }
        let aim = Aim::Collection(new.collection.clone().unwrap_or_else(|| ALL_DEVICES.to_owned()));
        self.store_policy(&By::site(), id.to_owned(), version.to_owned(), 1, served, &new, aim).await
    }

    #[expect(clippy::too_many_arguments, reason = "what a policy is made of, from its two makers above")]
    async fn store_policy(
        &self,
        by: &By,
        id: String,
        version: String,
        revision: u32,
        served: Vec<u8>,
        new: &NewPolicy,
        aim: Aim,
    ) -> Result<Policy, PolicyError> {
        let hash = hash(&served);
        let body = match new.protection {
            PolicyProtection::Secret => self.key_file().seal(&record(&id, &version), SEALED_AS, &served)?,
            PolicyProtection::Public | PolicyProtection::Compressed => served,
        };
        let scribe = self.scribe(by);
        let row = db::policy::PolicyRow {
            id,
            version,
            hash,
            body,
            category: new.category.clone(),
            flags: new.protection.flags(),
            revision,
            created_at: scribe.now,
        };
        self.db()
            .write(move |tx| {
                db::policy::insert(tx, &row)?;
                let aimed_at = match &aim {
                    Aim::Collection(named) => {
                        let unknown = || PolicyError::UnknownCollection(named.clone());
                        let collection = db::collection::find(tx, named)?.ok_or_else(unknown)?;
                        db::policy::assign(tx, &row.id, &row.version, &collection.id, scribe.now)?;
                        json!({ "collection": collection.id })
                    }
                    Aim::Users(target) => {
                        db::policy::assign_to_users(tx, &row.id, &row.version, *target, scribe.now)?;
                        json!({ "users": target })
                    }
                };
                db::policy::raise_serial(tx)?;
                let detail = json!({ "version": row.version, "flags": row.flags, "aimed-at": aimed_at });
                scribe.note(tx, "policy.add", &row.id, &detail)?;
                Ok(row.policy())
            })
            .await
    }

    /// The newest version of every policy.
    pub async fn list_policies(&self) -> Result<Vec<Policy>, DbError> {
        self.db().read(db::policy::list_newest).await
    }

    /// A body by policy id and version or hash (`SHA256:…`), as the query behind `.sms_pol?`
    /// names it. `None`: there is no such body.
    pub async fn find_policy_body(
        &self,
        id: &str,
        version_or_hash: &str,
    ) -> Result<Option<PolicyBody>, PolicyError> {
        let (id, name) = (id.to_owned(), version_or_hash.to_owned());
        let found = self
            .db()
            .read(move |tx| {
                // Our own ids are lower case; a client may write them otherwise.
                for id in [id.as_str(), &id.to_ascii_lowercase()] {
                    let found = match name.strip_prefix("SHA256:").map(|text| hex::decode(text, 32)) {
                        Some(Ok(hash)) => db::policy::find_by_hash(tx, id, &hash)?,
                        Some(Err(_)) => None,
                        None => db::policy::find(tx, id, &name)?,
                    };
                    if found.is_some() {
                        return Ok::<_, DbError>(found);
                    }
                }
                Ok(None)
            })
            .await?;
        let Some(row) = found else { return Ok(None) };
        let policy = row.policy();
        let bytes = match PolicyProtection::from_flags(row.flags) {
            PolicyProtection::Secret => {
                self.key_file().open(&record(&row.id, &row.version), SEALED_AS, &row.body)?.to_vec()
            }
            PolicyProtection::Public | PolicyProtection::Compressed => row.body,
        };
        Ok(Some(PolicyBody { policy, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_body_holds_the_policy_with_its_byte_order_mark() {
        let document = compose("{a}", 2, "RG1".parse().unwrap(), ResourceType::Machine, "<PolicyRule/>");
        assert!(document.starts_with(
            "<?xml version=\"1.0\"?><Policy PolicyType=\"Machine\" SchemaVersion=\"1.00\" PolicyID=\"{a}\" \
             PolicyVersion=\"2.00\" PolicySource=\"SMS:RG1\"><PolicyRule/></Policy>"
        ));
        let served = serve(&document, PolicyProtection::Compressed);
        let text = proto::text::decode_with_bom(&served).unwrap();
        let inner = text.strip_prefix("<PolicyXML Compression=\"zlib\" Version=\"1\"><![CDATA[").unwrap();
        let inner = hex::decode(inner.strip_suffix("]]></PolicyXML>").unwrap(), 10_000).unwrap();
        assert_eq!(zlib::inflate(&inner, 10_000).unwrap(), serve(&document, PolicyProtection::Public));
    }

    #[test]
    fn flags_say_how_a_body_is_served() {
        for protection in [PolicyProtection::Public, PolicyProtection::Compressed, PolicyProtection::Secret] {
            assert_eq!(PolicyProtection::from_flags(protection.flags()), protection);
        }
    }
}
