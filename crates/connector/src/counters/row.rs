//! What is counted of one endpoint, gateway and role.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use proto::link::EndpointCounters;
use runtime::metrics::{Counter, Histogram, PerThread, REQUEST_BOUNDS};

/// Counts of one key in the window; what is under way counts on into the next.
#[derive(Debug)]
pub(super) struct Row {
    /// The gateway's host, and the role's, when the row was made.
    pub(super) hosts: (String, String),
    series: Arc<Series>,
    counts: PerThread<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    responses: AtomicU64,
    response_bytes: AtomicU64,
    elapsed_micros: AtomicU64,
    failed: AtomicU64,
    with_token: AtomicU64,
    concurrent: Concurrent,
}

/// How many are under way on one thread, and the most there were. A request ends on the thread on which it began.
#[derive(Debug, Default)]
pub(super) struct Concurrent {
    now: AtomicI64,
    most: AtomicI64,
}

impl Concurrent {
    pub(super) fn begin(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        if now > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(super) fn end(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are under way on all threads.
    pub(super) fn now<'a>(all: impl Iterator<Item = &'a Self>) -> u64 {
        let sum = all.map(|one| one.now.load(Ordering::Relaxed)).sum::<i64>();
        u64::try_from(sum).unwrap_or_default()
    }

    /// The most since the last call, what is under way included. Each thread had its most at a moment of its own, so
    /// the sum may be a little more than there ever were.
    pub(super) fn take<'a>(all: impl Iterator<Item = &'a Self>) -> u64 {
        let most = |one: &Self| one.most.swap(one.now.load(Ordering::Relaxed), Ordering::Relaxed);
        u64::try_from(all.map(most).sum::<i64>()).unwrap_or_default()
    }
}

impl Row {
    pub(super) fn new(hosts: (String, String), series: Arc<Series>) -> Self {
        Self { hosts, series, counts: PerThread::default() }
    }

    pub(super) fn begin(&self, with_token: bool) {
        let counts = self.counts.mine();
        add(&counts.requests, 1);
        add(&counts.with_token, u64::from(with_token));
        counts.concurrent.begin();
    }

    pub(super) fn end(&self, outcome: Outcome) {
        let counts = self.counts.mine();
        counts.concurrent.end();
        add(&counts.request_bytes, outcome.request_bytes);
        add(&counts.responses, u64::from(outcome.response_bytes.is_some()));
        add(&counts.response_bytes, outcome.response_bytes.unwrap_or(0));
        add(&counts.elapsed_micros, u64::try_from(outcome.elapsed.as_micros()).unwrap_or(u64::MAX));
        add(&counts.failed, u64::from(outcome.failed));
        self.series.end(outcome);
    }

    /// What was counted since the last call, under the endpoint's name.
    pub(super) fn take(&self, name: &str) -> EndpointCounters {
        let take = |counter: fn(&Counts) -> &AtomicU64| {
            self.counts.all().map(|counts| counter(counts).swap(0, Ordering::Relaxed)).sum()
        };
        EndpointCounters {
            name: name.to_owned(),
            requests: take(|counts| &counts.requests),
            request_bytes: take(|counts| &counts.request_bytes),
            responses: take(|counts| &counts.responses),
            response_bytes: take(|counts| &counts.response_bytes),
            elapsed_micros: take(|counts| &counts.elapsed_micros),
            failed: take(|counts| &counts.failed),
            with_token: take(|counts| &counts.with_token),
            concurrent_max: Concurrent::take(self.counts.all().map(|counts| &counts.concurrent)),
        }
    }
}

fn add(counter: &AtomicU64, value: u64) {
    if value > 0 {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Bytes of the request's body.
    pub(crate) request_bytes: u64,
    /// Bytes of the answer's body; `None`: the role gave no answer.
    pub(crate) response_bytes: Option<u64>,
    /// From head to end.
    pub(crate) elapsed: Duration,
    /// What the role answered; 0: nothing.
    pub(crate) status: u16,
    /// Refused by the role (4xx, 5xx), or not answered in full.
    pub(crate) failed: bool,
}

/// Everything of one role and endpoint since the start. Roles are as many as the site has, endpoints as many as the
/// table.
#[derive(Debug)]
pub(crate) struct Series {
    /// By class of the status; the first is that of requests without an answer of the role.
    statuses: [Counter; 6],
    /// From a request's head to the end of its answer.
    pub(crate) duration: Histogram,
    /// Bytes of request bodies.
    pub(crate) request_bytes: Counter,
    /// Bytes of answer bodies.
    pub(crate) response_bytes: Counter,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            statuses: Default::default(),
            duration: Histogram::new(REQUEST_BOUNDS),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
        }
    }
}

impl Series {
    const CLASSES: [&'static str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

    /// The classes of status that occurred.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.statuses.iter().map(Counter::get);
        Self::CLASSES.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    fn end(&self, outcome: Outcome) {
        if let Some(counter) = self.statuses.get(usize::from(outcome.status / 100)) {
            counter.count();
        }
        self.duration.observe(outcome.elapsed);
        self.request_bytes.add(outcome.request_bytes);
        self.response_bytes.add(outcome.response_bytes.unwrap_or(0));
    }
}
