//! The tunnels that are up, and which one a request takes.

use std::cell::Cell;
use std::collections::HashSet;
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

/// Where this thread's next look begins, so that tunnels with equal room take turns.
fn turn() -> usize {
    thread_local!(static TURN: Cell<usize> = const { Cell::new(0) });
    TURN.replace(TURN.get().wrapping_add(1))
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
        let (later, first) = live.split_at(turn().checked_rem(live.len()).unwrap_or(0));
        let mut is_there_one = false;
        let mut best: [Option<(usize, &Arc<Tunnel>)>; 2] = [None, None];
        let [near, far] = &mut best;
        for tunnel in first.iter().chain(later) {
            if except.is_some_and(|except| Arc::ptr_eq(tunnel, except)) {
                continue;
            }
            let Some(room) = tunnel.room() else { continue };
            is_there_one = true;
            let best = if tunnel.shard == shard { &mut *near } else { &mut *far };
            if room > best.map_or(0, |(most, _)| most) {
                *best = Some((room, tunnel));
            }
        }
        match near.or(*far) {
            Some((_, tunnel)) => Pick::Tunnel(Arc::clone(tunnel)),
            None if is_there_one => Pick::Full,
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
