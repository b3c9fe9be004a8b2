//! How much may be under way at once: places for the work on requests, and a part of them that newcomers
//! leave free. What bodies hold is bounded beside it ([`crate::body`]).
//!
//! ```text
//! newcomer: its bulk token's share → newcomers' places → all places
//! device that is known:                                  all places
//! ```
//!
//! The narrowest comes first, so that whoever is sent away there has taken nothing of the others'.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::id::Guid;
use proto::reason::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answer::Refusal;

/// Time that a request waits for its turn; beyond it 503, and the device comes back later.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that wait, for each one that is answered: about the second that it takes to answer as many.
/// Beyond it 503 at once: a longer queue would only be answered too late.
const WAITING_EACH: usize = 4;

/// How a request comes to its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comes {
    /// By a device's own token or key, or with nothing that says that its sender is new.
    Known,
    /// By this bulk registration token, or one that was given for it; `None`: by a token of nobody's.
    New(Option<Guid>),
}

/// The places that requests take.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    work: Places,
    newcomers: Places,
    tokens: Tokens,
    patience: Duration,
}

/// The place of one request, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Place {
    _token: Option<TokenPlace>,
    _newcomer: Option<OwnedSemaphorePermit>,
    _work: OwnedSemaphorePermit,
}

/// Places, and a bounded queue before them.
#[derive(Debug, Clone)]
struct Places {
    free: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Places {
    fn new(places: usize) -> Self {
        let queue = Semaphore::new(places * WAITING_EACH);
        Self { free: Arc::new(Semaphore::new(places)), queue: Arc::new(queue) }
    }

    async fn take(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = self.queue.try_acquire().map_err(|_| busy("too many requests wait already"))?;
        // The semaphores are never closed.
        Arc::clone(&self.free).acquire_owned().await.map_err(|_| busy("no places any more"))
    }
}

fn busy(detail: &str) -> Refusal {
    Refusal::new(Reason::Busy, detail)
}

impl Bounds {
    /// At most `requests` answered at once.
    pub(crate) fn new(requests: usize) -> Self {
        Self::with_patience(requests, PATIENCE)
    }

    fn with_patience(requests: usize, patience: Duration) -> Self {
        let requests = requests.clamp(1, Semaphore::MAX_PERMITS / WAITING_EACH);
        // A quarter is kept for those that are known: their renewals go on while others roll out.
        let newcomers = (requests - requests.div_ceil(4)).max(1);
        // And of that a quarter for the other tokens.
        let most = newcomers * (1 + WAITING_EACH) * 3 / 4;
        Self {
            work: Places::new(requests),
            newcomers: Places::new(newcomers),
            tokens: Tokens { most, under_way: Arc::default() },
            patience,
        }
    }

    /// A place for the work on a request whose body is there.
    pub(crate) async fn work(&self, comes: Comes) -> Result<Place, Refusal> {
        let late = |_| busy("too many requests at once");
        timeout(self.patience, self.enter(comes)).await.map_err(late)?
    }

