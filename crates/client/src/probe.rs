//! Looking whether the device is inside: whom it asks, how long it waits, and what counts as an answer.
//!
//! The question is a fact of the site that every management point gives. What counts is the
//! signature under the pinned root, over an answer to this very request: a host that accepts a
//! connection, a page, or an old answer of the site proves nothing about the network.

use std::time::Duration;

use crate::address::{AddressError, InsideAddress};
use crate::failure::CallError;

/// The question: any fact of the site will do, since the answer is signed.
pub(crate) const TARGET: &str = "/SMS_MP/.sms_aut?MPLIST";
/// Addresses that one look asks, the probe included.
pub const QUESTIONS: usize = 8;
/// Time for a whole look when nobody answers.
pub const LOOK: Duration = Duration::from_secs(10);
/// Time for one question, at most and at least.
const LONGEST: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest address of a probe, in characters: as the site bounds it.
const URL_CHARS: usize = 255;

/// One question of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whom it goes to.
    pub address: InsideAddress,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Whether it goes to the site's network-location probe and not to a management point.
    pub is_probe: bool,
}

/// Plans a look: first the management point in use, then the others from a place that `random` chooses, the
/// probe last. So a device that knows more of them than one look can ask gets round to all.
pub fn plan(
    inside: &[InsideAddress],
    probe: Option<&InsideAddress>,
    in_use: Option<&InsideAddress>,
    random: u64,
) -> Vec<Question> {
    let probe = probe.filter(|probe| !inside.contains(probe));
    let first = in_use.filter(|address| inside.contains(address)).or(inside.first());
    let order = first.map_or_else(Vec::new, |first| crate::rotation::order(first, inside, random));
    let room = QUESTIONS - usize::from(probe.is_some());
    let management_points = order.into_iter().take(room).map(|address| (address, false));
    let asked: Vec<_> = management_points.chain(probe.map(|probe| (probe.clone(), true))).collect();
    let count = u32::try_from(asked.len()).unwrap_or(1).max(1);
    let timeout = (LOOK / count).clamp(SHORTEST, LONGEST);
    asked.into_iter().map(|(address, is_probe)| Question { address, timeout, is_probe }).collect()
}

/// Whether a failure is the site's own signed word all the same, such as to a blocked device: who hears it
/// is inside.
pub fn is_signed_refusal(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.signed)
}

/// Reads the client setting `NetworkProbe`: the address of a management point, by name or by a name
/// of its own. What stands behind the host is not used: there the question has its own place.
pub fn read_url(text: &str) -> Result<InsideAddress, AddressError> {
    let text = text.trim();
    if text.len() > URL_CHARS {
        return Err(AddressError::Host(text.chars().take(40).collect()));
    }
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(start..).and_then(|rest| rest.find(['/', '?', '#'])).map(|at| start + at);
    text.get(..end.unwrap_or(text.len())).unwrap_or_default().parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Refusal;

    fn inside(count: usize) -> Vec<InsideAddress> {
        (0..count).map(|n| format!("mp{n}").parse().unwrap()).collect()
    }

    #[test]
    fn a_look_asks_the_one_in_use_first_and_the_probe_last() {
        let known = inside(3);
        let probe: InsideAddress = "https://probe".parse().unwrap();
        let plan = plan(&known, Some(&probe), Some(&known[1]), 0);
        let asked: Vec<_> = plan.iter().map(|question| question.address.to_string()).collect();
        assert_eq!(asked, ["http://mp1", "http://mp0", "http://mp2", "https://probe"]);
        let probes: Vec<_> = plan.iter().map(|question| question.is_probe).collect();
        assert_eq!(probes, [false, false, false, true]);
        assert!(plan.iter().all(|question| question.timeout == Duration::from_millis(2500)));
    }

    #[test]
    fn a_look_never_takes_longer_than_its_time_and_gets_round_to_all() {
        let known = inside(16);
        let probe: InsideAddress = "https://probe".parse().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for turn in 0..16 {
            let plan = plan(&known, Some(&probe), Some(&known[0]), u64::MAX / 16 * turn);
            assert_eq!(plan.len(), QUESTIONS);
            assert!(plan.iter().map(|question| question.timeout).sum::<Duration>() <= LOOK);
            seen.extend(plan.into_iter().map(|question| question.address.to_string()));
        }
        assert_eq!(seen.len(), 17);
    }

    #[test]
    fn little_is_known_and_little_is_asked() {
        let probe: InsideAddress = "https://probe".parse().unwrap();
        assert!(plan(&[], None, Some(&probe), 3).is_empty());
        let only = plan(&[], Some(&probe), None, 3);
        assert_eq!((only.len(), only[0].is_probe, only[0].timeout), (1, true, LONGEST));
        // A probe that is a known management point is one.
        let both = plan(std::slice::from_ref(&probe), Some(&probe), None, 3);
        assert_eq!((both.len(), both[0].is_probe), (1, false));
    }

    #[test]
    fn only_what_the_site_signed_is_an_answer() {
        let refused = |signed| {
            let phrase = String::new();
            let refusal =
                Refusal { status: 403, phrase, reason: None, request_id: None, signed, retry_after: None };
            CallError::Refused { address: "mp".into(), refusal }
        };
        assert!(is_signed_refusal(&refused(true)));
        assert!(!is_signed_refusal(&refused(false)));
        let source = crate::trust::Disbelief::Unsigned;
        assert!(!is_signed_refusal(&CallError::NotBelieved { address: "mp".into(), source }));
    }

    #[test]
    fn the_setting_is_read_as_operators_write_it() {
        for (text, expected) in [
            ("https://probe.example.org/", "https://probe.example.org"),
            ("http://Probe.Example.org:8080/SMS_MP/.sms_aut?MPLIST", "http://probe.example.org:8080"),
            (" https://[fd00::1]:8443?x ", "https://[fd00::1]:8443"),
            ("probe", "http://probe"),
        ] {
            assert_eq!(read_url(text).unwrap().to_string(), expected);
        }
        for wrong in ["", "https://", "https:///x", "https://a b/", &format!("https://{}", "a".repeat(300))] {
            assert!(read_url(wrong).is_err(), "{wrong}");
        }
    }
}
