//! Device records.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::combination::Join;
use proto::id::{ClientId, Guid, Thumbprint};
use proto::time::Timestamp;

use super::{DbError, Row, Tx, Value, stmt};
use crate::contact::Seen;
use crate::device::{Approval, Device, DeviceFilter, DeviceMark, SeenVia};
use crate::method::{self, DeviceEntra, PkiCredential};

/// The columns of a record, in the order in which [`read`] takes them.
macro_rules! columns {
    () => {
        "client_id, name, fqdn, hardware_id, signing_thumbprint, signing_certificate, encryption_certificate,
         client_version, signs_requests, registered_at, approval, approved_by, approval_at, blocked, block_note,
         conflict_with, method, method_reason, method_since, confirmed_at, token_expires_at, last_seen_at,
         last_seen_via, policy_serial, policy_applied_at, heartbeat, heartbeat_at, join_kind, methods_refused,
         fell_back_at, entra_tenant, entra_device, entra_user, pki_thumbprint, pki_subject, pki_not_after,
         pki_chain, clock_skew_ms, recovered_at, clone_suspicion, last_address"
    };
}

stmt! {
    FIND_DEVICE (Bytes) -> (Bytes, Text, Text, OptText, Bytes, Bytes, Bytes, Text, Int, Int, Text, Text, Int, Int,
        Text, OptBytes, Text, Text, Int, OptInt, OptInt, Int, Text, Int, OptInt, Text, OptInt, OptText, Text, OptInt, OptBytes, OptBytes, OptBytes, OptBytes, OptText, OptInt, OptText, OptInt, OptInt,
        OptText, OptText) =
        concat!("SELECT ", columns!(), " FROM device WHERE client_id = $1");
    LIST_DEVICES (Bytes, Text, Text, Text, Int, Int, Int, Int, Int, Int) -> (Bytes, Text, Text, OptText, Bytes,
        Bytes, Bytes, Text, Int, Int, Text, Text, Int, Int, Text, OptBytes, Text, Text, Int, OptInt, OptInt, Int,
        Text, Int, OptInt, Text, OptInt, OptText, Text, OptInt, OptBytes, OptBytes, OptBytes, OptBytes, OptText, OptInt, OptText, OptInt, OptInt,
        OptText, OptText) =
        concat!("SELECT ", columns!(), " FROM device
         WHERE client_id > $1 AND name_key >= $2 AND name_key < $3
           AND ($4 = '' OR approval = $4) AND ($5 < 0 OR blocked = $5)
           AND ($6 = 0 OR conflict_with IS NOT NULL) AND ($7 = 0 OR clone_suspicion IS NOT NULL)
           AND ($8 = 0 OR pki_thumbprint IS NOT NULL) AND ($9 = 0 OR fell_back_at IS NOT NULL)
         ORDER BY client_id LIMIT $10");
    FIND_ID_BY_KEY (Bytes) -> (Bytes) = "SELECT client_id FROM device WHERE signing_thumbprint = $1";
    FIND_BLOCKED_HARDWARE (Text) -> (Bytes) =
        "SELECT client_id FROM device WHERE hardware_id = $1 AND blocked = 1 LIMIT 1";
    FIND_RIVAL_BY_HARDWARE (Text, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE hardware_id = $1 AND client_id <> $2
         ORDER BY registered_at DESC, client_id LIMIT 1";
    FIND_RIVAL_BY_NAME (Text, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE name_key = $1 AND client_id <> $2
         ORDER BY registered_at DESC, client_id LIMIT 1";
    FIND_RIVAL_BY_ENTRA (Bytes, Bytes, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE entra_tenant = $1 AND entra_device = $2 AND client_id <> $3
         ORDER BY registered_at DESC, client_id LIMIT 1";
    FIND_RIVAL_BY_CERTIFICATE (Bytes, Bytes) -> (Bytes) =
        "SELECT client_id FROM device_certificate WHERE thumbprint = $1 AND client_id <> $2
         ORDER BY proved_at DESC, client_id LIMIT 1";
    FIND_BLOCKED_ENTRA (Bytes, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE entra_tenant = $1 AND entra_device = $2 AND blocked = 1 LIMIT 1";
    FIND_APPROVED_ENTRA (Bytes, Bytes, Bytes) -> (Bytes) =
        "SELECT client_id FROM device WHERE entra_tenant = $1 AND entra_device = $2 AND signing_thumbprint <> $3
           AND approval = 'approved' AND blocked = 0 LIMIT 1";
    FIND_BLOCKED_CERTIFICATE (Bytes) -> (Bytes) =
        "SELECT d.client_id FROM device_certificate AS c JOIN device AS d ON d.client_id = c.client_id
         WHERE c.thumbprint = $1 AND d.blocked = 1 LIMIT 1";
    LIST_BLOCKED () -> (Bytes, Bytes) =
        "SELECT client_id, signing_thumbprint FROM device WHERE blocked = 1
         UNION SELECT d.client_id, c.thumbprint FROM device_certificate AS c
            JOIN device AS d ON d.client_id = c.client_id WHERE d.blocked = 1";
    LIST_CERTIFICATES (Bytes) -> (Bytes) =
        "SELECT signing_thumbprint FROM device WHERE client_id = $1
         UNION SELECT thumbprint FROM device_certificate WHERE client_id = $1";
    PUT_CERTIFICATE (Bytes, Bytes, Int, Int) -> () =
        "INSERT INTO device_certificate (client_id, thumbprint, not_after, proved_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (client_id, thumbprint) DO UPDATE SET proved_at = excluded.proved_at";
    FORGET_CERTIFICATES (Bytes, Int, Int) -> () =
        "DELETE FROM device_certificate WHERE client_id = $1 AND (not_after < $2 OR proved_at <= (
            SELECT proved_at FROM device_certificate WHERE client_id = $1
            ORDER BY proved_at DESC, thumbprint LIMIT 1 OFFSET $3))";
    LIST_RIVALS (Bytes) -> (Bytes, Bytes) =
        "SELECT a.client_id, b.client_id FROM device AS a JOIN device AS b ON b.client_id = a.conflict_with
         WHERE a.conflict_with > $1 AND a.hardware_id = b.hardware_id
           AND a.approval = 'approved' AND b.approval = 'approved' AND a.blocked + b.blocked = 0
         LIMIT 10000";
    LIST_EXPIRING (Int) -> (Bytes, Text, Text, Int) =
        "SELECT client_id, name, 'self-prove', token_expires_at FROM device
            WHERE token_expires_at < $1 AND blocked = 0
         UNION ALL SELECT client_id, name, 'pki', pki_not_after FROM device WHERE pki_not_after < $1 AND blocked = 0
         ORDER BY 4, 1 LIMIT 1000";
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
    MOVE_HARDWARE (Bytes, Text, Int) -> () =
        "UPDATE device SET hardware_since = CASE WHEN hardware_known = $2 THEN hardware_since ELSE $3 END,
            hardware_known = $2
         WHERE client_id = $1";
    LOSE_HARDWARE (Bytes, Text) -> () = "UPDATE device SET hardware_known = $2 WHERE client_id = $1";
    FIND_HARDWARE_SINCE (Bytes) -> (OptInt) = "SELECT hardware_since FROM device WHERE client_id = $1";
    SET_CREDENTIALS (Bytes, Text, Text, Int, Text, OptInt, OptText, OptBytes, OptBytes, OptBytes, OptBytes, OptText,
        OptInt, OptText) -> () =
        "UPDATE device SET method = $2, method_reason = $3, method_since = $4, methods_refused = $5,
            fell_back_at = $6, join_kind = $7, entra_tenant = $8, entra_device = $9, entra_user = $10,
            pki_thumbprint = $11, pki_subject = $12, pki_not_after = $13, pki_chain = $14
         WHERE client_id = $1";
    SET_CONFLICT (Bytes, Bytes) -> () =
        "UPDATE device SET conflict_with = $2 WHERE client_id = $1 AND conflict_with IS NULL";
    CLEAR_FALL (Bytes) -> () = "UPDATE device SET fell_back_at = NULL WHERE client_id = $1";
    CLEAR_CONFLICT (Bytes) -> () =
        "UPDATE device SET conflict_with = NULL WHERE client_id = $1 OR conflict_with = $1";
    SET_APPROVAL (Bytes, Text, Text, Int) -> () =
        "UPDATE device SET approval = $2, approved_by = $3, approval_at = $4 WHERE client_id = $1";
    SET_BLOCKED (Bytes, Int, Text) -> () = "UPDATE device SET blocked = $2, block_note = $3 WHERE client_id = $1";
    SET_CONFIRMED (Bytes, Int, Int, Text, Int) -> () =
        "UPDATE device SET confirmed_at = $2, token_expires_at = $3, client_version = $4,
            signs_requests = CASE WHEN signs_requests = 1 THEN 1 ELSE $5 END
         WHERE client_id = $1";
    SET_READMITTED (Bytes, Int) -> () =
        "UPDATE device SET token_expires_at = $2, recovered_at = $2 WHERE client_id = $1";
    SET_RECOVERED (Bytes, Int) -> () = "UPDATE device SET recovered_at = $2 WHERE client_id = $1";
    SET_CLONE_SUSPICION (Bytes, OptText) -> () = "UPDATE device SET clone_suspicion = $2 WHERE client_id = $1";
    SET_LAST_SEEN (Bytes, Int, Text, OptText, OptInt) -> () =
        "UPDATE device SET last_seen_at = $2, last_seen_via = $3, last_address = $4,
            clock_skew_ms = coalesce($5, clock_skew_ms)
         WHERE client_id = $1 AND last_seen_at <= $2";
    SET_HEARTBEAT (Bytes, Text, Int) -> () = "UPDATE device SET heartbeat = $2, heartbeat_at = $3 WHERE client_id = $1";
    SET_POLICY_APPLIED (Bytes, Int, Int) -> () =
        "UPDATE device SET policy_serial = $2, policy_applied_at = $3 WHERE client_id = $1 AND policy_serial <= $2";
    DELETE_DEVICE_REPORTS (Bytes) -> () = "DELETE FROM report WHERE client_id = $1";
    DELETE_DEVICE_MESSAGES (Bytes) -> () = "DELETE FROM message_taken WHERE client_id = $1";
    DELETE_DEVICE_MEMBERSHIPS (Bytes) -> () = "DELETE FROM collection_member WHERE client_id = $1";
    DELETE_DEVICE_CERTIFICATES (Bytes) -> () = "DELETE FROM device_certificate WHERE client_id = $1";
    DELETE_DEVICE_POLICY (Bytes) -> () = "DELETE FROM device_policy WHERE client_id = $1";
    DELETE_DEVICE (Bytes) -> () = "DELETE FROM device WHERE client_id = $1";
}

/// Certificates of one device that are kept: more than any renews before the oldest has ended.
const KEPT_CERTIFICATES: u32 = 16;

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
        (filter.mark == Some(DeviceMark::Suspected)).into(),
        (filter.mark == Some(DeviceMark::Pki)).into(),
        (filter.mark == Some(DeviceMark::FellBack)).into(),
        filter.limit.into(),
    ];
    tx.query(&LIST_DEVICES, &values)?.iter().map(read).collect()
}

pub(crate) fn has_blocked_hardware(tx: &mut dyn Tx, hardware_id: &str) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_BLOCKED_HARDWARE, &[hardware_id.into()])?.is_some())
}

