//! Numbers for whoever watches a process: what a `/metrics` page holds, and what counts cheaply.
//!
//! Roles count with plain atomics and [`Histogram`]s where the work is done, and fill a [`Page`] from them when
//! somebody asks. Nothing is looked up by name or allocated while a request is served. Names follow the habits of
//! Prometheus: base units (seconds, bytes), `_total` on what only grows, and no label whose values a stranger
//! could choose: no device, no token, no address.

mod histogram;
mod page;
mod per_thread;
mod process;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use histogram::{COMMIT_BOUNDS, HANDSHAKE_BOUNDS, Histogram, REQUEST_BOUNDS, Reading};
pub use page::{Family, Format, Kind, Page};
pub use per_thread::PerThread;
pub use process::{Descriptors, descriptors};

/// Adds the families of something that belongs to the process and to no role.
type Shared = Arc<dyn Fn(&mut Page) + Send + Sync>;

/// What [`share`] was given.
static SHARED: RwLock<Vec<Shared>> = RwLock::new(Vec::new());

/// Puts families on every page of this process from now on: the log's, the traces'. A page names a family once,
/// so share each once.
pub fn share(fill: impl Fn(&mut Page) + Send + Sync + 'static) {
    SHARED.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(fill));
}

/// Adds what every page of this process shows: the process, and what was [shared](share). `role` says whose page
/// it is.
pub fn process(page: &mut Page, role: &'static str) {
    process::fill(page, role);
    let shared = SHARED.read().unwrap_or_else(PoisonError::into_inner).clone();
    for fill in shared {
        fill(page);
    }
}

/// A number that only grows, counted by each thread apart.
#[derive(Default)]
pub struct Counter(PerThread<AtomicU64>);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        if more > 0 {
            self.0.mine().fetch_add(more, Ordering::Relaxed);
        }
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.all().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_shows_the_process_and_what_was_shared() {
        share(|page| page.counter("shared_test_total", "Shared by a test.").value(7));
        let mut page = Page::default();
        process(&mut page, "gateway");
        let text = page.text(Format::OpenMetrics);
        assert!(text.contains("\nshared_test_total 7\n"), "{text}");
        assert!(text.contains("roamgate_build_info{"), "{text}");
    }

    #[test]
    fn a_counter_counts() {
        let counter = Counter::default();
        counter.count();
        counter.add(41);
        assert_eq!(counter.get(), 42);
    }
}
