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
/// Requests that wait, for each one that is answered: about the second that it takes to answer as many.
/// Beyond it 503 at once: a longer queue would only be answered too late.
const WAITING_EACH: usize = 4;

/// The places that requests take.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    large: Places,
    work: Places,
    patience: Duration,
}

/// Places, and a bounded queue before them.
#[derive(Debug, Clone)]
struct Places {
    free: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Places {
    fn new(places: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS / WAITING_EACH);
        let queue = Semaphore::new(places * WAITING_EACH);
        Self { free: Arc::new(Semaphore::new(places)), queue: Arc::new(queue) }
    }
}

impl Bounds {
    /// At most `requests` answered at once.
    pub(crate) fn new(requests: usize) -> Self {
        Self::with_patience(requests, PATIENCE)
    }

    fn with_patience(requests: usize, patience: Duration) -> Self {
        Self { large: Places::new(LARGE_AT_ONCE), work: Places::new(requests), patience }
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

    async fn take(&self, places: &Places) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = Arc::clone(&places.free).try_acquire_owned() {
            return Ok(place);
        }
        let busy = |detail: &str| Refusal::new(Reason::Busy, detail);
        let _waiting = places.queue.try_acquire().map_err(|_| busy("too many requests wait already"))?;
        match timeout(self.patience, Arc::clone(&places.free).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphores are never closed, so only the wait can end without a place.
            Ok(Err(_)) | Err(_) => Err(busy("too many requests at once")),
        }
    }
}

/// The work on one request, within its time.
pub(crate) async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Refusal> {
    let late = |_| Refusal::new(Reason::Busy, format!("not answered within {} s", time.as_secs()));
    timeout(time, work).await.map_err(late)
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
    async fn the_queue_is_bounded_and_one_too_many_is_sent_away_at_once() {
        let bounds = Bounds::with_patience(1, Duration::from_mins(10));
        let first = bounds.work().await.unwrap();
        let wait = || {
            tokio::spawn({
                let bounds = bounds.clone();
                async move { bounds.work().await.map(drop) }
            })
        };
        let waiting: Vec<_> = (0..WAITING_EACH).map(|_| wait()).collect();
        while bounds.work.queue.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bounds.work().await.unwrap_err().reason, Reason::Busy, "without the ten minutes");
        drop(first);
        for waited in waiting {
            assert!(waited.await.unwrap().is_ok(), "who waits in the queue is answered");
        }
        assert!(bounds.work().await.is_ok());
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_given_up() {
        let never = within(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(never.unwrap_err().reason, Reason::Busy);
        assert_eq!(within(Duration::from_mins(10), async { 1 }).await.unwrap(), 1);
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
