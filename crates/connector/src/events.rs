//! Refused and slow requests, for `roamgate trace`: ours, and what gateways report.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use proto::id::RequestId;
use proto::limits;
use proto::link::{EndpointCounters, Event, Up};
use proto::time::Timestamp;

/// Most events in one message.
pub(crate) const MESSAGE_EVENTS: usize = 256;
/// Most events that wait to be sent; the oldest goes when another comes.
const WAITING: usize = 2048;
/// Longest cause in characters.
const DETAIL_CHARS: usize = 300;
/// Most rows of counters that are taken from a gateway at once: two doors, seven endpoints, and many roles.
const COUNTER_ROWS: usize = 1024;

/// Our own events that wait.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<VecDeque<Event>>);

/// Something to report.
#[derive(Debug)]
pub(crate) struct Occurrence<'a> {
    pub(crate) at: Timestamp,
    pub(crate) request: RequestId,
    pub(crate) method: &'a str,
    /// As the gateway sent it; the query is left out.
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) detail: String,
    pub(crate) elapsed_ms: u64,
}

impl Events {
    /// Notes one.
    pub(crate) fn note(&self, what: Occurrence<'_>) {
        let path = what.target.split('?').next().unwrap_or_default();
        let event = Event {
            at: what.at,
            request: what.request,
            hop: "connection-point".to_owned(),
            target: text(&format!("{} {path}", what.method), limits::TARGET_BYTES),
            status: what.status,
            reason: what.reason.map(|reason| text(&reason, 16)),
            detail: text(&what.detail, DETAIL_CHARS),
            device: None,
            elapsed_ms: what.elapsed_ms,
        };
        let mut waiting = self.lock();
        if waiting.len() >= WAITING {
            waiting.pop_front();
        }
        waiting.push_back(event);
    }

    /// Everything that waits, in messages of at most [`MESSAGE_EVENTS`].
    pub(crate) fn take(&self) -> Vec<Up> {
        let waiting: Vec<Event> = std::mem::take(&mut *self.lock()).into();
        waiting.chunks(MESSAGE_EVENTS).map(|events| Up::Events { events: events.to_vec() }).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gateway's events, fit to be passed up: a gateway may say anything, also that it is another hop.
pub(crate) fn of_gateway(events: Vec<Event>) -> Up {
    let events = events.into_iter().take(MESSAGE_EVENTS).map(|event| Event {
        hop: "gateway".to_owned(),
        target: text(&event.target, limits::TARGET_BYTES),
        reason: event.reason.map(|reason| text(&reason, 16)),
        detail: text(&event.detail, DETAIL_CHARS),
        ..event
    });
    Up::Events { events: events.collect() }
}

/// A gateway's counters, fit to be passed up.
pub(crate) fn counters_of_gateway(endpoints: Vec<EndpointCounters>) -> Vec<EndpointCounters> {
    endpoints
        .into_iter()
        .take(COUNTER_ROWS)
        .map(|row| EndpointCounters { name: text(&row.name, limits::NAME_CHARS), ..row })
        .collect()
}

/// At most so many characters, without control characters.
fn text(value: &str, chars: usize) -> String {
    value.chars().filter(|c| !c.is_control()).take(chars).collect()
}

#[cfg(test)]
mod tests {
    use proto::id::Guid;

    use super::*;

    fn occurrence(detail: &str) -> Occurrence<'_> {
        Occurrence {
            at: Timestamp::from_seconds(1),
            request: RequestId::new(Guid::nil()),
            method: "GET",
            target: "/SMS_MP/.sms_pol?secret",
            status: 502,
            reason: Some("RG-2101".into()),
            detail: detail.into(),
            elapsed_ms: 3,
        }
    }

    #[test]
    fn an_event_names_the_path_and_not_the_query() {
        let events = Events::default();
        events.note(occurrence(&"x\n".repeat(1000)));
        let [Up::Events { events: sent }] = &events.take()[..] else { panic!("one message") };
        assert_eq!(sent[0].target, "GET /SMS_MP/.sms_pol");
        assert_eq!(sent[0].detail, "x".repeat(DETAIL_CHARS));
        assert!(events.take().is_empty());
    }

    #[test]
    fn of_many_events_the_latest_are_kept_and_sent_in_portions() {
        let events = Events::default();
        for number in 0..3000 {
            events.note(occurrence(&number.to_string()));
        }
        let messages = events.take();
        let sizes = messages.iter().map(|up| if let Up::Events { events } = up { events.len() } else { 0 });
        assert_eq!(sizes.sum::<usize>(), WAITING);
        let Some(Up::Events { events: last }) = messages.last() else { panic!("events") };
        assert_eq!(last.last().unwrap().detail, "2999");
        assert!(messages.len() == WAITING / MESSAGE_EVENTS);
    }

    #[test]
    fn a_gateway_cannot_speak_for_another_hop() {
        let events = Events::default();
        events.note(occurrence("x"));
        let Some(Up::Events { events: sent }) = events.take().pop() else { panic!("events") };
        let Up::Events { events: passed } = of_gateway(sent) else { panic!("events") };
        assert_eq!(passed[0].hop, "gateway");
    }
}
