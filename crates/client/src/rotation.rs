//! Which of several addresses is used, and when another one is taken. Pure; the same for gateways and for
//! management points inside.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::time::Timestamp;

/// Failures of one address after which another one is taken [docs].
pub const ROTATION_FAILURES: usize = 5;
/// The time within which they must fall [docs].
pub const ROTATION_WINDOW: Duration = Duration::from_mins(10);

/// Stays with one address until it fails [`ROTATION_FAILURES`] times within [`ROTATION_WINDOW`].
#[derive(Debug)]
pub struct Rotation<A> {
    current: Option<A>,
    failures: BTreeMap<A, VecDeque<Timestamp>>,
}

/// An address that takes the place of the one used so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated<A> {
    /// The new one.
    pub to: A,
    /// Its place in the list of known ones, from 1: the number in the field's log line.
    pub number: usize,
}

impl<A> Default for Rotation<A> {
    fn default() -> Self {
        Self { current: None, failures: BTreeMap::new() }
    }
}

impl<A: Clone + Ord> Rotation<A> {
    /// The address to use now: the one used so far while it is still known, else one at random.
    pub fn choose(&mut self, known: &[A], random: u64) -> Option<(A, Option<Rotated<A>>)> {
        if let Some(current) = &self.current
            && known.contains(current)
        {
            return Some((current.clone(), None));
        }
        let rotated = self.take_another(known, random)?;
        Some((rotated.to.clone(), Some(rotated)))
    }

    /// The address used so far, if there is one.
    pub fn current(&self) -> Option<&A> {
        self.current.as_ref()
    }

    /// Uses this one from now on; `None`: it was used already, or is not known.
    pub fn move_to(&mut self, address: &A, known: &[A]) -> Option<Rotated<A>> {
        let index = known.iter().position(|known| known == address)?;
        if self.current.replace(address.clone()).as_ref() == Some(address) {
            return None;
        }
        Some(Rotated { to: address.clone(), number: index + 1 })
    }

    /// Begins with this one. Nothing changes where another one is in use.
    pub fn begin_with(&mut self, address: &A) {
        self.current.get_or_insert_with(|| address.clone());
    }

    /// Forgets every failure: the network is another one, and says nothing about this one.
    pub fn forget_failures(&mut self) {
        self.failures.clear();
    }

    /// Notes that the address could not be reached; takes another one at random after
    /// [`ROTATION_FAILURES`] within [`ROTATION_WINDOW`], if there is another.
    pub fn failed(&mut self, address: &A, known: &[A], now: Timestamp, random: u64) -> Option<Rotated<A>> {
        self.failures.retain(|address, _| known.contains(address));
        let times = self.failures.entry(address.clone()).or_default();
        times.push_back(now);
        while times.front().is_some_and(|first| now.since(*first) > ROTATION_WINDOW)
            || times.len() > ROTATION_FAILURES
        {
            times.pop_front();
        }
        if times.len() < ROTATION_FAILURES || self.current.as_ref() != Some(address) || known.len() < 2 {
            return None;
        }
        self.failures.remove(address);
        self.take_another(known, random)
    }

    /// Notes that the address answered.
    pub fn succeeded(&mut self, address: &A) {
        self.failures.remove(address);
    }

    fn take_another(&mut self, known: &[A], random: u64) -> Option<Rotated<A>> {
        let current = self.current.take();
        let others: Vec<_> =
            known.iter().enumerate().filter(|(_, address)| Some(*address) != current.as_ref()).collect();
        let (index, address) = *others.get(pick(others.len(), random)?)?;
        self.current = Some(address.clone());
        Some(Rotated { to: address.clone(), number: index + 1 })
    }
}

/// The order in which one request tries what is known: `first`, then the others, from a place that `random`
/// chooses.
pub fn order<A: Clone + PartialEq>(first: &A, known: &[A], random: u64) -> Vec<A> {
    let others: Vec<&A> = known.iter().filter(|address| *address != first).collect();
    let start = pick(others.len(), random).unwrap_or(0);
    let turned = others.iter().cycle().skip(start).take(others.len());
    std::iter::once(first.clone()).chain(turned.map(|address| (*address).clone())).collect()
}

