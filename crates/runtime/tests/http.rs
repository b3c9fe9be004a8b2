//! One HTTP connection, seen from the peer's side byte for byte.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use runtime::Drain;
use runtime::drain::Finished;
use runtime::http::{HttpOptions, read_body, serve, set_reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Long enough never to pass in a test that works.
const LONG: Duration = Duration::from_mins(1);
/// Passes in the tests of slow peers; long enough that a busy machine is not taken for one.
const SHORT: Duration = Duration::from_millis(300);

fn patient() -> HttpOptions {
    HttpOptions { head_timeout: LONG, idle_timeout: LONG, write_timeout: LONG, ..HttpOptions::default() }
}

/// Answers with method, path and body; `/refuse` with a status text of its own, `/large` with a megabyte.
async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if path == "/refuse" {
        let mut answer = Response::new(String::new());
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        set_reason(&mut answer, "CMGService_Invalid_Token").unwrap();
        return Ok(answer);
    }
    if path == "/large" {
        return Ok(Response::new("x".repeat(1 << 20)));
    }
    let body = read_body(request.into_body(), 1024, LONG).await.unwrap();
    Ok(Response::new(format!("{method} {path} {}", String::from_utf8_lossy(&body))))
}

/// The peer's end of a connection that is being served with `options`.
fn connect(options: HttpOptions, drain: &Drain) -> DuplexStream {
    let (near, far) = duplex(4096);
    let inner = drain.clone();
    drain.spawn(async move {
        let _ = serve(far, &options, &inner, service_fn(answer)).await;
    });
    near
}

async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let byte = stream.read_u8().await.expect("an answer, not an end");
        text.push(char::from(byte));
    }
    text
}

async fn rest(mut stream: DuplexStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    String::from_utf8(rest).unwrap()
}

#[tokio::test]
async fn an_extension_method_is_served_and_the_connection_kept() {
    let mut peer = connect(patient(), &Drain::new());
    for _ in 0..2 {
        peer.write_all(b"CCM_POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        let text = read_until(&mut peer, "CCM_POST /a hi").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    }
}

#[tokio::test]
async fn a_refusal_carries_its_own_status_text() {
    let mut peer = connect(patient(), &Drain::new());
    peer.write_all(b"GET /refuse HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let text = rest(peer).await;
    assert!(text.starts_with("HTTP/1.1 401 CMGService_Invalid_Token\r\n"), "{text}");
}

#[test]
fn a_status_text_cannot_smuggle_a_line() {
    let mut answer = Response::new(());
    assert!(set_reason(&mut answer, "Fine\r\nSet-Cookie: a=b").is_err());
    assert_eq!(runtime::http::reason(&answer), None);
    set_reason(&mut answer, "Fine").unwrap();
    assert_eq!(runtime::http::reason(&answer), Some("Fine"));
}

#[tokio::test]
async fn too_large_a_head_is_answered_431() {
    let mut peer = connect(HttpOptions { head_size: 1024, ..patient() }, &Drain::new());
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "x".repeat(2000));
    peer.write_all(request.as_bytes()).await.unwrap();
    assert!(rest(peer).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn too_many_headers_are_answered_431() {
    let mut peer = connect(HttpOptions { headers: Some(3), ..patient() }, &Drain::new());
    peer.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n").await.unwrap();
    assert!(rest(peer).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_new_connection_that_sends_nothing_is_closed() {
    let peer = connect(HttpOptions { head_timeout: SHORT, ..patient() }, &Drain::new());
    assert_eq!(rest(peer).await, "");
}

#[tokio::test]
async fn a_head_that_comes_in_drops_is_cut_off_though_each_drop_is_quick() {
    let mut peer = connect(HttpOptions { head_timeout: SHORT, ..patient() }, &Drain::new());
    let begun = Instant::now();
    peer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut tick = tokio::time::interval(SHORT / 5);
    while peer.write_all(b"A: b\r\n").await.is_ok() {
        assert!(begun.elapsed() < LONG, "the head was never given up");
        tick.tick().await;
    }
}

#[tokio::test]
async fn a_kept_connection_may_wait_longer_than_a_head_may_take() {
    let options = HttpOptions { head_timeout: SHORT, idle_timeout: SHORT * 6, ..patient() };
    let mut peer = connect(options, &Drain::new());
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut peer, "GET /a ").await;
    let answered = Instant::now();
    assert_eq!(rest(peer).await, "", "closed in the end");
    assert!(answered.elapsed() >= SHORT * 5, "closed after {:?}", answered.elapsed());
}

#[tokio::test]
async fn the_second_head_is_watched_like_the_first() {
    let mut peer = connect(HttpOptions { head_timeout: SHORT, ..patient() }, &Drain::new());
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut peer, "GET /a ").await;
    peer.write_all(b"GET /b HT").await.unwrap();
    let cut = rest(peer).await;
    assert!(!cut.contains("GET /b"), "{cut}");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_of_its_answer_is_dropped() {
    let drain = Drain::new();
    let mut peer = connect(HttpOptions { write_timeout: SHORT, ..patient() }, &drain);
    peer.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    // The first bytes show that the answer is on its way.
    read_until(&mut peer, " 200 OK\r\n").await;
    drain.begin(LONG);
    assert_eq!(drain.finish().await, Finished::Clean);
    assert!(rest(peer).await.len() < 1 << 20);
}

#[tokio::test]
async fn a_peer_that_takes_its_answer_in_drops_is_dropped_though_each_drop_is_quick() {
    let drain = Drain::new();
    let mut peer = connect(HttpOptions { write_timeout: SHORT, ..patient() }, &drain);
    peer.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut peer, " 200 OK\r\n").await;
    drain.begin(LONG);
    let begun = Instant::now();
    let mut tick = tokio::time::interval(SHORT / 10);
    let taking = async {
        let mut drops = [0; 8];
        while let Ok(1..) = peer.read(&mut drops).await {
            tick.tick().await;
        }
    };
    tokio::select! {
        finished = drain.finish() => assert_eq!(finished, Finished::Clean),
        () = taking => unreachable!("what is buffered lasts longer"),
    }
    assert!(begun.elapsed() < SHORT * 5, "given up after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_finishes_busy_ones() {
    let drain = Drain::new();
    let mut idle = connect(patient(), &drain);
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut idle, "GET /a ").await;
    let mut busy = connect(patient(), &drain);
    busy.write_all(b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    // The interim answer shows that the request has reached the service.
    read_until(&mut busy, "100 Continue\r\n\r\n").await;

    drain.begin(LONG);
    assert_eq!(rest(idle).await, "");
    busy.write_all(b"hi").await.unwrap();
    let text = rest(busy).await;
    assert!(text.ends_with("POST /b hi") && text.contains("connection: close"), "{text}");
    assert_eq!(drain.finish().await, Finished::Clean);
}
