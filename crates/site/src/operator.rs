//! Operators: people who act on the site, each with a bearer key of their own.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::id::Guid;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::By;
use crate::db::{self, DbError};
use crate::name::{NameError, check_name};
use crate::{Site, random_guid};

/// First characters of every operator key, so that a leaked one is found by secret scanners.
const PREFIX: &str = "rgop_";
/// Length of a key's text: the prefix and 32 bytes in base64url.
const KEY_CHARS: usize = PREFIX.len() + 43;

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// Names the record.
    pub id: Guid,
    /// The person's name, as it stands in audit records.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether the key is refused.
    pub disabled: bool,
}

impl Operator {
    /// Who acts, for audit records.
    pub fn by(&self, from: Option<IpAddr>) -> By {
        By::operator(self.name.clone(), from)
    }
}

/// An operator just made. The key is nowhere else.
pub struct NewOperator {
    /// The record.
    pub operator: Operator,
    /// The bearer key.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for NewOperator {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewOperator").field("operator", &self.operator).finish_non_exhaustive()
    }
}

/// An operation on operators was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The name is not taken.
    #[error("operator not made")]
    Name(#[from] NameError),
    /// The name is in use.
    #[error("there is an operator called {0:?} already")]
    Exists(String),
    /// No such operator.
    #[error("there is no operator called {0:?}")]
    Unknown(String),
    /// Nobody could act any more.
    #[error("{0:?} is the last operator with a key that works")]
    Last(String),
    /// The database failed.
    #[error("operators not read or written")]
    Database(#[from] DbError),
}

/// A fresh key. 256 random bits need no slow hash.
pub(crate) fn new_key() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    runtime::id::fill(bytes.as_mut_slice());
    Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// What is stored of a key.
pub(crate) fn hash_key(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

impl Site {
    /// Whose key this is; `None` for any other text. Looked up by hash, so the time it takes says
    /// nothing about a key.
    pub async fn authenticate_operator(&self, key: &str) -> Result<Option<Operator>, DbError> {
        if key.len() != KEY_CHARS || !key.starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = hash_key(key);
        let found = self.db().read(move |tx| db::operator::find_by_hash(tx, &hash)).await?;
        Ok(found.filter(|operator| !operator.disabled))
    }

    /// Makes an operator and answers the key, which is kept nowhere.
    pub async fn create_operator(&self, by: &By, name: &str) -> Result<NewOperator, OperatorError> {
        check_name("operator name", name)?;
        let key = new_key();
        let hash = hash_key(&key);
        let scribe = self.scribe(by);
        let operator =
            Operator { id: random_guid(), name: name.to_owned(), created_at: scribe.now, disabled: false };
        let row = operator.clone();
        self.db()
            .write(move |tx| {
                if db::operator::list(tx)?.iter().any(|other| other.name == row.name) {
                    return Err(OperatorError::Exists(row.name.clone()));
                }
                db::operator::insert(tx, &row, &hash)?;
                scribe.note(tx, "operator.create", &row.name, &json!({}))?;
                Ok(())
            })
            .await?;
        Ok(NewOperator { operator, key })
    }

    /// Refuses an operator's key from now on.
    pub async fn disable_operator(&self, by: &By, name: &str) -> Result<(), OperatorError> {
        let scribe = self.scribe(by);
        let name = name.to_owned();
        self.db()
            .write(move |tx| {
                let active: Vec<_> =
                    db::operator::list(tx)?.into_iter().filter(|one| !one.disabled).collect();
                let operator = active.iter().find(|one| one.name == name);
                let operator = operator.ok_or_else(|| OperatorError::Unknown(name.clone()))?;
                if active.len() == 1 {
                    return Err(OperatorError::Last(name.clone()));
                }
                db::operator::disable(tx, operator.id)?;
                scribe.note(tx, "operator.disable", &name, &json!({}))?;
                Ok(())
            })
            .await
    }

    /// All operators.
    pub async fn list_operators(&self) -> Result<Vec<Operator>, DbError> {
        self.db().read(db::operator::list).await
    }
}
