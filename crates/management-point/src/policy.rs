//! Policy assignments: what a device shall fetch, signed by the site.

use proto::combination::{Scenario, judge};
use proto::http_signature::write_certificates;
use proto::id::Thumbprint;
use proto::identity::Method;
use proto::message::{Header, ReplyMessage};
use proto::reason::Reason;
use proto::request::condition::Condition;
use proto::request::policy::{
    AssignedPolicy, AssignmentsReplyType, AssignmentsRequestType, PolicyAssignment, PolicyFlags,
    PolicyLocation, ReplyAssignments, RequestAssignments, ResourceType,
};
use proto::text::write::XmlWriter;
use proto::time::Timestamp;
use site::{Assignment, Device, PolicyError, SignedSet, UserRef};
use tracing::{error, info};

use crate::answer::{Answer, Refusal};
use crate::audit::wrong_device;
use crate::authenticate::token::Presented;
use crate::context::Context;
use crate::log::MP_POLICY;
use crate::request::Request;

/// `PolicyPriority` of all samples [observed].
const PRIORITY: u32 = 25;
/// Where the signature goes: the end of the document.
const END: &str = "</ReplyAssignments>";

/// Answers `RequestAssignments` of an approved device: its own, or its user's.
pub(crate) async fn answer(
    context: &Context,
    request: &Request,
    header: &Header,
    device: &Device,
    token: Option<&Presented>,
    body: &RequestAssignments,
) -> Result<Answer, Refusal> {
    if body.machine.client_id != device.id {
        let detail = format!("{} asks for the policy of {}", device.id, body.machine.client_id);
        return Err(wrong_device(context, device.id, request.peer, detail).await);
    }
    let signed = match body.resource {
        ResourceType::Machine => context.site.sign_assignments(device.id).await,
        ResourceType::User => {
            let user = user_of(context, request, device, token)?;
            context.site.policy_for_user(device.id, user).await
        }
    };
    let signed = signed.map_err(|error| failed(&error).of(device.id))?;
    let cookie = cookie(&signed);
    // A user's list leaves no trace of what was taken away, so it is always told whole.
    let unchanged = body.request_type == AssignmentsRequestType::OnUpdate
        && body.resource == ResourceType::Machine
        && body.server_cookie.as_deref() == Some(cookie.as_str());
    let scheme = request.transport.scheme();
    let assignments = if unchanged { Vec::new() } else { assignments(&signed, scheme, body.resource) };
    info!(
        component = MP_POLICY,
        device = %device.id, serial = signed.set.serial, policies = assignments.len(), of = %body.resource,
        "policy assignments sent"
    );
    let reply = ReplyAssignments {
        reply_type: if unchanged { AssignmentsReplyType::Delta } else { AssignmentsReplyType::Full },
        client_id: device.id,
        policy_source: format!("SMS:{}", context.site.facts().code),
        resource: body.resource,
        server_cookie: cookie,
        assignments,
    };
    let xml = with_signature(&reply.to_xml(), &signed);
    Ok(Answer::message(ReplyMessage::write(header, &context.stamp(), &xml)))
}

/// The user whose policy may be asked for with this token: the one in it, and nobody without one.
/// What the question itself says of a user is that user's word and decides nothing.
fn user_of(
    context: &Context,
    request: &Request,
    device: &Device,
    token: Option<&Presented>,
) -> Result<UserRef, Refusal> {
    let method = token.map_or(Method::SiteToken, Presented::method);
    judge(context.manner().mode, method, None, request.way(), Scenario::User)
        .map_err(|refused| Refusal::caused(refused.reason, &refused).of(device.id))?;
    token
        .and_then(Presented::user)
        .ok_or_else(|| Refusal::new(Reason::UserPolicyNotForMethod, "the token names no user").of(device.id))
}

pub(crate) fn failed(error: &PolicyError) -> Refusal {
    match error {
        PolicyError::Database(error) => crate::site_error::database(error),
        other => Refusal::caused(Reason::InternalError, other),
    }
}

/// The moment of the newest change in the list, in the form that clients echo [observed]. Not the
/// moment of the reply: a change that is committed meanwhile would look known.
fn cookie(signed: &SignedSet) -> String {
    let newest = signed.set.assignments.iter().map(|assignment| assignment.changed_at).max();
    newest.unwrap_or(Timestamp::from_seconds(0)).cookie()
}

fn assignments(signed: &SignedSet, scheme: &str, resource: ResourceType) -> Vec<PolicyAssignment> {
    let written = |assignment: &Assignment| {
        let written = assigned(assignment, scheme, resource);
        if written.is_none() {
            error!(policy = assignment.policy.id, "policy left out: its id cannot be written");
        }
        written
    };
    signed.set.assignments.iter().filter_map(written).collect()
}

