//! What a peer gets that sends no request, byte for byte.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use runtime::Drain;
use runtime::http::{Early, HttpOptions, read_body, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Long enough never to pass in a test that works.
const LONG: Duration = Duration::from_mins(1);
/// Passes in the tests of slow peers.
const SHORT: Duration = Duration::from_millis(100);

struct Peer {
    stream: DuplexStream,
    /// Early answers that were asked for.
    asked: Arc<AtomicUsize>,
}

/// A peer of a service that answers with the path and what came as a body.
fn connect(change: impl FnOnce(&mut HttpOptions), space: usize) -> Peer {
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    let early = Early::new(move |status| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let answer = Response::builder().status(status).header("x-code", format!("E-{number}"));
        answer.body(Bytes::from_static(b"no request\n")).unwrap()
    });
    let mut options =
        HttpOptions { head_timeout: LONG, idle_timeout: LONG, write_timeout: LONG, ..HttpOptions::default() };
    options.early = Some(early);
    change(&mut options);
    let (stream, far) = duplex(space);
    tokio::spawn(async move {
        let service = service_fn(|request: Request<Incoming>| async {
            let path = request.uri().path().to_owned();
            let body = read_body(request.into_body(), 1024, LONG).await.unwrap_or_default();
            let size = if path == "/large" { 1 << 20 } else { 1 };
            let text = format!("{path} {}", String::from_utf8_lossy(&body)).repeat(size);
            Ok::<_, Infallible>(Response::new(text))
        });
        let _ = serve(far, &options, &Drain::new(), service).await;
    });
    Peer { stream, asked }
}

impl Peer {
    /// Sends, and reads to the end.
    async fn exchange(mut self, text: &[u8]) -> (String, usize) {
        self.stream.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(LONG, self.stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        (String::from_utf8(answer).unwrap(), self.asked.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_gets_the_callers_answer() {
    for (head, status) in [
        ("no request at all\r\n\r\n".to_owned(), "400 Bad Request"),
        ("GET / HTTP/1.1\r\nbad name: x\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)), "414 URI Too Long"),
        (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(4000)), "431 Request Header Fields Too Large"),
    ] {
        let head_size = if status.starts_with("431") { 2048 } else { 1 << 17 };
        let peer = connect(|options| options.head_size = head_size, 1 << 20);
        let (answer, asked) = peer.exchange(head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\ndate: ")), "{answer}");
        assert!(
            answer.contains("\r\nx-code: E-0\r\n") && answer.ends_with("\r\n\r\nno request\n"),
            "{answer}"
        );
        assert_eq!((answer.matches("HTTP/1.1").count(), asked), (1, 1), "{answer}");
    }
}

#[tokio::test]
async fn answers_of_the_service_stay_as_they_are_before_it() {
    let good = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi";
    let pipelined = format!("{good}GET /b HTTP/1.1\r\nHost: h\r\n\r\nGET\0/c\r\n\r\n{good}");
    let (answer, asked) = connect(|_| (), 1 << 16).exchange(pipelined.as_bytes()).await;
    let lines: Vec<_> =
        answer.lines().filter(|line| line.starts_with("HTTP/1.1") || line.contains('/')).collect();
    assert_eq!(asked, 1, "{answer}");
    assert!(answer.contains("/a hi") && answer.contains("/b "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{lines:?}");
    assert_eq!(answer.matches("HTTP/1.1 400 Bad Request\r\ndate").count(), 1, "{lines:?}");
    assert!(answer.ends_with("no request\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_still_on_its_way_is_not_broken_by_the_next_head() {
    // The peer's side takes so little that the first answer is unwritten when the second head is read.
    let mut peer = connect(|_| (), 512);
    peer.stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\nGET\0/c\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    peer.stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let body = "/large ".repeat(1 << 20);
    assert!(answer.contains(&body), "{} bytes", answer.len());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1);
    assert_eq!(answer.matches("HTTP/1.1 400 Bad Request").count(), 1);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_told_so_and_silence_is_answered_by_silence() {
    let slow = |options: &mut HttpOptions| options.head_timeout = SHORT;
    let (answer, asked) = connect(slow, 1 << 16).exchange(b"GET / HTTP/1.1\r\nHo").await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(asked, 1);
    assert_eq!(connect(slow, 1 << 16).exchange(b"").await, (String::new(), 0));
}

#[tokio::test]
async fn whoever_still_sends_is_read_until_it_has_seen_the_answer() {
    let (answer, _) = {
        let mut peer = connect(|options| options.head_size = 8192, 8192);
        // Far more than is read before the refusal: the peer could not even write it if nobody read on.
        let head = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(300_000));
        peer.stream.write_all(head.as_bytes()).await.unwrap();
        peer.exchange(b"").await
    };
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
