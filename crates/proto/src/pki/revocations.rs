//! What a certificate revocation list comes down to once it was checked: the serials that an issuer
//! took back, with the dates of the list.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Thumbprint;
use crate::pki::{Revoked, Serial};
use crate::time::Timestamp;

/// Names an issuer by its name **and** key: SHA-256 over the DER of its subject, then the DER of its
/// public key info. Two authorities of one name are two issuers (R4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssuerId(Thumbprint);

impl IssuerId {
    /// The issuer with this subject and public key info, both DER.
    pub fn new(subject: &[u8], public_key_info: &[u8]) -> Self {
        Self(Thumbprint::of(&[subject, public_key_info].concat()))
    }

    /// The issuer that this certificate (DER) is of; `None` when it cannot be read.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        super::certificate::Certificate::read(certificate).ok().map(|read| read.issuer_id())
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for IssuerId {
    type Err = crate::id::IdError;

    /// Reads the form that [`fmt::Display`] writes, so that a database can keep it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One issuer's revoked certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Whose.
    pub issuer: IssuerId,
    /// The issuer's name, for messages.
    pub issuer_name: String,
    /// CRL number in upper-case hex without leading zero bytes; a later list has a higher one. Empty: the
    /// authority does not number its lists, and the later date counts.
    pub number: String,
    /// When the list was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// Names of the distribution point that the list says it is for (RFC 5280, section 5.2.5). Then it
    /// counts only for certificates that name one of them. Empty, as usual: for all of this issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<String>,
    /// The serials with the moment of revocation.
    pub revoked: Revoked,
}

/// What changes from one list of an issuer to the next: cheap at 10⁶ serials (settled point 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsDelta {
    /// Whose.
    pub issuer: IssuerId,
    /// CRL number that it leads to, in hex.
    pub number: String,
    /// When the new list was made.
    pub this_update: Timestamp,
    /// When the one after it is due.
    pub next_update: Timestamp,
    /// Distribution point names of the new list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<String>,
    /// Newly revoked, or with another moment.
    pub added: Revoked,
    /// No longer on the list: released from hold, or expired.
    pub removed: Vec<Serial>,
}

impl RevocationsDelta {
    /// What makes `old` into `new`, two lists of one issuer.
    pub fn between(old: &Revocations, new: &Revocations) -> Self {
        let (added, removed) = old.revoked.difference(&new.revoked);
        Self {
            issuer: new.issuer,
            number: new.number.clone(),
            this_update: new.this_update,
            next_update: new.next_update,
            points: new.points.clone(),
            added,
            removed,
        }
    }

    /// Serials that it names: what it costs to publish, against [`Revoked::len`] of a whole list.
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    /// Whether only number and dates change.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Revocations {
    /// Applies the changes to the next list. Changes of another issuer are not applied.
    pub fn amend(&mut self, delta: RevocationsDelta) {
        if delta.issuer != self.issuer {
            return;
        }
        self.revoked.amend(&delta.added, &delta.removed);
        self.number = delta.number;
        self.this_update = delta.this_update;
        self.next_update = delta.next_update;
        self.points = delta.points;
    }

    /// The number for a person: "1F", or "without number".
    pub fn number_text(&self) -> &str {
        if self.number.is_empty() { "without number" } else { &self.number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: &str, revoked: &[(u8, i64)]) -> Revocations {
        Revocations {
            issuer: IssuerId::new(b"name", b"key"),
            issuer_name: "CN=Lab".into(),
            number: number.into(),
            this_update: Timestamp::from_seconds(1),
            next_update: Timestamp::from_seconds(2),
            points: Vec::new(),
            revoked: revoked
                .iter()
                .map(|(serial, at)| {
                    (Serial::from_magnitude(&[*serial]).unwrap(), Timestamp::from_seconds(*at))
                })
                .collect(),
        }
    }

    #[test]
    fn a_delta_takes_the_old_list_to_the_new_one_in_every_field() {
        let mut current = list("1", &[(1, 10), (2, 20), (3, 30)]);
        let mut new = list("2", &[(1, 10), (3, 31), (4, 40)]);
        new.next_update = Timestamp::from_seconds(9);
        new.points = vec!["http://crl.example/a.crl".into()];
        let delta = RevocationsDelta::between(&current, &new);
        assert_eq!(delta.len(), 3, "one gone, one changed, one new");
        let text = serde_json::to_string(&delta).unwrap();
        current.amend(serde_json::from_str(&text).unwrap());
        assert_eq!(current, new);
    }

    #[test]
    fn a_delta_of_another_issuer_changes_nothing() {
        let mut current = list("1", &[(1, 10)]);
        let mut delta = RevocationsDelta::between(&current, &list("2", &[]));
        delta.issuer = IssuerId::new(b"name", b"another key");
        current.amend(delta);
        assert_eq!(current, list("1", &[(1, 10)]));
    }

    #[test]
    fn an_issuer_comes_back_from_its_text() {
        let issuer = IssuerId::new(b"name", b"key");
        assert_eq!(issuer.to_string().parse(), Ok(issuer));
    }
}
