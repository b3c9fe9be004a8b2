//! Policy: asking what is assigned, believing it, fetching the bodies, applying them.

mod manifest;
mod settings;
mod user;

use proto::cms;
use proto::id::Thumbprint;
use proto::limits;
use proto::message::MessageEndpoint;
use proto::message::header_identity::client_token_headers;
use proto::policy_signature::PolicyResource;
use proto::request::policy::{
    AssignedPolicy, AssignmentsRequestType, Machine, PolicyFlags, RequestAssignments, ResourceType,
};
use proto::request::policy_body::PolicyBody;
use serde::{Deserialize, Serialize};

use crate::device::{Device, Outgoing, RequestError};
use crate::log::line;
use crate::place::WordSource;
use crate::state::{Approval, StateError};
use crate::token::{TokenText, Wanted};
use crate::trust::RootOrigin;

pub use manifest::{BelieveError, Believed, believe};
pub use settings::{ClientSettings, LogLevel};
pub use user::UserPolicyError;

/// The endpoint of bodies inside, as it stands in a policy location.
const BODY_PATH: &str = "/SMS_MP/.sms_pol";
/// The same with a token [derived].
const BODY_PATH_WITH_TOKEN: &str = "/SMS_MP_TokenAuth/.sms_pol";

/// A policy that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// Its id as assigned.
    pub id: String,
    /// Its version as assigned.
    pub version: String,
    /// SHA-256 of its body: also the name under which the body is kept.
    pub hash: Thumbprint,
    /// Such as `ClientAgentConfig`.
    pub category: Option<String>,
    /// Whether it came encrypted to this device.
    pub secret: bool,
}

impl Applied {
    fn of(policy: &AssignedPolicy, hash: Thumbprint) -> Self {
        Self {
            id: policy.id.to_string(),
            version: policy.version.clone(),
            hash,
            category: policy.category.clone(),
            secret: policy.flags.has(PolicyFlags::SECRET),
        }
    }
}

/// What the device holds of its policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyState {
    /// The serial of the last list that was believed. A lower one is refused.
    pub serial: u64,
    /// What is applied, in the order of the list.
    pub applied: Vec<Applied>,
    /// The settings that are in force.
    pub settings: ClientSettings,
    /// When the list last changed.
    pub changed: Option<proto::time::Timestamp>,
}

/// What asking for policy came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyOutcome {
    /// The serial of the list.
    pub serial: u64,
    /// Policies that are in force now.
    pub in_force: usize,
    /// Bodies that were fetched.
    pub fetched: usize,
    /// Whether the client settings are others than before.
    pub settings_changed: bool,
    /// Whether anything changed.
    pub changed: bool,
}

