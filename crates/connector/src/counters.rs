//! Traffic by endpoint, under the field's names: a line in the log and a message to the site
//! every five minutes, and for `/metrics`.

mod recent;
mod row;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use proto::id::{Guid, RoleId};
use proto::link::{EndpointCounters, GatewayTarget, Up};
use proto::reason::Reason;
use proto::time::Timestamp;
use runtime::metrics::{Counter, PerThread};

use crate::request::Plan;
use recent::Held;
pub(crate) use recent::RecentRows;
use row::{Concurrent, Row};
pub(crate) use row::{Outcome, Series};

/// Time between two reports, as in the field [docs].
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_mins(5);

/// Most rows of one window: endpoints times gateways times roles. What comes on top is not counted.
const ROW_LIMIT: usize = 10_000;

/// Everything that is counted: since the last report for the field's line, and since the start for `/metrics`.
#[derive(Debug)]
pub(crate) struct Counters {
    window: Mutex<Window>,
    /// Windows that were closed.
    closed: AtomicU64,
    concurrent: PerThread<Concurrent>,
    series: RwLock<BTreeMap<(RoleId, &'static str), Arc<Series>>>,
    refusals: Box<[Counter]>,
}

#[derive(Debug)]
struct Window {
    from: Timestamp,
    rows: HashMap<Key, Arc<Row>>,
    /// Rows of hosts that have another name by now.
    renamed: Vec<(Key, Arc<Row>)>,
}

/// Endpoint name, gateway and role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    endpoint: &'static str,
    gateway: Guid,
    role: RoleId,
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
    row: Option<Arc<Held>>,
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
        self.counters.concurrent.mine().end();
        if let Some(row) = &self.row {
            row.0.end(self.outcome);
        }
    }
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
    hosts: (String, String),
    counts: EndpointCounters,
}

impl Counters {
    /// An empty window.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            window: Mutex::new(Window { from: now, rows: HashMap::new(), renamed: Vec::new() }),
            closed: AtomicU64::new(0),
            concurrent: PerThread::default(),
            series: RwLock::default(),
            refusals: Reason::ALL.iter().map(|_| Counter::default()).collect(),
        }
    }

    /// Counts a request that is about to be forwarded. `recent`: rows that its tunnel used lately.
    pub(crate) fn begin(&self, gateway: &GatewayTarget, plan: &Plan<'_>, recent: &RecentRows) -> Begun<'_> {
        let row = recent.find(self.closed.load(Ordering::Acquire), plan, || {
            let key = Key { endpoint: plan.endpoint.name, gateway: gateway.gateway, role: plan.role.id };
            self.row(key, (&gateway.host, &plan.role.host))
        });
        self.concurrent.mine().begin();
        if let Some(row) = &row {
            row.0.begin(plan.has_token());
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
        Concurrent::now(self.concurrent.all())
    }

    /// Everything since the start, by role and endpoint.
    pub(crate) fn all_series(&self) -> Vec<(RoleId, &'static str, Arc<Series>)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|((role, endpoint), series)| (*role, *endpoint, Arc::clone(series))).collect()
    }

    /// The row of this key; `None` when there are too many. `hosts`: that of the gateway, and of the role.
    fn row(&self, key: Key, hosts: (&str, &str)) -> Option<Arc<Row>> {
        let mut window = self.lock();
        if let Some(row) = window.rows.get(&key) {
            if (row.hosts.0.as_str(), row.hosts.1.as_str()) == hosts {
                return Some(Arc::clone(row));
            }
            let renamed = (key, Arc::clone(row));
            window.renamed.push(renamed);
            window.rows.remove(&key);
        }
        if window.rows.len() + window.renamed.len() >= ROW_LIMIT {
            return None;
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let series = Arc::clone(series.entry((key.role, key.endpoint)).or_default());
        let row = Arc::new(Row::new((hosts.0.to_owned(), hosts.1.to_owned()), series));
        window.rows.insert(key, Arc::clone(&row));
        Some(row)
    }

    /// Closes the window and opens the next one, which begins with what is under way.
    pub(crate) fn take(&self, now: Timestamp) -> Report {
        let mut window = self.lock();
        // Before it is asked who holds a row: whoever does not know yet holds his.
        self.closed.fetch_add(1, Ordering::AcqRel);
        let all = window.rows.iter().chain(window.renamed.iter().map(|(key, row)| (key, row)));
        let mut rows: Vec<_> = all
            .map(|(key, row)| (*key, Counted { hosts: row.hosts.clone(), counts: row.take(key.endpoint) }))
            .collect();
        window.rows.retain(|_, row| Arc::strong_count(row) > 1);
        window.renamed.retain(|(_, row)| Arc::strong_count(row) > 1);
        let concurrent_max = Concurrent::take(self.concurrent.all());
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
        for Counted { hosts: (proxy, target), counts } in &self.rows {
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

    fn roles(url: &str) -> Roles {
        let target = RoleTarget {
            role: RoleId::FIRST,
            internal_url: url.into(),
            trust: proto::link::RoleTrust::Site,
            client_certificate: false,
        };
        Roles::new(&[target]).0
    }

    /// Counts a request as begun.
    fn begin<'a>(counters: &'a Counters, gateway: &GatewayTarget, target: &str, token: bool) -> Begun<'a> {
        let (roles, recent) = (roles("http://mp.example:80"), RecentRows::default());
        begin_at(counters, gateway, &roles, &recent, (target, token))
    }

    fn begin_at<'a>(
        counters: &'a Counters,
        gateway: &GatewayTarget,
        roles: &Roles,
        recent: &RecentRows,
        (target, token): (&str, bool),
    ) -> Begun<'a> {
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
        counters.begin(gateway, &plan(&head, roles).unwrap(), recent)
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
    fn a_tunnel_that_remembers_its_rows_counts_in_every_window_and_under_the_latest_name() {
        let counters = Counters::new(Timestamp::from_seconds(0));
        let (gateway, recent) = (gateway("gw"), RecentRows::default());
        let reported = |second| {
            let rows = counters.take(Timestamp::from_seconds(second)).rows;
            rows.into_iter().map(|row| (row.hosts.1, row.counts.requests)).collect::<Vec<_>>()
        };
        let (old, new) = (roles("http://old"), roles("http://new"));
        let count = |roles| {
            for target in ["/CCM_STS", "/CCM_STS", "/SMS_MP/.sms_aut?MPLIST"] {
                begin_at(&counters, &gateway, roles, &recent, (target, false)).end(Outcome::default());
            }
        };
        let of = |host: &str| vec![(host.to_owned(), 2), (host.to_owned(), 1)];
        for second in 1..4 {
            count(&old);
            assert_eq!(reported(second), of("old"));
        }
        count(&old);
        count(&new);
        assert_eq!(reported(4).iter().map(|(_, requests)| requests).sum::<u64>(), 6);
        assert_eq!(reported(5), []);
        count(&new);
        assert_eq!(reported(6), of("new"));
        reported(7);
        drop(recent);
        reported(8);
        assert!(counters.lock().rows.is_empty() && counters.lock().renamed.is_empty());
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
