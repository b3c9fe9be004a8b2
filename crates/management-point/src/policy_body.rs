//! Policy bodies: `.sms_pol`.

use proto::id::Thumbprint;
use proto::reason::Reason;
use proto::request::policy_query::{PolicyEdition, PolicyQuery};
use site::{Device, PolicyBody, PolicyProtection, UserRef};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::authenticate::asker;
use crate::authenticate::signature::Signed;
use crate::authenticate::token::Presented;
use crate::context::Context;
use crate::log::MP_GET_POLICY;
use crate::policy::failed;
use crate::request::Request;

/// Answers `GET …/.sms_pol?<id>.<edition>`: public bodies as they are, secret ones encrypted to
/// the device that proves itself, and to a known device nothing that it is not assigned.
pub(crate) async fn answer(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
) -> Result<Answer, Refusal> {
    let device = asker::of_document(context, request, signed, token).await?;
    let about = |refusal: Refusal| match &device {
        Some(device) => refusal.of(device.id),
        None => refusal,
    };
    let query = PolicyQuery::parse(request.query.as_deref().unwrap_or_default())
        .map_err(|error| about(Refusal::caused(Reason::UnknownQuery, &error)))?;
    let id = query.id.to_string();
    let edition = match &query.edition {
        PolicyEdition::Sha256(hash) => format!("SHA256:{}", Thumbprint::from_bytes(*hash)),
        PolicyEdition::Version(version) => version.clone(),
    };
    let found = context.site.find_policy_body(&id, &edition).await.map_err(|error| about(failed(&error)))?;
    let found =
        found.ok_or_else(|| about(Refusal::new(Reason::UnknownQuery, format!("no policy {query}"))))?;

    if let Some(device) = &device {
        let user = token.and_then(Presented::user);
        check_assigned(context, device, user, &found).await?;
    }
    let body = match (PolicyProtection::from_flags(found.policy.flags), &device) {
        (PolicyProtection::Secret, None) => {
            return Err(Refusal::new(Reason::IdentityRequired, format!("the policy {id} is secret")));
        }
        (PolicyProtection::Secret, Some(device)) => seal(device, &found)?,
        (PolicyProtection::Public | PolicyProtection::Compressed, _) => found.bytes,
    };
    let asked_by = device.map(|device| device.id);
    info!(component = MP_GET_POLICY, policy = id, version = found.policy.version, device = ?asked_by, "policy body sent");
    // Clients are told so of every body, encrypted ones included [observed].
    Ok(Answer::xml(body))
}

/// It is assigned to the device, or to the user whose token came along. A secret body must be the
/// very version that is assigned. Of a public one an older version will do: a device that is about to
/// fetch it should not fail because a newer one came.
async fn check_assigned(
    context: &Context,
    device: &Device,
    user: Option<UserRef>,
    body: &PolicyBody,
) -> Result<(), Refusal> {
    let set = context.site.list_assignments(device.id).await;
    let mut assignments = set.map_err(|error| crate::site_error::database(&error).of(device.id))?.assignments;
    if let Some(user) = user {
        let signed = context.site.policy_for_user(device.id, user).await;
        assignments.extend(signed.map_err(|error| failed(&error).of(device.id))?.set.assignments);
    }
    let secret = PolicyProtection::from_flags(body.policy.flags) == PolicyProtection::Secret;
    let assigned = assignments.iter().any(|assignment| {
        assignment.policy.id == body.policy.id
            && (!secret || assignment.policy.version == body.policy.version)
    });
    if assigned {
        return Ok(());
    }
    let detail = format!("{} {} is not assigned to it", body.policy.id, body.policy.version);
    Err(Refusal::new(Reason::NotYourPolicy, detail).of(device.id))
}

/// Encrypts to the key that the device registered for this (R32).
fn seal(device: &Device, body: &PolicyBody) -> Result<Vec<u8>, Refusal> {
    proto::cms::seal(&device.encryption_certificate, &body.bytes)
        .map_err(|error| Refusal::caused(Reason::InternalError, &error).of(device.id))
}
