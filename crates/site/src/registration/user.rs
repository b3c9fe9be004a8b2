//! How many devices one user of a tenant brings.
//!
//! A user's token may name no device, and then it ties nobody: whoever steals one could register as many
//! keys as he likes, each approved. So a user brings a number of new keys a day by such tokens (site
//! setting `entra_user_devices`); what comes beyond is registered and held, and an alarm names the user.

use proto::id::{Guid, Thumbprint};
use proto::time::Timestamp;
use proto::token::EntraOrigin;
use serde_json::json;

use super::Asked;
use crate::approval::{Decision, Evidence};
use crate::audit::Scribe;
use crate::db::{self, DbError, Tx};
use crate::device::{Approval, Device};

/// What stands as the approver of a device that is held because its user has brought too many.
pub(crate) const USER_LIMIT: &str = "entra-user-devices";
/// Time over which keys are counted.
const DAY: std::time::Duration = std::time::Duration::from_hours(24);

/// Takes a tenant's word for a user out of the evidence where that user has brought too many keys
/// already; answers whether it did. What an operator or a rule has approved by other evidence is no new
/// key, and a token that names its device is counted by that.
pub(super) fn limit_users(
    tx: &mut dyn Tx,
    asked: &Asked<'_>,
    evidence: &mut Vec<Evidence>,
    known: Option<&Device>,
    key: Thumbprint,
    now: Timestamp,
) -> Result<bool, DbError> {
    if known.is_some_and(|device| device.approval == Approval::Approved) {
        return Ok(false);
    }
    let origin = evidence.iter().find_map(|evidence| match evidence {
        Evidence::Entra { origin } => user_alone(*origin),
        _ => None,
    });
    let Some((tenant, user)) = origin else { return Ok(false) };
    let held_before = known.is_some_and(|device| device.approval_by == USER_LIMIT);
    let since = now.minus(DAY);
    let full = held_before
        || (!db::user_key::is_known(tx, tenant, user, key)?
            && db::user_key::count(tx, tenant, user, since)? >= u64::from(asked.settings.entra_user_devices));
    if full {
        evidence.retain(
            |evidence| !matches!(evidence, Evidence::Entra { origin } if user_alone(*origin).is_some()),
        );
    } else {
        db::user_key::put(tx, tenant, user, key, now, since)?;
    }
    Ok(full)
}

fn user_alone(origin: EntraOrigin) -> Option<(Guid, Guid)> {
    origin.user.filter(|_| origin.device.is_none()).map(|user| (origin.tenant, user))
}

/// A key that waited already, and came with the token of such a user, is held for that from now on: nobody
/// but an operator, or another proof, lets it go on.
pub(super) fn hold_for_user(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    device: &mut Device,
    decision: &Decision,
) -> Result<(), DbError> {
    let settled = device.approval_by == USER_LIMIT || device.approval_by.starts_with("operator:");
    let waits = device.approval == Approval::Held && device.clone_suspicion.is_none();
    if decision.approved || decision.rule != USER_LIMIT || settled || !waits {
        return Ok(());
    }
    db::device::set_approval(tx, device.id, Approval::Held, USER_LIMIT, scribe.now)?;
    USER_LIMIT.clone_into(&mut device.approval_by);
    scribe.note(tx, "device.user-limit", device.id, &json!({ "name": device.name }))
}
