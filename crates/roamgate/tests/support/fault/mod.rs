//! A deployment that is made to fail: real processes, steady traffic beside, and one row for each fault.

#![allow(dead_code, reason = "each group of faults uses a part")]

pub(crate) mod deployment;
pub(crate) mod device;
pub(crate) mod inner;
pub(crate) mod line;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod scene;
pub(crate) mod traffic;

use std::time::{Duration, Instant};

/// Time between two looks at a state.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for a state; fails past the bound with what `what` says then. How long it took.
pub(crate) async fn until(what: &str, bound: Duration, mut look: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < bound, "{what}: not within {:.0} s", bound.as_secs_f64());
        // Polling for a state: the loop ends with it.
        tokio::time::sleep(LOOK).await;
    }
    began.elapsed()
}
