//! The site's signature over what policy a device has, or a user on it.
//!
//! One signature over the whole list, addressed to one device, numbered and dated (R31): a
//! device takes policy for its own id only, with a good signature, not older than the last
//! and not expired. It says whose list it is, too, or a gateway could pass a user's list off as
//! the device's. The list names each body by the hash of its bytes as served, so a body
//! needs no signature of its own. Where the signature travels: [ours], an element
//! `RoamgateSignature` at the end of `ReplyAssignments`, which the known clients ignore.

use std::fmt::{self, Write as _};

use crate::id::{ClientId, Guid};
use crate::time::Timestamp;

/// One policy of a device, as far as the signature covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPolicy {
    /// Policy id as written in the assignment.
    pub id: String,
    /// Version as written in the assignment.
    pub version: String,
    /// Hash of the body's bytes as written in the assignment: `SHA256:…`.
    pub hash: String,
}

/// Whose policy a list is, on the device that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyResource {
    /// The device's own.
    Machine,
    /// A user's, by the object id that the tenant gave.
    User(Guid),
}

impl fmt::Display for PolicyResource {
    /// As it stands in the signed bytes: `machine`, or `user <object id>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("machine"),
            Self::User(user) => write!(f, "user {user}"),
        }
    }
}

impl PolicyResource {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("user ") {
            Some(user) => user.parse().ok().map(Self::User),
            None => (text == "machine").then_some(Self::Machine),
        }
    }
}

/// The list that the site signs for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyManifest {
    /// The device that it is for, and no other.
    pub device: ClientId,
    /// Whose list it is on that device.
    pub resource: PolicyResource,
    /// Rises with every change of any policy; a device refuses a lower one than its last.
    pub serial: u64,
    /// When it was signed.
    pub issued: Timestamp,
    /// When it stops to count.
    pub expires: Timestamp,
    /// The policies, in the order of the reply.
    pub policies: Vec<SignedPolicy>,
}

/// How long a signed list counts: a device polls far more often than this.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_hours(7 * 24);

/// Why a device does not take a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Made for another device.
    #[error("the policy is addressed to {0}")]
    OtherDevice(ClientId),
    /// The device's own where a user's was asked for, a user's in place of the device's, or another user's.
    #[error("the policy is that of {0}, which was not asked for")]
    OtherResource(PolicyResource),
    /// Older than one that was taken before.
    #[error("the policy has serial {offered}, older than {last}, which this device already has")]
    Older {
        /// What came.
        offered: u64,
        /// What is there.
        last: u64,
    },
    /// Past its end.
    #[error("the policy expired at {0}")]
    Expired(Timestamp),
}

impl PolicyManifest {
    /// The bytes that are signed: one fact a line, lengths before texts so that no two lists
    /// have the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "roamgate-policy/2\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.device,
            self.resource,
            self.serial,
            self.issued.seconds(),
            self.expires.seconds(),
            self.policies.len()
        );
        for policy in &self.policies {
            for part in [&policy.id, &policy.version, &policy.hash] {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{}:{part}", part.len());
            }
        }
        text.into_bytes()
    }

    /// Whether this device may take it as the policy of `resource`, given the serial of the last that it
    /// took of that.
    pub fn check(
        &self,
        device: ClientId,
        resource: PolicyResource,
        last: u64,
        now: Timestamp,
    ) -> Result<(), ManifestError> {
        if self.device != device {
            return Err(ManifestError::OtherDevice(self.device));
        }
        if self.resource != resource {
            return Err(ManifestError::OtherResource(self.resource));
        }
        if self.serial < last {
            return Err(ManifestError::Older { offered: self.serial, last });
        }
        if now >= self.expires {
            return Err(ManifestError::Expired(self.expires));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> PolicyManifest {
        PolicyManifest {
            device: ClientId::new(Guid::nil()),
            resource: PolicyResource::Machine,
            serial: 7,
            issued: Timestamp::from_seconds(100),
            expires: Timestamp::from_seconds(200),
            policies: vec![SignedPolicy {
                id: "{a}".into(),
                version: "1.00".into(),
                hash: "SHA256:00".into(),
            }],
        }
    }

    #[test]
    fn another_device_another_resource_an_older_list_and_a_late_one_are_refused() {
        let now = Timestamp::from_seconds(150);
        let me = ClientId::new(Guid::nil());
        let other = ClientId::new("3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap());
        let check = |device, last, now| manifest().check(device, PolicyResource::Machine, last, now);
        assert_eq!(check(me, 7, now), Ok(()));
        assert_eq!(check(other, 7, now), Err(ManifestError::OtherDevice(me)));
        assert_eq!(check(me, 8, now), Err(ManifestError::Older { offered: 7, last: 8 }));
        let late = Timestamp::from_seconds(200);
        assert_eq!(check(me, 7, late), Err(ManifestError::Expired(late)));
        let machine_for_user = manifest().check(me, PolicyResource::User(Guid::nil()), 7, now);
        assert_eq!(machine_for_user, Err(ManifestError::OtherResource(PolicyResource::Machine)));
        let of_user = PolicyManifest { resource: PolicyResource::User(Guid::nil()), ..manifest() };
        let user_for_machine = of_user.check(me, PolicyResource::Machine, 7, now);
        assert_eq!(user_for_machine, Err(ManifestError::OtherResource(of_user.resource)));
        let other_user = PolicyResource::User(Guid::from_bytes([1; 16]));
        assert_eq!(
            of_user.check(me, other_user, 7, now),
            Err(ManifestError::OtherResource(of_user.resource))
        );
        assert_eq!(of_user.check(me, of_user.resource, 7, now), Ok(()));
    }

    #[test]
    fn every_fact_changes_the_signed_bytes() {
        let base = manifest().bytes();
        let mut shifted = manifest();
        shifted.policies[0].id = "{a}1".into();
        shifted.policies[0].version = ".00".into();
        let mut renumbered = manifest();
        renumbered.serial = 8;
        let of_user = PolicyManifest { resource: PolicyResource::User(Guid::nil()), ..manifest() };
        let other_user =
            PolicyManifest { resource: PolicyResource::User(Guid::from_bytes([1; 16])), ..manifest() };
        assert_ne!(base, of_user.bytes());
        for resource in [PolicyResource::Machine, of_user.resource, other_user.resource] {
            assert_eq!(PolicyResource::parse(&resource.to_string()), Some(resource));
        }
        assert_eq!(PolicyResource::parse("user"), None);
        assert_ne!(of_user.bytes(), other_user.bytes());
        assert_ne!(base, shifted.bytes());
        assert_ne!(base, renumbered.bytes());
    }
}
