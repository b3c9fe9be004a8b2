//! Authorities whose client certificates are trusted.

use proto::id::Thumbprint;
use proto::pki::{IssuerId, TrustList, TrustedCa};
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};

/// An authority as stored.
#[derive(Debug, Clone)]
pub(crate) struct AuthorityRow {
    pub(crate) issuer: IssuerId,
    pub(crate) ca: TrustedCa,
    pub(crate) added_at: Timestamp,
    pub(crate) added_by: String,
}

stmt! {
    LIST_AUTHORITIES () -> (Text, Bytes, Int, Int, Text) =
        "SELECT issuer_id, der, root, added_at, added_by FROM authority ORDER BY position";
    INSERT_AUTHORITY (Bytes, Text, Bytes, Int, Int, Text) -> () =
        "INSERT INTO authority (thumbprint, position, issuer_id, der, root, added_at, added_by)
         VALUES ($1, (SELECT coalesce(max(position), 0) + 1 FROM authority), $2, $3, $4, $5, $6)";
    DELETE_AUTHORITY (Bytes) -> () = "DELETE FROM authority WHERE thumbprint = $1";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<AuthorityRow>, DbError> {
    tx.query(&LIST_AUTHORITIES, &[])?.iter().map(read).collect()
}

/// The list as it is published.
pub(crate) fn trust_list(tx: &mut dyn Tx) -> Result<TrustList, DbError> {
    Ok(TrustList { authorities: list(tx)?.into_iter().map(|row| row.ca).collect() })
}

pub(crate) fn insert(tx: &mut dyn Tx, row: &AuthorityRow) -> Result<(), DbError> {
    let values = [
        row.ca.id().into(),
        row.issuer.to_string().into(),
        (&row.ca.der).into(),
        row.ca.root.into(),
        row.added_at.into(),
        (&row.added_by).into(),
    ];
    tx.exec(&INSERT_AUTHORITY, &values).map(drop)
}

pub(crate) fn delete(tx: &mut dyn Tx, id: Thumbprint) -> Result<(), DbError> {
    tx.exec(&DELETE_AUTHORITY, &[id.into()]).map(drop)
}

fn read(row: &Row) -> Result<AuthorityRow, DbError> {
    Ok(AuthorityRow {
        issuer: issuer(row, 0)?,
        ca: TrustedCa { der: row.get(1)?, root: row.get(2)? },
        added_at: row.get(3)?,
        added_by: row.get(4)?,
    })
}

/// An issuer's id in a text column.
pub(super) fn issuer(row: &Row, column: usize) -> Result<IssuerId, DbError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| DbError::Column { statement: row.statement, column })
}
