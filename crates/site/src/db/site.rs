//! The one row that says what the site is called.

use super::{DbError, Tx, stmt};
use crate::site::SiteFacts;

stmt! {
    FIND_SITE () -> (Text, Text, Bytes, Int) = "SELECT code, name, hierarchy_id, created_at FROM site WHERE id = 1";
    INSERT_SITE (Text, Text, Bytes, Int) -> () =
        "INSERT INTO site (id, code, name, hierarchy_id, created_at) VALUES (1, $1, $2, $3, $4)";
}

pub(crate) fn find(tx: &mut dyn Tx) -> Result<Option<SiteFacts>, DbError> {
    let Some(row) = tx.query_opt(&FIND_SITE, &[])? else { return Ok(None) };
    let code: String = row.get(0)?;
    let code = code.parse().map_err(|_| DbError::Column { statement: "FIND_SITE", column: 0 })?;
    Ok(Some(SiteFacts { code, name: row.get(1)?, hierarchy: row.get(2)?, created_at: row.get(3)? }))
}

pub(crate) fn insert(tx: &mut dyn Tx, facts: &SiteFacts) -> Result<(), DbError> {
    let values = [
        facts.code.to_string().into(),
        (&facts.name).into(),
        facts.hierarchy.into(),
        facts.created_at.into(),
    ];
    tx.exec(&INSERT_SITE, &values).map(drop)
}
