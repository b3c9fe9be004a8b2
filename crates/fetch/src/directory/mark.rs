//! Where the next delta of a directory begins.

use std::time::Duration;

use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Kept by the site between two runs, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mark {
    /// Active Directory: the last change before the run, of this server. Another server numbers
    /// its changes otherwise.
    Usn {
        /// `dsServiceName` of the server.
        server: String,
        /// `highestCommittedUSN`.
        after: u64,
    },
    /// Others: the moment, by the server's clock, at which the run had surely not begun yet.
    Time {
        /// In seconds since 1970.
        from: i64,
    },
}

impl Mark {
    /// Reads what the site kept.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What the site keeps.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts")
    }

    /// The part of a filter that finds what changed since.
    pub(super) fn filter(&self) -> String {
        match self {
            Self::Usn { after, .. } => format!("(uSNChanged>={})", after.saturating_add(1)),
            Self::Time { from } => {
                format!("(modifyTimestamp>={})", generalized(Timestamp::from_seconds(*from)))
            }
        }
    }

    /// The mark of a run that took `elapsed` and in which `newest` was the latest change seen.
    ///
    /// The server's clock is not asked for, but a change that the run missed was made after it had
    /// begun, and `newest` is not later than its end.
    pub(super) fn before(newest: Timestamp, elapsed: Duration) -> Self {
        Self::Time { from: newest.minus(elapsed + Duration::from_secs(1)).seconds() }
    }
}

/// `20260131104559Z`.
fn generalized(moment: Timestamp) -> String {
    moment.iso8601().chars().filter(|c| c.is_ascii_digit() || *c == 'Z').collect()
}

/// Reads `20260131104559Z`, with or without a fraction, which is dropped.
pub(super) fn parse_generalized(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?.split(['.', ',']).next()?;
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to);
    let iso = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    Timestamp::parse_iso8601(&iso).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_kept() {
        for mark in [Mark::Usn { server: "CN=NTDS".to_owned(), after: 7 }, Mark::Time { from: 1_769_856_359 }]
        {
            assert_eq!(Mark::parse(&mark.text()), Some(mark));
        }
        assert_eq!(Mark::parse("https://graph.example/delta"), None);
    }

    #[test]
    fn a_delta_begins_after_a_number_or_at_a_moment() {
        let usn = Mark::Usn { server: String::new(), after: 7 };
        assert_eq!(usn.filter(), "(uSNChanged>=8)");
        let newest = parse_generalized("20260131104559.0Z").unwrap();
        let mark = Mark::before(newest, Duration::from_secs(8));
        assert_eq!(mark.filter(), "(modifyTimestamp>=20260131104550Z)");
    }

    #[test]
    fn other_spellings_of_a_moment_are_passed_over() {
        for wrong in ["", "Z", "20260131104559", "202601311045Z", "20261331104559Z", "20260131104559+0100"] {
            assert_eq!(parse_generalized(wrong), None, "{wrong}");
        }
    }
}
