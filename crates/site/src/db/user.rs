//! What the discoveries found, source by source, and how each of them stands.

use proto::id::Guid;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::sync::{FoundDevice, FoundUser, SyncSource, SyncState};
use crate::user::UnsyncedUnit;

/// How a source stands, with what only the next run needs to know.
#[derive(Debug, Clone)]
pub(crate) struct SyncRow {
    pub(crate) source: SyncSource,
    pub(crate) run: i64,
    pub(crate) state: SyncState,
    /// An operator, or the end of a delta link, wants everything listed next.
    pub(crate) full_wanted: bool,
    pub(crate) delta_link: Option<String>,
}

/// A user as one source knows it.
#[derive(Debug, Clone)]
pub(crate) struct UserRow {
    pub(crate) source: SyncSource,
    pub(crate) user: FoundUser,
    pub(crate) seen_at: Timestamp,
}

/// Rows of users to be read.
#[derive(Debug, Clone)]
pub(crate) struct UserPage {
    /// A part of a name, in lower case.
    pub(crate) text: String,
    pub(crate) incomplete: bool,
    pub(crate) offset: u32,
    pub(crate) limit: u32,
}

macro_rules! user_columns {
    () => {
        "u.source, u.object_id, u.sid, u.principal_name, u.display_name, u.mail, u.account, u.domain,
         u.distinguished_name, u.seen_at"
    };
}

