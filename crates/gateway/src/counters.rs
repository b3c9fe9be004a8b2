//! Traffic of each published path, for the field's own line in `CMGService.log`, for the site, and for
//! `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use proto::endpoint::Endpoint;
use proto::id::RoleId;
use proto::link::EndpointCounters;
use proto::path::Door;
use proto::reason::Reason;
use runtime::metrics::{Counter, Histogram, PerThread, REQUEST_BOUNDS};
use tracing::info;

use crate::log::COMPONENT;

/// Time between two reports, as in the field.
pub const REPORT_EVERY: Duration = Duration::from_mins(5);

/// Most rows in one message to the site: some 300 bytes each, so far below the longest message.
pub(crate) const ROWS_AT_ONCE: usize = 1000;

/// A path as counters know it. Only published paths get a row, so that strangers cannot fill the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    door: Door,
    role: RoleId,
    endpoint: &'static str,
}

/// All rows.
#[derive(Debug, Default)]
pub struct Counters {
    rows: RwLock<HashMap<Key, Arc<Row>>>,
    /// Everything since the start by door and endpoint: as many as the table of endpoints has names.
    series: RwLock<BTreeMap<(&'static str, &'static str), Arc<Series>>>,
    /// What the gateway answered itself where no published path was asked for.
    elsewhere: Statuses,
    refusals: Refusals,
    total: Total,
}

/// Everything of one door and endpoint since the start, for `/metrics`.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) statuses: Statuses,
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
    pub(crate) duration: Histogram,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            statuses: Statuses::default(),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
            duration: Histogram::new(REQUEST_BOUNDS),
        }
    }
}

/// Answers by class of status.
#[derive(Debug, Default)]
pub(crate) struct Statuses([Counter; 6]);

impl Statuses {
    /// Names of the classes; the first is that of a request without an answer.
    const CLASSES: [&'static str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

    /// An answer with this status; 0: there was none.
    pub(crate) fn count(&self, status: u16) {
        if let Some(counter) = self.0.get(usize::from(status / 100)) {
            counter.count();
        }
    }

    /// The classes that occurred.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(Counter::get);
        Self::CLASSES.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Refusals by reason, one number for each row of the table of reasons.
#[derive(Debug)]
pub(crate) struct Refusals(Box<[Counter]>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| Counter::default()).collect())
    }
}

impl Refusals {
    /// The reasons that occurred.
    pub(crate) fn read(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.0.iter().map(Counter::get);
        Reason::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Counters of one path.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Since the start.
    series: Arc<Series>,
    /// Since the last report.
    window: PerThread<Window>,
}

#[derive(Debug, Default)]
struct Window {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    responses: AtomicU64,
    response_bytes: AtomicU64,
    elapsed_micros: AtomicU64,
    failed: AtomicU64,
    with_token: AtomicU64,
    concurrent: AtomicU64,
    concurrent_max: AtomicU64,
}

/// Everything since the start, for `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
}

/// How a request went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) elapsed: Duration,
    /// Of the answer; 0: there was none.
    pub(crate) status: u16,
    /// No answer, or one of 400 and above.
    pub(crate) failed: bool,
    pub(crate) answered: bool,
}

