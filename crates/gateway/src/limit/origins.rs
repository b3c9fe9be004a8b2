//! Where tunnels come from. A source that holds a tunnel, or held one lately, has a connection point of the site:
//! it must come through when everybody else is at the door.

use std::hash::{Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bucket::Moment;
use super::table;

/// Cells in each of the two rows. Sites have a handful of connection points, so a stranger is taken for one of them
/// with a chance of one in some hundred thousand.
const CELLS: u16 = 1 << 12;
/// How long a source is known after its last tunnel has ended: longer than a restart on either side takes.
const LATELY: Duration = Duration::from_hours(1);

/// Sources of tunnels, in a table that never grows: 128 KiB.
#[derive(Debug)]
pub(super) struct Origins {
    started: Instant,
    secret: RandomState,
    rows: [Box<[Origin]>; 2],
}

#[derive(Debug, Default)]
struct Origin {
    tunnels: AtomicU32,
    /// Until when it is known without one, as a [`Moment`].
    until: AtomicU64,
}

/// A tunnel that is up; dropped with it.
#[derive(Debug)]
pub(crate) struct TunnelHere {
    origins: Arc<Origins>,
    cells: [u16; 2],
}

impl Origins {
    /// Nobody has had a tunnel yet.
    pub(super) fn new(started: Instant, secret: RandomState) -> Self {
        let row = || (0..CELLS).map(|_| Origin::default()).collect();
        Self { started, secret, rows: [row(), row()] }
    }

    /// A tunnel of `key` is up: its peer has proved that it is a connection point.
    pub(super) fn tunnel(self: &Arc<Self>, key: &impl Hash) -> TunnelHere {
        let cells = table::cells(&self.secret, key);
        for origin in self.at(cells) {
            origin.tunnels.fetch_add(1, Ordering::Relaxed);
        }
        TunnelHere { origins: Arc::clone(self), cells }
    }

    /// Whether `key` holds a tunnel, or held one lately.
    pub(super) fn knows(&self, key: &impl Hash, now: Moment) -> bool {
        self.at(table::cells(&self.secret, key)).into_iter().all(|origin| {
            origin.tunnels.load(Ordering::Relaxed) > 0 || origin.until.load(Ordering::Relaxed) > now.0
        })
    }

    fn ended(&self, cells: [u16; 2], now: Instant) {
        let until = Moment::since(self.started, now).plus(LATELY);
        for origin in self.at(cells) {
            origin.until.fetch_max(until.0, Ordering::Relaxed);
            origin.tunnels.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn at(&self, [one, other]: [u16; 2]) -> [&Origin; 2] {
        let [first, second] = &self.rows;
        [origin(first, one), origin(second, other)]
    }
}

fn origin(row: &[Origin], number: u16) -> &Origin {
    row.get(usize::from(number % CELLS)).expect("the remainder is less than there are cells")
}

impl Drop for TunnelHere {
    fn drop(&mut self) {
        self.origins.ended(self.cells, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_while_it_has_a_tunnel_and_for_an_hour_after_the_last() {
        let started = Instant::now();
        let origins = Arc::new(Origins::new(started, RandomState::new()));
        let at = |minutes: u64| Moment::since(started, started + Duration::from_mins(minutes));
        assert!(!origins.knows(&1, at(0)));
        let (one, other) = (origins.tunnel(&1), origins.tunnel(&1));
        assert!(origins.knows(&1, at(100_000)) && !origins.knows(&2, at(0)));
        drop(one);
        assert!(origins.knows(&1, at(100_000)), "it has another");
        drop(other);
        assert!(origins.knows(&1, at(59)) && !origins.knows(&1, at(62)));
    }
}
