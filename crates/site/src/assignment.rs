//! What a device, or a user on it, is told to fetch: one list, signed by the site.
//!
//! A list begins with the client settings of just this device. Their assignment carries the moment
//! at which *anything* in the list changed, because a client names the newest moment that it has
//! and is sent nothing when that is still the newest: what was taken away leaves no moment of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use proto::id::{ClientId, Guid, SiteCode};
use proto::policy_signature::{LIFETIME, PolicyManifest, PolicyResource, SignedPolicy};
use proto::time::Timestamp;
use serde::Serialize;

use crate::Site;
use crate::client_settings::{self, Resolved, resolve_for};
use crate::db::{self, DbError, Tx};
use crate::policy::{Policy, PolicyError};

/// A moment that clients echo has this resolution.
const COOKIE_STEP: Duration = Duration::from_millis(1);

/// A policy as assigned to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Names the assignment.
    pub id: Guid,
    /// When it was made or moved to another version: for `OnUpdate` requests. Of the client
    /// settings: when anything in the list changed.
    pub changed_at: Timestamp,
    /// What is assigned.
    pub policy: Policy,
}

/// Everything that a device is assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    /// Rises with every change of any policy.
    pub serial: u64,
    /// In a fixed order, the client settings first.
    pub assignments: Vec<Assignment>,
}

/// A device's policy as the site signed it.
#[derive(Debug, Clone)]
pub struct SignedSet {
    /// What is assigned.
    pub set: PolicySet,
    /// What was signed.
    pub manifest: PolicyManifest,
    /// RSASSA-PKCS1-v1_5 with SHA-256 by the site signing key over [`PolicyManifest::bytes`].
    pub signature: Vec<u8>,
    /// Site signing certificate and its intermediate, DER.
    pub chain: Vec<Vec<u8>>,
}

/// A user of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UserRef {
    /// The tenant.
    pub tenant: Guid,
    /// The user's object id there.
    pub user: Guid,
}

/// At which users a policy is aimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserTarget {
    /// One user.
    User(UserRef),
    /// All users of a tenant.
    Tenant(Guid),
}

/// What is assigned through collections, each policy once: of two collections the one that was
/// moved to a newer version counts.
fn aimed_at(tx: &mut dyn Tx, device: ClientId) -> Result<Vec<Assignment>, DbError> {
    let mut newest: BTreeMap<String, Timestamp> = BTreeMap::new();
    let all = db::policy::list_for(tx, device)?;
    for assignment in &all {
        let made = newest.entry(assignment.policy.id.clone()).or_insert(assignment.policy.created_at);
        *made = (*made).max(assignment.policy.created_at);
    }
    let mut once = Vec::with_capacity(all.len());
    for assignment in all {
        if newest.get(&assignment.policy.id) == Some(&assignment.policy.created_at) {
            newest.remove(&assignment.policy.id);
            once.push(assignment);
        }
    }
    Ok(once)
}

/// The whole list, with the client settings in this version in front.
fn assemble(tx: &mut dyn Tx, device: ClientId, version: &str) -> Result<Vec<Assignment>, DbError> {
    let settings = db::policy::find(tx, client_settings::POLICY_ID, version)?;
    // The version comes from the table of bodies; without its body there is nothing to serve.
    let settings = settings.ok_or(DbError::Rows { statement: "FIND_POLICY" })?.policy();
    let first = Assignment {
        id: settings.id.parse().unwrap_or(Guid::nil()),
        changed_at: settings.created_at,
        policy: settings,
    };
    let mut list = vec![first];
    list.extend(aimed_at(tx, device)?);
    Ok(list)
}

