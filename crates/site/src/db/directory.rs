//! On-premises directories.

use proto::id::Guid;

use super::{DbError, Row, Tx, stmt};
use crate::directory::Directory;
use crate::sync::SyncState;

stmt! {
    LIST_DIRECTORIES () -> (Bytes, Text, Text, Text, Text, Text, OptBytes, OptText, Int, Int, Text) =
        "SELECT directory_id, name, url, base, filter, bind_dn, secret, ca_pem, start_tls, created_at, created_by
         FROM directory ORDER BY name";
    FIND_DIRECTORY_SECRET (Bytes) -> (OptBytes) = "SELECT secret FROM directory WHERE directory_id = $1";
    INSERT_DIRECTORY (Bytes, Text, Text, Text, Text, Text, OptBytes, OptText, Int, Int, Text) -> () =
        "INSERT INTO directory (directory_id, name, url, base, filter, bind_dn, secret, ca_pem, start_tls,
            created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    DELETE_DIRECTORY (Bytes) -> () = "DELETE FROM directory WHERE directory_id = $1";
}

/// All directories, without the state of their discovery.
pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<Directory>, DbError> {
    tx.query(&LIST_DIRECTORIES, &[])?.iter().map(read).collect()
}

/// The sealed secret of a directory that is there.
#[derive(Debug, Clone)]
pub(crate) struct SealedSecret(pub(crate) Option<Vec<u8>>);

pub(crate) fn find_secret(tx: &mut dyn Tx, id: Guid) -> Result<Option<SealedSecret>, DbError> {
    tx.query_opt(&FIND_DIRECTORY_SECRET, &[id.into()])?.map(|row| row.get(0).map(SealedSecret)).transpose()
}

pub(crate) fn insert(tx: &mut dyn Tx, row: &Directory, secret: Option<&[u8]>) -> Result<(), DbError> {
    let values = [
        row.id.into(),
        (&row.name).into(),
        (&row.url).into(),
        (&row.base).into(),
        (&row.filter).into(),
        (&row.bind_dn).into(),
        secret.into(),
        row.ca_pem.clone().into(),
        row.start_tls.into(),
        row.created_at.into(),
        (&row.created_by).into(),
    ];
    tx.exec(&INSERT_DIRECTORY, &values).map(drop)
}

/// Whether there was such a directory.
pub(crate) fn delete(tx: &mut dyn Tx, id: Guid) -> Result<bool, DbError> {
    tx.exec(&DELETE_DIRECTORY, &[id.into()]).map(|rows| rows > 0)
}

fn read(row: &Row) -> Result<Directory, DbError> {
    Ok(Directory {
        id: row.get(0)?,
        name: row.get(1)?,
        url: row.get(2)?,
        base: row.get(3)?,
        filter: row.get(4)?,
        bind_dn: row.get(5)?,
        has_secret: row.get::<Option<Vec<u8>>>(6)?.is_some(),
        ca_pem: row.get(7)?,
        start_tls: row.get(8)?,
        created_at: row.get(9)?,
        created_by: row.get(10)?,
        sync: SyncState::default(),
    })
}
