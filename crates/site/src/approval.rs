//! Approval: which evidence makes a registered device a trusted one.
//!
//! Rules are an ordered, audited setting of the site; the first that fits decides, and the record
//! keeps its name (R17, R30). Evidence comes from the management point, which has judged it; no
//! path and no wish of the device is evidence.

use std::net::IpAddr;

use proto::id::{Guid, Thumbprint};
use proto::time::Timestamp;
use proto::token::EntraOrigin;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::bulk_token::BulkTokenApproval;
use crate::db::{self, DbError, Tx};
use crate::name::{NameError, check_text};
use crate::network::Network;
use crate::{Site, limits, random_guid};

/// What a registration brought with it, after judgement by the management point. It may bring several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A `PreAuth` token that came from this bulk registration token, with its key.
    BulkToken {
        /// The bulk token's id.
        id: Guid,
    },
    /// A CCM token with this origin: the tenant vouches for the device or its user.
    Entra {
        /// Whom the tenant's token named.
        origin: EntraOrigin,
    },
    /// A certificate of a PKI that the site trusts, its key proved.
    Certificate {
        /// The certificate.
        thumbprint: Thumbprint,
    },
    /// An entry of the list of expected devices, which the site itself found to fit.
    Expected {
        /// The entry.
        entry: Guid,
    },
    /// A connection from this address straight to a management point. Never for what came
    /// through a gateway: there the address is the connection point's.
    Network {
        /// The peer's address on the socket.
        source: IpAddr,
    },
    /// Nothing; also right for a device that comes again with its own token, because its key says
    /// which record is meant.
    None,
    /// The lab vouches. Counts only at a site that the lab opened.
    Lab,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalRule {
    /// A bulk registration token decides as its maker chose: automatic or hold.
    BulkToken,
    /// A device or user that an onboarded tenant vouches for is approved.
    Entra,
    /// A device with a trusted certificate is approved.
    Pki,
    /// A device on the list of expected devices is approved, once for each entry.
    ExpectedList,
    /// A device inside this network is approved.
    Network(Network),
    /// An operator decides; later rules are not asked.
    Manual,
}

/// What the rules made of some evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the device is approved.
    pub approved: bool,
    /// The rule that decided, as it stands in the device's record.
    pub rule: String,
}

/// Rules that cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalRuleError {
    /// More than a site can need.
    #[error("more than {} rules", limits::APPROVAL_RULES)]
    TooMany,
    /// The database failed.
    #[error("approval rules not set")]
    Database(#[from] DbError),
}

impl ApprovalRule {
    /// The kind as stored and shown.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BulkToken => "bulk-token",
            Self::Entra => "entra",
            Self::Pki => "pki",
            Self::ExpectedList => "expected-list",
            Self::Network(_) => "network",
            Self::Manual => "manual",
        }
    }

    /// The argument as stored and shown; empty for rules without.
    pub fn argument(&self) -> String {
        match self {
            Self::Network(network) => network.to_string(),
            Self::BulkToken | Self::Entra | Self::Pki | Self::ExpectedList | Self::Manual => String::new(),
        }
    }

    /// Reads kind and argument back.
    pub fn parse(kind: &str, argument: &str) -> Option<Self> {
        match kind {
            "bulk-token" if argument.is_empty() => Some(Self::BulkToken),
            "entra" if argument.is_empty() => Some(Self::Entra),
            "pki" if argument.is_empty() => Some(Self::Pki),
            "expected-list" if argument.is_empty() => Some(Self::ExpectedList),
            "manual" if argument.is_empty() => Some(Self::Manual),
            "network" => argument.parse().ok().map(Self::Network),
            _ => None,
        }
    }

    /// Whether it deserves an alarm: it approves on evidence that nearly anybody has (R17, R71).
    pub fn is_weak(&self) -> bool {
        matches!(self, Self::Network(network) if network.is_everything())
    }
}

/// The rules of a new site: whatever proves an identity approves, the rest waits for an operator.
pub(crate) fn default_rules(intranet: impl IntoIterator<Item = Network>) -> Vec<ApprovalRule> {
    let mut rules = vec![ApprovalRule::BulkToken, ApprovalRule::Entra, ApprovalRule::Pki];
    rules.extend(intranet.into_iter().map(ApprovalRule::Network));
    rules.push(ApprovalRule::Manual);
    rules
}

/// What the lab approves is said to be approved by.
pub(crate) const LAB: &str = "lab";

/// Asks the rules in order; the first that fits any of the evidence decides. `token` is what the
/// maker of the bulk token chose, where there is one.
pub(crate) fn decide(
    rules: &[ApprovalRule],
    evidence: &[Evidence],
    token: Option<BulkTokenApproval>,
) -> Decision {
    if evidence.contains(&Evidence::Lab) {
        return Decision { approved: true, rule: LAB.to_owned() };
    }
    rules
        .iter()
        .find_map(|rule| match rule {
            ApprovalRule::Manual => Some(Decision { approved: false, rule: "manual".to_owned() }),
            _ => evidence.iter().find_map(|evidence| apply(rule, *evidence, token)),
        })
        .unwrap_or_else(|| Decision { approved: false, rule: "no rule".to_owned() })
}