stmt! {
    LIST_SYNCS () -> (Text, Int, OptInt, OptInt, OptInt, OptInt, Text, Int, Int, OptText, Int, Int) =
        "SELECT source, run, started_at, full_at, delta_at, failed_at, problem, next_due_at, full_wanted, delta_link,
            users, devices
         FROM sync ORDER BY source";
    FIND_SYNC (Text) -> (Text, Int, OptInt, OptInt, OptInt, OptInt, Text, Int, Int, OptText, Int, Int) =
        "SELECT source, run, started_at, full_at, delta_at, failed_at, problem, next_due_at, full_wanted, delta_link,
            users, devices
         FROM sync WHERE source = $1";
    PUT_SYNC (Text, Int, OptInt, OptInt, OptInt, OptInt, Text, Int, Int, OptText, Int, Int) -> () =
        "INSERT INTO sync (source, run, started_at, full_at, delta_at, failed_at, problem, next_due_at, full_wanted,
            delta_link, users, devices)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (source) DO UPDATE SET run = excluded.run, started_at = excluded.started_at,
            full_at = excluded.full_at, delta_at = excluded.delta_at, failed_at = excluded.failed_at,
            problem = excluded.problem, next_due_at = excluded.next_due_at, full_wanted = excluded.full_wanted,
            delta_link = excluded.delta_link, users = excluded.users, devices = excluded.devices";
    DELETE_SYNC (Text) -> () = "DELETE FROM sync WHERE source = $1";
    DELETE_FOUND_USERS (Text) -> () = "DELETE FROM found_user WHERE source = $1";
    DELETE_FOUND_DEVICES (Text) -> () = "DELETE FROM found_device WHERE source = $1";
    PUT_FOUND_USER (Text, Text, OptBytes, OptText, Text, Text, Text, Text, Text, Text, Text, Int, Int) -> () =
        "INSERT INTO found_user (source, source_key, object_id, sid, principal_name, name_key, display_name, mail,
            account, domain, distinguished_name, run, seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (source, source_key) DO UPDATE SET object_id = excluded.object_id, sid = excluded.sid,
            principal_name = excluded.principal_name, name_key = excluded.name_key,
            display_name = excluded.display_name, mail = excluded.mail, account = excluded.account,
            domain = excluded.domain, distinguished_name = excluded.distinguished_name, run = excluded.run,
            seen_at = excluded.seen_at, vanished_at = NULL";
    PUT_FOUND_DEVICE (Text, Text, OptBytes, OptText, Text, Text, Text, Text, Int, Int) -> () =
        "INSERT INTO found_device (source, source_key, device_id, sid, name, name_key, unit, distinguished_name, run,
            seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (source, source_key) DO UPDATE SET device_id = excluded.device_id, sid = excluded.sid,
            name = excluded.name, name_key = excluded.name_key, unit = excluded.unit,
            distinguished_name = excluded.distinguished_name, run = excluded.run, seen_at = excluded.seen_at,
            vanished_at = NULL";
    VANISH_USER (Text, Text, Int) -> () =
        "UPDATE found_user SET vanished_at = $3 WHERE source = $1 AND source_key = $2 AND vanished_at IS NULL";
    VANISH_DEVICE (Text, Text, Int) -> () =
        "UPDATE found_device SET vanished_at = $3 WHERE source = $1 AND source_key = $2 AND vanished_at IS NULL";
    VANISH_OLDER_USERS (Text, Int, Int) -> () =
        "UPDATE found_user SET vanished_at = $3 WHERE source = $1 AND run < $2 AND vanished_at IS NULL";
    VANISH_OLDER_DEVICES (Text, Int, Int) -> () =
        "UPDATE found_device SET vanished_at = $3 WHERE source = $1 AND run < $2 AND vanished_at IS NULL";
    COUNT_FOUND_USERS (Text, Int) -> (Int) =
        "SELECT CAST(count(*) AS BIGINT) FROM found_user WHERE source = $1 AND run >= $2 AND vanished_at IS NULL";
    COUNT_FOUND_DEVICES (Text, Int) -> (Int) =
        "SELECT CAST(count(*) AS BIGINT) FROM found_device WHERE source = $1 AND run >= $2 AND vanished_at IS NULL";
    FIND_ENTRA_USER (Text, Text) -> (Text, OptBytes, OptText, Text, Text, Text, Text, Text, Text, Int) =
        concat!("SELECT ", user_columns!(), " FROM found_user u
         WHERE u.source = $1 AND u.source_key = $2 AND u.vanished_at IS NULL");
    FIND_USER_BY_SID (Text, Int) -> (Text, OptBytes, OptText, Text, Text, Text, Text, Text, Text, Int) =
        concat!("SELECT ", user_columns!(), " FROM found_user u
         WHERE u.sid = $1 AND u.vanished_at IS NULL AND ((u.object_id IS NULL) = ($2 = 1))
         ORDER BY u.seen_at DESC, u.source LIMIT 1");
    LIST_FOUND_USERS (Text, Int, Int, Int) -> (Text, OptBytes, OptText, Text, Text, Text, Text, Text, Text, Int) =
        concat!("SELECT ", user_columns!(), " FROM found_user u
         WHERE u.vanished_at IS NULL AND ($1 = '' OR u.name_key LIKE '%' || $1 || '%' ESCAPE '\\')
           AND (u.object_id IS NOT NULL OR NOT EXISTS
                (SELECT 1 FROM found_user t WHERE t.sid = u.sid AND t.object_id IS NOT NULL AND t.vanished_at IS NULL))
           AND ($2 = 0 OR u.object_id IS NULL OR (u.sid IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM found_user d WHERE d.sid = u.sid AND d.object_id IS NULL AND d.vanished_at IS NULL)))
         ORDER BY u.name_key, u.source, u.source_key LIMIT $4 OFFSET $3");
    FIND_USER_BY_ID (Text, Text) -> (Text, OptBytes, OptText, Text, Text, Text, Text, Text, Text, Int) =
        concat!("SELECT ", user_columns!(), " FROM found_user u
         WHERE u.vanished_at IS NULL AND (u.source_key = $1 OR u.sid = $2)
         ORDER BY u.object_id IS NULL, u.source LIMIT 1");
    FIND_USER_BY_NAME (Text) -> (Text, OptBytes, OptText, Text, Text, Text, Text, Text, Text, Int) =
        concat!("SELECT ", user_columns!(), " FROM found_user u
         WHERE u.vanished_at IS NULL
           AND (lower(u.principal_name) = $1 OR lower(u.mail) = $1 OR lower(u.account) = $1
                OR lower(u.domain) || '\\' || lower(u.account) = $1)
         ORDER BY u.object_id IS NULL, u.name_key, u.source LIMIT 1");
    LIST_UNITS () -> (Text, Int, Int) =
        "SELECT unit, missing, CAST(count(*) AS BIGINT) FROM
            (SELECT c.unit AS unit, CASE
                WHEN EXISTS (SELECT 1 FROM found_device t WHERE t.sid = c.sid AND t.device_id IS NOT NULL
                    AND t.vanished_at IS NULL) THEN 0
                WHEN EXISTS (SELECT 1 FROM found_device t WHERE t.name_key = c.name_key AND t.device_id IS NOT NULL
                    AND t.vanished_at IS NULL) THEN 0
                ELSE 1 END AS missing
             FROM found_device c WHERE c.device_id IS NULL AND c.vanished_at IS NULL) AS computer
         GROUP BY unit, missing ORDER BY unit, missing LIMIT 20000";
    LIST_MISSING_COMPUTERS (Text) -> (Text) =
        "SELECT c.name FROM found_device c WHERE c.unit = $1 AND c.device_id IS NULL AND c.vanished_at IS NULL
           AND NOT EXISTS (SELECT 1 FROM found_device t WHERE t.sid = c.sid AND t.device_id IS NOT NULL
                AND t.vanished_at IS NULL)
           AND NOT EXISTS (SELECT 1 FROM found_device t WHERE t.name_key = c.name_key AND t.device_id IS NOT NULL
                AND t.vanished_at IS NULL)
         ORDER BY c.name_key LIMIT 5";
}

pub(crate) fn list_syncs(tx: &mut dyn Tx) -> Result<Vec<SyncRow>, DbError> {
    tx.query(&LIST_SYNCS, &[])?.iter().map(read_sync).collect()
}

pub(crate) fn find_sync(tx: &mut dyn Tx, source: SyncSource) -> Result<Option<SyncRow>, DbError> {
    tx.query_opt(&FIND_SYNC, &[source.to_string().into()])?.as_ref().map(read_sync).transpose()
}

pub(crate) fn put_sync(tx: &mut dyn Tx, row: &SyncRow) -> Result<(), DbError> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let state = &row.state;
    let values = [
        row.source.to_string().into(),
        row.run.into(),
        state.running_since.into(),
        state.full_at.into(),
        state.delta_at.into(),
        state.failed_at.into(),
        state.problem.clone().unwrap_or_default().into(),
        state.next_due_at.unwrap_or_default().into(),
        row.full_wanted.into(),
        row.delta_link.clone().into(),
        number(state.users).into(),
        number(state.devices).into(),
    ];
    tx.exec(&PUT_SYNC, &values).map(drop)
}

/// Forgets a source with everything that it found.
pub(crate) fn delete_source(tx: &mut dyn Tx, source: SyncSource) -> Result<(), DbError> {
    let steps = [&DELETE_FOUND_USERS, &DELETE_FOUND_DEVICES, &DELETE_SYNC];
    steps.into_iter().try_for_each(|step| tx.exec(step, &[source.to_string().into()]).map(drop))
}

/// Takes a user that `run` found under this key.
pub(crate) fn put_user(
    tx: &mut dyn Tx,
    source: SyncSource,
    run: i64,
    key: &str,
    user: &FoundUser,
    now: Timestamp,
) -> Result<(), DbError> {
    let names = [&user.principal_name, &user.account, &user.display_name, &user.mail];
    let name_key = names.map(|name| name.to_lowercase()).join(" ");
    let values = [
        source.to_string().into(),
        key.into(),
        user.object_id.into(),
        user.sid.clone().into(),
        (&user.principal_name).into(),
        name_key.into(),
        (&user.display_name).into(),
        (&user.mail).into(),
        (&user.account).into(),
        (&user.domain).into(),
        (&user.distinguished_name).into(),
        run.into(),
        now.into(),
    ];
    tx.exec(&PUT_FOUND_USER, &values).map(drop)
}

/// Takes a computer that `run` found under this key, in this unit.
pub(crate) fn put_device(
    tx: &mut dyn Tx,
    source: SyncSource,
    run: i64,
    key: &str,
    unit: &str,
    device: &FoundDevice,
    now: Timestamp,
) -> Result<(), DbError> {
    let values = [
        source.to_string().into(),
        key.into(),
        device.device_id.into(),
        device.sid.clone().into(),
        (&device.name).into(),
        device.name.to_lowercase().into(),
        unit.into(),
        (&device.distinguished_name).into(),
        run.into(),
        now.into(),
    ];
    tx.exec(&PUT_FOUND_DEVICE, &values).map(drop)
}

/// A delta says that this user is gone.
pub(crate) fn vanish_user(
    tx: &mut dyn Tx,
    source: SyncSource,
    key: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&VANISH_USER, &[source.to_string().into(), key.into(), now.into()]).map(drop)
}

/// A delta says that this computer is gone.
pub(crate) fn vanish_device(
    tx: &mut dyn Tx,
    source: SyncSource,
    key: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&VANISH_DEVICE, &[source.to_string().into(), key.into(), now.into()]).map(drop)
}