/// `scheme` is that of the connection: the body is fetched where the list was.
fn assigned(assignment: &Assignment, scheme: &str, resource: ResourceType) -> Option<PolicyAssignment> {
    let policy = &assignment.policy;
    Some(PolicyAssignment {
        id: assignment.id,
        action: None,
        condition: Some(Condition::always()),
        policies: vec![AssignedPolicy {
            id: policy.id.parse().ok()?,
            version: policy.version.clone(),
            policy_type: resource,
            category: (!policy.category.is_empty()).then(|| policy.category.clone()),
            flags: PolicyFlags(policy.flags),
            priority: Some(PRIORITY),
            location: PolicyLocation {
                hash: Some(policy.hash.clone()),
                hash_ex: Some(policy.hash.clone()),
                url: format!("{scheme}://<mp>/SMS_MP/.sms_pol?{}.{}", policy.id, policy.hash),
            },
        }],
    })
}

/// The reply with the site's signature over the device's whole list as its last element (R31);
/// the known clients pass over it.
fn with_signature(reply: &str, signed: &SignedSet) -> String {
    let Some(open) = reply.strip_suffix(END) else { return reply.to_owned() };
    let manifest = &signed.manifest;
    let mut element = XmlWriter::new();
    element
        .start("RoamgateSignature")
        .attribute("Resource", manifest.resource)
        .attribute("Serial", manifest.serial)
        .attribute("Issued", manifest.issued.iso8601())
        .attribute("Expires", manifest.expires.iso8601())
        .attribute(
            "KeyId",
            signed.chain.first().map_or_else(String::new, |leaf| Thumbprint::of(leaf).to_string()),
        )
        .attribute("Chain", write_certificates(signed.chain.iter().map(Vec::as_slice)))
        // One value in base64, as the certificates are.
        .text(write_certificates([signed.signature.as_slice()]));
    format!("{open}{}{END}", element.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::{ClientId, Guid};
    use proto::policy_signature::{PolicyManifest, PolicyResource};
    use site::{Policy, PolicySet};

    fn set(changed: &[i64]) -> SignedSet {
        let policy = Policy {
            id: "{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}".into(),
            version: "1.00".into(),
            hash: format!("SHA256:{}", "AB".repeat(32)),
            category: String::new(),
            flags: 6,
            created_at: Timestamp::from_seconds(1),
        };
        let assignments = changed
            .iter()
            .map(|at| Assignment {
                id: Guid::nil(),
                changed_at: Timestamp::from_seconds(*at),
                policy: policy.clone(),
            })
            .collect();
        let manifest = PolicyManifest {
            device: ClientId::new(Guid::nil()),
            resource: PolicyResource::User(Guid::nil()),
            serial: 3,
            issued: Timestamp::from_seconds(10),
            expires: Timestamp::from_seconds(20),
            policies: Vec::new(),
        };
        let set = PolicySet { serial: 3, assignments };
        SignedSet { set, manifest, signature: vec![1, 2, 3], chain: vec![vec![4], vec![5]] }
    }

    #[test]
    fn the_cookie_is_the_moment_of_the_newest_change() {
        assert_eq!(cookie(&set(&[5, 9, 7])), "1970-01-01 00:00:09.000");
        assert_eq!(cookie(&set(&[])), "1970-01-01 00:00:00.000");
    }

    #[test]
    fn an_assignment_points_at_the_body_by_its_hash() {
        let written = assignments(&set(&[1]), "http", ResourceType::Machine);
        let policy = &written[0].policies[0];
        let hash = "AB".repeat(32);
        let target = format!("/SMS_MP/.sms_pol?{{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}}.SHA256:{hash}");
        assert_eq!(policy.location.target(), Some(target.as_str()));
        assert_eq!(policy.category, None);
    }

    #[test]
    fn the_signature_is_the_last_element_and_the_rest_unchanged() {
        let reply = "<ReplyAssignments><a/></ReplyAssignments>";
        let signed = with_signature(reply, &set(&[]));
        let user = Guid::nil();
        let start = format!("<ReplyAssignments><a/><RoamgateSignature Resource=\"user {user}\" Serial=\"3\"");
        let inner = signed.strip_prefix(&start).unwrap();
        assert!(
            inner.ends_with(" Chain=\"BA==,BQ==\">AQID</RoamgateSignature></ReplyAssignments>"),
            "{inner}"
        );
    }
}
