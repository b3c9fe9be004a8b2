//! Whether the connection point can carry requests now, and what it counts, for whoever watches its host; the pages
//! themselves are [`runtime::admin`]'s. No label names a device, a token or an address.

use std::collections::HashMap;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;

use proto::id::Guid;
use proto::link::GatewayState;
use runtime::Drain;
use runtime::admin::{Check, Watched};
use runtime::metrics::Page;

use crate::context::Context;

/// What monitors see.
pub(crate) struct Monitored {
    context: Arc<Context>,
    drain: Drain,
}

impl Monitored {
    /// Of this connection point.
    pub(crate) fn new(context: &Arc<Context>, drain: &Drain) -> Self {
        Self { context: Arc::clone(context), drain: drain.clone() }
    }
}

/// Serves until `end`: with the last request, so that whoever watches sees the drain.
pub(crate) async fn serve(monitored: Monitored, listener: TcpListener, end: impl Future<Output = ()>) {
    runtime::admin::serve(Arc::new(monitored), listener, end).await;
}

impl Watched for Monitored {
    const ROLE: &'static str = "connection-point";

    fn names(&self) -> &[String] {
        &self.context.admin_names
    }

    async fn checks(&self) -> Vec<Check> {
        let drain = Check::unless(
            self.drain.has_started(),
            "drain",
            "draining, the connection point is stopping",
            "it ends by itself; another connection point carries the requests",
        );
        vec![drain, self.tunnels(), self.site_link(), self.roles()]
    }

    async fn fill(&self, page: &mut Page) {
        self.fill_requests(page);
        self.fill_roles(page);
        self.fill_gateways(page);
        page.gauge("roamgate_connection_point_site_link_up", "1 while the link to the site is up, else 0.")
            .value(u64::from(self.context.uplink.has_link()));
        page.gauge(
            "roamgate_connection_point_snapshot_version",
            "Latest version that the site published; 0: none.",
        )
        .value(self.context.known.version());
        page.gauge("roamgate_connection_point_draining", "1 while the connection point stops, else 0.")
            .value(u64::from(self.drain.has_started()));
    }
}

impl Monitored {
    fn tunnels(&self) -> Check {
        let names = self.gateway_names();
        if names.is_empty() {
            let next = "add one with `roamgate gateway add`, or wait for the link to the site";
            return Check::failed("tunnels", "no gateway is known", next);
        }
        let states = self.context.publisher.gateway_states();
        let down: Vec<_> = states.iter().filter(|state| state.tunnels == 0).collect();
        let Some(first) = down.first() else {
            let tunnels: u32 = states.iter().map(|state| u32::from(state.tunnels)).sum();
            return Check::noted("tunnels", format!("{tunnels} to {} gateways", states.len()));
        };
        let problem = first.problem.as_deref().unwrap_or("not dialled yet");
        let cause = format!(
            "{} of {} gateways have no tunnel; {}: {problem}",
            down.len(),
            names.len(),
            name_of(&names, first)
        );
        let next = "look whether this host reaches the gateway's address, and at CMGService.log there";
        Check::failed("tunnels", cause, next)
    }

    fn site_link(&self) -> Check {
        let next = "look whether this host reaches the site link's address, and at the site's log; device traffic goes on";
        Check::unless(!self.context.uplink.has_link(), "site-link", "the link to the site is down", next)
    }

    fn roles(&self) -> Check {
        match self.context.known.roles().count() {
            0 => Check::failed(
                "roles",
                "no role is published to forward to",
                "publish a management point: `roamgate role set ROLE --gateway-traffic on`",
            ),
            roles => Check::noted("roles", format!("{roles} published")),
        }
    }

    fn gateway_names(&self) -> HashMap<Guid, String> {
        let list = self.context.known.gateways().borrow().clone();
        list.iter().map(|target| (target.gateway, target.name.clone())).collect()
    }

    fn fill_requests(&self, page: &mut Page) {
        let counters = &self.context.counters;
        let all = counters.all_series();
        let requests = page.counter(
            "roamgate_connection_point_requests_total",
            "Forwarded requests by role, endpoint and class of the role's status; none: the role gave no answer.",
        );
        for (role, endpoint, series) in &all {
            let role = role.to_string();
            for (class, count) in series.statuses() {
                requests.labelled([("role", &role), ("endpoint", endpoint), ("status_class", class)], count);
            }
        }
        for (role, endpoint, series) in &all {
            page.histogram(
                "roamgate_connection_point_request_duration_seconds",
                "Time from a request's head to the end of the role's answer.",
            )
            .labelled_steps([("role", &role.to_string()), ("endpoint", endpoint)], series.duration.read());
        }
        page.counter(
            "roamgate_connection_point_request_bytes_total",
            "Bytes of request bodies that went to roles.",
        )
        .value(all.iter().map(|(.., series)| series.request_bytes.get()).sum());
        page.counter(
            "roamgate_connection_point_response_bytes_total",
            "Bytes of answer bodies that roles gave.",
        )
        .value(all.iter().map(|(.., series)| series.response_bytes.get()).sum());
        page.gauge("roamgate_connection_point_requests_in_flight", "Requests under way.")
            .value(counters.in_flight());
        let refusals = page.counter(
            "roamgate_connection_point_refusals_total",
            "Requests that the connection point answered itself, by reason code; docs/errors.md explains each.",
        );
        for (reason, count) in counters.refusals() {
            refusals.labelled([("reason", &reason.to_string())], count);
        }
    }

    fn fill_roles(&self, page: &mut Page) {
        let counts = &self.context.role_connections;
        page.counter(
            "roamgate_connection_point_role_connections_total",
            "Connections to roles: opened, reused for a request, kept after one, or found closed by the role (stale, \
             so that the request went out once more).",
        )
        .labelled([("event", "opened")], counts.opened.get())
        .labelled([("event", "reused")], counts.reused.get())
        .labelled([("event", "kept")], counts.kept.get())
        .labelled([("event", "stale")], counts.stale.get());
    }

    fn fill_gateways(&self, page: &mut Page) {
        let names = self.gateway_names();
        let states = self.context.publisher.gateway_states();
        let mut gauge = |name, help, value: fn(&GatewayState) -> u64| {
            let family = page.gauge(name, help);
            for state in &states {
                family.labelled([("gateway", name_of(&names, state))], value(state));
            }
        };
        gauge("roamgate_connection_point_tunnels", "Tunnels that are up, by gateway.", |state| {
            state.tunnels.into()
        });
        gauge(
            "roamgate_connection_point_gateway_shards",
            "Shards of each gateway as it says itself; each should have a tunnel. 0: not reached yet.",
            |state| state.shards.into(),
        );
        gauge(
            "roamgate_connection_point_gateway_snapshot_version",
            "Version of the site's snapshot that is in force at each gateway; 0: none.",
            |state| state.version,
        );
    }
}

fn name_of<'a>(names: &'a HashMap<Guid, String>, state: &GatewayState) -> &'a str {
    names.get(&state.gateway).map_or("?", String::as_str)
}
