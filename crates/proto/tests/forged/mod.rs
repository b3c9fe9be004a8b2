//! A forger: many variants of one good token, none of which may be accepted.
//!
//! It knows nothing of any particular token. It is given the members of a good one, the key that
//! signs good ones (for attacks on what a token says: a verifier must not rely on the signature
//! alone) and a stranger's key (for attacks on who said it).

mod claims;
mod form;
mod header;
mod key;

pub(crate) use key::Key;

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Members of an object in their order.
pub(crate) type Members = Vec<(String, Value)>;

/// A claim that is attacked.
pub(crate) struct Attacked {
    pub(crate) name: &'static str,
    /// Whether a token without it is a forgery.
    pub(crate) required: bool,
    /// Whether it has one right value, so that whatever resembles it is wrong.
    pub(crate) exact: bool,
    /// Values of the right type that do not belong there.
    pub(crate) others: Vec<Value>,
}

/// A good token, and all that makes good ones.
pub(crate) struct Genuine<'k> {
    pub(crate) header: Members,
    pub(crate) claims: Members,
    /// RS256.
    pub(crate) key: &'k Key,
    pub(crate) stranger: &'k Key,
    pub(crate) attacked: Vec<Attacked>,
    /// The header member that names the key.
    pub(crate) names_key: &'static str,
}

/// One forgery.
pub(crate) struct Forged {
    /// What was done.
    pub(crate) what: String,
    pub(crate) text: String,
    /// Whether the good key signed it, as it stands.
    pub(crate) signed: bool,
}

impl Genuine<'_> {
    /// The good token itself.
    pub(crate) fn text(&self) -> String {
        self.sealed(object(&self.header).as_bytes(), object(&self.claims).as_bytes())
    }

    /// These bytes as header and claims, signed by the good key.
    pub(crate) fn sealed(&self, header: &[u8], claims: &[u8]) -> String {
        seal(header, claims, |signed| self.key.rs256(signed))
    }

    /// Every forgery, each text once.
    pub(crate) fn forgeries(&self) -> Vec<Forged> {
        let mut seen = HashSet::from([self.text()]);
        let mut list = form::forgeries(self);
        list.extend(header::forgeries(self));
        list.extend(claims::forgeries(self));
        list.retain(|forged| seen.insert(forged.text.clone()));
        list
    }
}

/// Writes members in their order, twice where they stand twice.
pub(crate) fn object(members: &Members) -> String {
    let written: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    format!("{{{}}}", written.join(","))
}

/// A copy with one member set (in its place, or last) or, without a value, left out.
fn with(members: &Members, name: &str, value: Option<Value>) -> Members {
    let mut changed = members.clone();
    let place = changed.iter().position(|(one, _)| one == name);
    match (place, value) {
        (Some(place), Some(value)) => changed[place].1 = value,
        (Some(place), None) => drop(changed.remove(place)),
        (None, Some(value)) => changed.push((name.to_owned(), value)),
        (None, None) => {}
    }
    changed
}

fn seal(header: &[u8], claims: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}
