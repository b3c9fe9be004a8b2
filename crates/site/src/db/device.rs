//! Device records.

use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, Value, stmt};
use crate::device::{Approval, Device, DeviceFilter, Seen, SeenVia};

/// The columns of a record, in the order in which [`read`] takes them.
macro_rules! columns {
    () => {
        "client_id, name, fqdn, hardware_id, signing_thumbprint, signing_certificate, encryption_certificate,
         client_version, signs_requests, registered_at, approval, approved_by, approval_at, blocked, block_note,
         conflict_with, method, method_reason, method_since, confirmed_at, token_expires_at, last_seen_at,
         last_seen_via, policy_serial, policy_applied_at, heartbeat, heartbeat_at"
    };
}

stmt! {
    FIND_DEVICE (Bytes) -> (Bytes, Text, Text, OptText, Bytes, Bytes, Bytes, Text, Int, Int, Text, Text, Int, Int,
        Text, OptBytes, Text, Text, Int, OptInt, OptInt, Int, Text, Int, OptInt, Text, OptInt) =
        concat!("SELECT ", columns!(), " FROM device WHERE client_id = $1");
    LIST_DEVICES (Bytes, Text, Text, Text, Int, Int, Int) -> (Bytes, Text, Text, OptText, Bytes, Bytes, Bytes, Text,
        Int, Int, Text, Text, Int, Int, Text, OptBytes, Text, Text, Int, OptInt, OptInt, Int, Text, Int, OptInt,
        Text, OptInt) =
        concat!("SELECT ", columns!(), " FROM device
         WHERE client_id > $1 AND name_key >= $2 AND name_key < $3
           AND ($4 = '' OR approval = $4) AND ($5 < 0 OR blocked = $5)
           AND ($6 = 0 OR conflict_with IS NOT NULL)
         ORDER BY client_id LIMIT $7");
    FIND_ID_BY_KEY (Bytes) -> (Bytes) = "SELECT client_id FROM device WHERE signing_thumbprint = $1";
    FIND_BLOCKED_HARDWARE (Text) -> (Bytes) =
        "SELECT client_id FROM device WHERE hardware_id = $1 AND blocked = 1 LIMIT 1";
    FIND_RIVAL_BY_HARDWARE (Text, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE hardware_id = $1 AND client_id <> $2
         ORDER BY registered_at DESC, client_id LIMIT 1";
    FIND_RIVAL_BY_NAME (Text, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE name_key = $1 AND client_id <> $2
         ORDER BY registered_at DESC, client_id LIMIT 1";
    LIST_BLOCKED () -> (Bytes, Bytes) = "SELECT client_id, signing_thumbprint FROM device WHERE blocked = 1";
    INSERT_DEVICE (Bytes, Text, Text, Text, OptText, Bytes, Bytes, Bytes, Text, Int, Int, Text, Text, Int, OptBytes,
        Text, Text, Int, Text) -> () =
        "INSERT INTO device (client_id, name, name_key, fqdn, hardware_id, signing_thumbprint, signing_certificate,
            encryption_certificate, client_version, signs_requests, registered_at, approval, approved_by,
            approval_at, blocked, block_note, conflict_with, method, method_reason, method_since, last_seen_at,
            last_seen_via, policy_serial, heartbeat)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0, '', $15, $16, $17, $18, $18, $19,
            0, '')";
    UPDATE_FACTS (Bytes, Text, Text, Text, OptText, Bytes, Text, Int) -> () =
        "UPDATE device SET name = $2, name_key = $3, fqdn = $4, hardware_id = $5, encryption_certificate = $6,
            client_version = $7, signs_requests = CASE WHEN signs_requests = 1 THEN 1 ELSE $8 END
         WHERE client_id = $1";
    SET_METHOD (Bytes, Text, Text, Int) -> () =
        "UPDATE device SET method = $2, method_reason = $3, method_since = $4
         WHERE client_id = $1 AND (method <> $2 OR method_reason <> $3)";
    SET_CONFLICT (Bytes, Bytes) -> () =
        "UPDATE device SET conflict_with = $2 WHERE client_id = $1 AND conflict_with IS NULL";
    CLEAR_CONFLICT (Bytes) -> () =
        "UPDATE device SET conflict_with = NULL WHERE client_id = $1 OR conflict_with = $1";
    SET_APPROVAL (Bytes, Text, Text, Int) -> () =
        "UPDATE device SET approval = $2, approved_by = $3, approval_at = $4 WHERE client_id = $1";
    SET_BLOCKED (Bytes, Int, Text) -> () = "UPDATE device SET blocked = $2, block_note = $3 WHERE client_id = $1";
    SET_CONFIRMED (Bytes, Int, Int, Text, Int) -> () =
        "UPDATE device SET confirmed_at = $2, token_expires_at = $3, client_version = $4,
            signs_requests = CASE WHEN signs_requests = 1 THEN 1 ELSE $5 END
         WHERE client_id = $1";
    SET_TOKEN_EXPIRY (Bytes, Int) -> () = "UPDATE device SET token_expires_at = $2 WHERE client_id = $1";
    SET_LAST_SEEN (Bytes, Int, Text) -> () =
        "UPDATE device SET last_seen_at = $2, last_seen_via = $3 WHERE client_id = $1 AND last_seen_at < $2";
    SET_HEARTBEAT (Bytes, Text, Int) -> () = "UPDATE device SET heartbeat = $2, heartbeat_at = $3 WHERE client_id = $1";
    SET_POLICY_APPLIED (Bytes, Int, Int) -> () =
        "UPDATE device SET policy_serial = $2, policy_applied_at = $3 WHERE client_id = $1 AND policy_serial <= $2";
    DELETE_DEVICE_REPORTS (Bytes) -> () = "DELETE FROM report WHERE client_id = $1";
    DELETE_DEVICE_MESSAGES (Bytes) -> () = "DELETE FROM message_taken WHERE client_id = $1";
    DELETE_DEVICE_MEMBERSHIPS (Bytes) -> () = "DELETE FROM collection_member WHERE client_id = $1";
    DELETE_DEVICE (Bytes) -> () = "DELETE FROM device WHERE client_id = $1";
}

pub(crate) fn find(tx: &mut dyn Tx, id: ClientId) -> Result<Option<Device>, DbError> {
    tx.query_opt(&FIND_DEVICE, &[id.into()])?.as_ref().map(read).transpose()
}

pub(crate) fn find_by_key(tx: &mut dyn Tx, key: Thumbprint) -> Result<Option<Device>, DbError> {
    match tx.query_opt(&FIND_ID_BY_KEY, &[key.into()])? {
        Some(row) => find(tx, row.get(0)?),
        None => Ok(None),
    }
}

pub(crate) fn list(tx: &mut dyn Tx, filter: &DeviceFilter) -> Result<Vec<Device>, DbError> {
    let prefix = filter.name.as_deref().unwrap_or_default().to_lowercase();
    let values = [
        filter.after.map_or_else(|| Value::Bytes(Vec::new()), Value::from),
        (&prefix).into(),
        // The highest character closes the range; names hold none above it.
        format!("{prefix}\u{10ffff}").into(),
        filter.approval.map_or("", Approval::as_str).into(),
        filter.blocked.map_or(-1, i64::from).into(),
        filter.conflicts.into(),
        filter.limit.into(),
    ];
    tx.query(&LIST_DEVICES, &values)?.iter().map(read).collect()
}

pub(crate) fn has_blocked_hardware(tx: &mut dyn Tx, hardware_id: &str) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_BLOCKED_HARDWARE, &[hardware_id.into()])?.is_some())
}

