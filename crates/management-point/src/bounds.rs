//! How much may be under way at once. A message may take 5 MB as sent and several times that
//! once it is read, so memory is bounded by how many are held, not by how many connections wait.

use std::sync::Arc;
use std::time::Duration;

use proto::reason::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answer::Refusal;

/// Bodies above this many bytes, or of unknown length, count as large. Everything but inventory
/// is far below it [observed].
const LARGE_BODY: u64 = 64 * 1024;
/// Large bodies that are held at once: 320 MB at most.
const LARGE_AT_ONCE: usize = 64;
/// Time that a request waits for its turn; beyond it 503, and the device comes back later.
const PATIENCE: Duration = Duration::from_secs(10);

/// The places that requests take.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    large: Arc<Semaphore>,
    work: Arc<Semaphore>,
    patience: Duration,
}

impl Bounds {
    /// At most `requests` answered at once.
    pub(crate) fn new(requests: usize) -> Self {
        Self::with_patience(requests, PATIENCE)
    }

    fn with_patience(requests: usize, patience: Duration) -> Self {
        let work = Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS));
        Self { large: Arc::new(Semaphore::new(LARGE_AT_ONCE)), work: Arc::new(work), patience }
    }

    /// A place for a body of this length (`None`: unknown), where it needs one.
    pub(crate) async fn hold_body(
        &self,
        length: Option<u64>,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if length.is_some_and(|length| length <= LARGE_BODY) {
            return Ok(None);
        }
        self.take(&self.large).await.map(Some)
    }

    /// A place for the work on a request whose body is there.
    pub(crate) async fn work(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.take(&self.work).await
    }

    async fn take(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        match timeout(self.patience, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphores are never closed, so only the wait can end without a place.
            Ok(Err(_)) | Err(_) => Err(Refusal::new(Reason::Busy, "too many requests at once")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_request_too_many_waits_and_is_sent_away() {
        let bounds = Bounds::with_patience(1, Duration::from_millis(1));
        let first = bounds.work().await.unwrap();
        assert_eq!(bounds.work().await.unwrap_err().reason, Reason::Busy);
        drop(first);
        assert!(bounds.work().await.is_ok());
    }

    #[tokio::test]
    async fn small_bodies_need_no_place_and_those_of_unknown_length_do() {
        let bounds = Bounds::with_patience(1, Duration::from_millis(1));
        let mut held = Vec::new();
        for _ in 0..LARGE_AT_ONCE {
            held.push(bounds.hold_body(None).await.unwrap().unwrap());
        }
        assert!(bounds.hold_body(Some(LARGE_BODY)).await.unwrap().is_none());
        assert_eq!(bounds.hold_body(Some(LARGE_BODY + 1)).await.unwrap_err().reason, Reason::Busy);
    }
}
