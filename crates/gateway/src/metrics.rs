//! What the gateway counts, as a page of metrics. No label names a device, a token or an address.

use proto::time::Timestamp;
use runtime::metrics::Page;

use crate::admin::seconds_since;
use crate::counters::Counters;
use crate::gateway::Gateway;

/// Door and endpoint of what named no published path.
const ELSEWHERE: (&str, &str) = ("none", "other");

/// Adds everything.
pub(crate) fn fill(gateway: &Gateway, page: &mut Page) {
    requests(&gateway.ledger.counters, page);
    limits(gateway, page);
    connections(gateway, page);
    tunnels(gateway, page);
    site(gateway, page);
    let expires = u64::try_from(gateway.certificate.current().leaf().not_after()).unwrap_or(0);
    page.gauge(
        "roamgate_gateway_certificate_expires_seconds",
        "End of the certificate for devices, Unix time in seconds.",
    )
    .value(expires);
    page.gauge("roamgate_gateway_draining", "1 while the gateway stops and takes nothing new, else 0.")
        .value(u64::from(gateway.drain.has_started()));
}

fn requests(counters: &Counters, page: &mut Page) {
    let (none, other) = ELSEWHERE;
    let all = counters.all_series();
    let requests = page.counter(
        "roamgate_gateway_requests_total",
        "Requests by endpoint, door and class of the answer's status; other: no published path; none: no answer.",
    );
    for (endpoint, door, series) in &all {
        for (class, count) in series.statuses.read() {
            requests.labelled(labels(endpoint, door, class), count);
        }
    }
    for (class, count) in counters.answered_elsewhere().read() {
        requests.labelled(labels(other, none, class), count);
    }
    let total = counters.total();
    page.counter(
        "roamgate_gateway_refused_total",
        "Requests that the gateway refused before it passed them on.",
    )
    .value(total.refused.get());
    page.counter(
        "roamgate_gateway_failed_total",
        "Passed requests without an answer, or with one of 400 and above.",
    )
    .value(total.failed.get());
    let refusals = page.counter(
        "roamgate_gateway_refusals_total",
        "Refusals of the gateway's own by reason code; docs/errors.md explains each.",
    );
    for (reason, count) in counters.refusals().read() {
        refusals.labelled([("reason", &reason.to_string())], count);
    }
    page.counter("roamgate_gateway_request_bytes_total", "Bytes of request bodies that were passed on.")
        .value(total.request_bytes.get());
    page.counter("roamgate_gateway_response_bytes_total", "Bytes of answer bodies that were passed back.")
        .value(total.response_bytes.get());
    for (endpoint, door, series) in &all {
        page.histogram(
            "roamgate_gateway_request_duration_seconds",
            "Time from a request's head to the last byte of its answer, refused ones included.",
        )
        .labelled_steps([("endpoint", endpoint), ("door", door)], series.duration.read());
    }
}

fn limits(gateway: &Gateway, page: &mut Page) {
    let limited = page.counter(
        "roamgate_gateway_limited_total",
        "Requests and connections refused because of a limit, by limit.",
    );
    for (limit, count) in gateway.limits.counts().all() {
        limited.labelled([("limit", limit.name())], count);
    }
}

fn labels<'a>(endpoint: &'a str, door: &'a str, class: &'a str) -> [(&'static str, &'a str); 3] {
    [("endpoint", endpoint), ("door", door), ("status_class", class)]
}

fn connections(gateway: &Gateway, page: &mut Page) {
    let (cap, counts) = (&gateway.cap, gateway.cap.counts());
    page.gauge("roamgate_gateway_connections", "Connections that are open, handshakes and tunnels included.")
        .value(size(cap.taken()));
    page.gauge("roamgate_gateway_connections_free", "Connections that would still be taken.")
        .value(size(cap.free()));
    page.counter("roamgate_gateway_connections_accepted_total", "Connections that were taken.")
        .value(counts.accepted.get());
    page.counter(
        "roamgate_gateway_connections_refused_total",
        "Connections that were closed at once because all places were taken (cap), or at once or after their \
         ClientHello because a limit of their source or of all was met (source).",
    )
    .labelled([("cause", "cap")], counts.refused_at_cap.get())
    .labelled([("cause", "source")], counts.not_admitted.get());
    page.counter(
        "roamgate_gateway_handshakes_total",
        "TLS handshakes: full, resumed from an earlier session, failed, or late (not finished in time).",
    )
    .labelled([("outcome", "full")], counts.handshakes_full.get())
    .labelled([("outcome", "resumed")], counts.handshakes_resumed.get())
    .labelled([("outcome", "failed")], counts.handshakes_failed.get())
    .labelled([("outcome", "late")], counts.handshakes_late.get());
    page.histogram(
        "roamgate_gateway_handshake_duration_seconds",
        "Time of the TLS handshakes that were made.",
    )
    .steps(counts.handshake_time.read());
}

fn tunnels(gateway: &Gateway, page: &mut Page) {
    page.gauge("roamgate_gateway_tunnels", "Tunnels that are up.").value(size(gateway.tunnels.count()));
    page.gauge(
        "roamgate_gateway_requests_in_flight",
        "Admitted requests under way: each is a stream of a tunnel.",
    )
    .value(size(gateway.in_flight.count()));
}

fn site(gateway: &Gateway, page: &mut Page) {
    let state = gateway.publisher.current();
    let site = state.as_ref().map(|state| &state.snapshot);
    page.gauge("roamgate_gateway_snapshot_version", "Version of the site's snapshot in force; 0: none.")
        .value(gateway.publisher.version());
    page.gauge(
        "roamgate_gateway_snapshot_age_seconds",
        "Time since the site made the snapshot in force. It makes a new one when something changes only; 0: none.",
    )
    .value(site.map_or(0, |site| seconds_since(site.issued, gateway.now())));
    let (hits, misses) = state.as_ref().map_or((0, 0), |state| {
        let lookups = state.lookups();
        (lookups.hits.get(), lookups.misses.get())
    });
    page.counter(
        "roamgate_gateway_token_lookups_total",
        "Bearer tokens by whether they were known already (hit) or verified anew (miss, forged ones included).",
    )
    .labelled([("outcome", "hit")], hits)
    .labelled([("outcome", "miss")], misses);
    page.gauge(
        "roamgate_gateway_revocation_list_due_seconds",
        "When the first of the revocation lists is due to be replaced, Unix time in seconds; 0: there is none.",
    )
    .value(unix(site.and_then(|site| site.revocations.values().map(|list| list.next_update).min())));
    page.gauge(
        "roamgate_gateway_tenant_keys_until_seconds",
        "Until when the keys of each tenant that is on count at least, Unix time in seconds; 0: there is none.",
    )
    .value(unix(site.and_then(|site| {
        site.tenants.values().filter(|tenant| tenant.enabled).map(|tenant| tenant.keys_until).min()
    })));
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn unix(moment: Option<Timestamp>) -> u64 {
    moment.map_or(0, |moment| u64::try_from(moment.seconds()).unwrap_or(0))
}
