//! The record of a registration: made for a new key, kept for a known one.

use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::time::Timestamp;
use serde_json::json;

use super::admit::{approve_by_rule, readmit_by_rule};
use super::user::hold_for_user;
use super::{Asked, NewRegistration, RegistrationError};
use crate::approval::Decision;
use crate::audit::Scribe;
use crate::client_settings::{Resolved, resolve_for};
use crate::clone;
use crate::db::device::Claim;
use crate::db::{self, DbError, Tx};
use crate::device::{Approval, Device};
use crate::method::{self, Credentials, DeviceEntra, Preference};

/// The same key again: the same record, with what the device says and proves now.
pub(super) fn renew_device(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    asked: &Asked<'_>,
    known: &Device,
    hardware_id: Option<String>,
    decision: &Decision,
) -> Result<(Device, Option<Method>), RegistrationError> {
    let new = asked.new;
    if known.encryption_certificate != new.encryption_certificate {
        // Secret policy goes to another key from now on.
        let certificate = Thumbprint::of(&new.encryption_certificate);
        scribe.note(tx, "device.encrypt-to", known.id, &json!({ "certificate": certificate }))?;
    }
    let mut device = Device {
        name: new.name.clone(),
        fqdn: new.fqdn.clone(),
        hardware_id,
        encryption_certificate: new.encryption_certificate.clone(),
        client_version: new.client_version.clone(),
        signs_requests: known.signs_requests || new.signs_requests,
        join: new.join.or(known.join),
        entra: bind_entra(known, &new.credentials)?,
        pki: new.credentials.pki.clone().or_else(|| known.pki.clone()),
        ..known.clone()
    };
    let preference = resolve_for(tx, Some(known.id))?.preference();
    let before = choose_method(&mut device, asked, &preference, scribe.now);
    db::device::move_hardware(tx, known, device.hardware_id.as_deref(), scribe.now)?;
    db::device::update_facts(tx, &device)?;
    db::device::set_credentials(tx, &device)?;
    if let Some(before) = before {
        let detail = json!({
            "name": device.name, "from": before.name(), "to": device.method.name(),
            "reason": device.method_reason, "refused": device.methods_refused,
            "fell-back": device.fell_back_at == Some(scribe.now),
        });
        scribe.note(tx, "device.method", device.id, &detail)?;
    }
    if clone::note_facts(tx, scribe, known, &device)? {
        // Held just now: nothing below may approve it.
        device = db::device::find(tx, device.id)?.unwrap_or(device);
    }
    if device.conflict_with.is_none() {
        device.conflict_with = find_rival(tx, &device)?;
        mark_rivals(tx, scribe, &device, "device.conflict")?;
    }
    approve_by_rule(tx, scribe, &mut device, decision)?;
    hold_for_user(tx, scribe, &mut device, decision)?;
    readmit_by_rule(tx, scribe, asked.settings, &device, decision)?;
    Ok((device, before))
}

/// A key that nobody registered before: a new record under an id of the site's choice. Another
/// record with the same hardware or name goes on working; both are marked (settled point 19).
pub(super) fn insert_device(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    asked: &Asked<'_>,
    mut device: Device,
    resolved: &Resolved,
) -> Result<Device, DbError> {
    choose_method(&mut device, asked, &resolved.preference(), scribe.now);
    device.conflict_with = match find_rival(tx, &device)? {
        Some(rival) => Some(rival),
        None => db::device::find_rival(tx, device.id, Claim::Name(&device.name))?,
    };
    db::device::insert(tx, &device)?;
    if let Some(rival) = device.conflict_with {
        db::device::set_conflict(tx, rival, device.id)?;
    }
    let detail = json!({
        "name": device.name, "hardware-id": device.hardware_id, "certificate": device.signing_thumbprint,
        "approval": device.approval.as_str(), "rule": device.approval_by, "conflict-with": device.conflict_with,
        "method": device.method.name(), "method-reason": device.method_reason,
    });
    scribe.note(tx, "device.register", device.id, &detail)?;
    Ok(device)
}

