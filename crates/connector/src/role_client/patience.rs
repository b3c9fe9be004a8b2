//! Time limits that cost next to nothing while everybody keeps them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one wait after another, kept with the connection that is waited for. It is set once, and when it rings
/// too early, because its wait has long ended, it is set to what is waited for now: so a connection that is busy for
/// a minute touches the timers of its thread once, and not with every request.
#[derive(Debug, Default)]
pub(crate) struct Patience(Option<Pin<Box<Sleep>>>);

/// The limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Patience {
    /// Waits for `work`, but not longer than `until`.
    pub(crate) async fn until<T>(
        &mut self,
        until: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, Exhausted> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(until, cx).map(Err),
        })
        .await
    }

    /// The same with a limit that begins when `work` must be waited for; where it need not, no clock is read.
    pub(crate) async fn within<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Exhausted> {
        let mut work = pin!(work);
        let mut until = None;
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(*until.get_or_insert_with(|| Instant::now() + limit), cx).map(Err),
        })
        .await
    }

    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<Exhausted> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(Exhausted);
            }
            timer.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn each_wait_has_its_whole_time_whatever_was_waited_for_before() {
        let mut patience = Patience::default();
        let began = Instant::now();
        assert_eq!(patience.within(20 * MOMENT, tokio::time::sleep(MOMENT)).await, Ok(()));
        // The timer still stands at 20 ms after the beginning, and rings too early for this one.
        let (second, limit) = (Instant::now(), 40 * MOMENT);
        assert_eq!(patience.within(limit, pending::<()>()).await, Err(Exhausted));
        assert!(second.elapsed() >= limit && began.elapsed() > limit);
        // It has rung.
        assert_eq!(patience.within(10_000 * MOMENT, tokio::time::sleep(MOMENT)).await, Ok(()));
        // Now it stands far too late.
        let soon = Instant::now() + MOMENT;
        assert_eq!(patience.until(soon, pending::<()>()).await, Err(Exhausted));
        assert!(soon.elapsed() < 5_000 * MOMENT);
    }

    #[tokio::test]
    async fn what_is_there_is_taken_without_a_timer() {
        let mut patience = Patience::default();
        assert_eq!(patience.within(MOMENT, ready(7)).await, Ok(7));
        assert!(patience.0.is_none());
    }
}