/// What one rule makes of one piece of evidence; `None`: it is about something else.
fn apply(rule: &ApprovalRule, evidence: Evidence, token: Option<BulkTokenApproval>) -> Option<Decision> {
    let by = |rule: String| Some(Decision { approved: true, rule });
    match (rule, evidence) {
        (ApprovalRule::BulkToken, Evidence::BulkToken { id }) => match token? {
            BulkTokenApproval::Automatic => by(format!("bulk-token {id}")),
            BulkTokenApproval::Hold => {
                Some(Decision { approved: false, rule: "bulk-token (hold)".to_owned() })
            }
        },
        (ApprovalRule::Entra, Evidence::Entra { origin }) => by(format!("entra {}", origin.tenant)),
        (ApprovalRule::Pki, Evidence::Certificate { .. }) => by("pki".to_owned()),
        (ApprovalRule::ExpectedList, Evidence::Expected { entry }) => by(format!("expected-list {entry}")),
        (ApprovalRule::Network(network), Evidence::Network { source }) if network.contains(source) => {
            by(format!("network {network}"))
        }
        _ => None,
    }
}

/// A device that an operator expects: by name, by hardware id, or by both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpectedDevice {
    /// Names the entry.
    pub id: Guid,
    /// The name that it will have, in any case; empty: any.
    pub name: String,
    /// Its hardware id; empty: any.
    pub hardware_id: String,
    /// The operator's note.
    pub note: String,
    /// When it was added.
    pub added_at: Timestamp,
    /// By whom.
    pub added_by: String,
    /// The key of the device that came; another one does not fit any more.
    pub taken_by: Option<Thumbprint>,
}

/// A device to expect.
#[derive(Debug, Clone, Default)]
pub struct NewExpectedDevice {
    /// The name that it will have, in any case; empty: any.
    pub name: String,
    /// Its hardware id; empty: any.
    pub hardware_id: String,
    /// A note.
    pub note: String,
}

