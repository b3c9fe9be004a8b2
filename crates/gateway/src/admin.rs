//! `/livez`, `/readyz` and `/metrics`, for whoever watches this host. Plain HTTP on a private address: it
//! tells nothing of a device.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use proto::time::Timestamp;
use runtime::http::HttpOptions;
use runtime::listen::{self, AcceptOptions};
use runtime::telemetry::Chain;
use tracing::{debug, warn};

use crate::gateway::Gateway;
use crate::log::COMPONENT;

/// Connections at once. A monitor needs one.
const CONNECTIONS: usize = 16;

/// Serves until the drain begins.
pub(crate) async fn serve(gateway: &Arc<Gateway>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(component = COMPONENT, error = %Chain(&error), "no answers to monitors");
            return;
        }
    };
    let context = Arc::clone(gateway);
    let handler = move |stream, peer| {
        let gateway = Arc::clone(&context);
        async move {
            let service = service_fn(|request| {
                let answer = answer(&gateway, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = runtime::http::serve(stream, &HttpOptions::default(), &gateway.drain, service).await;
            if let Err(error) = served {
                debug!(
                    component = COMPONENT,
                    %peer,
                    error = %Chain(&error),
                    "monitor's connection ended early"
                );
            }
        }
    };
    let drain = gateway.drain.clone();
    listen::serve_plain(listener, AcceptOptions::new(CONNECTIONS), drain, handler).await;
}

fn answer(gateway: &Gateway, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return page(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/livez" => page(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let problems = problems(gateway);
            if problems.is_empty() {
                page(StatusCode::OK, "ready\n")
            } else {
                page(StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
            }
        }
        "/metrics" => {
            let mut answer = page(StatusCode::OK, metrics(gateway));
            let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, version);
            answer
        }
        _ => page(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    }
}

fn page(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Why devices cannot be served now, a line each.
fn problems(gateway: &Gateway) -> Vec<&'static str> {
    let certificate = gateway.certificate.current();
    let (now, leaf) = (gateway.clock.now_seconds(), certificate.leaf());
    let checks = [
        (gateway.drain.has_started(), "draining: the gateway is stopping"),
        (gateway.publisher.version() == 0, "no snapshot: the site has not published anything yet"),
        (gateway.tunnels.count() == 0, "no tunnel: no connection point is connected"),
        (now > leaf.not_after(), "certificate expired: devices refuse it"),
        (now < leaf.not_before(), "certificate not valid yet: devices refuse it"),
    ];
    checks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, problem)| problem).collect()
}

/// The text format of Prometheus. No label names a device, a token or an address.
fn metrics(gateway: &Gateway) -> String {
    let total = gateway.ledger.counters.total();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let size = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let expires = u64::try_from(gateway.certificate.current().leaf().not_after()).unwrap_or(0);
    let seconds =
        |moment: Option<Timestamp>| moment.map_or(0, |moment| u64::try_from(moment.seconds()).unwrap_or(0));
    let state = gateway.publisher.current();
    let site = state.as_ref().map(|state| &state.snapshot);
    let rows = [
        ("requests_total", "counter", "Requests, refused ones included.", load(&total.requests)),
        ("refused_total", "counter", "Requests that the gateway refused.", load(&total.refused)),
        (
            "failed_total",
            "counter",
            "Passed requests without an answer, or with one of 400 and above.",
            load(&total.failed),
        ),
        ("request_bytes_total", "counter", "Bytes of request bodies.", load(&total.request_bytes)),
        ("response_bytes_total", "counter", "Bytes of answer bodies.", load(&total.response_bytes)),
        ("requests_in_flight", "gauge", "Admitted requests under way.", size(gateway.in_flight.count())),
        ("connections_free", "gauge", "Connections that would still be taken.", size(gateway.cap.free())),
        ("tunnels", "gauge", "Tunnels that are up.", size(gateway.tunnels.count())),
        (
            "snapshot_version",
            "gauge",
            "Version of the site's snapshot in force; 0: none.",
            gateway.publisher.version(),
        ),
        ("certificate_expires_seconds", "gauge", "End of the certificate for devices, Unix time.", expires),
        (
            "revocation_list_due_seconds",
            "gauge",
            "When the first of the revocation lists is due to be replaced, Unix time; 0: there is none.",
            seconds(site.and_then(|site| site.revocations.values().map(|list| list.next_update).min())),
        ),
        (
            "tenant_keys_until_seconds",
            "gauge",
            "Until when the keys of each tenant that is on count at least, Unix time; 0: there is none.",
            seconds(site.and_then(|site| {
                site.tenants.values().filter(|tenant| tenant.enabled).map(|tenant| tenant.keys_until).min()
            })),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        let name = format!("roamgate_gateway_{name}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}
