//! `/livez`, `/readyz` and `/metrics`: what a role tells whoever watches its host, in plain HTTP on an address that
//! should be private. It tells nothing of a device.

mod health;
mod reach;

use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tracing::{debug, warn};

use crate::drain::Drain;
use crate::http::{self, HttpOptions};
use crate::listen::{self, AcceptOptions};
use crate::metrics::{self, Format, Page};
use crate::telemetry::Chain;

pub use health::{Check, Report};

/// Connections at once. A monitor needs one.
const CONNECTIONS: usize = 16;
/// Bytes of a request's head; monitors send some two hundred.
const HEAD_BYTES: usize = 8 * 1024;
/// How long a request may take to come, from its connection or from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may wait for its next request. Monitors ask every quarter of a minute or more seldom and
/// connect anew as cheaply; whoever idled would keep one of few places from them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a monitor may take nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer that has begun may take once the role has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A role that can be watched.
pub trait Watched: Send + Sync + 'static {
    /// What it is called on its pages: `gateway`.
    const ROLE: &'static str;

    /// Names by which monitors may ask for the pages, besides addresses and names that no stranger can own.
    fn names(&self) -> &[String] {
        &[]
    }

    /// Whether it can do its work now, check by check. Asked with every request for `/readyz`, so a check that
    /// waits for something bounds that itself.
    fn checks(&self) -> impl Future<Output = Vec<Check>> + Send;

    /// Adds what the role counts.
    fn fill(&self, page: &mut Page) -> impl Future<Output = ()> + Send;
}

/// Serves the three pages until `end`. That should come with the role's own end and not with the begin of its
/// drain: who watches wants to see that it drains.
pub async fn serve<W: Watched>(watched: Arc<W>, listener: TcpListener, end: impl Future<Output = ()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(role = W::ROLE, error = %Chain(&error), "no answers to monitors");
            return end.await;
        }
    };
    warn_if_public::<W>(&listener);
    let drain = Drain::new();
    let handler = |stream, peer| {
        let (watched, drain) = (Arc::clone(&watched), drain.clone());
        async move {
            let service = service_fn(|request| {
                let watched = Arc::clone(&watched);
                async move { Ok::<_, Infallible>(answer(watched.as_ref(), &request).await) }
            });
            let options = HttpOptions {
                head_timeout: HEAD_TIMEOUT,
                idle_timeout: IDLE_TIMEOUT,
                write_timeout: WRITE_TIMEOUT,
                head_size: HEAD_BYTES,
                ..HttpOptions::default()
            };
            if let Err(error) = http::serve(stream, &options, &drain, service).await {
                debug!(%peer, error = %Chain(&error), "monitor's connection ended early");
            }
        }
    };
    let accept = listen::serve_plain(listener, AcceptOptions::new(CONNECTIONS), drain.clone(), handler);
    let stop = async {
        end.await;
        drain.begin(LAST_ANSWERS);
    };
    tokio::join!(accept, stop);
    drain.finish().await;
}

fn warn_if_public<W: Watched>(listener: &tokio::net::TcpListener) {
    match listener.local_addr() {
        Ok(address) if !reach::is_private(address.ip()) => warn!(
            role = W::ROLE, %address,
            "`admin_listen` may be reached by strangers, who are asked for nothing: name a private address"
        ),
        _ => {}
    }
}

async fn answer<W: Watched>(watched: &W, request: &Request<Incoming>) -> Response<String> {
    if !reach::is_ours(request.headers().get(HOST).map(HeaderValue::as_bytes), watched.names()) {
        let text = "ask by address, or by a name from `admin_names` of the configuration\n";
        return page(StatusCode::MISDIRECTED_REQUEST, PLAIN, text.to_owned());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n".to_owned());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match request.uri().path() {
        "/livez" => page(StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => {
            let report = Report::new(watched.checks().await);
            let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            if accept.contains("application/json") || request.uri().query() == Some("format=json") {
                page(status, "application/json", report.json())
            } else {
                page(status, PLAIN, report.text())
            }
        }
        "/metrics" => {
            let format = Format::accepted(accept);
            let mut metrics = Page::default();
            watched.fill(&mut metrics).await;
            metrics::process(&mut metrics, W::ROLE);
            page(StatusCode::OK, format.content_type(), metrics.text(format))
        }
        _ => page(StatusCode::NOT_FOUND, PLAIN, "there are /livez, /readyz and /metrics\n".to_owned()),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut answer = Response::new(text);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
