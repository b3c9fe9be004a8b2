//! The approval rules, in their order.

use super::{DbError, Tx, stmt};
use crate::approval::ApprovalRule;

stmt! {
    LIST_RULES () -> (Text, Text) = "SELECT kind, argument FROM approval_rule ORDER BY position";
    DELETE_RULES () -> () = "DELETE FROM approval_rule";
    INSERT_RULE (Int, Text, Text) -> () = "INSERT INTO approval_rule (position, kind, argument) VALUES ($1, $2, $3)";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<ApprovalRule>, DbError> {
    let rows = tx.query(&LIST_RULES, &[])?;
    rows.iter()
        .map(|row| {
            let (kind, argument): (String, String) = (row.get(0)?, row.get(1)?);
            ApprovalRule::parse(&kind, &argument)
                .ok_or(DbError::Column { statement: "LIST_RULES", column: 0 })
        })
        .collect()
}

pub(crate) fn replace(tx: &mut dyn Tx, rules: &[ApprovalRule]) -> Result<(), DbError> {
    tx.exec(&DELETE_RULES, &[])?;
    for (position, rule) in (1_i64..).zip(rules) {
        tx.exec(&INSERT_RULE, &[position.into(), rule.kind().into(), rule.argument().into()])?;
    }
    Ok(())
}
