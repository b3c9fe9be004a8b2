//! Revocation lists, attempts to fetch them, their places, and the site's own withdrawn certificates.

use proto::id::Thumbprint;
use proto::pki::IssuerId;
use proto::time::Timestamp;

use super::trust::issuer;
use super::{DbError, Row, Tx, stmt};

/// A list as stored, without its bytes.
#[derive(Debug, Clone)]
pub(crate) struct CrlRow {
    pub(crate) issuer: IssuerId,
    pub(crate) issuer_name: String,
    /// SHA-256 of the list.
    pub(crate) digest: Thumbprint,
    pub(crate) number: String,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    pub(crate) entries: u64,
    pub(crate) source: String,
    pub(crate) accepted_at: Timestamp,
}

/// The last attempt to fetch an issuer's list.
#[derive(Debug, Clone)]
pub(crate) struct TryRow {
    pub(crate) issuer: IssuerId,
    pub(crate) tried_at: Timestamp,
    /// Empty: it went well.
    pub(crate) problem: String,
}

stmt! {
    LIST_CRLS () -> (Text, Text, Bytes, Text, Int, Int, Int, Text, Int) =
        "SELECT issuer_id, issuer_name, digest, number, this_update, next_update, entries, source, accepted_at
         FROM crl ORDER BY issuer_name, issuer_id";
    FIND_CRL_BYTES (Text) -> (Bytes) = "SELECT der FROM crl WHERE issuer_id = $1";
    PUT_CRL (Text, Text, Bytes, Text, Int, Int, Int, Text, Int, Bytes) -> () =
        "INSERT INTO crl (issuer_id, issuer_name, digest, number, this_update, next_update, entries, source,
            accepted_at, der)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (issuer_id) DO UPDATE SET issuer_name = excluded.issuer_name, digest = excluded.digest,
            number = excluded.number, this_update = excluded.this_update, next_update = excluded.next_update,
            entries = excluded.entries, source = excluded.source, accepted_at = excluded.accepted_at,
            der = excluded.der";
    DELETE_CRL (Text) -> () = "DELETE FROM crl WHERE issuer_id = $1";
    DELETE_CRL_TRY (Text) -> () = "DELETE FROM crl_try WHERE issuer_id = $1";
    DELETE_CRL_URLS (Text) -> () = "DELETE FROM crl_url WHERE issuer_id = $1";
    LIST_CRL_TRIES () -> (Text, Int, Text) = "SELECT issuer_id, tried_at, problem FROM crl_try";
    PUT_CRL_TRY (Text, Int, Text) -> () =
        "INSERT INTO crl_try (issuer_id, tried_at, problem) VALUES ($1, $2, $3)
         ON CONFLICT (issuer_id) DO UPDATE SET tried_at = excluded.tried_at, problem = excluded.problem";
    LIST_CRL_URLS () -> (Text, Text) = "SELECT issuer_id, url FROM crl_url ORDER BY issuer_id, learnt_at DESC, url";
    COUNT_CRL_URLS (Text) -> (Int) = "SELECT CAST(count(*) AS BIGINT) FROM crl_url WHERE issuer_id = $1";
    PUT_CRL_URL (Text, Text, Int) -> () =
        "INSERT INTO crl_url (issuer_id, url, learnt_at) VALUES ($1, $2, $3) ON CONFLICT (issuer_id, url) DO NOTHING";
    FORGET_OLDEST_CRL_URL (Text) -> () =
        "DELETE FROM crl_url WHERE issuer_id = $1 AND url =
            (SELECT url FROM crl_url WHERE issuer_id = $1 ORDER BY learnt_at, url LIMIT 1)";
    INSERT_ISSUED (Bytes, Bytes, Int, Int) -> () =
        "INSERT INTO issued_certificate (thumbprint, serial, expires_at, issued_at) VALUES ($1, $2, $3, $4)";
    REVOKE_ISSUED (Bytes, Int) -> () =
        "UPDATE issued_certificate SET revoked_at = $2 WHERE thumbprint = $1 AND revoked_at IS NULL";
    LIST_REVOKED (Int) -> (Bytes, Int) =
        "SELECT serial, revoked_at FROM issued_certificate WHERE revoked_at IS NOT NULL AND expires_at > $1
         ORDER BY revoked_at LIMIT 100000";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<CrlRow>, DbError> {
    tx.query(&LIST_CRLS, &[])?.iter().map(read).collect()
}

