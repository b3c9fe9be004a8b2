//! JSON as tokens may hold it: UTF-8, no member twice, at most 16 levels deep.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON value without duplicate members.
pub type Json = Value;

/// Most levels of objects and lists inside each other; deeper is refused (R14). A token has one or
/// two, a key set four.
pub const DEPTH: usize = 16;

/// Text that is not such JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not JSON, or something behind it.
    #[error("not JSON")]
    Malformed,
    /// An object names a member twice, whatever its spelling: two readers could disagree.
    #[error("a member stands twice")]
    Duplicate,
    /// Deeper than [`DEPTH`].
    #[error("nested more than {DEPTH} levels deep")]
    TooDeep,
}

/// Reads exactly one JSON value. Length is the caller's to bound.
pub fn parse_json(bytes: &[u8]) -> Result<Json, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    let fault = Cell::new(JsonError::Malformed);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { levels: DEPTH, fault: &fault }.deserialize(&mut reader).map_err(|_| fault.get())?;
    reader.end().map_err(|_| JsonError::Malformed)?;
    Ok(value)
}

/// Reads a value that may hold so many levels more, and leaves a note why it did not.
#[derive(Clone, Copy)]
struct Strict<'f> {
    levels: usize,
    fault: &'f Cell<JsonError>,
}

impl Strict<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels, ..self }),
            None => Err(self.fail(JsonError::TooDeep)),
        }
    }

    fn fail<E: Error>(self, fault: JsonError) -> E {
        self.fault.set(fault);
        E::custom(fault)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.fail(JsonError::Malformed))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(self.fail(JsonError::Duplicate));
            }
            object.insert(name, members.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_noticed_at_any_depth_and_in_any_spelling() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"x":{"":1,"b":2,"":3}}]"#,
            r#"{"a":null,"a":1}"#,
        ] {
            assert_eq!(parse_json(twice.as_bytes()), Err(JsonError::Duplicate), "{twice}");
        }
        assert!(parse_json(br#"[{"a":1},{"a":1},{"A":1,"a":2}]"#).is_ok());
    }

    #[test]
    fn sixteen_levels_are_read_and_seventeen_are_not() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_json(nested(DEPTH).as_bytes()).is_ok());
        for levels in [DEPTH + 1, 127, 128, 100_000] {
            assert_eq!(parse_json(nested(levels).as_bytes()), Err(JsonError::TooDeep), "{levels}");
        }
        let objects = format!("{}1{}", r#"{"a":"#.repeat(DEPTH + 1), "}".repeat(DEPTH + 1));
        assert_eq!(parse_json(objects.as_bytes()), Err(JsonError::TooDeep));
    }

    #[test]
    fn a_value_comes_back_as_it_was_written() {
        let text = r#"{"a":[1,-2,18446744073709551615,1.5,true,false,null,"\u00e9\n"],"b":{}}"#;
        assert_eq!(parse_json(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_not_one_json_text_in_utf_8_is_refused() {
        assert_eq!(parse_json(b"\"\xff\""), Err(JsonError::NotUtf8));
        for wrong in ["", " ", "{} {}", "{}x", "\u{feff}{}", "{'a':1}", "{\"a\":1,}", "[1e999]", "nul"] {
            assert_eq!(parse_json(wrong.as_bytes()), Err(JsonError::Malformed), "{wrong}");
        }
    }
}
