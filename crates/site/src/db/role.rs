//! Published roles.

use proto::id::RoleId;

use super::{DbError, Row, Tx, Value, stmt};
use crate::role::{Role, RoleMode};

stmt! {
    LIST_ROLES () -> (Int, Text, Text, Text, Text, Int, Int, Int) =
        "SELECT role_id, name, kind, internal_url, mode, gateway_traffic, created_at, demand_client_certificate
         FROM role ORDER BY role_id LIMIT 10000";
    FIND_ROLE (Int) -> (Int, Text, Text, Text, Text, Int, Int, Int) =
        "SELECT role_id, name, kind, internal_url, mode, gateway_traffic, created_at, demand_client_certificate
         FROM role WHERE role_id = $1";
    NEWEST_ROLE () -> (Int) = "SELECT CAST(coalesce(max(role_id), 0) AS BIGINT) FROM role";
    INSERT_ROLE (Int, Text, Text, Text, Text, Int, Int, Int) -> () =
        "INSERT INTO role (role_id, name, kind, internal_url, mode, gateway_traffic, created_at,
            demand_client_certificate)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    UPDATE_ROLE (Int, Text, Text, Int, Int) -> () =
        "UPDATE role SET internal_url = $2, mode = $3, gateway_traffic = $4, demand_client_certificate = $5
         WHERE role_id = $1";
    DELETE_ROLE (Int) -> () = "DELETE FROM role WHERE role_id = $1";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<Role>, DbError> {
    tx.query(&LIST_ROLES, &[])?.iter().map(read).collect()
}

pub(crate) fn find(tx: &mut dyn Tx, id: RoleId) -> Result<Option<Role>, DbError> {
    tx.query_opt(&FIND_ROLE, &[number(id)])?.as_ref().map(read).transpose()
}

/// One more than the highest there is, so the first is 2^56 + 1.
pub(crate) fn next_id(tx: &mut dyn Tx) -> Result<RoleId, DbError> {
    let newest: u64 = tx.query_one(&NEWEST_ROLE, &[])?.get(0)?;
    Ok(if newest == 0 { RoleId::FIRST } else { RoleId::new(newest + 1) })
}

pub(crate) fn insert(tx: &mut dyn Tx, role: &Role) -> Result<(), DbError> {
    let values = [
        number(role.id),
        (&role.name).into(),
        (&role.kind).into(),
        (&role.internal_url).into(),
        role.mode.as_str().into(),
        role.gateway_traffic.into(),
        role.created_at.into(),
        role.demand_client_certificate.into(),
    ];
    tx.exec(&INSERT_ROLE, &values).map(drop)
}

pub(crate) fn update(tx: &mut dyn Tx, role: &Role) -> Result<(), DbError> {
    let values = [
        number(role.id),
        (&role.internal_url).into(),
        role.mode.as_str().into(),
        role.gateway_traffic.into(),
        role.demand_client_certificate.into(),
    ];
    tx.exec(&UPDATE_ROLE, &values).map(drop)
}

pub(crate) fn delete(tx: &mut dyn Tx, id: RoleId) -> Result<(), DbError> {
    tx.exec(&DELETE_ROLE, &[number(id)]).map(drop)
}

/// A number that no role of ours can have finds no row.
fn number(id: RoleId) -> Value {
    Value::Int(i64::try_from(id.get()).unwrap_or(-1))
}

fn read(row: &Row) -> Result<Role, DbError> {
    let mode: String = row.get(4)?;
    Ok(Role {
        id: RoleId::new(row.get(0)?),
        name: row.get(1)?,
        kind: row.get(2)?,
        internal_url: row.get(3)?,
        mode: RoleMode::parse(&mode).ok_or(DbError::Column { statement: "LIST_ROLES", column: 4 })?,
        gateway_traffic: row.get(5)?,
        created_at: row.get(6)?,
        demand_client_certificate: row.get(7)?,
    })
}
