//! Approval: which evidence makes a registered device a trusted one.
//!
//! Rules are an ordered, audited setting of the site; the first that fits decides, and the record
//! keeps its name (R17, R30). Evidence comes from the management point, which has judged it; no
//! path and no wish of the device is evidence.

use std::net::IpAddr;

use proto::id::Guid;
use serde_json::json;

use crate::audit::By;
use crate::bulk_token::BulkTokenApproval;
use crate::db::{self, DbError};
use crate::network::Network;
use crate::{Site, limits};

/// What a registration brought with it, after judgement by the management point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A `PreAuth` token that came from this bulk registration token, with its key.
    BulkToken {
        /// The bulk token's id.
        id: Guid,
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
            Self::Network(_) => "network",
            Self::Manual => "manual",
        }
    }

    /// The argument as stored and shown; empty for rules without.
    pub fn argument(&self) -> String {
        match self {
            Self::Network(network) => network.to_string(),
            Self::BulkToken | Self::Manual => String::new(),
        }
    }

    /// Reads kind and argument back.
    pub fn parse(kind: &str, argument: &str) -> Option<Self> {
        match kind {
            "bulk-token" if argument.is_empty() => Some(Self::BulkToken),
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

/// Asks the rules in order. `token` is what the maker of the bulk token chose, where there is one.
pub(crate) fn decide(
    rules: &[ApprovalRule],
    evidence: Evidence,
    token: Option<BulkTokenApproval>,
) -> Decision {
    let by = |rule: String| Decision { approved: true, rule };
    let held = |rule: &str| Decision { approved: false, rule: rule.to_owned() };
    if evidence == Evidence::Lab {
        return by("lab".to_owned());
    }
    for rule in rules {
        match (rule, evidence, token) {
            (ApprovalRule::BulkToken, Evidence::BulkToken { id }, Some(BulkTokenApproval::Automatic)) => {
                return by(format!("bulk-token {id}"));
            }
            (ApprovalRule::BulkToken, Evidence::BulkToken { .. }, Some(BulkTokenApproval::Hold)) => {
                return held("bulk-token (hold)");
            }
            (ApprovalRule::Network(network), Evidence::Network { source }, _) if network.contains(source) => {
                return by(format!("network {network}"));
            }
            (ApprovalRule::Manual, ..) => return held("manual"),
            _ => {}
        }
    }
    held("no rule")
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
    fn rules_come_back_as_stored_and_the_widest_network_is_called_weak() {
        for rule in [ApprovalRule::BulkToken, rules()[1], ApprovalRule::Manual] {
            assert_eq!(ApprovalRule::parse(rule.kind(), &rule.argument()), Some(rule));
            assert!(!rule.is_weak());
        }
        assert!(ApprovalRule::parse("everybody", "").is_none());
        assert!(ApprovalRule::Network("0.0.0.0/0".parse().unwrap()).is_weak());
    }
}
