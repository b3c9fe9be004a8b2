//! Operators, their keys by hash.

use proto::id::Guid;

use super::{DbError, Row, Tx, stmt};
use crate::operator::Operator;

stmt! {
    FIND_OPERATOR (Bytes) -> (Bytes, Text, Int, Int) =
        "SELECT operator_id, name, created_at, disabled FROM operator WHERE key_hash = $1";
    LIST_OPERATORS () -> (Bytes, Text, Int, Int) =
        "SELECT operator_id, name, created_at, disabled FROM operator ORDER BY name LIMIT 10000";
    INSERT_OPERATOR (Bytes, Text, Bytes, Int) -> () =
        "INSERT INTO operator (operator_id, name, key_hash, created_at, disabled) VALUES ($1, $2, $3, $4, 0)";
    DISABLE_OPERATOR (Bytes) -> () = "UPDATE operator SET disabled = 1 WHERE operator_id = $1";
}

pub(crate) fn find_by_hash(tx: &mut dyn Tx, hash: &[u8]) -> Result<Option<Operator>, DbError> {
    tx.query_opt(&FIND_OPERATOR, &[hash.into()])?.as_ref().map(read).transpose()
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<Operator>, DbError> {
    tx.query(&LIST_OPERATORS, &[])?.iter().map(read).collect()
}

pub(crate) fn insert(tx: &mut dyn Tx, operator: &Operator, hash: &[u8]) -> Result<(), DbError> {
    let values = [operator.id.into(), (&operator.name).into(), hash.into(), operator.created_at.into()];
    tx.exec(&INSERT_OPERATOR, &values).map(drop)
}

pub(crate) fn disable(tx: &mut dyn Tx, id: Guid) -> Result<(), DbError> {
    tx.exec(&DISABLE_OPERATOR, &[id.into()]).map(drop)
}

fn read(row: &Row) -> Result<Operator, DbError> {
    Ok(Operator { id: row.get(0)?, name: row.get(1)?, created_at: row.get(2)?, disabled: row.get(3)? })
}
