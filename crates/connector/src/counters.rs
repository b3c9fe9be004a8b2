//! Traffic by endpoint, under the field's names: a line in the log and a message to the site
//! every five minutes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::id::Guid;
use proto::link::{EndpointCounters, GatewayTarget, Up};
use proto::time::Timestamp;

use crate::request::Plan;

/// Time between two reports, as in the field [docs].
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_mins(5);

/// Most rows of one window: endpoints times gateways times roles. What comes on top is not counted.
const ROW_LIMIT: usize = 10_000;

/// Everything counted since the last report.
#[derive(Debug)]
pub(crate) struct Counters(Mutex<Window>);

#[derive(Debug)]
struct Window {
    from: Timestamp,
    rows: HashMap<Key, Row>,
    concurrent: u64,
    concurrent_max: u64,
}

/// Endpoint name, gateway, and host of the role.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: &'static str,
    gateway: Guid,
    target: String,
}

#[derive(Debug, Default)]
struct Row {
    proxy: String,
    requests: u64,
    request_bytes: u64,
    responses: u64,
    response_bytes: u64,
    elapsed_micros: u64,
    failed: u64,
    with_token: u64,
    concurrent: u64,
    concurrent_max: u64,
}

/// A request under way. Dropped without [`Begun::end`] it counts as failed: its tunnel was lost.
#[derive(Debug)]
#[must_use]
pub(crate) struct Begun<'a> {
    counters: &'a Counters,
    key: Key,
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
        self.counters.end(&self.key, self.outcome);
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
    /// Refused by the role (4xx, 5xx), or not answered in full.
    pub(crate) failed: bool,
}

/// One closed window.
#[derive(Debug)]
pub(crate) struct Report {
    from: Timestamp,
    to: Timestamp,
    concurrent_max: u64,
    rows: Vec<(Key, Row)>,
}

