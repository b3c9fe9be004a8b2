//! What `roamgate-client status` tells, as text and as one JSON document.

use std::fmt::{self, Write as _};

use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::time::Timestamp;
use serde::Serialize;

use crate::credential::preference::Refused;
use crate::credential::revocation;
use crate::device::CLIENT_VERSION;
use crate::doctor::clock_text;
use crate::identity::KeyMaterial;
use crate::place;

use crate::state::{Approval, Failure, State};
use crate::token::Freshness;

/// A token, without its text.
#[derive(Debug, Clone, Serialize)]
pub struct TokenStatus {
    /// When it stops to count.
    pub expires: String,
    /// From when on it is renewed.
    pub renew_from: String,
    /// `good`, `renew` or `expired`.
    pub standing: &'static str,
}

/// Everything about a device that may be shown.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The device's name.
    pub name: String,
    /// Its id, once registered.
    pub client_id: Option<ClientId>,
    /// The site, when it is known.
    pub site_code: Option<String>,
    /// `not-registered`, `held` or `approved`.
    pub registration: &'static str,
    /// How the device proves itself.
    pub method: String,
    /// Since when.
    pub method_since: Option<String>,
    /// Why.
    pub method_reason: Option<String>,
    /// Why not the better methods: method and reason.
    pub method_refused: Vec<RefusedStatus>,
    /// The method before this one.
    pub method_before: Option<String>,
    /// Where the certificate comes from that it shows: `self-signed`, or `PKI`.
    pub certificate: &'static str,
    /// SHA-256 of its own, self-signed certificate: its identity at the site.
    pub certificate_sha256: String,
    /// The certificate of the PKI, when one was selected.
    pub pki_certificate: Option<CertificateStatus>,
    /// Why none was.
    pub pki_problem: Option<String>,
    /// How the device is joined: `workgroup`, `domain`, `entra` or `hybrid`.
    pub join: Option<&'static str>,
    /// What its join state comes to, in words.
    pub join_state: Option<&'static str>,
    /// The device's token of its tenant.
    pub entra_device: Option<EntraStatus>,
    /// Why there is none.
    pub entra_problem: Option<String>,
    /// Users of the tenant.
    pub accounts: Vec<AccountStatus>,
    /// How wrong the device's clock is, by the site's word.
    pub clock: Option<String>,
    /// How strictly servers' certificates are checked for revocation: `off`, `soft` or `hard`.
    pub server_revocation_check: &'static str,
    /// Servers of which nobody knows whether their certificate was revoked.
    pub unchecked_servers: Vec<String>,
    /// The client's version.
    pub client_version: &'static str,
    /// `intranet` or `internet`, once known.
    pub locality: Option<String>,
    /// Why.
    pub locality_reason: Option<String>,
    /// Since when.
    pub locality_since: Option<String>,
    /// What it was decided from.
    pub locality_inputs: Option<String>,
    /// When the device last looked.
    pub locality_looked: Option<String>,
    /// Whether the device may use gateways, who says so, and when.
    pub gateway_permission: String,
    /// The address used last.
    pub address: Option<String>,
    /// Gateways that are known.
    pub gateways: Vec<String>,
    /// Management points inside.
    pub inside: Vec<String>,
    /// SHA-256 of the site root, once known.
    pub site_root_sha256: Option<String>,
    /// `pinned` or `first-use`.
    pub site_root_origin: Option<&'static str>,
    /// Version of the client settings in force.
    pub policy_version: Option<String>,
    /// Serial of the policy list.
    pub policy_serial: u64,
    /// Policies in force: id, version, and whether they came encrypted.
    pub policies: Vec<PolicyStatus>,
    /// The token that proves the device.
    pub self_prove_token: Option<TokenStatus>,
    /// The token for requests through a gateway.
    pub ccm_token: Option<TokenStatus>,
    /// The last answer that the site signed.
    pub last_answer: Option<String>,
    /// The last policy request that was answered.
    pub last_policy: Option<String>,
    /// The last heartbeat that the site took.
    pub last_heartbeat: Option<String>,
    /// The last failure, unless everything went well since.
    pub last_failure: Option<FailureStatus>,
}