/// The list as its issuer signed it.
pub(crate) fn find_bytes(tx: &mut dyn Tx, of: IssuerId) -> Result<Option<Vec<u8>>, DbError> {
    tx.query_opt(&FIND_CRL_BYTES, &[of.to_string().into()])?.map(|row| row.get(0)).transpose()
}

pub(crate) fn put(tx: &mut dyn Tx, row: &CrlRow, der: &[u8]) -> Result<(), DbError> {
    let values = [
        row.issuer.to_string().into(),
        (&row.issuer_name).into(),
        row.digest.into(),
        (&row.number).into(),
        row.this_update.into(),
        row.next_update.into(),
        i64::try_from(row.entries).unwrap_or(i64::MAX).into(),
        (&row.source).into(),
        row.accepted_at.into(),
        der.into(),
    ];
    tx.exec(&PUT_CRL, &values).map(drop)
}

/// Forgets an issuer's list and what belongs to it. Whether there was a list.
pub(crate) fn delete(tx: &mut dyn Tx, of: IssuerId) -> Result<bool, DbError> {
    let of = of.to_string();
    tx.exec(&DELETE_CRL_TRY, &[(&of).into()])?;
    tx.exec(&DELETE_CRL_URLS, &[(&of).into()])?;
    tx.exec(&DELETE_CRL, &[of.into()]).map(|rows| rows > 0)
}

pub(crate) fn list_tries(tx: &mut dyn Tx) -> Result<Vec<TryRow>, DbError> {
    let rows = tx.query(&LIST_CRL_TRIES, &[])?;
    rows.iter()
        .map(|row| Ok(TryRow { issuer: issuer(row, 0)?, tried_at: row.get(1)?, problem: row.get(2)? }))
        .collect()
}

pub(crate) fn put_try(tx: &mut dyn Tx, row: &TryRow) -> Result<(), DbError> {
    let values = [row.issuer.to_string().into(), row.tried_at.into(), (&row.problem).into()];
    tx.exec(&PUT_CRL_TRY, &values).map(drop)
}

/// Places of lists as learnt from certificates, the newest of an issuer first.
pub(crate) fn list_urls(tx: &mut dyn Tx) -> Result<Vec<(IssuerId, String)>, DbError> {
    tx.query(&LIST_CRL_URLS, &[])?.iter().map(|row| Ok((issuer(row, 0)?, row.get(1)?))).collect()
}

/// Remembers a place; beyond `most` of one issuer the oldest is forgotten.
pub(crate) fn put_url(
    tx: &mut dyn Tx,
    of: IssuerId,
    url: &str,
    now: Timestamp,
    most: u64,
) -> Result<(), DbError> {
    let of = of.to_string();
    tx.exec(&PUT_CRL_URL, &[(&of).into(), url.into(), now.into()])?;
    let count: u64 = tx.query_one(&COUNT_CRL_URLS, &[(&of).into()])?.get(0)?;
    if count > most {
        tx.exec(&FORGET_OLDEST_CRL_URL, &[of.into()])?;
    }
    Ok(())
}

/// Notes a certificate of the site's own, so that it can be revoked by serial.
pub(crate) fn insert_issued(
    tx: &mut dyn Tx,
    thumbprint: Thumbprint,
    serial: &[u8],
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&INSERT_ISSUED, &[thumbprint.into(), serial.into(), expires_at.into(), now.into()]).map(drop)
}

pub(crate) fn revoke_issued(tx: &mut dyn Tx, thumbprint: Thumbprint, now: Timestamp) -> Result<(), DbError> {
    tx.exec(&REVOKE_ISSUED, &[thumbprint.into(), now.into()]).map(drop)
}

/// Serials of revoked certificates that have not ended by themselves, and when each was revoked.
pub(crate) fn list_revoked(tx: &mut dyn Tx, now: Timestamp) -> Result<Vec<(Vec<u8>, Timestamp)>, DbError> {
    tx.query(&LIST_REVOKED, &[now.into()])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

fn read(row: &Row) -> Result<CrlRow, DbError> {
    Ok(CrlRow {
        issuer: issuer(row, 0)?,
        issuer_name: row.get(1)?,
        digest: row.get(2)?,
        number: row.get(3)?,
        this_update: row.get(4)?,
        next_update: row.get(5)?,
        entries: row.get(6)?,
        source: row.get(7)?,
        accepted_at: row.get(8)?,
    })
}