/// A place among `count`, evenly by `random`.
fn pick(count: usize, random: u64) -> Option<usize> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    usize::try_from((u128::from(random) * u128::from(count)) >> 64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::GatewayAddress;

    fn gateways(count: u64) -> Vec<GatewayAddress> {
        (0..count)
            .map(|n| GatewayAddress::new(&format!("gw{n}"), proto::id::RoleId::new(7)).unwrap())
            .collect()
    }

    #[test]
    fn an_address_is_left_after_five_failures_in_ten_minutes() {
        let known = gateways(3);
        let mut rotation = Rotation::default();
        let (first, rotated) = rotation.choose(&known, 0).unwrap();
        assert_eq!((&first, rotated.unwrap().number), (&known[0], 1));
        let minute = |n: i64| Timestamp::from_seconds(n * 60);
        // Four within the window, one of them too old when the fifth comes.
        for at in [0, 8, 9, 10] {
            assert_eq!(rotation.failed(&first, &known, minute(at), 0), None);
        }
        assert_eq!(rotation.failed(&first, &known, minute(11), 0), None);
        let rotated = rotation.failed(&first, &known, minute(12), 0).unwrap();
        assert_eq!((rotated.to.clone(), rotated.number), (known[1].clone(), 2));
        assert_eq!(rotation.choose(&known, u64::MAX), Some((rotated.to, None)));
    }

    #[test]
    fn the_window_is_ten_minutes_to_the_microsecond() {
        let known = gateways(2);
        for (last, rotates) in [(ROTATION_WINDOW, true), (ROTATION_WINDOW + Duration::from_micros(1), false)]
        {
            let mut rotation = Rotation::default();
            let (first, _) = rotation.choose(&known, 0).unwrap();
            let start = Timestamp::from_seconds(0);
            for _ in 0..4 {
                assert_eq!(rotation.failed(&first, &known, start, 0), None);
            }
            assert_eq!(rotation.failed(&first, &known, start.plus(last), 0).is_some(), rotates);
        }
    }

    #[test]
    fn an_answer_makes_former_failures_forgotten() {
        let known = gateways(2);
        let mut rotation = Rotation::default();
        let (first, _) = rotation.choose(&known, 0).unwrap();
        for second in 0..4 {
            assert_eq!(rotation.failed(&first, &known, Timestamp::from_seconds(second), 0), None);
        }
        rotation.succeeded(&first);
        assert_eq!(rotation.failed(&first, &known, Timestamp::from_seconds(5), 0), None);
    }

    #[test]
    fn failures_of_one_that_is_not_in_use_move_nothing() {
        let known = gateways(3);
        let mut rotation = Rotation::default();
        rotation.begin_with(&known[1]);
        rotation.begin_with(&known[2]);
        assert_eq!(rotation.current(), Some(&known[1]));
        for second in 0..20 {
            assert_eq!(rotation.failed(&known[0], &known, Timestamp::from_seconds(second), 0), None);
        }
        for second in 0..4 {
            assert_eq!(rotation.failed(&known[1], &known, Timestamp::from_seconds(second), 0), None);
        }
        rotation.forget_failures();
        assert_eq!(rotation.failed(&known[1], &known, Timestamp::from_seconds(5), 0), None);
        assert_eq!(rotation.current(), Some(&known[1]));
    }

    #[test]
    fn a_move_is_told_once_and_only_to_what_is_known() {
        let known = gateways(3);
        let mut rotation = Rotation::default();
        let moved = rotation.move_to(&known[1], &known).unwrap();
        assert_eq!((moved.to, moved.number), (known[1].clone(), 2));
        assert_eq!(rotation.move_to(&known[1], &known), None);
        assert_eq!(rotation.move_to(&known[2], &known[..2]), None);
        assert_eq!(rotation.current(), Some(&known[1]));
    }

    #[test]
    fn an_only_address_is_kept_whatever_it_does() {
        let known = gateways(1);
        let mut rotation = Rotation::default();
        let (only, _) = rotation.choose(&known, 5).unwrap();
        for second in 0..20 {
            assert_eq!(rotation.failed(&only, &known, Timestamp::from_seconds(second), 0), None);
        }
        assert_eq!(rotation.choose(&[], 0), None);
    }

    #[test]
    fn an_address_that_is_no_longer_known_is_left_at_once() {
        let known = gateways(3);
        let mut rotation = Rotation::default();
        rotation.choose(&known[..1], 0).unwrap();
        let (now, rotated) = rotation.choose(&known[1..], u64::MAX).unwrap();
        assert_eq!((now, rotated.unwrap().number), (known[2].clone(), 2));
    }

    #[test]
    fn one_request_tries_each_address_once_and_its_own_first() {
        let known = gateways(4);
        for random in [0, 1 << 62, 1 << 63, u64::MAX] {
            let order = order(&known[2], &known, random);
            assert_eq!(order[0], known[2]);
            let mut sorted = order.clone();
            sorted.sort();
            assert_eq!(sorted, known, "{random}");
        }
        assert_ne!(order(&known[0], &known, 0), order(&known[0], &known, u64::MAX));
        assert_eq!(order(&known[0], &known[..1], 7), known[..1]);
    }
}