/// A better method that is not used.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedStatus {
    /// Its name.
    pub method: &'static str,
    /// Why not.
    pub why: String,
}

/// The certificate of the PKI.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateStatus {
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// SHA-256.
    pub sha256: String,
    /// Its end.
    pub expires: String,
    /// Who refused it last, with the code; unless nobody did.
    pub refused: Option<String>,
}

/// The device's token of its tenant.
#[derive(Debug, Clone, Serialize)]
pub struct EntraStatus {
    /// The tenant.
    pub tenant: Option<String>,
    /// The device's id there.
    pub device: Option<String>,
    /// The token's end.
    pub expires: String,
}

/// A user of the tenant.
#[derive(Debug, Clone, Serialize)]
pub struct AccountStatus {
    /// The SID under which tokens are cached.
    pub sid: String,
    /// Principal name.
    pub name: String,
    /// The end of the tenant's token.
    pub token_expires: Option<String>,
    /// The CCM token for user policy.
    pub ccm_token: Option<TokenStatus>,
    /// Policies in force for this user.
    pub policies: usize,
    /// When policy was last asked for.
    pub asked: Option<String>,
    /// Why it was refused.
    pub refused: Option<String>,
}

/// One policy in force.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyStatus {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Such as `ClientAgentConfig`.
    pub category: Option<String>,
    /// Whether it came encrypted to this device.
    pub secret: bool,
}

/// A failure, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct FailureStatus {
    /// When.
    pub at: String,
    /// What.
    pub text: String,
    /// As clients print it.
    pub hresult: String,
    /// The reason code.
    pub reason: Option<String>,
    /// What to name when asking an operator.
    pub request_id: Option<String>,
}