pub(super) fn new_device(
    new: &NewRegistration,
    id: ClientId,
    key: Thumbprint,
    hardware_id: Option<String>,
    decision: &Decision,
    now: Timestamp,
) -> Device {
    Device {
        id,
        name: new.name.clone(),
        fqdn: new.fqdn.clone(),
        hardware_id,
        signing_thumbprint: key,
        signing_certificate: new.signing_certificate.clone(),
        encryption_certificate: new.encryption_certificate.clone(),
        client_version: new.client_version.clone(),
        signs_requests: new.signs_requests,
        registered_at: now,
        approval: if decision.approved { Approval::Approved } else { Approval::Held },
        approval_by: decision.rule.clone(),
        approval_at: now,
        blocked: false,
        block_note: String::new(),
        conflict_with: None,
        // Chosen right after.
        method: Method::SiteToken,
        method_reason: String::new(),
        method_since: now,
        methods_refused: Vec::new(),
        fell_back_at: None,
        join: new.join,
        entra: new.credentials.entra.map(DeviceEntra::from),
        pki: new.credentials.pki.clone(),
        confirmed_at: None,
        token_expires_at: None,
        last_seen_at: now,
        last_seen_via: new.via,
        last_address: None,
        clock_skew_ms: None,
        recovered_at: None,
        clone_suspicion: None,
        policy_serial: 0,
        policy_applied_at: None,
        heartbeat: String::new(),
        heartbeat_at: None,
        online: false,
    }
}

/// The tenant's identity from now on. One that names no device leaves the device that is known.
fn bind_entra(known: &Device, proved: &Credentials) -> Result<Option<DeviceEntra>, RegistrationError> {
    let Some(origin) = proved.entra else { return Ok(known.entra) };
    let Some(bound) = known.entra else { return Ok(Some(origin.into())) };
    let other_device = bound.device.zip(origin.device).is_some_and(|(bound, shown)| bound != shown);
    let other_tenant = bound.tenant != origin.tenant && bound.device.is_some();
    if other_device || other_tenant {
        return Err(RegistrationError::OtherEntraDevice(known.id));
    }
    Ok(Some(DeviceEntra { device: origin.device.or(bound.device), ..origin.into() }))
}

/// Another record that claims what this one claims, the stronger claim first (R27).
fn find_rival(tx: &mut dyn Tx, device: &Device) -> Result<Option<ClientId>, DbError> {
    let entra = device.entra.and_then(|entra| Some((entra.tenant, entra.device?)));
    let claims = [
        device.hardware_id.as_deref().map(Claim::Hardware),
        entra.map(|(tenant, device)| Claim::Entra { tenant, device }),
        device.pki.as_ref().map(|pki| Claim::Certificate(pki.thumbprint)),
    ];
    for claim in claims.into_iter().flatten() {
        if let Some(rival) = db::device::find_rival(tx, device.id, claim)? {
            return Ok(Some(rival));
        }
    }
    Ok(None)
}

/// Chooses the method, and keeps since when it has been so. Answers the one before, if it changed.
fn choose_method(
    device: &mut Device,
    asked: &Asked<'_>,
    preference: &Preference,
    now: Timestamp,
) -> Option<Method> {
    let new = asked.new;
    let choice = method::choose(preference, &new.credentials, &new.method_reason, &new.refused, now);
    let before = device.method;
    if method::is_fall(before, &choice, &new.credentials, now) {
        device.fell_back_at = device.fell_back_at.or(Some(now));
    } else if choice.method == Method::Certificate || before == Method::Certificate {
        device.fell_back_at = None;
    }
    device.method = choice.method;
    device.method_reason = choice.reason;
    device.methods_refused = choice.refused;
    if before == device.method {
        return None;
    }
    device.method_since = now;
    Some(before)
}

/// Marks both records of a conflict; both go on.
fn mark_rivals(tx: &mut dyn Tx, scribe: &Scribe, device: &Device, act: &'static str) -> Result<(), DbError> {
    let Some(rival) = device.conflict_with else { return Ok(()) };
    db::device::set_conflict(tx, device.id, rival)?;
    db::device::set_conflict(tx, rival, device.id)?;
    scribe.note(tx, act, device.id, &json!({ "name": device.name, "with": rival }))
}