/// Another record with this hardware id or, failing that, this name.
pub(crate) fn find_rival(
    tx: &mut dyn Tx,
    id: ClientId,
    hardware_id: Option<&str>,
    name: &str,
) -> Result<Option<ClientId>, DbError> {
    let mut row = None;
    if let Some(hardware_id) = hardware_id {
        row = tx.query_opt(&FIND_RIVAL_BY_HARDWARE, &[hardware_id.into(), id.into()])?;
    }
    if row.is_none() {
        row = tx.query_opt(&FIND_RIVAL_BY_NAME, &[name.to_lowercase().into(), id.into()])?;
    }
    row.map(|row| row.get(0)).transpose()
}

pub(crate) fn list_blocked(tx: &mut dyn Tx) -> Result<Vec<(ClientId, Thumbprint)>, DbError> {
    tx.query(&LIST_BLOCKED, &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

pub(crate) fn insert(tx: &mut dyn Tx, device: &Device) -> Result<(), DbError> {
    let values = [
        device.id.into(),
        (&device.name).into(),
        device.name.to_lowercase().into(),
        (&device.fqdn).into(),
        device.hardware_id.clone().into(),
        device.signing_thumbprint.into(),
        (&device.signing_certificate).into(),
        (&device.encryption_certificate).into(),
        (&device.client_version).into(),
        device.signs_requests.into(),
        device.registered_at.into(),
        device.approval.as_str().into(),
        (&device.approval_by).into(),
        device.approval_at.into(),
        device.conflict_with.into(),
        device.method.name().into(),
        (&device.method_reason).into(),
        device.method_since.into(),
        device.last_seen_via.as_str().into(),
    ];
    tx.exec(&INSERT_DEVICE, &values).map(drop)
}

/// Takes over what a device says of itself. That it signs requests is never lowered.
pub(crate) fn update_facts(tx: &mut dyn Tx, device: &Device) -> Result<(), DbError> {
    let values = [
        device.id.into(),
        (&device.name).into(),
        device.name.to_lowercase().into(),
        (&device.fqdn).into(),
        device.hardware_id.clone().into(),
        (&device.encryption_certificate).into(),
        (&device.client_version).into(),
        device.signs_requests.into(),
    ];
    tx.exec(&UPDATE_FACTS, &values).map(drop)
}

pub(crate) fn set_method(
    tx: &mut dyn Tx,
    id: ClientId,
    method: Method,
    reason: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&SET_METHOD, &[id.into(), method.name().into(), reason.into(), now.into()]).map(drop)
}

/// Marks a record as in conflict with another, unless it is in conflict already.
pub(crate) fn set_conflict(tx: &mut dyn Tx, id: ClientId, with: ClientId) -> Result<(), DbError> {
    tx.exec(&SET_CONFLICT, &[id.into(), with.into()]).map(drop)
}

pub(crate) fn clear_conflict(tx: &mut dyn Tx, id: ClientId) -> Result<(), DbError> {
    tx.exec(&CLEAR_CONFLICT, &[id.into()]).map(drop)
}

pub(crate) fn set_approval(
    tx: &mut dyn Tx,
    id: ClientId,
    approval: Approval,
    by: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&SET_APPROVAL, &[id.into(), approval.as_str().into(), by.into(), now.into()]).map(drop)
}

