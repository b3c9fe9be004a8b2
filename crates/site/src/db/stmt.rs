//! Statements as data: one text for every engine, with the kinds of its parameters and columns.
//!
//! SQLite compares values of different kinds silently and answers with no row, so every call is
//! held against the declared kinds before it reaches the engine, and a test prepares each
//! registered statement and compares counts and column types.

use std::sync::OnceLock;

use proto::id::{ClientId, Guid, Thumbprint};
use proto::time::Timestamp;

use super::DbError;

/// What a parameter or a column may hold. The `Opt` kinds may also be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit integer: numbers, microseconds UTC, booleans as 0 and 1.
    Int,
    /// UTF-8 text; JSON too.
    Text,
    /// Bytes; ids are 16 of them.
    Bytes,
    /// An integer or NULL.
    OptInt,
    /// A text or NULL.
    OptText,
    /// Bytes or NULL.
    OptBytes,
}

impl Kind {
    fn takes(self, value: &Value) -> bool {
        match value {
            Value::Null => matches!(self, Self::OptInt | Self::OptText | Self::OptBytes),
            Value::Int(_) => matches!(self, Self::Int | Self::OptInt),
            Value::Text(_) => matches!(self, Self::Text | Self::OptText),
            Value::Bytes(_) => matches!(self, Self::Bytes | Self::OptBytes),
        }
    }
}

/// One value on its way into or out of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A statement: made by [`stmt!`](crate::db::stmt), never at run time, so no value can become
/// part of its text.
#[derive(Debug)]
pub struct Stmt {
    name: &'static str,
    sql: &'static str,
    params: &'static [Kind],
    columns: &'static [Kind],
    numbered: OnceLock<String>,
    registered: OnceLock<bool>,
}

impl Stmt {
    /// Used by the macro. `sql` writes its parameters `$1`, `$2`, …
    pub const fn new(
        name: &'static str,
        sql: &'static str,
        params: &'static [Kind],
        columns: &'static [Kind],
    ) -> Self {
        Self { name, sql, params, columns, numbered: OnceLock::new(), registered: OnceLock::new() }
    }

    /// The name in errors.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Kinds of the parameters, `$1` first.
    pub const fn params(&self) -> &'static [Kind] {
        self.params
    }

    /// Kinds of the columns; empty for a statement that answers no rows.
    pub const fn columns(&self) -> &'static [Kind] {
        self.columns
    }

    /// The text with `?n` for `$n`. SQLite takes `$1` for a *name* and numbers names by first
    /// appearance, so `SELECT $2, $1` would come back swapped.
    pub fn sqlite_text(&self) -> &str {
        self.numbered.get_or_init(|| number_parameters(self.sql))
    }

    /// Whether the registry knows it. Asked on every call, and looked up on the first only.
    pub(super) fn is_registered(&'static self) -> bool {
        *self.registered.get_or_init(|| super::registered().any(|known| std::ptr::eq(known, self)))
    }

    /// Refuses a call whose values are not what the statement declares.
    pub(super) fn check(&self, values: &[Value]) -> Result<(), DbError> {
        let fits = values.len() == self.params.len()
            && self.params.iter().zip(values).all(|(kind, value)| kind.takes(value));
        if fits { Ok(()) } else { Err(DbError::Parameters { statement: self.name }) }
    }
}

/// Makes statements and the list by which the registry knows them.
///
/// ```text
/// stmt! {
///     FIND_ROLE (Int) -> (Text, OptText) = "SELECT kind, url FROM role WHERE role_id = $1";
/// }
/// ```
/// The list is called `STATEMENTS`; `db::registered` collects the lists of all modules.
macro_rules! stmt {
    ($($(#[$doc:meta])* $name:ident ($($param:ident),* $(,)?) -> ($($column:ident),* $(,)?) = $sql:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: $crate::db::Stmt = $crate::db::Stmt::new(
            stringify!($name),
            $sql,
            &[$($crate::db::Kind::$param),*],
            &[$($crate::db::Kind::$column),*],
        );)*
        /// Every statement of this module, for the registry.
        pub(crate) static STATEMENTS: &[&$crate::db::Stmt] = &[$(&$name),*];
    };
}
pub(crate) use stmt;

/// Writes `?n` for each `$n` outside quotes.
fn number_parameters(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut quote = None;
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '$' && chars.peek().is_some_and(char::is_ascii_digit) => {
                out.push('?');
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

/// One row of an answer.
#[derive(Debug, Clone)]
pub struct Row {
    pub(super) statement: &'static str,
    pub(super) values: Vec<Value>,
}

impl Row {
    /// The value of a column, counted from zero.
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T, DbError> {
        self.values
            .get(column)
            .and_then(T::from_value)
            .ok_or(DbError::Column { statement: self.statement, column })
    }
}

/// What a column can be read as.
pub trait FromValue: Sized {
    /// `None` where the value is of another kind or out of bounds.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Int(n) = value { Some(*n) } else { None }
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bytes(bytes) = value { bytes.as_slice().try_into().ok() } else { None }
    }
}

impl FromValue for Timestamp {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(Self::from_micros)
    }
}

impl FromValue for Guid {
    fn from_value(value: &Value) -> Option<Self> {
        <[u8; 16]>::from_value(value).map(Self::from_bytes)
    }
}

impl FromValue for ClientId {
    fn from_value(value: &Value) -> Option<Self> {
        Guid::from_value(value).map(Self::new)
    }
}

impl FromValue for Thumbprint {
    fn from_value(value: &Value) -> Option<Self> {
        <[u8; 32]>::from_value(value).map(Self::from_bytes)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::from_value(value).map(Some) }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(value.clone())
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.micros())
    }
}

impl From<Guid> for Value {
    fn from(value: Guid) -> Self {
        Self::Bytes(value.as_bytes().to_vec())
    }
}

impl From<ClientId> for Value {
    fn from(value: ClientId) -> Self {
        value.guid().into()
    }
}

impl From<Thumbprint> for Value {
    fn from(value: Thumbprint) -> Self {
        Self::Bytes(value.as_bytes().to_vec())
    }
}

impl<T> From<Option<T>> for Value
where
    Self: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_outside_quotes_only() {
        assert_eq!(number_parameters("SELECT $2, $1, '$3', \"a$4\""), "SELECT ?2, ?1, '$3', \"a$4\"");
        assert_eq!(number_parameters("SELECT $12 || 'it''s $1'"), "SELECT ?12 || 'it''s $1'");
    }

    #[test]
    fn values_of_another_kind_or_number_are_refused_before_the_engine_sees_them() {
        static S: Stmt = Stmt::new("S", "", &[Kind::Int, Kind::OptText], &[]);
        assert!(S.check(&[1_i64.into(), Value::Null]).is_ok());
        assert!(S.check(&["1".into(), Value::Null]).is_err());
        assert!(S.check(&[Value::Null, Value::Null]).is_err());
        assert!(S.check(&[1_i64.into()]).is_err());
    }

    #[test]
    fn a_column_is_read_only_as_what_it_holds() {
        let row = Row { statement: "S", values: vec![Value::Int(2), Value::Bytes(vec![0; 16]), Value::Null] };
        assert!(row.get::<bool>(0).is_err(), "2 is no boolean");
        assert_eq!(row.get::<Guid>(1).unwrap(), Guid::nil());
        assert_eq!(row.get::<Option<String>>(2).unwrap(), None);
        assert!(row.get::<i64>(2).is_err() && row.get::<i64>(3).is_err());
    }
}
