//! The site's signature over what policy a device has.
//!
//! One signature over the whole list, addressed to one device, numbered and dated (R31): a
//! device takes policy for its own id only, with a good signature, not older than the last
//! and not expired. The list names each body by the hash of its bytes as served, so a body
//! needs no signature of its own. Where the signature travels: [ours], an element
//! `RoamgateSignature` at the end of `ReplyAssignments`, which the known clients ignore.

use std::fmt::Write as _;

use crate::id::ClientId;
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

/// The list that the site signs for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyManifest {
    /// The device that it is for, and no other.
    pub device: ClientId,
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
            "roamgate-policy/1\n{}\n{}\n{}\n{}\n{}\n",
            self.device,
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

    /// Whether this device may take it, given the serial of the last that it took.
    pub fn check(&self, device: ClientId, last: u64, now: Timestamp) -> Result<(), ManifestError> {
        if self.device != device {
            return Err(ManifestError::OtherDevice(self.device));
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
    use crate::id::Guid;

    fn manifest() -> PolicyManifest {
        PolicyManifest {
            device: ClientId::new(Guid::nil()),
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
    fn another_device_an_older_list_and_a_late_one_are_refused() {
        let now = Timestamp::from_seconds(150);
        let me = ClientId::new(Guid::nil());
        let other = ClientId::new("3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap());
        assert_eq!(manifest().check(me, 7, now), Ok(()));
        assert_eq!(manifest().check(other, 7, now), Err(ManifestError::OtherDevice(me)));
        assert_eq!(manifest().check(me, 8, now), Err(ManifestError::Older { offered: 7, last: 8 }));
        let late = Timestamp::from_seconds(200);
        assert_eq!(manifest().check(me, 7, late), Err(ManifestError::Expired(late)));
    }

    #[test]
    fn every_fact_changes_the_signed_bytes() {
        let base = manifest().bytes();
        let mut shifted = manifest();
        shifted.policies[0].id = "{a}1".into();
        shifted.policies[0].version = ".00".into();
        let mut renumbered = manifest();
        renumbered.serial = 8;
        assert_ne!(base, shifted.bytes());
        assert_ne!(base, renumbered.bytes());
    }
}