/// Whatever an older run found and this full one did not is gone.
pub(crate) fn vanish_older(
    tx: &mut dyn Tx,
    source: SyncSource,
    run: i64,
    now: Timestamp,
) -> Result<(), DbError> {
    let values = [source.to_string().into(), run.into(), now.into()];
    tx.exec(&VANISH_OLDER_USERS, &values)?;
    tx.exec(&VANISH_OLDER_DEVICES, &values).map(drop)
}

/// Users and computers of a source that runs from `run` on have found.
pub(crate) fn count_found(tx: &mut dyn Tx, source: SyncSource, run: i64) -> Result<(u64, u64), DbError> {
    let values = [source.to_string().into(), run.into()];
    let users = tx.query_one(&COUNT_FOUND_USERS, &values)?.get(0)?;
    Ok((users, tx.query_one(&COUNT_FOUND_DEVICES, &values)?.get(0)?))
}

/// A user as the tenant knows it.
pub(crate) fn find_entra(tx: &mut dyn Tx, tenant: Guid, user: Guid) -> Result<Option<UserRow>, DbError> {
    let values = [SyncSource::Tenant(tenant).to_string().into(), user.to_string().into()];
    tx.query_opt(&FIND_ENTRA_USER, &values)?.as_ref().map(read_user).transpose()
}