fn digest(list: &[Assignment]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for assignment in list {
        for part in [&assignment.policy.id, &assignment.policy.version, &assignment.policy.hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
    }
    context.finish().as_ref().to_vec()
}

/// The list as the device was told it last, if nothing has changed since.
fn current(tx: &mut dyn Tx, device: ClientId, resolved: &Resolved) -> Result<Option<PolicySet>, DbError> {
    let Some(version) = client_settings::current_version(tx, resolved)? else { return Ok(None) };
    let list = assemble(tx, device, &version)?;
    match db::policy::find_told(tx, device)? {
        Some((told, changed_at)) if told == digest(&list) => whole(tx, list, Some(changed_at)).map(Some),
        // Nobody is on record to be told: the list is only looked at.
        None if db::device::find(tx, device)?.is_none() => whole(tx, list, None).map(Some),
        _ => Ok(None),
    }
}

/// The list, noted as told from now on.
fn renew(
    tx: &mut dyn Tx,
    site: SiteCode,
    device: ClientId,
    resolved: &Resolved,
    now: Timestamp,
) -> Result<PolicySet, DbError> {
    let version = client_settings::make_version(tx, site, resolved, now)?;
    let list = assemble(tx, device, &version)?;
    if db::device::find(tx, device)?.is_none() {
        return whole(tx, list, None);
    }
    let digest = digest(&list);
    let changed_at = match db::policy::find_told(tx, device)? {
        Some((told, changed_at)) if told == digest => changed_at,
        // Two changes in one moment are two cookies.
        Some((_, before)) => now.max(before.plus(COOKIE_STEP)),
        None => now,
    };
    db::policy::put_told(tx, device, &digest, changed_at)?;
    whole(tx, list, Some(changed_at))
}

fn whole(
    tx: &mut dyn Tx,
    mut assignments: Vec<Assignment>,
    changed_at: Option<Timestamp>,
) -> Result<PolicySet, DbError> {
    if let (Some(first), Some(changed_at)) = (assignments.first_mut(), changed_at) {
        first.changed_at = changed_at;
    }
    Ok(PolicySet { serial: db::policy::serial(tx)?, assignments })
}

fn signed_part(policy: &Policy) -> SignedPolicy {
    SignedPolicy { id: policy.id.clone(), version: policy.version.clone(), hash: policy.hash.clone() }
}

impl Site {
    /// What a device is assigned: its client settings, and what is aimed at its collections.
    pub async fn list_assignments(&self, device: ClientId) -> Result<PolicySet, DbError> {
        let read = self.db().read(move |tx| {
            let resolved = resolve_for(tx, Some(device))?;
            current(tx, device, &resolved)
        });
        if let Some(set) = read.await? {
            return Ok(set);
        }
        let (site, now) = (self.facts().code, self.now());
        self.db()
            .write(move |tx| {
                let resolved = resolve_for(tx, Some(device))?;
                renew(tx, site, device, &resolved, now)
            })
            .await
    }

    /// The same, signed for that device by the site signing key (R31).
    pub async fn sign_assignments(&self, device: ClientId) -> Result<SignedSet, PolicyError> {
        let set = self.list_assignments(device).await?;
        self.sign_set(device, PolicyResource::Machine, set)
    }

    /// What a user is assigned, on a device on which the user's token was accepted: signed for
    /// that device, as this user's. Empty where the device's settings switch user policy off.
    pub async fn policy_for_user(&self, device: ClientId, user: UserRef) -> Result<SignedSet, PolicyError> {
        let set = self.db().read(move |tx| {
            let enabled = resolve_for(tx, Some(device))?.value("EnableUserPolicy") == "yes";
            let assignments = if enabled { db::policy::list_for_user(tx, user)? } else { Vec::new() };
            Ok::<_, DbError>(PolicySet { serial: db::policy::serial(tx)?, assignments })
        });
        self.sign_set(device, PolicyResource::User(user.user), set.await?)
    }

    fn sign_set(
        &self,
        device: ClientId,
        resource: PolicyResource,
        set: PolicySet,
    ) -> Result<SignedSet, PolicyError> {
        let issued = self.now();
        let manifest = PolicyManifest {
            device,
            resource,
            serial: set.serial,
            issued,
            expires: issued.plus(LIFETIME),
            policies: set.assignments.iter().map(|assignment| signed_part(&assignment.policy)).collect(),
        };
        let keys = self.keys();
        let signature = keys.sign_for_site(&manifest.bytes())?;
        Ok(SignedSet { set, manifest, signature, chain: keys.site_signing_chain() })
    }
}
