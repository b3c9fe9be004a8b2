//! What is kept of a request from its admission to its last byte: its place, its counters, its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::{Method, Uri};
use proto::id::{ClientId, RequestId};
use proto::link::Event;
use proto::time::Timestamp;
use tokio::sync::Notify;
use tracing::{Span, debug};

use crate::counters::{Counters, Row, Traffic};
use crate::events::{Events, HOP, SLOW};
use crate::limit::UnderWay;
use crate::log::COMPONENT;

/// The requests under way, and how many there may be.
#[derive(Debug)]
pub(crate) struct InFlight {
    count: AtomicUsize,
    limit: usize,
    /// Those whose body is still read before they take a place.
    arriving: AtomicUsize,
    none_left: Notify,
}

impl InFlight {
    pub(crate) fn new(limit: usize) -> Self {
        Self { count: AtomicUsize::new(0), limit, arriving: AtomicUsize::new(0), none_left: Notify::new() }
    }

    /// A request's body begins to be read. It takes no place yet: whoever drips a body holds its own connection and
    /// nobody else's room.
    pub(crate) fn arrive(&self) -> Arriving<'_> {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        Arriving(self)
    }

    /// A place, if one is free.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let take = |count| (count < self.limit).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// How many have a place.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Resolves when none has a place, and none is about to take one.
    pub(crate) async fn none_left(&self) {
        loop {
            let notified = self.none_left.notified();
            // In this order: a request takes its place before it has arrived.
            if self.arriving.load(Ordering::Acquire) == 0 && self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A request whose body is being read.
#[derive(Debug)]
pub(crate) struct Arriving<'a>(&'a InFlight);

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if self.0.arriving.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

/// One request's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<InFlight>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

/// Where tickets are handed in.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) counters: Counters,
    pub(crate) events: Events,
}

/// What a request is called.
#[derive(Debug)]
pub(crate) struct About {
    /// When it came, for measuring.
    pub(crate) began: Instant,
    /// When it came, for people.
    pub(crate) at: Timestamp,
    pub(crate) request: RequestId,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// Who sent it, where that was proved.
    pub(crate) device: Option<ClientId>,
    /// The request as a whole, for whoever collects traces.
    pub(crate) step: Span,
}

/// Method and path, without the query: for people, in the log and at the site.
pub(crate) fn name_of(method: &Method, uri: &Uri) -> String {
    let path: String = uri.path().chars().take(300).collect();
    let method = method.as_str();
    format!("{} {path}", method.get(..20).unwrap_or(method))
}

/// A request under way. Dropping it, however that comes, writes its counters, and tells the site if it
/// was slow.
#[derive(Debug)]
pub(crate) struct Ticket {
    ledger: Arc<Ledger>,
    row: Arc<Row>,
    _place: Place,
    _under_way: UnderWay,
    about: About,
    traffic: Traffic,
}

impl Ticket {
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        row: Arc<Row>,
        place: Place,
        under_way: UnderWay,
        about: About,
    ) -> Self {
        row.begin(true);
        let traffic = Traffic { failed: true, ..Traffic::default() };
        Self { ledger, row, _place: place, _under_way: under_way, about, traffic }
    }

    /// So many bytes of the request's body have come.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.traffic.request_bytes = bytes;
    }

    /// An answer is on its way, ours or the role's.
    pub(crate) fn answered(&mut self, status: u16) {
        self.traffic.status = status;
        self.about.step.record("status", status);
        self.traffic.answered = true;
        self.traffic.failed = status >= 400;
    }

    /// A part of the answer was taken.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.traffic.response_bytes += bytes as u64;
    }

    /// The answer broke off.
    pub(crate) fn broke_off(&mut self) {
        self.traffic.failed = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.traffic.elapsed = self.about.began.elapsed();
        self.row.end(self.traffic);
        self.ledger.counters.total().end(self.traffic);
        let elapsed_ms = u64::try_from(self.traffic.elapsed.as_millis()).unwrap_or(u64::MAX);
        let about = &self.about;
        debug!(
            component = COMPONENT, request_id = %about.request,
            method = %about.method,
            path = about.uri.path(),
            status = self.traffic.status,
            elapsed_ms,
            response_bytes = self.traffic.response_bytes,
            "request passed"
        );
        if self.traffic.elapsed >= SLOW {
            self.ledger.events.push(Event {
                at: about.at,
                request: about.request,
                hop: HOP.to_owned(),
                target: name_of(&about.method, &about.uri),
                status: self.traffic.status,
                reason: None,
                detail: "slow".to_owned(),
                device: about.device,
                elapsed_ms,
            });
        }
    }
}