impl Status {
    /// Gathers it from a device's memory.
    pub fn of(state: &State, key: &KeyMaterial, now: Timestamp) -> Self {
        let whereabouts = state.whereabouts.as_ref();
        let token = |token: Option<&crate::token::StoredToken>| {
            token.map(|token| TokenStatus {
                expires: token.expires.iso8601(),
                renew_from: token.renew_from.iso8601(),
                standing: match token.judge(now) {
                    Freshness::Good => "good",
                    Freshness::Renew => "renew",
                    Freshness::Expired => "expired",
                },
            })
        };
        let (method, credentials) = (state.method.as_ref(), &state.credentials);
        let current = method.map_or(Method::SiteToken, |method| method.method);
        let settings = &state.policy.settings;
        let check = revocation::effective(
            state.proof.no_crl_check,
            settings.version.is_some(),
            settings.revocation_check,
        );
        let time = |time: Option<Timestamp>| time.map(Timestamp::iso8601);
        let gateways = place::gateways(state);
        Self {
            name: state.setup.name.clone(),
            client_id: state.registration.map(|registration| registration.client_id),
            site_code: state.setup.site_code.map(|code| code.to_string()),
            registration: match state.registration.map(|registration| registration.approval) {
                None => "not-registered",
                Some(Approval::Held) => "held",
                Some(Approval::Approved | Approval::ApprovedByEntra) => "approved",
            },
            method: current.to_string(),
            method_since: method.map(|method| method.since.iso8601()),
            method_reason: method.map(|method| method.reason.clone()),
            method_refused: method.map_or_else(Vec::new, |method| {
                let of = |refused: &Refused| RefusedStatus {
                    method: refused.method.name(),
                    why: refused.why.clone(),
                };
                method.refused.iter().map(of).collect()
            }),
            method_before: method.and_then(|method| method.before).map(|before| before.to_string()),
            certificate: if current == Method::Certificate { "PKI" } else { "self-signed" },
            pki_certificate: credentials.certificate.as_ref().map(|known| CertificateStatus {
                subject: known.subject.clone(),
                issuer: known.issuer.clone(),
                sha256: known.thumbprint.to_string(),
                expires: known.not_after.iso8601(),
                refused: credentials
                    .certificate_refused
                    .as_ref()
                    .filter(|refused| refused.thumbprint == known.thumbprint)
                    .map(|refused| format!("{} (at {})", refused.text, refused.at)),
            }),
            pki_problem: credentials.certificate_problem.clone().filter(|_| state.proof.has_certificates()),
            join: credentials.join.map(proto::combination::Join::as_str),
            join_state: credentials.finding.map(crate::join::Finding::state),
            entra_device: credentials.device_token.as_ref().map(|token| EntraStatus {
                tenant: credentials.onboarding.as_ref().map(|known| known.tenant.to_string()),
                device: credentials.entra_device.map(|device| device.to_string()),
                expires: token.expires.iso8601(),
            }),
            entra_problem: credentials.device_token_problem.as_ref().map(|problem| problem.text.clone()),
            accounts: credentials
                .accounts
                .iter()
                .map(|account| AccountStatus {
                    sid: account.sid.clone(),
                    name: account.name.clone(),
                    token_expires: account.token.as_ref().map(|token| token.expires.iso8601()),
                    ccm_token: token(account.ccm.as_ref()),
                    policies: account.policy.applied.len(),
                    asked: account.policy.asked.map(Timestamp::iso8601),
                    refused: account.policy.refused.clone(),
                })
                .collect(),
            clock: clock_text(credentials.clock_offset),
            server_revocation_check: check.name(),
            unchecked_servers: credentials
                .unchecked_servers
                .iter()
                .map(|warning| format!("{}: {}", warning.host, warning.text))
                .collect(),
            certificate_sha256: Thumbprint::of(&key.certificate).to_string(),
            client_version: CLIENT_VERSION,
            locality: whereabouts.map(|w| w.locality.to_string()),
            locality_reason: whereabouts.map(|w| w.rule.to_string()),
            locality_since: whereabouts.map(|w| w.since.iso8601()),
            address: whereabouts.map(|w| w.address.clone()).filter(|address| !address.is_empty()),
            gateways: gateways.iter().map(ToString::to_string).collect(),
            inside: place::management_points(state).iter().map(ToString::to_string).collect(),
            gateway_permission: place::permission_text(state),
            locality_inputs: whereabouts.map(|w| w.inputs.clone()).filter(|inputs| !inputs.is_empty()),
            locality_looked: time(whereabouts.and_then(|w| w.looked)),
            site_root_sha256: state.trust.root.as_ref().map(|root| Thumbprint::of(&root.0).to_string()),
            site_root_origin: state.trust.origin.map(crate::trust::RootOrigin::name),
            policy_version: state.policy.settings.version.clone(),
            policy_serial: state.policy.serial,
            policies: state
                .policy
                .applied
                .iter()
                .map(|policy| PolicyStatus {
                    id: policy.id.clone(),
                    version: policy.version.clone(),
                    category: policy.category.clone(),
                    secret: policy.secret,
                })
                .collect(),
            self_prove_token: token(state.self_prove.as_ref()),
            ccm_token: token(state.ccm.as_ref()),
            last_answer: time(state.contact.answered),
            last_policy: time(state.contact.policy),
            last_heartbeat: time(state.contact.heartbeat),
            last_failure: state.contact.failure.as_ref().map(FailureStatus::of),
        }
    }
}

impl FailureStatus {
    fn of(failure: &Failure) -> Self {
        Self {
            at: failure.at.iso8601(),
            text: failure.text.clone(),
            hresult: failure.hresult.clone(),
            reason: failure.reason.clone(),
            request_id: failure.request_id.clone(),
        }
    }
}

