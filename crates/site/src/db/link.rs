//! Gateways and connection points: whoever holds a link certificate.

use proto::id::{Guid, Thumbprint};
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::event::LinkPartyKind;

/// A holder of a link certificate.
#[derive(Debug, Clone)]
pub(crate) struct PartyRow {
    pub(crate) id: Guid,
    pub(crate) kind: LinkPartyKind,
    pub(crate) name: String,
    /// Of gateways: the external address. Else empty.
    pub(crate) host: String,
    /// Of gateways: the address for connection points. Else empty.
    pub(crate) address: String,
    pub(crate) thumbprint: Thumbprint,
    pub(crate) expires_at: Timestamp,
    pub(crate) created_at: Timestamp,
    pub(crate) withdrawn: bool,
}

stmt! {
    INSERT_PARTY (Bytes, Text, Text, Text, Text, Bytes, Int, Int) -> () =
        "INSERT INTO link_party
         (party_id, kind, name, host, address, thumbprint, expires_at, created_at, withdrawn)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)";
    LIST_PARTIES (Text) -> (Bytes, Text, Text, Text, Text, Bytes, Int, Int, Int) =
        "SELECT party_id, kind, name, host, address, thumbprint, expires_at, created_at, withdrawn
         FROM link_party WHERE kind = $1 AND withdrawn = 0 ORDER BY name LIMIT 10000";
    FIND_PARTY (Bytes) -> (Bytes, Text, Text, Text, Text, Bytes, Int, Int, Int) =
        "SELECT party_id, kind, name, host, address, thumbprint, expires_at, created_at, withdrawn
         FROM link_party WHERE party_id = $1";
    FIND_PARTY_BY_CERTIFICATE (Bytes) -> (Bytes, Text, Text, Text, Text, Bytes, Int, Int, Int) =
        "SELECT party_id, kind, name, host, address, thumbprint, expires_at, created_at, withdrawn
         FROM link_party WHERE thumbprint = $1";
    WITHDRAW_PARTY (Bytes) -> () = "UPDATE link_party SET withdrawn = 1 WHERE party_id = $1";
    LIST_WITHDRAWN (Int) -> (Bytes) = "SELECT thumbprint FROM link_party WHERE withdrawn = 1 AND expires_at > $1";
}

pub(crate) fn insert(tx: &mut dyn Tx, row: &PartyRow) -> Result<(), DbError> {
    let values = [
        row.id.into(),
        row.kind.as_str().into(),
        (&row.name).into(),
        (&row.host).into(),
        (&row.address).into(),
        row.thumbprint.into(),
        row.expires_at.into(),
        row.created_at.into(),
    ];
    tx.exec(&INSERT_PARTY, &values).map(drop)
}

pub(crate) fn list(tx: &mut dyn Tx, kind: LinkPartyKind) -> Result<Vec<PartyRow>, DbError> {
    tx.query(&LIST_PARTIES, &[kind.as_str().into()])?.iter().map(read).collect()
}

pub(crate) fn list_gateways(tx: &mut dyn Tx) -> Result<Vec<PartyRow>, DbError> {
    list(tx, LinkPartyKind::Gateway)
}

pub(crate) fn is_name_taken(tx: &mut dyn Tx, kind: LinkPartyKind, name: &str) -> Result<bool, DbError> {
    Ok(list(tx, kind)?.iter().any(|party| party.name == name))
}

pub(crate) fn find_by_certificate(
    tx: &mut dyn Tx,
    thumbprint: Thumbprint,
) -> Result<Option<PartyRow>, DbError> {
    tx.query_opt(&FIND_PARTY_BY_CERTIFICATE, &[thumbprint.into()])?.as_ref().map(read).transpose()
}

/// Marks a party as withdrawn and answers it; `None` when there is none of this kind.
pub(crate) fn withdraw(tx: &mut dyn Tx, kind: LinkPartyKind, id: Guid) -> Result<Option<PartyRow>, DbError> {
    let found = tx.query_opt(&FIND_PARTY, &[id.into()])?.as_ref().map(read).transpose()?;
    let Some(party) = found.filter(|party| party.kind == kind && !party.withdrawn) else { return Ok(None) };
    tx.exec(&WITHDRAW_PARTY, &[id.into()])?;
    Ok(Some(party))
}

/// Withdrawn certificates that would otherwise still count.
pub(crate) fn list_withdrawn(tx: &mut dyn Tx, now: Timestamp) -> Result<Vec<Thumbprint>, DbError> {
    tx.query(&LIST_WITHDRAWN, &[now.into()])?.iter().map(|row| row.get(0)).collect()
}

fn read(row: &Row) -> Result<PartyRow, DbError> {
    let kind: String = row.get(1)?;
    Ok(PartyRow {
        id: row.get(0)?,
        kind: LinkPartyKind::parse(&kind).ok_or(DbError::Column { statement: "LIST_PARTIES", column: 1 })?,
        name: row.get(2)?,
        host: row.get(3)?,
        address: row.get(4)?,
        thumbprint: row.get(5)?,
        expires_at: row.get(6)?,
        created_at: row.get(7)?,
        withdrawn: row.get(8)?,
    })
}
