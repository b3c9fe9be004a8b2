//! What lets a registration in, keeps it out, and approves it.

use proto::id::Thumbprint;
use proto::time::Timestamp;
use serde_json::json;

use super::{Asked, RegistrationError};
use crate::approval::{ApprovalRule, Decision, Evidence, LAB, decide, expect_device};
use crate::audit::Scribe;
use crate::bulk_token::{BulkToken, BulkTokenApproval};
use crate::confirmation::{is_by_entra, recovery_end};
use crate::db::{self, DbError, Tx};
use crate::device::{Approval, Device};
use crate::method::Credentials;
use crate::setting::Settings;

/// All the evidence: what the management point names, what the credentials show, and whether an
/// operator expects the device.
pub(super) fn gather(
    tx: &mut dyn Tx,
    asked: &Asked<'_>,
    hardware_id: Option<&str>,
    key: Thumbprint,
    now: Timestamp,
) -> Result<Vec<Evidence>, DbError> {
    let proved = &asked.new.credentials;
    let mut all = vec![asked.evidence];
    all.extend(proved.bulk.map(|id| Evidence::BulkToken { id }));
    all.extend(proved.entra.map(|origin| Evidence::Entra { origin }));
    all.extend(proved.pki.as_ref().map(|pki| Evidence::Certificate { thumbprint: pki.thumbprint }));
    all.extend(expect_device(tx, asked.rules, &asked.new.name, hardware_id, key, now)?);
    if speaks_for_another(tx, &all, key)? {
        all.retain(|evidence| !matches!(evidence, Evidence::Entra { .. }));
    }
    Ok(all)
}

/// Whether the tenant's device in the evidence is approved already, with another key. A tenant's token is
/// a bearer's: who stole it would be approved beside the device that it was stolen from. So it makes a
/// pair in conflict, and an operator says which is the device (R27).
fn speaks_for_another(tx: &mut dyn Tx, evidence: &[Evidence], key: Thumbprint) -> Result<bool, DbError> {
    for evidence in evidence {
        if let Evidence::Entra { origin } = evidence
            && let Some(device) = origin.device
            && db::device::has_entra_of_another(tx, origin.tenant, device, key)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks the rules. The lab's word counts where no rule of the field approves, so that its devices,
/// too, are approved by what they proved.
pub(super) fn decide_in_lab_too(
    rules: &[ApprovalRule],
    evidence: &[Evidence],
    token: Option<BulkTokenApproval>,
) -> Decision {
    let field: Vec<_> = evidence.iter().copied().filter(|evidence| *evidence != Evidence::Lab).collect();
    let decision = decide(rules, &field, token);
    if decision.approved || field.len() == evidence.len() {
        return decision;
    }
    decide(rules, &[Evidence::Lab], None)
}

/// The bulk token of the evidence, if one more device, or this key again, may use it.
pub(super) fn admit_bulk_token(
    tx: &mut dyn Tx,
    evidence: &[Evidence],
    key: Thumbprint,
    now: Timestamp,
) -> Result<Option<BulkToken>, RegistrationError> {
    let bulk = evidence.iter().find_map(|evidence| match evidence {
        Evidence::BulkToken { id } => Some(*id),
        _ => None,
    });
    let Some(id) = bulk else { return Ok(None) };
    let token = db::bulk_token::find(tx, id)?.ok_or(RegistrationError::UnknownBulkToken(id))?;
    let used_before = db::bulk_token::was_used_by(tx, id, key)?;
    token.admit(used_before, now).map_err(|reason| RegistrationError::BulkToken { id, reason })?;
    Ok(Some(token))
}

/// Nothing of a blocked device comes back under another key: neither its hardware, nor a
/// certificate that it has proved, nor its identity in a tenant.
pub(super) fn check_blocks(
    tx: &mut dyn Tx,
    proved: &Credentials,
    hardware_id: Option<&str>,
) -> Result<(), RegistrationError> {
    if let Some(hardware_id) = hardware_id
        && db::device::has_blocked_hardware(tx, hardware_id)?
    {
        return Err(RegistrationError::HardwareBlocked);
    }
    if let Some(pki) = &proved.pki
        && db::device::has_blocked_certificate(tx, pki.thumbprint)?
    {
        return Err(RegistrationError::CredentialBlocked("certificate"));
    }
    if let Some((tenant, device)) = proved.entra.and_then(|entra| Some((entra.tenant, entra.device?)))
        && db::device::has_blocked_entra(tx, tenant, device)?
    {
        return Err(RegistrationError::CredentialBlocked("tenant's device"));
    }
    Ok(())
}

/// What the rules make of a record that exists. A rule may approve what no rule approved before;
/// what an operator took back it may not, nor what is held as a copy. The rule `entra` takes over
/// from another rule, since the wire tells its approval apart, and every rule from the lab's word.
pub(super) fn approve_by_rule(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    device: &mut Device,
    decision: &Decision,
) -> Result<(), DbError> {
    let by_operator = device.approval_by.starts_with("operator:");
    let held = device.approval == Approval::Held;
    let entra = is_by_entra(&decision.rule) && !is_by_entra(&device.approval_by);
    let stronger = entra || (device.approval_by == LAB && decision.rule != LAB);
    if !decision.approved || by_operator || device.clone_suspicion.is_some() || !(held || stronger) {
        return Ok(());
    }
    db::device::set_approval(tx, device.id, Approval::Approved, &decision.rule, scribe.now)?;
    let detail = json!({ "name": device.name, "rule": decision.rule, "was-by": device.approval_by });
    device.approval = Approval::Approved;
    device.approval_by.clone_from(&decision.rule);
    scribe.note(tx, "device.approve", device.id, &detail)
}

/// Evidence that would let a stranger in lets a known key back in, too.
pub(super) fn readmit_by_rule(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    settings: &Settings,
    device: &Device,
    decision: &Decision,
) -> Result<(), DbError> {
    let over = recovery_end(device, settings.self_prove_lifetime, settings.recovery_window) <= scribe.now;
    if !decision.approved || !over || device.clone_suspicion.is_some() {
        return Ok(());
    }
    db::device::set_readmitted(tx, device.id, scribe.now)?;
    scribe.note(tx, "device.readmit", device.id, &json!({ "name": device.name, "rule": decision.rule }))
}