    async fn enter(&self, comes: Comes) -> Result<Place, Refusal> {
        let (token, newcomer) = match comes {
            Comes::Known => (None, None),
            Comes::New(id) => (Some(self.tokens.take(id)?), Some(self.newcomers.take().await?)),
        };
        Ok(Place { _token: token, _newcomer: newcomer, _work: self.work.take().await? })
    }
}

/// Newcomers under way or waiting, by the bulk token that they came by. Those whose token is nobody's count
/// together. An entry exists while somebody is under way, so there are at most as many as places.
#[derive(Debug, Clone)]
struct Tokens {
    most: usize,
    under_way: Arc<Mutex<HashMap<Option<Guid>, usize>>>,
}

impl Tokens {
    fn take(&self, id: Option<Guid>) -> Result<TokenPlace, Refusal> {
        let mut under_way = self.under_way();
        let count = under_way.entry(id).or_default();
        if *count >= self.most {
            let detail = match id {
                Some(id) => format!("{count} requests of bulk token {id} are under way"),
                None => format!("{count} requests with tokens of nobody's are under way"),
            };
            return Err(Refusal::new(Reason::Busy, detail));
        }
        *count += 1;
        drop(under_way);
        Ok(TokenPlace { tokens: self.clone(), id })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Option<Guid>, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct TokenPlace {
    tokens: Tokens,
    id: Option<Guid>,
}

impl Drop for TokenPlace {
    fn drop(&mut self) {
        let mut under_way = self.tokens.under_way();
        if let Some(count) = under_way.get_mut(&self.id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                under_way.remove(&self.id);
            }
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

    const LONG: Duration = Duration::from_mins(10);

    fn token(number: u8) -> Comes {
        Comes::New(Some(Guid::from_bytes([number; 16])))
    }

    /// Begins requests that wait for their turn; ready when all of them do.
    async fn queue(bounds: &Bounds, comes: Comes, count: usize) -> Vec<tokio::task::JoinHandle<bool>> {
        let places = if comes == Comes::Known { &bounds.work } else { &bounds.newcomers };
        let before = places.queue.available_permits();
        let wait = || {
            let bounds = bounds.clone();
            tokio::spawn(async move { bounds.work(comes).await.is_ok() })
        };
        let waiting = (0..count).map(|_| wait()).collect();
        while before - places.queue.available_permits() < count {
            tokio::task::yield_now().await;
        }
        waiting
    }

    #[tokio::test]
    async fn one_request_too_many_waits_and_is_sent_away() {
        let bounds = Bounds::with_patience(1, Duration::from_millis(1));
        let first = bounds.work(Comes::Known).await.unwrap();
        assert_eq!(bounds.work(Comes::Known).await.unwrap_err().reason, Reason::Busy);
        drop(first);
        assert!(bounds.work(Comes::Known).await.is_ok());
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_one_too_many_is_sent_away_at_once() {
        let bounds = Bounds::with_patience(1, LONG);
        let first = bounds.work(Comes::Known).await.unwrap();
        let waiting = queue(&bounds, Comes::Known, WAITING_EACH).await;
        assert_eq!(bounds.work(Comes::Known).await.unwrap_err().reason, Reason::Busy, "without the wait");
        drop(first);
        for waited in waiting {
            assert!(waited.await.unwrap(), "who waits in the queue is answered");
        }
        assert!(bounds.work(Comes::Known).await.is_ok());
    }

    #[tokio::test]
    async fn a_storm_of_newcomers_leaves_places_to_devices_that_are_known() {
        let bounds = Bounds::with_patience(8, LONG);
        let mut places = Vec::new();
        for number in 0..6 {
            places.push(bounds.work(token(number)).await.unwrap());
        }
        let mut waiting = Vec::new();
        for number in 0..6 {
            waiting.extend(queue(&bounds, token(number), 4).await);
        }
        assert_eq!(bounds.work(token(7)).await.unwrap_err().reason, Reason::Busy, "their queue is full");
        for _ in 0..20 {
            assert!(bounds.work(Comes::Known).await.is_ok(), "a known device does not even wait");
        }
        drop(places);
        for waited in waiting {
            assert!(waited.await.unwrap());
        }
        assert!(bounds.tokens.under_way().is_empty());
    }

    #[tokio::test]
    async fn one_bulk_token_leaves_room_to_the_others_and_forged_ones_are_one() {
        for storm in [token(1), Comes::New(None)] {
            let bounds = Bounds::with_patience(8, LONG);
            let mut places = Vec::new();
            for _ in 0..6 {
                places.push(bounds.work(storm).await.unwrap());
            }
            // Of 6 places and 24 that wait, one token has 22.
            let waiting = queue(&bounds, storm, 16).await;
            assert_eq!(bounds.work(storm).await.unwrap_err().reason, Reason::Busy);
            let other = queue(&bounds, token(2), 1).await;
            drop(places);
            for waited in waiting.into_iter().chain(other) {
                assert!(waited.await.unwrap());
            }
            assert!(bounds.work(storm).await.is_ok());
        }
    }

    #[tokio::test]
    async fn who_is_sent_away_has_taken_nothing() {
        let bounds = Bounds::with_patience(8, Duration::from_millis(1));
        let mut places = Vec::new();
        for _ in 0..6 {
            places.push(bounds.work(token(1)).await.unwrap());
        }
        for _ in 0..100 {
            assert!(bounds.work(token(1)).await.is_err());
        }
        assert_eq!((bounds.work.free.available_permits(), bounds.newcomers.free.available_permits()), (2, 0));
        assert_eq!(bounds.newcomers.queue.available_permits(), 6 * WAITING_EACH);
        assert_eq!(bounds.tokens.under_way().values().sum::<usize>(), 6);
    }

    #[tokio::test]
    async fn one_place_is_for_everybody() {
        let bounds = Bounds::with_patience(1, Duration::from_millis(1));
        assert!(bounds.work(token(1)).await.is_ok());
        assert!(bounds.work(Comes::Known).await.is_ok());
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_given_up() {
        let never = within(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(never.unwrap_err().reason, Reason::Busy);
        assert_eq!(within(LONG, async { 1 }).await.unwrap(), 1);
    }
}
