//! A million revoked serial numbers, kept small: 24 bytes each in memory, some 25 in JSON.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::pki::Serial;
use crate::pki::serial::SERIAL_BYTES;
use crate::time::Timestamp;

/// Revoked serial numbers with the moment of revocation, in order and each once.
///
/// Moments are kept in whole seconds between 1970 and 2106; what lies outside counts as the nearest
/// of them, since only the fact of revocation decides anything.
///
/// In JSON it is one base64 text: a version byte, then for each length of serial number that occurs
/// (shortest first) that length in one byte, the count in four, and the serials in order: how many
/// leading bytes are those of the one before, the other bytes, and the seconds in four bytes, all
/// numbers with the most significant byte first.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    /// Sorted by serial, each once.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    serial: Serial,
    at: u32,
}

/// A packed list that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a packed list of serial numbers")]
struct RevokedError;

/// First byte of the packed form.
const VERSION: u8 = 1;

impl Revoked {
    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When this serial number was revoked; `None`: it was not.
    pub fn get(&self, serial: Serial) -> Option<Timestamp> {
        let place = self.entries.binary_search_by_key(&serial, |entry| entry.serial).ok()?;
        self.entries.get(place).map(|entry| moment(entry.at))
    }

    /// All, in the order of the numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Serial, Timestamp)> {
        self.entries.iter().map(|entry| (entry.serial, moment(entry.at)))
    }

    /// What must be put in, and taken out, to make `self` into `new`: entries that are new or have
    /// another moment, and serials that are gone.
    pub(super) fn difference(&self, new: &Self) -> (Self, Vec<Serial>) {
        let mut added = Vec::new();
        let mut removed = Vec::new();
        let mut old = self.entries.iter().peekable();
        for entry in &new.entries {
            while let Some(gone) = old.next_if(|old| old.serial < entry.serial) {
                removed.push(gone.serial);
            }
            let same = old.next_if(|old| old.serial == entry.serial);
            if same.is_none_or(|old| old.at != entry.at) {
                added.push(*entry);
            }
        }
        removed.extend(old.map(|gone| gone.serial));
        (Self { entries: added }, removed)
    }

    /// Takes `removed` out, then puts `added` in; of two moments the added one counts.
    pub(super) fn amend(&mut self, added: &Self, removed: &[Serial]) {
        let mut gone = removed.to_vec();
        gone.sort_unstable();
        let mut merged = Vec::with_capacity(self.entries.len() + added.entries.len());
        let mut new = added.entries.iter().peekable();
        for entry in &self.entries {
            merged.extend(std::iter::from_fn(|| new.next_if(|new| new.serial < entry.serial)));
            if let Some(replaced) = new.next_if(|new| new.serial == entry.serial) {
                merged.push(*replaced);
            } else if gone.binary_search(&entry.serial).is_err() {
                merged.push(*entry);
            }
        }
        merged.extend(new);
        self.entries = merged;
    }

    fn pack(&self) -> Vec<u8> {
        let mut packed = vec![VERSION];
        let length = |entry: &Entry| entry.serial.magnitude().len();
        for group in self.entries.chunk_by(|a, b| length(a) == length(b)) {
            let Some(first) = group.first() else { continue };
            // Neither can be too large: a serial has 20 bytes, and a list that came in 4 GB of them
            // was refused long before.
            packed.push(u8::try_from(length(first)).unwrap_or(u8::MAX));
            packed.extend(u32::try_from(group.len()).unwrap_or(u32::MAX).to_be_bytes());
            let mut previous: &[u8] = &[];
            for entry in group {
                let digits = entry.serial.magnitude();
                let shared = digits.iter().zip(previous).take_while(|(a, b)| a == b).count();
                packed.push(u8::try_from(shared).unwrap_or(0));
                packed.extend(digits.get(shared..).unwrap_or_default());
                packed.extend(entry.at.to_be_bytes());
                previous = digits;
            }
        }
        packed
    }

    fn unpack(packed: &[u8]) -> Result<Self, RevokedError> {
        let mut rest = packed;
        let mut entries: Vec<Entry> = Vec::new();
        if take(&mut rest, 1)? != [VERSION] {
            return Err(RevokedError);
        }
        while !rest.is_empty() {
            let length = usize::from(byte(&mut rest)?);
            let count = number(&mut rest)?;
            if length > SERIAL_BYTES || count == 0 {
                return Err(RevokedError);
            }
            let mut digits = [0; SERIAL_BYTES];
            for _ in 0..count {
                let shared = usize::from(byte(&mut rest)?);
                let own = length.checked_sub(shared).ok_or(RevokedError)?;
                digits.get_mut(shared..length).ok_or(RevokedError)?.copy_from_slice(take(&mut rest, own)?);
                let digits = digits.get(..length).ok_or(RevokedError)?;
                let serial = Serial::from_magnitude(digits).map_err(|_| RevokedError)?;
                let at = number(&mut rest)?;
                // One text for one list: in order, each once, no zero in front.
                let follows = entries.last().is_none_or(|last| last.serial < serial);
                if !follows || serial.magnitude().len() != length {
                    return Err(RevokedError);
                }
                entries.push(Entry { serial, at });
            }
        }
        Ok(Self { entries })
    }
}

