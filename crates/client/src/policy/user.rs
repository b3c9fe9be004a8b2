//! User policy: what is assigned to a user of the tenant on this device, asked with the user's own
//! token, believed and kept as the device's, and apart from it.

use proto::message::MessageEndpoint;
use proto::policy_signature::PolicyResource;
use proto::reason::Reason;
use proto::request::policy::{AssignmentsRequestType, Machine, RequestAssignments, ResourceType, User};

use super::{Applied, PolicyError, believe};
use crate::credential::account::UserPolicy;
use crate::credential::preference::shorten;
use crate::device::{Device, Outgoing, RequestError, UserTokenError};
use crate::log::line;
use crate::state::Approval;
use crate::token::Wanted;

/// Why a user's policy was not taken. What was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum UserPolicyError {
    /// No token for the user.
    #[error("there is no token for this user")]
    Token(#[source] UserTokenError),
    /// The site refused, or its policy is not believed.
    #[error("the user's policy was not taken")]
    Policy(#[source] PolicyError),
}

impl Device {
    /// Asks for the policy of one account and takes it.
    pub async fn user_policy(&mut self, sid: &str) -> Result<UserPolicy, UserPolicyError> {
        let result = self.ask_for_user_policy(sid).await;
        let now = self.now();
        if let Some(account) = self.state_mut().credentials.accounts.get_mut(sid) {
            account.policy.asked = Some(now);
            account.policy.refused = result.as_ref().err().map(reason_of);
            if let Ok(policy) = &result {
                account.policy.serial = policy.serial;
                account.policy.applied.clone_from(&policy.applied);
            }
        }
        self.save().map_err(|error| UserPolicyError::Policy(PolicyError::State(error)))?;
        match &result {
            Ok(policy) => {
                line!(
                    info,
                    PolicyAgent,
                    account = sid,
                    serial = policy.serial,
                    policies = policy.applied.len(),
                    "user policy taken"
                );
            }
            Err(error) => {
                line!(warn, PolicyAgent, account = sid, error = %runtime::telemetry::Chain(error), "user policy not taken");
            }
        }
        result
    }

    async fn ask_for_user_policy(&mut self, sid: &str) -> Result<UserPolicy, UserPolicyError> {
        let of = |error| UserPolicyError::Policy(PolicyError::Request(error));
        let registration = self.registered().map_err(of)?;
        if registration.approval == Approval::Held {
            return Err(of(RequestError::NotApproved));
        }
        let token = self.user_ccm_token(sid).await.map_err(UserPolicyError::Token)?;
        let account = self.state().credentials.accounts.get(sid).cloned();
        let account =
            account.ok_or_else(|| UserPolicyError::Token(UserTokenError::Unknown(sid.to_owned())))?;
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
            user: Some(User { sid: sid.to_owned(), nt4_name: account.name, groups: Vec::new() }),
            policy_source: format!("SMS:{site}"),
            resource: ResourceType::User,
            server_cookie: None,
            validation: None,
        };
        let xml = request.to_xml();
        let outgoing = Outgoing::message(MessageEndpoint::PolicyManager, &xml, Wanted::Device);
        let answer = self.send_with_token(&outgoing, &token).await.map_err(of)?;
        let body = crate::device::read_reply(&answer).map_err(of)?;
        let root = self.site_root().ok_or_else(|| of(RequestError::NoRoot))?;
        let (of_user, last) = (PolicyResource::User(account.user), account.policy.serial);
        let believed = believe(&body, &root, registration.client_id, of_user, last, self.now())
            .map_err(|error| UserPolicyError::Policy(PolicyError::Believe(error)))?;
        let mut applied = Vec::new();
        for policy in &believed.policies {
            let hash = believed.hash_of(policy);
            let hash =
                hash.ok_or_else(|| UserPolicyError::Policy(PolicyError::Hash(policy.id.to_string())))?;
            if self.store().policy_body(hash).is_none() {
                let body = self.fetch(policy, hash, Some(&token)).await.map_err(UserPolicyError::Policy)?;
                self.store()
                    .save_policy_body(hash, &body)
                    .map_err(|error| UserPolicyError::Policy(PolicyError::State(error)))?;
            }
            applied.push(Applied::of(policy, hash));
        }
        Ok(UserPolicy { serial: believed.serial, applied, asked: Some(self.now()), refused: None })
    }
}

/// The refusal in one line, with its code where the site gave one.
fn reason_of(error: &UserPolicyError) -> String {
    let told = match error {
        UserPolicyError::Policy(PolicyError::Request(told))
        | UserPolicyError::Token(UserTokenError::Site(told)) => told.reason(),
        _ => None,
    };
    let cause = |reason: Reason| format!("{reason}: {} {}", reason.row().cause, reason.row().fix);
    shorten(&told.map_or_else(|| runtime::telemetry::Chain(error).to_string(), cause))
}
