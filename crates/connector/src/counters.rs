//! Traffic by endpoint, under the field's names: a line in the log and a message to the site
//! every five minutes, and for `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use proto::id::{Guid, RoleId};
use proto::link::{EndpointCounters, GatewayTarget, Up};
use proto::reason::Reason;
use proto::time::Timestamp;
use runtime::metrics::{Counter, Histogram, REQUEST_BOUNDS};

use crate::request::Plan;

/// Time between two reports, as in the field [docs].
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_mins(5);

/// Most rows of one window: endpoints times gateways times roles. What comes on top is not counted.
const ROW_LIMIT: usize = 10_000;

/// Everything that is counted: since the last report for the field's line, and since the start for `/metrics`.
#[derive(Debug)]
pub(crate) struct Counters {
    window: Mutex<Window>,
    concurrent: Concurrent,
    series: RwLock<BTreeMap<(RoleId, &'static str), Arc<Series>>>,
    refusals: Box<[Counter]>,
}

#[derive(Debug)]
struct Window {
    from: Timestamp,
    rows: HashMap<Key, Arc<Row>>,
}

/// Endpoint name, gateway and role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    endpoint: &'static str,
    gateway: Guid,
    role: RoleId,
}

/// Counts of one key in the window; what is under way counts on into the next.
#[derive(Debug)]
struct Row {
    proxy: String,
    /// The role's host when the row was made.
    target: String,
    series: Arc<Series>,
    requests: AtomicU64,
    request_bytes: AtomicU64,
    responses: AtomicU64,
    response_bytes: AtomicU64,
    elapsed_micros: AtomicU64,
    failed: AtomicU64,
    with_token: AtomicU64,
    concurrent: Concurrent,
}

/// How many are under way, and the most there were.
#[derive(Debug, Default)]
struct Concurrent {
    now: AtomicU64,
    most: AtomicU64,
}

impl Concurrent {
    fn begin(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    fn end(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    /// The most since the last call, what is under way included.
    fn take(&self) -> u64 {
        self.most.swap(self.now.load(Ordering::Relaxed), Ordering::Relaxed)
    }
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

/// What became of connections to roles.
#[derive(Debug, Default)]
pub(crate) struct RoleConnections {
    /// Made anew.
    pub(crate) opened: Counter,
    /// Taken from those that were kept.
    pub(crate) reused: Counter,
    /// Kept after a request.
    pub(crate) kept: Counter,
    /// Kept ones that proved closed, so that the request went out once more.
    pub(crate) stale: Counter,
}

/// A request under way. Dropped without [`Begun::end`] it counts as failed: its tunnel was lost.
#[derive(Debug)]
#[must_use]
pub(crate) struct Begun<'a> {
    counters: &'a Counters,
    row: Option<Arc<Row>>,
    outcome: Outcome,
}

impl Begun<'_> {
    /// Counts how it ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.counters.concurrent.end();
        if let Some(row) = &self.row {
            row.end(self.outcome);
        }
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

/// One closed window.
#[derive(Debug)]
pub(crate) struct Report {
    from: Timestamp,
    to: Timestamp,
    concurrent_max: u64,
    rows: Vec<Counted>,
}

/// One row of it.
#[derive(Debug)]
struct Counted {
    proxy: String,
    target: String,
    counts: EndpointCounters,
}

impl Counters {
    /// An empty window.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            window: Mutex::new(Window { from: now, rows: HashMap::new() }),
            concurrent: Concurrent::default(),
            series: RwLock::default(),
            refusals: Reason::ALL.iter().map(|_| Counter::default()).collect(),
        }
    }