impl FromIterator<(Serial, Timestamp)> for Revoked {
    /// In any order; of several moments of one serial the earliest counts.
    fn from_iter<I: IntoIterator<Item = (Serial, Timestamp)>>(list: I) -> Self {
        let mut entries: Vec<_> =
            list.into_iter().map(|(serial, at)| Entry { serial, at: seconds(at) }).collect();
        entries.sort_unstable_by_key(|entry| (entry.serial, entry.at));
        entries.dedup_by_key(|entry| entry.serial);
        entries.shrink_to_fit();
        Self { entries }
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        f.debug_map().entries(self.iter().take(SHOWN)).finish()?;
        match self.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

impl Serialize for Revoked {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(self.pack()))
    }
}

impl<'de> Deserialize<'de> for Revoked {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let packed = STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Self::unpack(&packed).map_err(serde::de::Error::custom)
    }
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.seconds().max(0)).unwrap_or(u32::MAX)
}

fn moment(seconds: u32) -> Timestamp {
    Timestamp::from_seconds(i64::from(seconds))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], RevokedError> {
    let (taken, left) = rest.split_at_checked(bytes).ok_or(RevokedError)?;
    *rest = left;
    Ok(taken)
}

fn byte(rest: &mut &[u8]) -> Result<u8, RevokedError> {
    take(rest, 1)?.first().copied().ok_or(RevokedError)
}

fn number(rest: &mut &[u8]) -> Result<u32, RevokedError> {
    take(rest, 4)?.try_into().map(u32::from_be_bytes).map_err(|_| RevokedError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(serial: &[u8], at: i64) -> (Serial, Timestamp) {
        (Serial::from_magnitude(serial).unwrap(), Timestamp::from_seconds(at))
    }

    fn lists() -> impl Strategy<Value = Revoked> {
        let serial = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..=20),
            // Close to each other, so that removal, replacement and shared bytes happen.
            prop::collection::vec(0..3_u8, 0..=3),
        ];
        let entry = (serial, 0..4_000_000_000_i64).prop_map(|(serial, at)| entry(&serial, at));
        prop::collection::vec(entry, 0..40).prop_map(|list| list.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_list_comes_back_from_json_as_it_was(list in lists()) {
            let text = serde_json::to_string(&list).unwrap();
            prop_assert_eq!(serde_json::from_str::<Revoked>(&text).unwrap(), list);
        }

        #[test]
        fn the_difference_of_two_lists_makes_one_into_the_other(old in lists(), new in lists()) {
            let (added, removed) = old.difference(&new);
            let mut amended = old;
            amended.amend(&added, &removed);
            prop_assert_eq!(amended, new);
        }

        #[test]
        fn packed_bytes_that_were_changed_are_another_list_or_none(
            list in lists(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut packed = list.pack();
            let at = at.index(packed.len());
            if cut { packed.truncate(at) } else { packed[at] = to }
            if let Ok(other) = Revoked::unpack(&packed) {
                // Whatever is read is in order and packs to what was read.
                prop_assert_eq!(other.pack(), packed);
            }
        }
    }

    #[test]
    fn a_serial_is_found_with_its_moment_and_another_is_not() {
        let list: Revoked = [entry(&[5], 50), entry(&[1, 0], 10), entry(&[5], 40)].into_iter().collect();
        assert_eq!(list.len(), 2);
        assert_eq!(list.get(entry(&[5], 0).0), Some(Timestamp::from_seconds(40)));
        assert_eq!(list.get(entry(&[6], 0).0), None);
        assert_eq!(Revoked::default().get(entry(&[6], 0).0), None);
    }

    #[test]
    fn a_million_serials_take_some_25_megabytes_of_json() {
        // Sixteen bytes that look random, as most authorities draw them: an odd factor spreads a
        // counter over all of them.
        let list: Revoked = (0..1_000_000_u128)
            .map(|n| {
                let serial = n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) | (1 << 127);
                entry(&serial.to_be_bytes(), 1_800_000_000)
            })
            .collect();
        let text = serde_json::to_string(&list).unwrap();
        println!("{} entries: {} bytes of JSON", list.len(), text.len());
        assert!(text.len() < 27_000_000, "{}", text.len());
        assert_eq!(serde_json::from_str::<Revoked>(&text).unwrap().len(), list.len());
    }
}
