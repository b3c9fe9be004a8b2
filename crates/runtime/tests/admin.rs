//! The pages for monitors, asked as monitors do.

#[expect(dead_code, reason = "the comparison with the documentation is for the roles")]
mod exposition;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use runtime::admin::{Check, Watched};
use runtime::metrics::{Histogram, Page, REQUEST_BOUNDS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

struct Role {
    well: bool,
    names: Vec<String>,
}

impl Watched for Role {
    const ROLE: &'static str = "test";

    fn names(&self) -> &[String] {
        &self.names
    }

    async fn checks(&self) -> Vec<Check> {
        vec![Check::ok("first"), Check::unless(!self.well, "second", "it is gone", "bring it back")]
    }

    async fn fill(&self, page: &mut Page) {
        let steps = Histogram::new(REQUEST_BOUNDS);
        steps.observe(Duration::from_millis(3));
        steps.observe(Duration::from_hours(1));
        page.counter("test_requests_total", "Requests.")
            .labelled([("door", "a\"b")], 2)
            .labelled([("door", "c")], 0);
        page.histogram("test_seconds", "Time.").labelled_steps([("door", "c")], steps.read());
    }
}

struct Running {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

fn start(well: bool) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let serve = async move {
        let role = Role { well, names: vec!["mp.example.com".to_owned()] };
        runtime::admin::serve(Arc::new(role), listener, async { drop(ended.await) }).await;
    };
    Running { address, end, task: tokio::spawn(serve) }
}

async fn ask(address: SocketAddr, line: &str, more: &str) -> (String, String) {
    ask_by_name(address, "a", line, more).await
}

async fn ask_by_name(address: SocketAddr, name: &str, line: &str, more: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn readiness_names_each_check_and_fails_with_503() {
    let (well, ill) = (start(true), start(false));
    let (head, body) = ask(well.address, "GET /readyz", "").await;
    assert!(head.starts_with("http/1.1 200") && body == "ready\nfirst: ok\nsecond: ok\n", "{head}\n{body}");
    let (head, body) = ask(ill.address, "GET /readyz", "").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "not ready\nfirst: ok\nsecond: failed: it is gone; bring it back\n");
    for (line, more) in [("GET /readyz?format=json", ""), ("GET /readyz", "accept: application/json\r\n")] {
        let (head, body) = ask(ill.address, line, more).await;
        assert!(
            head.contains("content-type: application/json") && body.contains("\"cause\":\"it is gone\""),
            "{body}"
        );
    }
    assert_eq!(ask(ill.address, "GET /livez", "").await.1, "ok\n", "it lives, if it cannot work");
}

#[tokio::test]
async fn the_metrics_are_read_by_a_strict_reader_in_either_format() {
    let running = start(true);
    let (head, body) = ask(running.address, "GET /metrics", "").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let page = exposition::read(&body).unwrap();
    assert_eq!(
        page["test_requests_total"].samples[0],
        ("test_requests_total{door=\"a\\\"b\"}".to_owned(), 2.0)
    );
    assert!(page.contains_key("process_open_fds") && page.contains_key("roamgate_build_info"), "{body}");
    let accept = "accept: application/openmetrics-text; version=1.0.0\r\n";
    let (head, body) = ask(running.address, "GET /metrics", accept).await;
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    assert!(body.contains("# TYPE test_requests counter\n") && body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn nothing_else_is_there_and_nothing_but_reading() {
    let running = start(true);
    assert!(ask(running.address, "GET /", "").await.0.starts_with("http/1.1 404"));
    let (head, _) = ask(running.address, "POST /metrics", "").await;
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    assert_eq!(ask(running.address, "HEAD /livez", "").await.1, "");
}

#[tokio::test]
async fn it_ends_with_the_role() {
    let Running { address, end, task } = start(true);
    assert_eq!(ask(address, "GET /livez", "").await.1, "ok\n");
    end.send(()).unwrap();
    task.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_name_that_a_stranger_can_point_at_us_gets_no_page() {
    let running = start(true);
    for page in ["/livez", "/readyz", "/metrics", "/"] {
        let (head, body) = ask_by_name(running.address, "evil.example", &format!("GET {page}"), "").await;
        assert!(head.starts_with("http/1.1 421") && !body.contains("ok"), "{head}\n{body}");
    }
    for name in ["127.0.0.1:9444", "localhost", "mp.example.com:9444"] {
        assert_eq!(ask_by_name(running.address, name, "GET /livez", "").await.1, "ok\n", "{name}");
    }
}

#[tokio::test]
async fn connections_that_idle_leave_their_places_to_monitors() {
    let running = start(true);
    let begun = std::time::Instant::now();
    // As many as are taken at once.
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    for stream in &mut idle {
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "after {:?}", begun.elapsed());
    assert_eq!(ask(running.address, "GET /livez", "").await.1, "ok\n");
}
