//! Who holds how much memory with bodies that are read or worked on.
//!
//! The address on the socket is a connection point's for all devices that come through it. So a body counts
//! for the device that the site's token names; who shows none counts for what it claims to be *and* for the
//! address, and all of those together leave a part to the devices with a token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::id::{ClientId, Guid, Thumbprint};
use proto::limits::MESSAGE_BYTES;

/// Bytes in all: 64 of the largest bodies.
const ALL: u64 = 64 * MESSAGE_BYTES as u64;
/// Bytes of all senders that no token of a device stands for. The rest is kept for those with one.
const UNPROVED: u64 = ALL / 4 * 3;
/// Bytes of one address without tokens: it may be one host, or the connection point of a PKI's devices.
const SOURCE: u64 = ALL / 4;
/// Bytes of one key or device: a report, and the same again where its answer was lost.
const DEVICE: u64 = 2 * MESSAGE_BYTES as u64;
/// Bytes of all who came by one bulk registration token. What they have to say before they are registered
/// is short.
const BULK_TOKEN: u64 = 4 * MESSAGE_BYTES as u64;

/// For whom a body counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The device that a token of the site names.
    Device(ClientId),
    /// Somebody who is no device of the site yet, or does not say it by a token.
    Unproved {
        /// The address on the socket.
        source: IpAddr,
        /// What it says it is.
        claim: Option<Claim>,
    },
}

/// What an unproved sender says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It holds this certificate's key: a token says so, or a gateway.
    Key(Thumbprint),
    /// It came by this bulk registration token.
    BulkToken(Guid),
}

/// What is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Device(ClientId),
    Key(Thumbprint),
    BulkToken(Guid),
    /// Of version 6 the network of 64 bits that one host chooses freely in.
    Source(IpAddr),
}

/// There is no room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// One device, or all who came by one bulk token, hold what they may.
    #[error("bodies of this device or bulk token hold {0} bytes already")]
    Sender(u64),
    /// One address.
    #[error("bodies without a token hold {0} bytes for this address already")]
    Source(u64),
    /// All without a token.
    #[error("bodies without a token hold {0} bytes already")]
    Unproved(u64),
    /// Everybody.
    #[error("bodies hold {0} bytes already")]
    All(u64),
}

/// The memory of bodies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares(Arc<Mutex<Held>>);

/// An entry exists for whoever holds something, so there are at most as many as bodies.
#[derive(Debug, Default)]
struct Held {
    all: u64,
    unproved: u64,
    by: HashMap<Party, u64>,
}

/// What one body holds, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    shares: Shares,
    sender: Sender,
    bytes: u64,
}

impl Shares {
    /// Whether a body of so many bytes would fit now. Takes nothing.
    pub(crate) fn look(&self, sender: Sender, bytes: u64) -> Result<(), Full> {
        self.held().check(sender, bytes)
    }

    /// A body that holds nothing yet.
    pub(crate) fn open(&self, sender: Sender) -> Hold {
        Hold { shares: self.clone(), sender, bytes: 0 }
    }

    /// Whether more than half of the memory is held.
    pub(crate) fn are_crowded(&self) -> bool {
        self.held().all > ALL / 2
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// How much it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds so many bytes in all from now on; never fewer than before.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.shares.held();
        held.check(self.sender, more)?;
        held.take(self.sender, more);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shares.held().give_back(self.sender, self.bytes);
        }
    }
}

impl Held {
    fn check(&self, sender: Sender, more: u64) -> Result<(), Full> {
        for party in sender.parties().into_iter().flatten() {
            let holds = self.by.get(&party).copied().unwrap_or(0);
            if holds + more > party.share() {
                let is_source = matches!(party, Party::Source(_));
                return Err(if is_source { Full::Source(holds) } else { Full::Sender(holds) });
            }
        }
        if sender.is_unproved() && self.unproved + more > UNPROVED {
            return Err(Full::Unproved(self.unproved));
        }
        if self.all + more > ALL {
            return Err(Full::All(self.all));
        }
        Ok(())
    }

    fn take(&mut self, sender: Sender, more: u64) {
        for party in sender.parties().into_iter().flatten() {
            *self.by.entry(party).or_default() += more;
        }
        if sender.is_unproved() {
            self.unproved += more;
        }
        self.all += more;
    }

    fn give_back(&mut self, sender: Sender, bytes: u64) {
        for party in sender.parties().into_iter().flatten() {
            if let Some(holds) = self.by.get_mut(&party) {
                *holds = holds.saturating_sub(bytes);
                if *holds == 0 {
                    self.by.remove(&party);
                }
            }
        }
        if sender.is_unproved() {
            self.unproved = self.unproved.saturating_sub(bytes);
        }
        self.all = self.all.saturating_sub(bytes);
    }
}