/// An operation on the list of expected devices was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ExpectedDeviceError {
    /// A value is not taken.
    #[error("expected device not taken")]
    Name(#[from] NameError),
    /// It would fit every device.
    #[error("an expected device has a name, a hardware id, or both")]
    Nothing,
    /// More than the list holds.
    #[error("more than {} expected devices", limits::EXPECTED_DEVICES)]
    TooMany,
    /// No such entry.
    #[error("there is no expected device {0}")]
    Unknown(Guid),
    /// The database failed.
    #[error("expected devices not read or written")]
    Database(#[from] DbError),
}

/// The evidence of the list of expected devices for a registration, in its transaction: an entry
/// that fits what the device says and that no other key has taken. The entry is this key's from
/// then on, so one entry approves one device (R17). Asked only where a rule wants it.
pub(crate) fn expect_device(
    tx: &mut dyn Tx,
    rules: &[ApprovalRule],
    name: &str,
    hardware_id: Option<&str>,
    key: Thumbprint,
    now: Timestamp,
) -> Result<Option<Evidence>, DbError> {
    if !rules.contains(&ApprovalRule::ExpectedList) {
        return Ok(None);
    }
    let found = db::approval::find_expected(tx, name, hardware_id.unwrap_or_default(), key)?;
    let Some(entry) = found else { return Ok(None) };
    db::approval::take_expected(tx, entry, key, now)?;
    Ok(Some(Evidence::Expected { entry }))
}

impl Site {
    /// Replaces the ordered list of approval rules.
    pub async fn set_approval_rules(
        &self,
        by: &By,
        rules: Vec<ApprovalRule>,
    ) -> Result<(), ApprovalRuleError> {
        if rules.len() > limits::APPROVAL_RULES {
            return Err(ApprovalRuleError::TooMany);
        }
        let _refresh = self.inner.refresh.lock().await;
        let scribe = self.scribe(by);
        let new = rules.clone();
        self.db()
            .write(move |tx| {
                db::approval::replace(tx, &new)?;
                let list: Vec<_> = new.iter().map(|rule| json!([rule.kind(), rule.argument()])).collect();
                let weak = new.iter().any(ApprovalRule::is_weak);
                scribe.note(tx, "approval-rules.set", "site", &json!({ "rules": list, "weakens": weak }))
            })
            .await?;
        self.put_rules(rules);
        Ok(())
    }

    /// Expects devices: each is approved by the rule `expected-list` when it registers.
    pub async fn add_expected_devices(
        &self,
        by: &By,
        new: Vec<NewExpectedDevice>,
    ) -> Result<Vec<ExpectedDevice>, ExpectedDeviceError> {
        for device in &new {
            check_text("name", &device.name)?;
            check_text("hardware id", &device.hardware_id)?;
            check_text("note", &device.note)?;
            if device.name.trim().is_empty() && device.hardware_id.trim().is_empty() {
                return Err(ExpectedDeviceError::Nothing);
            }
        }
        let scribe = self.scribe(by);
        let added_by = by.actor.to_string();
        let entries: Vec<_> = new
            .into_iter()
            .map(|device| ExpectedDevice {
                id: random_guid(),
                name: device.name.trim().to_owned(),
                hardware_id: device.hardware_id.trim().to_owned(),
                note: device.note,
                added_at: scribe.now,
                added_by: added_by.clone(),
                taken_by: None,
            })
            .collect();
        let rows = entries.clone();
        self.db()
            .write(move |tx| {
                if db::approval::count_expected(tx)? + rows.len() as u64 > limits::EXPECTED_DEVICES {
                    return Err(ExpectedDeviceError::TooMany);
                }
                for row in &rows {
                    db::approval::insert_expected(tx, row)?;
                    let detail = json!({ "name": row.name, "hardware-id": row.hardware_id });
                    scribe.note(tx, "expected-device.add", row.id, &detail)?;
                }
                Ok(())
            })
            .await?;
        Ok(entries)
    }

    /// Expected devices, those that came included; at most 1,000 after this entry.
    pub async fn list_expected_devices(
        &self,
        after: Option<Guid>,
    ) -> Result<Vec<ExpectedDevice>, ExpectedDeviceError> {
        Ok(self.db().read(move |tx| db::approval::list_expected(tx, after, limits::PAGE)).await?)
    }

    /// Expects a device no longer. One that came stays as it is.
    pub async fn remove_expected_device(&self, by: &By, id: Guid) -> Result<(), ExpectedDeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                if !db::approval::delete_expected(tx, id)? {
                    return Err(ExpectedDeviceError::Unknown(id));
                }
                scribe.note(tx, "expected-device.remove", id, &json!({}))?;
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<ApprovalRule> {
        vec![ApprovalRule::BulkToken, ApprovalRule::Network("10.0.0.0/8".parse().unwrap())]
    }

    fn from(address: &str) -> Evidence {
        Evidence::Network { source: address.parse().unwrap() }
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_is_named() {
        let token = Evidence::BulkToken { id: Guid::nil() };
        let decide = |rules: &[ApprovalRule], evidence, token| decide(rules, &[evidence], token);
        let automatic = decide(&rules(), token, Some(BulkTokenApproval::Automatic));
        assert_eq!(automatic, Decision { approved: true, rule: format!("bulk-token {}", Guid::nil()) });
        assert!(!decide(&rules(), token, Some(BulkTokenApproval::Hold)).approved);
        assert_eq!(decide(&rules(), from("10.1.1.1"), None).rule, "network 10.0.0.0/8");
        assert!(decide(&rules(), from("10.1.1.1"), None).approved);
        assert!(!decide(&rules(), from("192.0.2.1"), None).approved);
        assert!(!decide(&rules(), Evidence::None, None).approved);
        assert!(!decide(&[ApprovalRule::Manual, rules()[1]], from("10.1.1.1"), None).approved);
        assert!(!decide(&[], token, Some(BulkTokenApproval::Automatic)).approved, "no rule, no approval");
    }

    #[test]
    fn whatever_proves_an_identity_approves_at_a_new_site_and_nothing_else_does() {
        let rules = default_rules(["10.0.0.0/8".parse().unwrap()]);
        let origin = EntraOrigin { tenant: Guid::nil(), device: None, user: None };
        let entra = Evidence::Entra { origin };
        let pki = Evidence::Certificate { thumbprint: Thumbprint::of(b"c") };
        assert_eq!(decide(&rules, &[entra], None).rule, format!("entra {}", Guid::nil()));
        assert_eq!(decide(&rules, &[pki], None), Decision { approved: true, rule: "pki".to_owned() });
        assert_eq!(
            decide(&rules, &[pki, entra], None).rule,
            format!("entra {}", Guid::nil()),
            "in their order"
        );
        let expected = Evidence::Expected { entry: Guid::nil() };
        for nothing in [vec![], vec![Evidence::None], vec![from("192.0.2.1")], vec![expected]] {
            let decision = decide(&rules, &nothing, None);
            assert_eq!(decision, Decision { approved: false, rule: "manual".to_owned() }, "{nothing:?}");
        }
        assert!(decide(&[ApprovalRule::ExpectedList], &[expected], None).approved);
        // A token that holds is its maker's word, whatever else the device brings.
        let held = [Evidence::BulkToken { id: Guid::nil() }, pki];
        assert!(!decide(&rules, &held, Some(BulkTokenApproval::Hold)).approved);
    }

    #[test]
    fn rules_come_back_as_stored_and_the_widest_network_is_called_weak() {
        let all = [rules(), default_rules([]), vec![ApprovalRule::ExpectedList]].concat();
        for rule in all {
            assert_eq!(ApprovalRule::parse(rule.kind(), &rule.argument()), Some(rule));
            assert!(!rule.is_weak());
        }
        assert!(ApprovalRule::parse("everybody", "").is_none());
        assert!(ApprovalRule::Network("0.0.0.0/0".parse().unwrap()).is_weak());
    }
}