impl fmt::Display for Status {
    /// As a person reads it: one fact a line, names aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let id = self.client_id.map_or_else(|| "none yet".to_owned(), |id| id.to_string());
        let token = |token: &Option<TokenStatus>| match token {
            Some(token) => format!("until {} ({})", token.expires, token.standing),
            None => "none".to_owned(),
        };
        let locality = match (&self.locality, &self.locality_reason) {
            (Some(locality), Some(reason)) => format!("{locality}: {reason}"),
            _ => "not known yet".to_owned(),
        };
        let root = match (&self.site_root_sha256, self.site_root_origin) {
            (Some(root), Some(origin)) => format!("sha256:{root} ({origin})"),
            (Some(root), None) => format!("sha256:{root}"),
            _ => "not known yet".to_owned(),
        };
        let policy = match &self.policy_version {
            Some(version) => {
                format!("version {version}, {} in force, serial {}", self.policies.len(), self.policy_serial)
            }
            None => format!("no client settings yet, {} in force", self.policies.len()),
        };
        let since = match (&self.method_since, &self.method_reason) {
            (Some(since), Some(reason)) => format!("{since}, {reason}"),
            _ => "nothing was looked at yet".to_owned(),
        };
        let rows = [
            ("Device", self.name.clone()),
            ("Client id", id),
            ("Site", or_none(&self.site_code)),
            ("Registration", self.registration.to_owned()),
            ("Method", format!("{}, certificate: {}", self.method, self.certificate)),
            ("Since, because", since),
            ("Location", locality),
            ("Decided from", or_none(&self.locality_inputs)),
            ("Gateway use", self.gateway_permission.clone()),
            ("Address", or_none(&self.address)),
            (
                "Gateways",
                if self.gateways.is_empty() { "none known".into() } else { self.gateways.join(", ") },
            ),
            ("Policy", policy),
            ("Self-prove token", token(&self.self_prove_token)),
            ("CCM token", token(&self.ccm_token)),
            ("Site root", root),
            ("Last heartbeat", or_none(&self.last_heartbeat)),
            ("Last policy", or_none(&self.last_policy)),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<18}{value}")?;
        }
        for refused in &self.method_refused {
            writeln!(f, "{:<18}{}: {}", "Not used", refused.method, refused.why)?;
        }
        if let Some(certificate) = &self.pki_certificate {
            let refused =
                certificate.refused.as_ref().map(|why| format!("; refused: {why}")).unwrap_or_default();
            let CertificateStatus { subject, issuer, expires, .. } = certificate;
            writeln!(f, "{:<18}{subject} of {issuer}, until {expires}{refused}", "PKI certificate")?;
        }
        if let Some(state) = self.join_state {
            writeln!(f, "{:<18}{state}", "Join")?;
        }
        if let Some(entra) = &self.entra_device {
            let device = or_none(&entra.device);
            writeln!(f, "{:<18}device {device}, token until {}", "Entra", entra.expires)?;
        }
        for account in &self.accounts {
            let policy = match &account.refused {
                Some(why) => format!("policy refused: {why}"),
                None => format!("{} policies", account.policies),
            };
            writeln!(f, "{:<18}{} ({}), {policy}", "User", account.name, account.sid)?;
        }
        if let Some(clock) = &self.clock {
            writeln!(f, "{:<18}{clock}; the site's time is used", "Clock")?;
        }
        for server in &self.unchecked_servers {
            writeln!(f, "{:<18}{server}", "Not checked")?;
        }
        if let Some(failure) = &self.last_failure {
            let mut codes = failure.hresult.clone();
            for code in [&failure.reason, &failure.request_id].into_iter().flatten() {
                write!(codes, ", {code}")?;
            }
            writeln!(f, "{:<18}{} at {} ({codes})", "Last failure", failure.text, failure.at)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::setup;
    use crate::token::StoredToken;
    use crate::token::tests::text_of;
    use proto::token::TokenClass;
    use zeroize::Zeroizing;

    #[test]
    fn status_shows_everything_but_secrets() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let mut state = State::new(setup());
        let text = text_of(TokenClass::Device, 0);
        state.ccm = Some(StoredToken::ccm(text.clone(), std::time::Duration::from_hours(1), now).unwrap());
        let key = KeyMaterial { pkcs8: Zeroizing::new(b"private".to_vec()), certificate: vec![1] };
        let status = Status::of(&state, &key, now);
        let (json, shown) = (serde_json::to_string(&status).unwrap(), status.to_string());
        for output in [&json, &shown] {
            assert!(!output.contains(&text) && !output.contains("private"), "{output}");
            assert!(output.contains("gw/CCM_Proxy_MutualAuth/7"), "{output}");
        }
        assert!(shown.contains("Method            site token, certificate: self-signed\n"), "{shown}");
        assert!(shown.contains("Registration      not-registered\n"), "{shown}");
    }
}