impl Counters {
    /// The row of a path.
    pub(crate) fn row(&self, door: Door, role: RoleId, endpoint: &'static Endpoint) -> Arc<Row> {
        let key = Key { door, role, endpoint: endpoint.name };
        if let Some(row) = self.rows.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(row);
        }
        let series = self.series(door, endpoint.name);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rows.entry(key).or_insert_with(|| Arc::new(Row { series, ..Row::default() })))
    }

    fn series(&self, door: Door, endpoint: &'static str) -> Arc<Series> {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(series.entry((endpoint, door.prefix())).or_default())
    }

    /// Everything since the start, with the names of endpoint and door.
    pub(crate) fn all_series(&self) -> Vec<(&'static str, &'static str, Arc<Series>)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|((endpoint, door), series)| (*endpoint, *door, Arc::clone(series))).collect()
    }

    /// A request was refused for this reason, before it was passed on or after.
    pub(crate) fn refusal(&self, reason: Reason) {
        // The table's order is that of the enum.
        if let Some(counter) = self.refusals.0.get(reason as usize) {
            counter.count();
        }
    }

    /// Refusals by reason since the start.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The gateway answered by itself, and the request named no published path: a page of its own, or a refusal.
    pub(crate) fn elsewhere(&self, status: u16) {
        self.elsewhere.count(status);
    }

    /// What was counted so.
    pub(crate) fn answered_elsewhere(&self) -> &Statuses {
        &self.elsewhere
    }

    /// Everything since the start.
    pub(crate) fn total(&self) -> &Total {
        &self.total
    }

    /// What happened since the last call, a row a path; paths without requests are left out, and forgotten
    /// when nothing is under way on them.
    pub(crate) fn take(&self) -> Vec<EndpointCounters> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<_> = rows.iter().map(|(key, row)| row.take(key.name())).collect();
        rows.retain(|_, row| Arc::strong_count(row) > 1);
        drop(rows);
        taken.retain(|row| row.requests + row.responses > 0);
        taken.sort_by(|one, other| one.name.cmp(&other.name));
        taken
    }
}

impl Key {
    /// As the field writes it: the door in upper case, the endpoint's first element as it is.
    fn name(&self) -> String {
        format!("/{}/{}/{}", self.door.prefix().to_ascii_uppercase(), self.role, self.endpoint)
    }
}

impl Row {
    /// A request has been admitted.
    pub(crate) fn begin(&self, with_token: bool) {
        let window = self.window.mine();
        add(&window.requests, 1);
        add(&window.with_token, u64::from(with_token));
        let now = window.concurrent.fetch_add(1, Ordering::Relaxed) + 1;
        window.concurrent_max.fetch_max(now, Ordering::Relaxed);
    }

    /// … and is over, on the thread on which it began.
    pub(crate) fn end(&self, traffic: Traffic) {
        let window = self.window.mine();
        window.concurrent.fetch_sub(1, Ordering::Relaxed);
        add(&window.request_bytes, traffic.request_bytes);
        add(&window.responses, u64::from(traffic.answered));
        add(&window.response_bytes, traffic.response_bytes);
        add(&window.elapsed_micros, u64::try_from(traffic.elapsed.as_micros()).unwrap_or(u64::MAX));
        add(&window.failed, u64::from(traffic.failed));
        self.series.statuses.count(traffic.status);
        self.series.request_bytes.add(traffic.request_bytes);
        self.series.response_bytes.add(traffic.response_bytes);
        self.series.duration.observe(traffic.elapsed);
    }

    /// A request was refused here with this status, `elapsed` after it came.
    pub(crate) fn refused_with(&self, with_token: bool, status: u16, elapsed: Duration) {
        self.begin(with_token);
        self.end(Traffic { failed: true, answered: true, status, elapsed, ..Traffic::default() });
    }

    fn take(&self, name: String) -> EndpointCounters {
        let take = |counter: fn(&Window) -> &AtomicU64| {
            self.window.all().map(|window| counter(window).swap(0, Ordering::Relaxed)).sum()
        };
        // The threads had their highest at different moments, so this may be a little more than there ever were
        // at one. What is under way goes on into the next window.
        let highest = |window: &Window| {
            window.concurrent_max.swap(window.concurrent.load(Ordering::Relaxed), Ordering::Relaxed)
        };
        EndpointCounters {
            name,
            requests: take(|window| &window.requests),
            request_bytes: take(|window| &window.request_bytes),
            responses: take(|window| &window.responses),
            response_bytes: take(|window| &window.response_bytes),
            elapsed_micros: take(|window| &window.elapsed_micros),
            failed: take(|window| &window.failed),
            with_token: take(|window| &window.with_token),
            concurrent_max: self.window.all().map(highest).sum(),
        }
    }
}

impl Total {
    pub(crate) fn end(&self, traffic: Traffic) {
        self.failed.add(u64::from(traffic.failed));
        self.request_bytes.add(traffic.request_bytes);
        self.response_bytes.add(traffic.response_bytes);
    }

    pub(crate) fn refused(&self) {
        self.refused.count();
    }
}

