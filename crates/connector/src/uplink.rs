//! Messages that wait to go up to the site. Bounded by bytes: without a link, old reports make
//! room for new ones.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::limits::LINK_MESSAGE_BYTES;
use proto::link::Up;
use tokio::sync::Notify;
use tracing::warn;

use crate::log::COMPONENT;

/// Most bytes of reports (counters, events) that wait.
const REPORT_BYTES: usize = 4 * 1024 * 1024;
/// Most messages about state that wait. They are few, small, and said again by each new link.
const STATE_MESSAGES: usize = 4096;

/// The messages.
#[derive(Debug, Default)]
pub(crate) struct Uplink {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    has_link: bool,
    states: VecDeque<Bytes>,
    reports: VecDeque<Bytes>,
    report_bytes: usize,
}

impl Uplink {
    /// Begins with these messages on a link that has just come up; what was to be said about state before
    /// is out of date.
    pub(crate) fn begin(&self, first: impl IntoIterator<Item = Up>) {
        let mut waiting = self.lock();
        waiting.has_link = true;
        waiting.states = first.into_iter().filter_map(|up| encode(&up)).collect();
        drop(waiting);
        self.more.notify_one();
    }

    /// Whether a link is up.
    pub(crate) fn has_link(&self) -> bool {
        self.lock().has_link
    }

    /// The link is gone.
    pub(crate) fn end(&self) {
        let mut waiting = self.lock();
        waiting.has_link = false;
        waiting.states.clear();
    }

    /// Says how things are. Without a link nothing is kept: the next one begins with the whole state.
    pub(crate) fn state(&self, messages: impl IntoIterator<Item = Up>) {
        let mut waiting = self.lock();
        if !waiting.has_link {
            return;
        }
        for message in messages {
            if waiting.states.len() >= STATE_MESSAGES {
                waiting.states.pop_front();
            }
            waiting.states.extend(encode(&message));
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Reports what has happened; kept until a link takes it, or newer reports need the room.
    pub(crate) fn report(&self, message: &Up) {
        let Some(bytes) = encode(message) else { return };
        let mut waiting = self.lock();
        waiting.report_bytes += bytes.len();
        waiting.reports.push_back(bytes);
        while waiting.report_bytes > REPORT_BYTES
            && let Some(oldest) = waiting.reports.pop_front()
        {
            waiting.report_bytes -= oldest.len();
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// The next message; state goes before reports. Safe to drop and ask again.
    pub(crate) async fn next(&self) -> Bytes {
        loop {
            if let Some(bytes) = self.try_next() {
                return bytes;
            }
            self.more.notified().await;
        }
    }

    /// The next message, if one waits.
    pub(crate) fn try_next(&self) -> Option<Bytes> {
        let mut waiting = self.lock();
        if let Some(state) = waiting.states.pop_front() {
            return Some(state);
        }
        let report = waiting.reports.pop_front()?;
        waiting.report_bytes -= report.len();
        Some(report)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(message: &Up) -> Option<Bytes> {
    match serde_json::to_vec(message) {
        Ok(bytes) if bytes.len() <= LINK_MESSAGE_BYTES => Some(bytes.into()),
        Ok(bytes) => {
            warn!(component = COMPONENT, bytes = bytes.len(), "message to the site too long, dropped");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(detail_bytes: usize) -> Up {
        Up::Hello { program: "x".repeat(detail_bytes), version: 0 }
    }

    #[tokio::test]
    async fn state_is_said_only_on_a_link_and_goes_first() {
        let uplink = Uplink::default();
        uplink.state([Up::NeedSnapshot { have: 1 }]);
        uplink.report(&report(1));
        uplink.begin([Up::NeedSnapshot { have: 2 }]);
        uplink.state([Up::NeedSnapshot { have: 3 }]);
        let mut said = Vec::new();
        for _ in 0..3 {
            said.push(String::from_utf8(uplink.next().await.to_vec()).unwrap());
        }
        assert!(said[0].contains('2') && said[1].contains('3') && said[2].contains("hello"), "{said:?}");
        assert!(uplink.try_next().is_none());
    }

    #[test]
    fn without_a_link_the_latest_reports_are_kept_within_the_bound() {
        let uplink = Uplink::default();
        for _ in 0..10 {
            uplink.report(&report(1_000_000));
        }
        uplink.report(&report(7));
        let mut kept = Vec::new();
        while let Some(bytes) = uplink.try_next() {
            kept.push(bytes.len());
        }
        assert!(kept.iter().sum::<usize>() <= REPORT_BYTES);
        assert!(kept.len() == 5 && *kept.last().unwrap() < 100, "{kept:?}");
    }

    #[test]
    fn a_message_beyond_the_links_bound_is_dropped() {
        let uplink = Uplink::default();
        uplink.report(&report(LINK_MESSAGE_BYTES));
        assert!(uplink.try_next().is_none());
    }
}