impl Counters {
    /// An empty window.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Window { from: now, rows: HashMap::new(), concurrent: 0, concurrent_max: 0 }))
    }

    /// Counts a request that is about to be forwarded.
    pub(crate) fn begin(&self, gateway: &GatewayTarget, plan: &Plan) -> Begun<'_> {
        let key =
            Key { endpoint: plan.endpoint.name, gateway: gateway.gateway, target: plan.role.host.clone() };
        let mut window = self.lock();
        window.concurrent += 1;
        window.concurrent_max = window.concurrent_max.max(window.concurrent);
        if let Some(row) = window.row(&key) {
            if row.proxy.is_empty() {
                row.proxy.clone_from(&gateway.host);
            }
            row.requests += 1;
            row.with_token += u64::from(plan.has_token());
            row.concurrent += 1;
            row.concurrent_max = row.concurrent_max.max(row.concurrent);
        }
        drop(window);
        Begun { counters: self, key, outcome: Outcome { failed: true, ..Outcome::default() } }
    }

    fn end(&self, key: &Key, outcome: Outcome) {
        let mut window = self.lock();
        window.concurrent = window.concurrent.saturating_sub(1);
        if let Some(row) = window.row(key) {
            row.concurrent = row.concurrent.saturating_sub(1);
            row.request_bytes += outcome.request_bytes;
            row.responses += u64::from(outcome.response_bytes.is_some());
            row.response_bytes += outcome.response_bytes.unwrap_or(0);
            row.elapsed_micros += u64::try_from(outcome.elapsed.as_micros()).unwrap_or(u64::MAX);
            row.failed += u64::from(outcome.failed);
        }
    }

    /// Closes the window and opens the next one, which begins with what is under way.
    pub(crate) fn take(&self, now: Timestamp) -> Report {
        let mut window = self.lock();
        let next: HashMap<Key, Row> = window
            .rows
            .iter()
            .filter(|(_, row)| row.concurrent > 0)
            .map(|(key, row)| {
                let (concurrent, proxy) = (row.concurrent, row.proxy.clone());
                (key.clone(), Row { proxy, concurrent, concurrent_max: concurrent, ..Row::default() })
            })
            .collect();
        let mut rows: Vec<_> = std::mem::replace(&mut window.rows, next).into_iter().collect();
        rows.sort_by(|(a, _), (b, _)| {
            (a.endpoint, a.gateway, &a.target).cmp(&(b.endpoint, b.gateway, &b.target))
        });
        let concurrent_max = window.concurrent_max;
        window.concurrent_max = window.concurrent;
        Report { from: std::mem::replace(&mut window.from, now), to: now, concurrent_max, rows }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn row(&mut self, key: &Key) -> Option<&mut Row> {
        if !self.rows.contains_key(key) {
            if self.rows.len() >= ROW_LIMIT {
                return None;
            }
            self.rows.insert(key.clone(), Row::default());
        }
        self.rows.get_mut(key)
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
        for (key, row) in &self.rows {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "    <EndPoint Name=\"{}\" ProxyServer=\"{}\" TargetHost=\"{}\" TotalRequests=\"{}\" TotalRequestsWithBearerToken=\"{}\" MaxConcurrentRequests=\"{}\" TotalRequestBytes=\"{}\" TotalResponseBytes=\"{}\" FailedRequests=\"{}\"/>~~",
                key.endpoint,
                attribute(&row.proxy),
                attribute(&key.target),
                row.requests,
                row.with_token,
                row.concurrent_max,
                row.request_bytes,
                row.response_bytes,
                row.failed,
            );
        }
        text.push_str("  </EndPoints>~~</ProxyTrafficStateDetails>~~");
        text
    }

    /// The same for the site: a row an endpoint.
    pub(crate) fn message(&self) -> Up {
        let mut endpoints: Vec<EndpointCounters> = Vec::new();
        for (key, row) in &self.rows {
            // Rows of one endpoint stand together.
            if endpoints.last().is_none_or(|last| last.name != key.endpoint) {
                endpoints.push(empty(key.endpoint));
            }
            let Some(sum) = endpoints.last_mut() else { continue };
            sum.requests += row.requests;
            sum.request_bytes += row.request_bytes;
            sum.responses += row.responses;
            sum.response_bytes += row.response_bytes;
            sum.elapsed_micros += row.elapsed_micros;
            sum.failed += row.failed;
            sum.with_token += row.with_token;
            sum.concurrent_max = sum.concurrent_max.max(row.concurrent_max);
        }
        Up::Counters { gateway: None, from: self.from, to: self.to, endpoints }
    }
}

fn empty(name: &str) -> EndpointCounters {
    EndpointCounters {
        name: name.to_owned(),
        requests: 0,
        request_bytes: 0,
        responses: 0,
        response_bytes: 0,
        elapsed_micros: 0,
        failed: 0,
        with_token: 0,
        concurrent_max: 0,
    }
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

    fn planned(target: &str, token: bool) -> Plan {
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
            external: String::new(),
            certificate: None,
            headers,
            body_length: None,
        };
        plan(&head, &roles).unwrap()
    }

    #[test]
    fn a_report_shows_the_window_in_the_fields_words() {
        let counters = Counters::new(Timestamp::from_seconds(0));
        let gateway = gateway("DOMAINCMG.CLOUDAPP.NET");
        let one = counters.begin(&gateway, &planned("/CCM_STS", true));
        let two = counters.begin(&gateway, &planned("/CCM_STS", false));
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
            let begun = counters.begin(&gateway, &planned(target, false));
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
        let begun = counters.begin(&gateway("gw"), &planned("/CCM_STS", false));
        assert_eq!(counters.take(Timestamp::from_seconds(1)).concurrent_max, 1);
        begun.end(Outcome { response_bytes: Some(5), ..Outcome::default() });
        let second = counters.take(Timestamp::from_seconds(2));
        assert_eq!((second.concurrent_max, second.rows.len()), (1, 1));
        assert_eq!(second.rows[0].1.response_bytes, 5);
        assert!(counters.take(Timestamp::from_seconds(3)).rows.is_empty());
    }
}
