//! Whose handshake is begun next.
//!
//! After an outage thousands greet in one moment. Were all their handshakes begun at once, each would wait for the
//! slices of all others: they would end together, seconds later, and send their first requests together. So they are
//! begun in the order in which they came, a few at a time, and each that is done goes on while the next begin. What
//! else the thread has to do gets its turn in between: requests, and the tunnel without which none can be answered.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Handshakes that are begun before the thread's other tasks get their turn: two or three milliseconds of work.
const AT_ONCE: usize = 8;
/// The same for those that come first.
const FIRST_AT_ONCE: usize = 4;

/// The turns of one listener. Nobody keeps one while it waits for its peer, so that a peer that says nothing more
/// delays nobody.
#[derive(Debug)]
pub(super) struct Turns {
    common: Semaphore,
    first: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self { common: Semaphore::new(AT_ONCE), first: Semaphore::new(FIRST_AT_ONCE) }
    }
}

impl Turns {
    /// Begins a handshake when its turn has come, and makes it. `begin` costs a signature. With `is_first` it waits only
    /// for others that come first.
    pub(super) async fn take<F: Future>(&self, is_first: bool, begin: impl FnOnce() -> F) -> F::Output {
        let turn = if is_first { &self.first } else { &self.common }.acquire().await;
        let mut handshake = pin!(begin());
        // Our first words go out before others get their turn.
        let step = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
        if let Poll::Ready(made) = step {
            return made;
        }
        yield_now().await;
        drop(turn);
        handshake.await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    type Handshakes<'t> = Vec<Pin<Box<dyn Future<Output = ()> + 't>>>;

    /// Handshakes with these numbers, whose peers say nothing after their ClientHello. Each notes that it was begun.
    fn with_silent_peers<'t>(
        turns: &'t Turns,
        begun: &'t RefCell<Vec<usize>>,
        count: usize,
    ) -> Handshakes<'t> {
        let make = |number| -> Pin<Box<dyn Future<Output = ()> + 't>> {
            Box::pin(turns.take(false, move || {
                begun.borrow_mut().push(number);
                pending()
            }))
        };
        (0..count).map(make).collect()
    }

    /// One turn of the thread's tasks.
    fn pass(handshakes: &mut Handshakes<'_>) {
        for handshake in handshakes {
            assert!(handshake.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }

    #[test]
    fn a_flood_is_begun_in_order_a_few_at_a_time_and_no_silent_peer_holds_it_up() {
        let (turns, begun) = (Turns::default(), RefCell::default());
        let mut flood = with_silent_peers(&turns, &begun, 100);
        for passes in 1..=100_usize.div_ceil(AT_ONCE) {
            pass(&mut flood);
            assert_eq!(begun.borrow().len(), (passes * AT_ONCE).min(100));
        }
        assert!(begun.borrow().is_sorted());
    }

    #[test]
    fn those_that_come_first_do_not_wait_for_the_flood_but_for_each_other() {
        let (turns, begun) = (Turns::default(), RefCell::default());
        let mut flood = with_silent_peers(&turns, &begun, 1000);
        pass(&mut flood);
        let mut tunnels: Handshakes<'_> = Vec::new();
        for number in 2000..=2000 + FIRST_AT_ONCE {
            let begun = &begun;
            tunnels.push(Box::pin(turns.take(true, move || {
                begun.borrow_mut().push(number);
                pending()
            })));
        }
        pass(&mut tunnels);
        let are_begun = |count| begun.borrow().iter().filter(|number| **number >= 2000).count() == count;
        assert!(are_begun(FIRST_AT_ONCE));
        pass(&mut tunnels);
        assert!(are_begun(FIRST_AT_ONCE + 1));
    }

    #[test]
    fn the_turn_of_a_peer_that_went_away_passes_to_the_next() {
        let (turns, begun) = (Turns::default(), RefCell::default());
        let mut flood = with_silent_peers(&turns, &begun, 2 * AT_ONCE);
        pass(&mut flood);
        flood.drain(..AT_ONCE);
        pass(&mut flood);
        assert_eq!(begun.borrow().len(), 2 * AT_ONCE);
    }
}