pub(crate) fn set_blocked(tx: &mut dyn Tx, id: ClientId, blocked: bool, note: &str) -> Result<(), DbError> {
    tx.exec(&SET_BLOCKED, &[id.into(), blocked.into(), note.into()]).map(drop)
}

pub(crate) fn set_confirmed(
    tx: &mut dyn Tx,
    id: ClientId,
    now: Timestamp,
    token_expires: Timestamp,
    client_version: &str,
    signs_requests: bool,
) -> Result<(), DbError> {
    let values = [id.into(), now.into(), token_expires.into(), client_version.into(), signs_requests.into()];
    tx.exec(&SET_CONFIRMED, &values).map(drop)
}

pub(crate) fn set_token_expiry(tx: &mut dyn Tx, id: ClientId, expires: Timestamp) -> Result<(), DbError> {
    tx.exec(&SET_TOKEN_EXPIRY, &[id.into(), expires.into()]).map(drop)
}

pub(crate) fn set_last_seen(tx: &mut dyn Tx, id: ClientId, seen: Seen) -> Result<(), DbError> {
    tx.exec(&SET_LAST_SEEN, &[id.into(), seen.at.into(), seen.via.as_str().into()]).map(drop)
}

pub(crate) fn set_heartbeat(
    tx: &mut dyn Tx,
    id: ClientId,
    data: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&SET_HEARTBEAT, &[id.into(), data.into(), now.into()]).map(drop)
}

pub(crate) fn set_policy_applied(
    tx: &mut dyn Tx,
    id: ClientId,
    serial: i64,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&SET_POLICY_APPLIED, &[id.into(), serial.into(), now.into()]).map(drop)
}

/// Deletes a record and what hangs on it.
pub(crate) fn delete(tx: &mut dyn Tx, id: ClientId) -> Result<(), DbError> {
    let steps = [&DELETE_DEVICE_REPORTS, &DELETE_DEVICE_MESSAGES, &DELETE_DEVICE_MEMBERSHIPS, &DELETE_DEVICE];
    steps.into_iter().try_for_each(|step| tx.exec(step, &[id.into()]).map(drop))
}

fn read(row: &Row) -> Result<Device, DbError> {
    let wrong = |column| DbError::Column { statement: "FIND_DEVICE", column };
    let (approval, method, via): (String, String, String) = (row.get(10)?, row.get(16)?, row.get(22)?);
    Ok(Device {
        id: row.get(0)?,
        name: row.get(1)?,
        fqdn: row.get(2)?,
        hardware_id: row.get(3)?,
        signing_thumbprint: row.get(4)?,
        signing_certificate: row.get(5)?,
        encryption_certificate: row.get(6)?,
        client_version: row.get(7)?,
        signs_requests: row.get(8)?,
        registered_at: row.get(9)?,
        approval: Approval::parse(&approval).ok_or_else(|| wrong(10))?,
        approval_by: row.get(11)?,
        approval_at: row.get(12)?,
        blocked: row.get(13)?,
        block_note: row.get(14)?,
        conflict_with: row.get(15)?,
        method: parse_method(&method).ok_or_else(|| wrong(16))?,
        method_reason: row.get(17)?,
        method_since: row.get(18)?,
        confirmed_at: row.get(19)?,
        token_expires_at: row.get(20)?,
        last_seen_at: row.get(21)?,
        last_seen_via: SeenVia::parse(&via).ok_or_else(|| wrong(22))?,
        policy_serial: row.get(23)?,
        policy_applied_at: row.get(24)?,
        heartbeat: row.get(25)?,
        heartbeat_at: row.get(26)?,
        online: false,
    })
}

fn parse_method(word: &str) -> Option<Method> {
    let all = [Method::Certificate, Method::EntraDevice, Method::EntraUser, Method::SiteToken];
    all.into_iter().find(|method| method.name() == word)
}