    /// Counts a request that is about to be forwarded.
    pub(crate) fn begin(&self, gateway: &GatewayTarget, plan: &Plan) -> Begun<'_> {
        let key = Key { endpoint: plan.endpoint.name, gateway: gateway.gateway, role: plan.role.id };
        let row = self.row(key, || (gateway.host.clone(), plan.role.host.clone()));
        self.concurrent.begin();
        if let Some(row) = &row {
            add(&row.requests, 1);
            add(&row.with_token, u64::from(plan.has_token()));
            row.concurrent.begin();
        }
        Begun { counters: self, row, outcome: Outcome { failed: true, ..Outcome::default() } }
    }

    /// A request was refused here, before it was forwarded or because the role gave no answer.
    pub(crate) fn refusal(&self, reason: Reason) {
        // The table's order is that of the enum.
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.count();
        }
    }

    /// Refusals since the start; reasons that occurred.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.refusals.iter().map(Counter::get);
        Reason::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.concurrent.now.load(Ordering::Relaxed)
    }

    /// Everything since the start, by role and endpoint.
    pub(crate) fn all_series(&self) -> Vec<(RoleId, &'static str, Arc<Series>)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|((role, endpoint), series)| (*role, *endpoint, Arc::clone(series))).collect()
    }

    /// The row of this key; `None` when there are too many. `hosts`: that of gateway and role, for a new one.
    fn row(&self, key: Key, hosts: impl FnOnce() -> (String, String)) -> Option<Arc<Row>> {
        let mut window = self.lock();
        if let Some(row) = window.rows.get(&key) {
            return Some(Arc::clone(row));
        }
        if window.rows.len() >= ROW_LIMIT {
            return None;
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let series = Arc::clone(series.entry((key.role, key.endpoint)).or_default());
        let row = Arc::new(Row::new(hosts(), series));
        window.rows.insert(key, Arc::clone(&row));
        Some(row)
    }

    /// Closes the window and opens the next one, which begins with what is under way.
    pub(crate) fn take(&self, now: Timestamp) -> Report {
        let mut window = self.lock();
        let mut rows: Vec<_> = window.rows.iter().map(|(key, row)| (*key, row.take(key))).collect();
        window.rows.retain(|_, row| Arc::strong_count(row) > 1);
        let concurrent_max = self.concurrent.take();
        let from = std::mem::replace(&mut window.from, now);
        drop(window);
        rows.retain(|(_, row)| row.counts.requests + row.counts.responses + row.counts.failed > 0);
        rows.sort_by_key(|(key, _)| (key.endpoint, key.gateway, key.role));
        Report { from, to: now, concurrent_max, rows: rows.into_iter().map(|(_, row)| row).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn new((proxy, target): (String, String), series: Arc<Series>) -> Self {
        Self {
            proxy,
            target,
            series,
            requests: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            elapsed_micros: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            with_token: AtomicU64::new(0),
            concurrent: Concurrent::default(),
        }
    }

    fn end(&self, outcome: Outcome) {
        self.concurrent.end();
        add(&self.request_bytes, outcome.request_bytes);
        add(&self.responses, u64::from(outcome.response_bytes.is_some()));
        add(&self.response_bytes, outcome.response_bytes.unwrap_or(0));
        add(&self.elapsed_micros, u64::try_from(outcome.elapsed.as_micros()).unwrap_or(u64::MAX));
        add(&self.failed, u64::from(outcome.failed));
        self.series.end(outcome);
    }

    fn take(&self, key: &Key) -> Counted {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let counts = EndpointCounters {
            name: key.endpoint.to_owned(),
            requests: take(&self.requests),
            request_bytes: take(&self.request_bytes),
            responses: take(&self.responses),
            response_bytes: take(&self.response_bytes),
            elapsed_micros: take(&self.elapsed_micros),
            failed: take(&self.failed),
            with_token: take(&self.with_token),
            concurrent_max: self.concurrent.take(),
        };
        Counted { proxy: self.proxy.clone(), target: self.target.clone(), counts }
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

impl Report {
    /// `ReportTrafficData - …`, the field's line; `~~` stands for a line end.
    pub(crate) fn line(&self, server: &str) -> String {
        let mut text = format!(
            "ReportTrafficData - state message to send: ~~<ProxyTrafficStateDetails ServerName=\"{}\" StartTime=\"{}\" EndTime=\"{}\" MaxConcurrentRequests=\"{}\">  <EndPoints>~~",
            attribute(server),
            self.from,
            self.to,
            self.concurrent_max,
        );
        for Counted { proxy, target, counts, .. } in &self.rows {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "    <EndPoint Name=\"{}\" ProxyServer=\"{}\" TargetHost=\"{}\" TotalRequests=\"{}\" TotalRequestsWithBearerToken=\"{}\" MaxConcurrentRequests=\"{}\" TotalRequestBytes=\"{}\" TotalResponseBytes=\"{}\" FailedRequests=\"{}\"/>~~",
                counts.name,
                attribute(proxy),
                attribute(target),
                counts.requests,
                counts.with_token,
                counts.concurrent_max,
                counts.request_bytes,
                counts.response_bytes,
                counts.failed,
            );
        }
        text.push_str("  </EndPoints>~~</ProxyTrafficStateDetails>~~");
        text
    }

    /// The same for the site: a row an endpoint.
    pub(crate) fn message(&self) -> Up {
        let mut endpoints: Vec<EndpointCounters> = Vec::new();
        for Counted { counts, .. } in &self.rows {
            // Rows of one endpoint stand together.
            match endpoints.last_mut() {
                Some(sum) if sum.name == counts.name => sum_up(sum, counts),
                _ => endpoints.push(counts.clone()),
            }
        }
        Up::Counters { gateway: None, from: self.from, to: self.to, endpoints }
    }
}

fn sum_up(sum: &mut EndpointCounters, row: &EndpointCounters) {
    sum.requests += row.requests;
    sum.request_bytes += row.request_bytes;
    sum.responses += row.responses;
    sum.response_bytes += row.response_bytes;
    sum.elapsed_micros += row.elapsed_micros;
    sum.failed += row.failed;
    sum.with_token += row.with_token;
    sum.concurrent_max = sum.concurrent_max.max(row.concurrent_max);
}

/// An attribute's value in XML, on one line.
fn attribute(value: &str) -> String {
    value
        .chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proto::id::{RequestId, RoleId};
    use proto::link::{RequestHead, RoleTarget};

    use super::*;
    use crate::request::plan;
    use crate::role::Roles;

    fn gateway(host: &str) -> GatewayTarget {
        GatewayTarget { gateway: Guid::nil(), name: "gw".into(), address: "gw:443".into(), host: host.into() }
    }

    /// Counts a request as begun.
    fn begin<'a>(counters: &'a Counters, gateway: &GatewayTarget, target: &str, token: bool) -> Begun<'a> {
        let roles = Roles::new(&[RoleTarget {
            role: RoleId::FIRST,
            internal_url: "http://mp.example:80".into(),
            trust: proto::link::RoleTrust::Site,
            client_certificate: false,
        }])
        .0;
        let headers = if token { vec![("authorization".into(), "Bearer x".into())] } else { Vec::new() };
        let head = RequestHead {
            request: RequestId::new(Guid::nil()),
            method: "GET".into(),
            role: RoleId::FIRST,
            target: target.into(),
            external: "".into(),
            certificate: None,
            headers,
            body_length: None,
        };
        counters.begin(gateway, &plan(&head, &roles).unwrap())
    }

    #[test]
    fn a_report_shows_the_window_in_the_fields_words() {
        let counters = Counters::new(Timestamp::from_seconds(0));
        let gateway = gateway("DOMAINCMG.CLOUDAPP.NET");
        let one = begin(&counters, &gateway, "/CCM_STS", true);
        let two = begin(&counters, &gateway, "/CCM_STS", false);
        let done = Outcome { request_bytes: 2594, response_bytes: Some(716), ..Outcome::default() };
        one.end(done);
        two.end(Outcome { failed: true, ..Outcome::default() });
        let line = counters.take(Timestamp::from_seconds(300)).line("PS1DP \"A&B\"");
        assert_eq!(
            line,
            "ReportTrafficData - state message to send: ~~<ProxyTrafficStateDetails ServerName=\"PS1DP &quot;A&amp;B&quot;\" StartTime=\"1970-01-01T00:00:00Z\" EndTime=\"1970-01-01T00:05:00Z\" MaxConcurrentRequests=\"2\">  <EndPoints>~~    <EndPoint Name=\"CCM_STS\" ProxyServer=\"DOMAINCMG.CLOUDAPP.NET\" TargetHost=\"mp.example\" TotalRequests=\"2\" TotalRequestsWithBearerToken=\"1\" MaxConcurrentRequests=\"2\" TotalRequestBytes=\"2594\" TotalResponseBytes=\"716\" FailedRequests=\"1\"/>~~  </EndPoints>~~</ProxyTrafficStateDetails>~~"
        );
    }

    #[test]
    fn the_site_gets_a_row_an_endpoint_over_all_its_paths() {
        let counters = Counters::new(Timestamp::from_seconds(0));
        let gateway = gateway("gw");
        for target in ["/SMS_MP/.sms_aut?MPLIST", "/SMS_MP/.sms_pol?x", "/CCM_STS"] {
            let begun = begin(&counters, &gateway, target, false);
            begun.end(Outcome { response_bytes: Some(10), ..Outcome::default() });
        }
        let Up::Counters { endpoints, gateway: None, .. } =
            counters.take(Timestamp::from_seconds(1)).message()
        else {
            panic!("own counters")
        };
        let rows: Vec<_> = endpoints.iter().map(|row| (row.name.as_str(), row.requests)).collect();
        assert_eq!(rows, [("CCM_STS", 1), ("SMS_MP", 2)]);
    }

    #[test]
    fn what_is_under_way_counts_for_the_next_window_too() {
        let counters = Counters::new(Timestamp::from_seconds(0));
        let begun = begin(&counters, &gateway("gw"), "/CCM_STS", false);
        assert_eq!(counters.take(Timestamp::from_seconds(1)).concurrent_max, 1);
        begun.end(Outcome { response_bytes: Some(5), ..Outcome::default() });
        let second = counters.take(Timestamp::from_seconds(2));
        assert_eq!((second.concurrent_max, second.rows.len()), (1, 1));
        assert_eq!(second.rows[0].counts.response_bytes, 5);
        assert!(counters.take(Timestamp::from_seconds(3)).rows.is_empty());
    }

    #[test]
    fn what_was_reported_still_counts_since_the_start() {
        let counters = Counters::new(Timestamp::from_seconds(0));
        for status in [200, 503, 0] {
            let begun = begin(&counters, &gateway("gw"), "/CCM_STS", false);
            assert_eq!(counters.in_flight(), 1);
            begun.end(Outcome { status, request_bytes: 7, ..Outcome::default() });
            counters.take(Timestamp::from_seconds(1));
        }
        counters.refusal(Reason::RoleUnreachable);
        let series = counters.all_series();
        let [(RoleId::FIRST, "CCM_STS", series)] = &series[..] else { panic!("{series:?}") };
        assert_eq!(series.statuses().collect::<Vec<_>>(), [("none", 1), ("2xx", 1), ("5xx", 1)]);
        assert_eq!((series.request_bytes.get(), series.duration.read().count), (21, 3));
        assert_eq!(counters.refusals().collect::<Vec<_>>(), [(Reason::RoleUnreachable, 1)]);
        assert_eq!(counters.in_flight(), 0);
    }
}
