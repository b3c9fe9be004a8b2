//! Refused and slow requests, on their way to the site, where `roamgate trace` finds them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::link::Event;

/// Events that wait for a tunnel; beyond it the oldest go. Some 500 bytes each.
pub const WAITING: usize = 4096;
/// Most events in one message: the bound that the site link has.
pub const AT_ONCE: usize = 256;
/// Time between two batches.
pub const SEND_EVERY: Duration = Duration::from_secs(1);
/// A request that took longer is told of, however it ended.
pub const SLOW: Duration = Duration::from_secs(5);
/// Who tells.
pub(crate) const HOP: &str = "gateway";
/// Most characters of a detail.
const DETAIL_CHARS: usize = 300;

/// The queue of events.
#[derive(Debug, Default)]
pub struct Events {
    waiting: Mutex<VecDeque<Event>>,
}

impl Events {
    /// Adds an event. When too many wait, the oldest is dropped: whoever traces looks for the latest.
    pub fn push(&self, mut event: Event) {
        if let Some((end, _)) = event.detail.char_indices().nth(DETAIL_CHARS) {
            event.detail.truncate(end);
        }
        let mut waiting = self.lock();
        if waiting.len() >= WAITING {
            waiting.pop_front();
        }
        waiting.push_back(event);
    }

    /// The oldest events, at most [`AT_ONCE`]; empty when none wait.
    pub fn take(&self) -> Vec<Event> {
        let mut waiting = self.lock();
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).collect()
    }

    /// Puts back what could not be sent, in front of what came since.
    pub fn put_back(&self, events: Vec<Event>) {
        let mut waiting = self.lock();
        for event in events.into_iter().rev() {
            if waiting.len() < WAITING {
                waiting.push_front(event);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proto::id::{Guid, RequestId};
    use proto::time::Timestamp;

    use super::*;

    fn event(number: usize) -> Event {
        Event {
            at: Timestamp::from_seconds(0),
            request: RequestId::new(Guid::nil()),
            hop: "gateway".into(),
            target: number.to_string(),
            status: 401,
            reason: None,
            detail: "ä".repeat(400),
            device: None,
            elapsed_ms: 0,
        }
    }

    #[test]
    fn the_queue_keeps_the_latest_and_gives_them_in_order() {
        let events = Events::default();
        for number in 0..WAITING + 2 {
            events.push(event(number));
        }
        let batch = events.take();
        assert_eq!(batch.len(), AT_ONCE);
        assert_eq!(batch[0].target, "2");
        assert_eq!(batch[0].detail.chars().count(), DETAIL_CHARS);
        events.put_back(batch);
        assert_eq!(events.take()[0].target, "2");
    }

    #[test]
    fn putting_back_does_not_pass_the_bound() {
        let events = Events::default();
        for number in 0..WAITING {
            events.push(event(number));
        }
        events.put_back(vec![event(9999)]);
        assert_eq!(events.lock().len(), WAITING);
    }
}
