//! The tunnels that are up, and which one a request takes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use proto::id::Thumbprint;

use super::{Closing, Tunnel};

/// All tunnels whose other end has introduced itself. Read without a lock, for each request.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    live: ArcSwap<Vec<Arc<Tunnel>>>,
    /// Held by whoever changes the list.
    change: Mutex<()>,
    /// Where the next look begins, so that tunnels with equal room take turns.
    turn: AtomicUsize,
}

/// What a request finds.
#[derive(Debug)]
pub(crate) enum Pick {
    /// A tunnel with room.
    Tunnel(Arc<Tunnel>),
    /// There are tunnels, and all are full.
    Full,
    /// There is none.
    None,
}

impl Tunnels {
    pub(crate) fn add(&self, tunnel: Arc<Tunnel>) {
        self.change(|live| live.push(tunnel));
    }

    pub(crate) fn remove(&self, tunnel: &Arc<Tunnel>) {
        self.change(|live| live.retain(|other| !Arc::ptr_eq(other, tunnel)));
    }

    /// The tunnel with the most room on this shard; without one there, on any. `except` is not taken.
    pub(crate) fn pick(&self, shard: u16, except: Option<&Arc<Tunnel>>) -> Pick {
        let live = self.live.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(live.len()).unwrap_or(0);
        let (later, first) = live.split_at(turn);
        let able = first
            .iter()
            .chain(later)
            .filter(|tunnel| except.is_none_or(|except| !Arc::ptr_eq(tunnel, except)));
        let mut found_any = false;
        let mut best: Option<(bool, usize, &Arc<Tunnel>)> = None;
        for tunnel in able {
            let room = tunnel.capacity();
            if room == 0 {
                found_any |= !tunnel.is_ending();
                continue;
            }
            let rank = (tunnel.shard == shard, room);
            if best.is_none_or(|(local, room, _)| rank > (local, room)) {
                best = Some((rank.0, rank.1, tunnel));
            }
        }
        match best {
            Some((.., tunnel)) => Pick::Tunnel(Arc::clone(tunnel)),
            None if found_any => Pick::Full,
            None => Pick::None,
        }
    }

    /// Those that can be told something, the freshest first.
    pub(crate) fn to_tell(&self) -> Vec<Arc<Tunnel>> {
        let live = self.live.load();
        live.iter().rev().filter(|tunnel| !tunnel.is_ending()).cloned().collect()
    }

    /// How many are up.
    pub(crate) fn count(&self) -> usize {
        self.live.load().len()
    }

    /// Closes those whose certificate the site has withdrawn.
    pub(crate) fn close_withdrawn(&self, withdrawn: &HashSet<Thumbprint>) {
        for tunnel in self.live.load().iter() {
            if withdrawn.contains(&tunnel.peer.thumbprint) {
                tunnel.close(Closing::Withdrawn);
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Tunnel>>)) {
        let _held = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = (**self.live.load()).clone();
        change(&mut live);
        self.live.store(Arc::new(live));
    }
}
