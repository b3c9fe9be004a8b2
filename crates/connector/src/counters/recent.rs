//! The rows of one tunnel, found without a lock that others take.

use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use proto::endpoint::Endpoint;

use super::row::Row;
use crate::request::Plan;
use crate::role::Role;

/// Rows that a tunnel remembers. A client of the protocol uses a handful of endpoints.
const ROWS: usize = 16;

/// Rows in which requests of one tunnel were counted lately. Each stands for one window only: what is not remembered
/// can be dropped when its window is closed.
#[derive(Debug, Default)]
pub(crate) struct RecentRows(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// Number of the window.
    window: u64,
    rows: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    role: Arc<Role>,
    endpoint: &'static Endpoint,
    row: Arc<Held>,
}

/// A tunnel's hold on a row; requests hold this, and not what is shared with other threads.
#[derive(Debug)]
pub(super) struct Held(pub(super) Arc<Row>);

impl RecentRows {
    /// The row for `plan` in the window of this number; `look_up` finds one that is not remembered.
    pub(super) fn find(
        &self,
        window: u64,
        plan: &Plan<'_>,
        look_up: impl FnOnce() -> Option<Arc<Row>>,
    ) -> Option<Arc<Held>> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.window != window || recent.rows.len() >= ROWS {
            recent.rows.clear();
            recent.window = window;
        }
        let is_it =
            |known: &&Known| ptr::eq(known.endpoint, plan.endpoint) && Arc::ptr_eq(&known.role, &plan.role);
        if let Some(known) = recent.rows.iter().find(is_it) {
            return Some(Arc::clone(&known.row));
        }
        let row = Arc::new(Held(look_up()?));
        let (role, endpoint) = (Arc::clone(&plan.role), plan.endpoint);
        recent.rows.push(Known { role, endpoint, row: Arc::clone(&row) });
        Some(row)
    }
}