fn add(counter: &AtomicU64, value: u64) {
    if value > 0 {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}

/// The field's line [docs], letter by letter.
pub(crate) fn field_line(row: &EndpointCounters) -> String {
    let average = row.elapsed_micros.checked_div(row.responses).unwrap_or(0) / 1000;
    format!(
        "RequestUri: {}  RequestCount: {}  RequestSize: {} Bytes  ResponseCount: {}  ResponseSize: {} Bytes  \
         AverageElapsedTime: {average} ms",
        row.name, row.requests, row.request_bytes, row.responses, row.response_bytes
    )
}

/// Writes the lines of one report.
pub(crate) fn log(rows: &[EndpointCounters]) {
    for row in rows {
        info!(component = COMPONENT, verbatim = true, "{}", field_line(row));
    }
}

#[cfg(test)]
mod tests {
    use proto::endpoint;

    use super::*;

    fn sts() -> &'static Endpoint {
        endpoint::find("/CCM_STS").unwrap()
    }

    #[test]
    fn the_line_is_the_fields_own() {
        let counters = Counters::default();
        let row = counters.row(Door::ServerAuth, RoleId::new(72_057_594_037_937_981), sts());
        row.begin(true);
        row.end(Traffic {
            request_bytes: 1974,
            response_bytes: 1566,
            elapsed: Duration::from_micros(218_900),
            status: 200,
            failed: false,
            answered: true,
        });
        let rows = counters.take();
        assert_eq!(
            rows.iter().map(field_line).collect::<Vec<_>>(),
            ["RequestUri: /CCM_PROXY_SERVERAUTH/72057594037937981/CCM_STS  RequestCount: 1  \
              RequestSize: 1974 Bytes  ResponseCount: 1  ResponseSize: 1566 Bytes  AverageElapsedTime: 218 ms"]
        );
        assert_eq!(rows[0].with_token, 1);
        assert!(counters.take().is_empty(), "a report begins a new window");
    }

    #[test]
    fn requests_under_way_are_counted_as_concurrent_across_reports() {
        let counters = Counters::default();
        let row = counters.row(Door::MutualAuth, RoleId::FIRST, sts());
        row.begin(true);
        row.begin(true);
        assert_eq!(counters.take()[0].concurrent_max, 2);
        row.end(Traffic::default());
        row.end(Traffic { answered: true, ..Traffic::default() });
        let rows = counters.take();
        assert_eq!((rows[0].requests, rows[0].responses, rows[0].concurrent_max), (0, 1, 2));
    }

    #[test]
    fn an_average_over_nothing_is_nothing() {
        let counters = Counters::default();
        counters.row(Door::MutualAuth, RoleId::FIRST, sts()).begin(false);
        let row = counters.take().remove(0);
        assert!(
            field_line(&row).ends_with("ResponseCount: 0  ResponseSize: 0 Bytes  AverageElapsedTime: 0 ms")
        );
    }

    #[test]
    fn what_was_reported_still_counts_since_the_start() {
        let counters = Counters::default();
        for status in [200, 503] {
            let row = counters.row(Door::ServerAuth, RoleId::FIRST, sts());
            row.begin(true);
            row.end(Traffic { status, request_bytes: 10, ..Traffic::default() });
            drop(row);
            counters.take();
        }
        counters.row(Door::ServerAuth, RoleId::FIRST, sts()).refused_with(
            false,
            401,
            Duration::from_millis(3),
        );
        let series = counters.all_series();
        let [("CCM_STS", "CCM_Proxy_ServerAuth", series)] = &series[..] else { panic!("{series:?}") };
        assert_eq!(series.statuses.read().collect::<Vec<_>>(), [("2xx", 1), ("4xx", 1), ("5xx", 1)]);
        assert_eq!((series.request_bytes.get(), series.duration.read().count), (20, 3));
    }

    #[test]
    fn every_reason_has_a_number_of_its_own() {
        let counters = Counters::default();
        for reason in Reason::ALL {
            counters.refusal(*reason);
        }
        counters.refusal(Reason::NoTunnel);
        let twice = |reason| if reason == Reason::NoTunnel { 2 } else { 1 };
        let expected: Vec<_> = Reason::ALL.iter().map(|reason| (*reason, twice(*reason))).collect();
        assert_eq!(counters.refusals().read().collect::<Vec<_>>(), expected);
    }
}