/// Why policy was not taken. What was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The question or a body's request failed.
    #[error("policy could not be asked for")]
    Request(#[source] RequestError),
    /// The list is not believed.
    #[error("the policy that came is not believed")]
    Believe(#[source] BelieveError),
    /// A location that leads elsewhere.
    #[error("policy {0} lies where this client does not look")]
    Location(String),
    /// A body that is not the one assigned.
    #[error("the body of policy {0} is not the one that the site signed for")]
    Hash(String),
    /// An encrypted body that does not open.
    #[error("policy {id} is encrypted, and not to this device")]
    Open {
        /// The policy.
        id: String,
        /// What the library said, which is little.
        source: cms::OpenError,
    },
    /// The state could not be kept.
    #[error("policy could not be kept")]
    State(#[source] StateError),
}

impl Device {
    /// Asks for the device's policy, believes it only with the site's signature, fetches what is
    /// new, and applies it. Nothing is applied unless everything is there.
    pub async fn policy(&mut self) -> Result<PolicyOutcome, PolicyError> {
        let registration = self.registered().map_err(PolicyError::Request)?;
        if registration.approval == Approval::Held {
            return Err(PolicyError::Request(RequestError::NotApproved));
        }
        let name = self.state().setup.name.clone();
        let site = self.state().setup.site_code.map_or_else(|| "PRI".to_owned(), |code| code.to_string());
        let request = RequestAssignments {
            acknowledge: false,
            request_type: AssignmentsRequestType::Always,
            machine: Machine {
                client_id: registration.client_id,
                fqdn: name.clone(),
                netbios_name: name,
                sid: String::new(),
            },
            user: None,
            policy_source: format!("SMS:{site}"),
            resource: ResourceType::Machine,
            server_cookie: None,
            validation: None,
        };
        line!(info, PolicyAgent, device = %registration.client_id, "requesting policy assignments");
        let xml = self
            .ask(MessageEndpoint::PolicyManager, &request.to_xml(), Wanted::Device)
            .await
            .map_err(PolicyError::Request)?;
        let now = self.now();
        let root = self.site_root().ok_or(PolicyError::Request(RequestError::NoRoot))?;
        let (device, last) = (registration.client_id, self.state().policy.serial);
        let believed =
            believe(&xml, &root, device, PolicyResource::Machine, last, now).map_err(PolicyError::Believe)?;
        let outcome = self.apply(believed).await?;
        self.state_mut().contact.policy = Some(now);
        self.save().map_err(PolicyError::State)?;
        Ok(outcome)
    }

    async fn apply(&mut self, believed: Believed) -> Result<PolicyOutcome, PolicyError> {
        let mut applied = Vec::new();
        let mut settings = None;
        let mut fetched = 0;
        for policy in &believed.policies {
            let hash = believed.hash_of(policy).ok_or_else(|| PolicyError::Hash(policy.id.to_string()))?;
            let body = if let Some(body) = self.store().policy_body(hash) {
                body
            } else {
                let body = self.fetch(policy, hash, None).await?;
                self.store().save_policy_body(hash, &body).map_err(PolicyError::State)?;
                fetched += 1;
                body
            };
            settings = settings.or(evaluate(policy, &body));
            applied.push(Applied::of(policy, hash));
        }
        let said =
            settings.as_ref().map(|said: &ClientSettings| (said.gateway_allowed, said.gateways.clone()));
        let settings = settings.unwrap_or_default();
        let old = &self.state().policy;
        let outcome = PolicyOutcome {
            serial: believed.serial,
            in_force: applied.len(),
            fetched,
            settings_changed: settings != old.settings,
            changed: applied != old.applied,
        };
        let users = self.state().credentials.accounts.iter().flat_map(|account| &account.policy.applied);
        let hashes: Vec<_> = applied.iter().chain(users).map(|policy| policy.hash).collect();
        let changed = if outcome.changed { Some(self.now()) } else { old.changed };
        self.state_mut().policy = PolicyState { serial: believed.serial, applied, settings, changed };
        self.save().map_err(PolicyError::State)?;
        // Last: until the new list is kept, the old one still names its bodies.
        self.store().keep_policy_bodies(&hashes).map_err(PolicyError::State)?;
        if outcome.settings_changed {
            log_settings(&self.state().policy.settings);
            let first_use = self.state().trust.origin == Some(RootOrigin::FirstUse);
            if first_use && !self.state().policy.settings.first_use_allowed {
                line!(
                    warn,
                    PolicyEvaluator,
                    "the site does not allow its root to be taken on first use, as this device did; set it up anew with --site-root"
                );
            }
        }
        if let Some((allowed, gateways)) = said {
            self.take_site_word(allowed, &gateways, WordSource::Policy).map_err(PolicyError::State)?;
        }
        line!(
            info,
            PolicyAgent,
            serial = outcome.serial,
            policies = outcome.in_force,
            fetched = outcome.fetched,
            changed = outcome.changed,
            "policy taken"
        );
        Ok(outcome)
    }

    /// Fetches a body; with a user's token, where it is a user's policy.
    async fn fetch(
        &mut self,
        policy: &AssignedPolicy,
        hash: Thumbprint,
        token: Option<&TokenText>,
    ) -> Result<Vec<u8>, PolicyError> {
        let id = || policy.id.to_string();
        let query = query_of(policy).ok_or_else(|| PolicyError::Location(id()))?;
        let registration = self.registered().map_err(PolicyError::Request)?;
        let guarded = policy.flags.has(PolicyFlags::SECRET) || policy.flags.has(PolicyFlags::REQUIRES_AUTH);
        let headers = if guarded {
            client_token_headers(registration.client_id, self.now(), self.identity().key()).to_vec()
        } else {
            Vec::new()
        };
        let (inside, outside) = (format!("{BODY_PATH}?{query}"), format!("{BODY_PATH_WITH_TOKEN}?{query}"));
        let mut outgoing = Outgoing::get(inside, outside);
        outgoing.identity_headers = headers;
        outgoing.wanted = Some(Wanted::Device);
        let answer = match token {
            Some(token) => self.send_with_token(&outgoing, token).await,
            None => self.send(&outgoing).await,
        };
        let answer = answer.map_err(PolicyError::Request)?;
        let body = if policy.flags.has(PolicyFlags::SECRET) {
            let identity = self.identity();
            cms::open(identity.certificate(), identity.pkcs8(), &answer.body)
                .map_err(|source| PolicyError::Open { id: id(), source })?
        } else {
            answer.body
        };
        if Thumbprint::of(&body) != hash {
            return Err(PolicyError::Hash(id()));
        }
        line!(info, PolicyAgent, policy = %policy.id, version = %policy.version, bytes = body.len(), "policy body fetched");
        Ok(body)
    }
}

/// Says which client settings are in force from now on, and which do nothing here.
fn log_settings(settings: &ClientSettings) {
    line!(
        info,
        PolicyEvaluator,
        version = settings.version,
        polling_minutes = settings.polling_minutes,
        gateway_allowed = settings.gateway_allowed,
        probe = settings.network_probe_text,
        "client settings in force"
    );
    if !settings.ignored.is_empty() || !settings.unreadable.is_empty() {
        let (ignored, unreadable) = (settings.ignored.join(" "), settings.unreadable.join(" "));
        line!(warn, PolicyEvaluator, ignored, unreadable, "client settings that do nothing here; reported");
    }
}

/// Reads what a body sets. A body of a kind that this client does not know is kept and does
/// nothing: policy for other programs passes through here, too.
fn evaluate(policy: &AssignedPolicy, body: &[u8]) -> Option<ClientSettings> {
    match PolicyBody::parse(body, limits::INFLATED_BYTES) {
        Ok(parsed) if parsed.id == policy.id => {
            let found = ClientSettings::find(&parsed, &policy.version);
            let (id, version) = (&policy.id, &policy.version);
            line!(info, PolicyEvaluator, policy = %id, version, settings = found.is_some(), "policy evaluated");
            found
        }
        Ok(parsed) => {
            let (id, found) = (&policy.id, &parsed.id);
            line!(warn, PolicyEvaluator, policy = %id, %found, "the body is that of another policy; it does nothing");
            None
        }
        Err(error) => {
            let (id, error) = (&policy.id, runtime::telemetry::Chain(&error));
            line!(warn, PolicyEvaluator, policy = %id, %error, "the body cannot be read; it does nothing");
            None
        }
    }
}

/// The query of a policy's location, its braces encoded: the URL that is sent and the target
/// that is signed must be one text.
fn query_of(policy: &AssignedPolicy) -> Option<String> {
    let target = policy.location.target()?;
    let (path, query) = target.split_once('?')?;
    let good =
        |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '"' | '<' | '>' | '\\' | '^' | '`' | '|' | '\'');
    let fits = path.eq_ignore_ascii_case(BODY_PATH) && query.chars().all(good);
    fits.then(|| query.replace('{', "%7B").replace('}', "%7D"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::request::policy::PolicyLocation;

    fn policy(url: &str) -> AssignedPolicy {
        AssignedPolicy {
            id: "{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}".parse().unwrap(),
            version: "1.00".into(),
            policy_type: ResourceType::Machine,
            category: None,
            flags: PolicyFlags::default(),
            priority: None,
            location: PolicyLocation { hash: None, hash_ex: None, url: url.into() },
        }
    }

    #[test]
    fn a_location_leads_to_the_management_point_and_nowhere_else() {
        let good = policy("http://<mp>/SMS_MP/.sms_pol?{6d8e}.SHA256:AB");
        assert_eq!(query_of(&good).as_deref(), Some("%7B6d8e%7D.SHA256:AB"));
        for url in [
            "http://<mp>/SMS_DP/.sms_pol?x",
            "http://evil/SMS_MP/.sms_pol?x",
            "http://<mp>/SMS_MP/.sms_pol",
            "http://<mp>/SMS_MP/.sms_pol?a b",
            "http://<mp>/SMS_MP/.sms_pol?a#b",
            "ftp://<mp>/SMS_MP/.sms_pol?x",
        ] {
            assert_eq!(query_of(&policy(url)), None, "{url}");
        }
    }
}
