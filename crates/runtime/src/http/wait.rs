//! One clock for all that a connection waits for in turn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Stands for moments that an instant cannot hold.
const FAR: Duration = Duration::from_hours(30 * 365 * 24);

/// Since when is waited, and a timer that is kept from one wait to the next.
///
/// A timer is dear to set and cheap to leave alone. A busy connection begins a wait thousands of times a second and
/// ends it in time, so the timer is not moved with each: it goes off at the moment that an earlier wait had set, and
/// is then set to what matters by now.
#[derive(Debug, Default)]
pub(super) struct Wait {
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// What was waited for has come. The next [`Wait::poll`] begins anew.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Waits, from now on if it did not already. Ready when that has lasted for `limit`, at this and at each further
    /// call; the limit may be another one each time.
    pub(super) fn poll(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let until = since.checked_add(limit).unwrap_or_else(|| since + FAR);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() == until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(5);

    fn look(wait: &mut Wait, limit: Duration) -> Poll<()> {
        wait.poll(limit, &mut Context::from_waker(Waker::noop()))
    }

    fn set_to(wait: &Wait) -> Instant {
        wait.timer.as_ref().unwrap().deadline()
    }

    #[tokio::test]
    async fn the_timer_stays_where_it_is_while_waits_come_and_go() {
        let mut wait = Wait::default();
        assert!(look(&mut wait, LONG).is_pending());
        let first = set_to(&wait);
        for _ in 0..3 {
            wait.end();
            assert!(!wait.has_begun());
            assert!(look(&mut wait, LONG).is_pending());
        }
        assert_eq!(set_to(&wait), first);
        assert!(look(&mut wait, LONG / 2).is_pending());
        assert!(set_to(&wait) < first, "what ends earlier moves it");
        assert!(look(&mut wait, Duration::MAX).is_pending(), "what cannot be counted is as good as for ever");
    }

    #[tokio::test]
    async fn a_timer_of_an_earlier_wait_does_not_end_the_present_one() {
        let mut wait = Wait::default();
        poll_fn(|cx| wait.poll(SHORT, cx)).await;
        assert!(look(&mut wait, SHORT).is_ready(), "it stays over");
        assert!(look(&mut wait, LONG).is_pending(), "not by another limit");
        assert_eq!(set_to(&wait), wait.since.unwrap() + LONG);
        wait.end();
        let before = Instant::now();
        poll_fn(|cx| wait.poll(SHORT, cx)).await;
        assert!(Instant::now() >= before + SHORT);
    }
}