/// Whether a blocked device holds this tenant's device id.
pub(crate) fn has_blocked_entra(tx: &mut dyn Tx, tenant: Guid, device: Guid) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_BLOCKED_ENTRA, &[tenant.into(), device.into()])?.is_some())
}

/// Whether an approved device with another key holds this tenant's device id.
pub(crate) fn has_entra_of_another(
    tx: &mut dyn Tx,
    tenant: Guid,
    device: Guid,
    key: Thumbprint,
) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_APPROVED_ENTRA, &[tenant.into(), device.into(), key.into()])?.is_some())
}

/// Whether a blocked device has proved this PKI certificate.
pub(crate) fn has_blocked_certificate(tx: &mut dyn Tx, certificate: Thumbprint) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_BLOCKED_CERTIFICATE, &[certificate.into()])?.is_some())
}

/// What two records can claim at the same time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Claim<'c> {
    Hardware(&'c str),
    Entra { tenant: Guid, device: Guid },
    Certificate(Thumbprint),
    Name(&'c str),
}

/// Another record that claims the same.
pub(crate) fn find_rival(
    tx: &mut dyn Tx,
    id: ClientId,
    claim: Claim<'_>,
) -> Result<Option<ClientId>, DbError> {
    let row = match claim {
        Claim::Hardware(hardware) => tx.query_opt(&FIND_RIVAL_BY_HARDWARE, &[hardware.into(), id.into()]),
        Claim::Entra { tenant, device } => {
            tx.query_opt(&FIND_RIVAL_BY_ENTRA, &[tenant.into(), device.into(), id.into()])
        }
        Claim::Certificate(thumbprint) => {
            tx.query_opt(&FIND_RIVAL_BY_CERTIFICATE, &[thumbprint.into(), id.into()])
        }
        Claim::Name(name) => tx.query_opt(&FIND_RIVAL_BY_NAME, &[name.to_lowercase().into(), id.into()]),
    };
    row?.map(|row| row.get(0)).transpose()
}

/// Approved records that claim the same hardware, in pairs; one may stand in several. Asked every few seconds, and
/// worded so that SQLite begins with the few that have a rival and not with the many that are not blocked.
pub(crate) fn list_rivals(tx: &mut dyn Tx) -> Result<Vec<(ClientId, ClientId)>, DbError> {
    tx.query(&LIST_RIVALS, &[Value::from(&b""[..])])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// Blocked devices with each of their certificates, registered and PKI.
pub(crate) fn list_blocked(tx: &mut dyn Tx) -> Result<Vec<(ClientId, Thumbprint)>, DbError> {
    tx.query(&LIST_BLOCKED, &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Every certificate of a device: the registered one and those of a PKI.
pub(crate) fn list_certificates(tx: &mut dyn Tx, id: ClientId) -> Result<Vec<Thumbprint>, DbError> {
    tx.query(&LIST_CERTIFICATES, &[id.into()])?.iter().map(|row| row.get(0)).collect()
}

/// Notes a PKI certificate that a device has proved; those that have ended go.
pub(crate) fn put_certificate(
    tx: &mut dyn Tx,
    id: ClientId,
    pki: &PkiCredential,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&PUT_CERTIFICATE, &[id.into(), pki.thumbprint.into(), pki.not_after.into(), now.into()])?;
    tx.exec(&FORGET_CERTIFICATES, &[id.into(), now.into(), KEPT_CERTIFICATES.into()]).map(drop)
}

/// Device, name, kind and end of each credential that ends before a moment, the earliest first.
pub(crate) fn list_expiring(
    tx: &mut dyn Tx,
    before: Timestamp,
) -> Result<Vec<(ClientId, String, String, Timestamp)>, DbError> {
    let rows = tx.query(&LIST_EXPIRING, &[before.into()])?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).collect()
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
    tx.exec(&INSERT_DEVICE, &values)?;
    // The columns of a new row say that there is nothing of this, which is so for most devices.
    let has_more = device.join.is_some() || device.entra.is_some() || device.pki.is_some();
    if has_more || device.fell_back_at.is_some() || !device.methods_refused.is_empty() {
        set_credentials(tx, device)?;
    }
    Ok(())
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

/// Notes since when a device has claimed the hardware that it claims now. One that claims none for a while and
/// then the same again has had it all the time.
pub(crate) fn move_hardware(
    tx: &mut dyn Tx,
    before: &Device,
    now_claims: Option<&str>,
    now: Timestamp,
) -> Result<(), DbError> {
    let claimed = before.hardware_id.as_deref();
    match (claimed, now_claims) {
        (Some(lost), None) => tx.exec(&LOSE_HARDWARE, &[before.id.into(), lost.into()]).map(drop),
        (_, Some(claims)) if claimed != now_claims => {
            tx.exec(&MOVE_HARDWARE, &[before.id.into(), claims.into(), now.into()]).map(drop)
        }
        _ => Ok(()),
    }
}

/// When a record changed to the hardware id that it claims; `None`: it has had it from its beginning.
pub(crate) fn hardware_since(tx: &mut dyn Tx, id: ClientId) -> Result<Option<Timestamp>, DbError> {
    tx.query_opt(&FIND_HARDWARE_SINCE, &[id.into()])?.map_or(Ok(None), |row| row.get(0))
}

/// How the device proves itself, with what, and why.
pub(crate) fn set_credentials(tx: &mut dyn Tx, device: &Device) -> Result<(), DbError> {
    // A list of plain texts always has a JSON form.
    let refused = serde_json::to_string(&device.methods_refused).expect("plain data has a JSON form");
    let entra = device.entra;
    let pki = device.pki.as_ref();
    let values = [
        device.id.into(),
        device.method.name().into(),
        (&device.method_reason).into(),
        device.method_since.into(),
        refused.into(),
        device.fell_back_at.into(),
        device.join.map(join_word).into(),
        entra.map(|entra| entra.tenant).into(),
        entra.and_then(|entra| entra.device).into(),
        entra.and_then(|entra| entra.user).into(),
        pki.map(|pki| pki.thumbprint).into(),
        pki.map(|pki| pki.subject.as_str()).into(),
        pki.map(|pki| pki.not_after).into(),
        pki.map(|pki| write_chain(&pki.chain)).into(),
    ];
    tx.exec(&SET_CREDENTIALS, &values).map(drop)
}

/// Marks a record as in conflict with another, unless it is in conflict already.
pub(crate) fn set_conflict(tx: &mut dyn Tx, id: ClientId, with: ClientId) -> Result<(), DbError> {
    tx.exec(&SET_CONFLICT, &[id.into(), with.into()]).map(drop)
}

pub(crate) fn clear_conflict(tx: &mut dyn Tx, id: ClientId) -> Result<(), DbError> {
    tx.exec(&CLEAR_CONFLICT, &[id.into()]).map(drop)
}

pub(crate) fn clear_fall(tx: &mut dyn Tx, id: ClientId) -> Result<(), DbError> {
    tx.exec(&CLEAR_FALL, &[id.into()]).map(drop)
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

/// The recovery window starts anew.
pub(crate) fn set_readmitted(tx: &mut dyn Tx, id: ClientId, now: Timestamp) -> Result<(), DbError> {
    tx.exec(&SET_READMITTED, &[id.into(), now.into()]).map(drop)
}

pub(crate) fn set_recovered(tx: &mut dyn Tx, id: ClientId, now: Timestamp) -> Result<(), DbError> {
    tx.exec(&SET_RECOVERED, &[id.into(), now.into()]).map(drop)
}

pub(crate) fn set_clone_suspicion(
    tx: &mut dyn Tx,
    id: ClientId,
    suspicion: Option<&str>,
) -> Result<(), DbError> {
    tx.exec(&SET_CLONE_SUSPICION, &[id.into(), suspicion.into()]).map(drop)
}

pub(crate) fn set_last_seen(tx: &mut dyn Tx, id: ClientId, seen: Seen) -> Result<(), DbError> {
    let address = seen.contact.address.map(|address| address.to_string());
    let values = [
        id.into(),
        seen.at.into(),
        seen.contact.via.as_str().into(),
        address.into(),
        seen.contact.skew_ms.into(),
    ];
    tx.exec(&SET_LAST_SEEN, &values).map(drop)
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
    let steps = [
        &DELETE_DEVICE_REPORTS,
        &DELETE_DEVICE_MESSAGES,
        &DELETE_DEVICE_MEMBERSHIPS,
        &DELETE_DEVICE_CERTIFICATES,
        &DELETE_DEVICE_POLICY,
        &DELETE_DEVICE,
    ];
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
        method: method::parse(&method).ok_or_else(|| wrong(16))?,
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
        join: row.get::<Option<String>>(27)?.as_deref().and_then(parse_join),
        methods_refused: json(&row.get::<String>(28)?).ok_or_else(|| wrong(28))?,
        fell_back_at: row.get(29)?,
        entra: read_entra(row)?,
        pki: read_pki(row)?,
        clock_skew_ms: row.get(37)?,
        recovered_at: row.get(38)?,
        clone_suspicion: row
            .get::<Option<String>>(39)?
            .map(|text| json(&text).ok_or_else(|| wrong(39)))
            .transpose()?,
        last_address: row.get::<Option<String>>(40)?.and_then(|text| text.parse().ok()),
        online: false,
    })
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn read_entra(row: &Row) -> Result<Option<DeviceEntra>, DbError> {
    let Some(tenant) = row.get::<Option<Guid>>(30)? else { return Ok(None) };
    Ok(Some(DeviceEntra { tenant, device: row.get(31)?, user: row.get(32)? }))
}

fn read_pki(row: &Row) -> Result<Option<PkiCredential>, DbError> {
    let Some(thumbprint) = row.get::<Option<Thumbprint>>(33)? else { return Ok(None) };
    let chain: String = row.get::<Option<String>>(36)?.unwrap_or_default();
    Ok(Some(PkiCredential {
        thumbprint,
        subject: row.get::<Option<String>>(34)?.unwrap_or_default(),
        not_after: row.get::<Option<Timestamp>>(35)?.unwrap_or_default(),
        chain: read_chain(&chain).ok_or(DbError::Column { statement: "FIND_DEVICE", column: 36 })?,
    }))
}

fn write_chain(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>().join(",")
}

fn read_chain(text: &str) -> Option<Vec<Vec<u8>>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| STANDARD.decode(part).ok()).collect()
}

/// Kinds of join as stored.
const JOINS: [(Join, &str); 4] = [
    (Join::Workgroup, "workgroup"),
    (Join::Domain, "domain"),
    (Join::Entra, "entra"),
    (Join::Hybrid, "hybrid"),
];

fn join_word(join: Join) -> &'static str {
    JOINS.iter().find(|(kind, _)| *kind == join).map_or("", |(_, word)| word)
}

fn parse_join(word: &str) -> Option<Join> {
    JOINS.iter().find(|(_, known)| *known == word).map(|(join, _)| *join)
}