impl Sender {
    fn is_unproved(self) -> bool {
        matches!(self, Self::Unproved { .. })
    }

    /// The narrowest first: whoever is over its own share is told that.
    fn parties(self) -> [Option<Party>; 2] {
        match self {
            Self::Device(id) => [Some(Party::Device(id)), None],
            Self::Unproved { source, claim } => {
                let claim = claim.map(|claim| match claim {
                    Claim::Key(key) => Party::Key(key),
                    Claim::BulkToken(id) => Party::BulkToken(id),
                });
                [claim, Some(Party::Source(network(source)))]
            }
        }
    }
}

impl Party {
    fn share(self) -> u64 {
        match self {
            Self::Device(_) | Self::Key(_) => DEVICE,
            Self::BulkToken(_) => BULK_TOKEN,
            Self::Source(_) => SOURCE,
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> Sender {
        Sender::Device(ClientId::new(Guid::from_bytes([number; 16])))
    }

    fn stranger(address: &str, claim: Option<Claim>) -> Sender {
        Sender::Unproved { source: address.parse().unwrap(), claim }
    }

    fn hold(shares: &Shares, sender: Sender, bytes: u64) -> Result<Hold, Full> {
        let mut hold = shares.open(sender);
        hold.grow_to(bytes).map(|()| hold)
    }

    /// Holds one largest body after another, until there is no room.
    fn fill(shares: &Shares, sender: Sender, kept: &mut Vec<Hold>) -> Full {
        loop {
            match hold(shares, sender, MESSAGE_BYTES as u64) {
                Ok(held) => kept.push(held),
                Err(full) => return full,
            }
        }
    }

    #[test]
    fn a_device_has_its_share_and_the_others_have_theirs() {
        let shares = Shares::default();
        let mut kept = Vec::new();
        assert_eq!(fill(&shares, device(1), &mut kept), Full::Sender(DEVICE));
        assert_eq!(kept.len(), 2);
        assert!(hold(&shares, device(1), 1).is_err());
        assert!(hold(&shares, device(2), MESSAGE_BYTES as u64).is_ok());
        kept.pop();
        assert!(hold(&shares, device(1), MESSAGE_BYTES as u64).is_ok(), "what ended makes room");
    }

    #[test]
    fn whoever_shows_no_token_is_counted_by_address_too_whatever_it_claims() {
        let shares = Shares::default();
        let mut kept = Vec::new();
        let mut full = None;
        for number in 0..=u8::MAX {
            let claim = Some(Claim::Key(Thumbprint::of(&[number])));
            match hold(&shares, stranger("192.0.2.1", claim), MESSAGE_BYTES as u64) {
                Ok(held) => kept.push(held),
                Err(error) => full = full.or(Some(error)),
            }
        }
        assert_eq!((full, kept.len()), (Some(Full::Source(SOURCE)), 16));
        assert!(hold(&shares, stranger("192.0.2.2", None), MESSAGE_BYTES as u64).is_ok());
        let same = stranger("2001:db8::1", Some(Claim::BulkToken(Guid::nil())));
        let mut kept = Vec::new();
        assert_eq!(fill(&shares, same, &mut kept), Full::Sender(BULK_TOKEN));
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ff:1".parse().unwrap()));
    }

    #[test]
    fn devices_with_a_token_find_room_however_many_strangers_send() {
        let shares = Shares::default();
        let mut kept = Vec::new();
        let mut last = None;
        for host in 1..=10 {
            last = Some(fill(&shares, stranger(&format!("192.0.2.{host}"), None), &mut kept));
        }
        assert_eq!(last, Some(Full::Unproved(UNPROVED)));
        assert!(shares.are_crowded());
        for number in 0..16 {
            kept.push(hold(&shares, device(number), MESSAGE_BYTES as u64).unwrap());
        }
        let full = hold(&shares, device(99), 1).unwrap_err();
        assert_eq!(full, Full::All(ALL));
        kept.clear();
        assert!(!shares.are_crowded());
        let held = shares.held();
        assert!(held.by.is_empty(), "nobody is remembered who holds nothing");
        assert_eq!((held.all, held.unproved), (0, 0));
    }

    #[test]
    fn room_is_taken_as_a_body_grows_and_a_look_takes_none() {
        let shares = Shares::default();
        for _ in 0..1000 {
            shares.look(device(1), MESSAGE_BYTES as u64).unwrap();
        }
        assert!(shares.look(device(1), DEVICE + 1).is_err());
        let mut held = shares.open(device(1));
        held.grow_to(10).unwrap();
        held.grow_to(5).unwrap();
        assert_eq!((held.bytes(), shares.held().all), (10, 10));
        assert!(held.grow_to(DEVICE + 1).is_err());
        assert_eq!(shares.held().all, 10, "what is refused takes nothing");
    }
}