/// A user by SID, as a directory knows it, or else as a tenant does.
pub(crate) fn find_by_sid(
    tx: &mut dyn Tx,
    sid: &str,
    in_directory: bool,
) -> Result<Option<UserRow>, DbError> {
    let values = [sid.into(), in_directory.into()];
    tx.query_opt(&FIND_USER_BY_SID, &values)?.as_ref().map(read_user).transpose()
}

/// One row a person, the tenant's where both know it.
pub(crate) fn list_users(tx: &mut dyn Tx, page: &UserPage) -> Result<Vec<UserRow>, DbError> {
    let text = page.text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let values = [text.into(), page.incomplete.into(), page.offset.into(), page.limit.into()];
    tx.query(&LIST_FOUND_USERS, &values)?.iter().map(read_user).collect()
}

/// A user by anything that names it.
pub(crate) fn find_by_text(tx: &mut dyn Tx, text: &str) -> Result<Option<UserRow>, DbError> {
    let lower = text.to_lowercase();
    let mut row = tx.query_opt(&FIND_USER_BY_ID, &[(&lower).into(), text.to_uppercase().into()])?;
    if row.is_none() {
        row = tx.query_opt(&FIND_USER_BY_NAME, &[lower.into()])?;
    }
    row.as_ref().map(read_user).transpose()
}

/// Units with computers that no tenant has, by SID or by name.
pub(crate) fn list_unsynced(tx: &mut dyn Tx) -> Result<Vec<UnsyncedUnit>, DbError> {
    let mut units: Vec<UnsyncedUnit> = Vec::new();
    for row in tx.query(&LIST_UNITS, &[])? {
        let (name, missing, count): (String, bool, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if units.last().is_none_or(|last| last.unit != name) {
            units.push(UnsyncedUnit { unit: name, missing: 0, synced: 0, examples: Vec::new() });
        }
        let Some(unit) = units.last_mut() else { continue };
        if missing {
            unit.missing = count;
        } else {
            unit.synced = count;
        }
    }
    units.retain(|unit| unit.missing > 0);
    units.truncate(1000);
    for unit in &mut units {
        let rows = tx.query(&LIST_MISSING_COMPUTERS, &[(&unit.unit).into()])?;
        unit.examples = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    }
    Ok(units)
}

fn source(row: &Row) -> Result<SyncSource, DbError> {
    let text: String = row.get(0)?;
    text.parse().map_err(|_| DbError::Column { statement: row.statement, column: 0 })
}

fn read_sync(row: &Row) -> Result<SyncRow, DbError> {
    let problem: String = row.get(6)?;
    Ok(SyncRow {
        source: source(row)?,
        run: row.get(1)?,
        full_wanted: row.get(8)?,
        delta_link: row.get(9)?,
        state: SyncState {
            running_since: row.get(2)?,
            full_at: row.get(3)?,
            delta_at: row.get(4)?,
            failed_at: row.get(5)?,
            problem: Some(problem).filter(|problem| !problem.is_empty()),
            // A source that was never due has the beginning of time there.
            next_due_at: Some(row.get(7)?).filter(|at| *at != Timestamp::default()),
            users: row.get(10)?,
            devices: row.get(11)?,
        },
    })
}

fn read_user(row: &Row) -> Result<UserRow, DbError> {
    Ok(UserRow {
        source: source(row)?,
        user: FoundUser {
            object_id: row.get(1)?,
            sid: row.get(2)?,
            principal_name: row.get(3)?,
            display_name: row.get(4)?,
            mail: row.get(5)?,
            account: row.get(6)?,
            domain: row.get(7)?,
            distinguished_name: row.get(8)?,
            removed: false,
        },
        seen_at: row.get(9)?,
    })
}
