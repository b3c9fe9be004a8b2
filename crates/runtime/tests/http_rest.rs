//! Connections that rest between two requests, seen from both ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use runtime::Drain;
use runtime::drain::Finished;
use runtime::http::{BodyError, Early, HttpOptions, read_body, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::watch;

/// Long enough never to pass in a test that works.
const LONG: Duration = Duration::from_mins(1);
/// Passes in the tests of silent peers; long enough that a busy machine is not taken for one.
const SHORT: Duration = Duration::from_millis(300);
/// As long as connections wait before they rest, here.
const MOMENT: Duration = Duration::from_millis(1);

fn restless() -> HttpOptions {
    HttpOptions {
        head_timeout: LONG,
        idle_timeout: LONG,
        write_timeout: LONG,
        rest_after: MOMENT,
        ..HttpOptions::default()
    }
}

/// What a test knows of the server's end, and does to it.
#[derive(Clone, Default)]
struct Probe {
    /// Room for bytes that the last read offered. A connection that rests has no buffer, and asks for one byte.
    room: watch::Sender<usize>,
    /// Whether what has come shows only to a connection that rests.
    late: Arc<AtomicBool>,
    /// A request's body that outlives its answer, and whether the next read finds it dropped.
    body: Arc<Mutex<Option<Incoming>>>,
    drops_body: Arc<AtomicBool>,
}

impl Probe {
    async fn rests(&self) {
        self.room.subscribe().wait_for(|room| *room == 1).await.unwrap();
    }
}

/// The server's end.
struct Watched {
    inner: DuplexStream,
    probe: Probe,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        this.probe.room.send_replace(room);
        if this.probe.drops_body.swap(false, Ordering::Relaxed) {
            drop(this.probe.body.lock().unwrap().take());
        }
        if room > 1 && this.probe.late.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        this.probe.late.store(false, Ordering::Relaxed);
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Answers with path and body, after another task had its turn; `/leave` before the body has come, which it leaves
/// to the test.
async fn answer(
    probe: &Probe,
    request: Request<Incoming>,
) -> Result<Response<String>, BodyError<hyper::Error>> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    if path == "/leave" {
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert!(first.unwrap().unwrap().is_data());
        // Now hyper knows that somebody wants the rest.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())).await);
        *probe.body.lock().unwrap() = Some(body);
        return Ok(Response::new("left".to_owned()));
    }
    tokio::task::yield_now().await;
    let body = read_body(body, 1024, LONG).await?;
    Ok(Response::new(format!("{path} {}.", String::from_utf8_lossy(&body))))
}

/// The peer's end of a connection that is being served with `options`.
fn connect(options: HttpOptions, drain: &Drain) -> (DuplexStream, Probe) {
    let (near, far) = duplex(4096);
    let (probe, inner) = (Probe::default(), drain.clone());
    let watched = Watched { inner: far, probe: probe.clone() };
    let served = probe.clone();
    drain.spawn(async move {
        let _ = serve(watched, &options, &inner, service_fn(|request| answer(&served, request))).await;
    });
    (near, probe)
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

/// A connection that has answered `/a` and rests.
async fn resting(options: HttpOptions, drain: &Drain) -> (DuplexStream, Probe) {
    let (mut peer, probe) = connect(options, drain);
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut peer, "/a .").await;
    probe.rests().await;
    (peer, probe)
}

#[tokio::test]
async fn a_connection_that_rests_answers_its_next_request_whatever_the_last_one_was() {
    let (mut peer, probe) = resting(restless(), &Drain::new()).await;
    for (request, end) in [
        ("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "/b hi."),
        ("POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n", "/c ho."),
        ("GET /d HTTP/1.1\r\nHost: h\r\n\r\nGET /e HTTP/1.1\r\nHost: h\r\n\r\n", "/e ."),
        ("GET /f HTTP/1.1\r\nHost: h\r\n\r\n\r\n", "/f ."),
    ] {
        peer.write_all(request.as_bytes()).await.unwrap();
        let text = read_until(&mut peer, end).await;
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), request.matches("HTTP/1.1").count(), "{text}");
        probe.rests().await;
    }
}

#[tokio::test]
async fn a_connection_that_nothing_came_on_has_no_buffer_and_its_own_time() {
    let (peer, probe) = connect(HttpOptions { head_timeout: SHORT, ..restless() }, &Drain::new());
    let begun = Instant::now();
    probe.rests().await;
    assert_eq!(rest(peer).await, "");
    assert!(begun.elapsed() < LONG / 2, "the time for a head, and not for a kept connection");
}

#[tokio::test]
async fn what_comes_while_a_connection_goes_to_rest_is_not_lost() {
    let (mut peer, probe) = connect(HttpOptions { rest_after: SHORT, ..restless() }, &Drain::new());
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut peer, "/a .").await;
    probe.late.store(true, Ordering::Relaxed);
    peer.write_all(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut peer, "/b .").await;
}

#[tokio::test]
async fn a_head_that_began_behind_another_request_has_the_time_of_a_head() {
    let early = Early::new(|status| Response::builder().status(status).body(Bytes::new()).unwrap());
    let options = HttpOptions { head_timeout: SHORT, early: Some(early), ..restless() };
    let (mut peer, _) = connect(options, &Drain::new());
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HT").await.unwrap();
    read_until(&mut peer, "/a .").await;
    assert!(rest(peer).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_head_that_a_resting_connection_gets_in_part_is_told_its_time() {
    let early = Early::new(|status| Response::builder().status(status).body(Bytes::new()).unwrap());
    let options = HttpOptions { head_timeout: SHORT, early: Some(early), ..restless() };
    let (mut peer, _) = resting(options, &Drain::new()).await;
    let begun = Instant::now();
    peer.write_all(b"G").await.unwrap();
    assert!(rest(peer).await.starts_with("HTTP/1.1 408 "));
    assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_peer_that_ends_its_side_meets_the_same_at_a_resting_connection_as_at_a_new_one() {
    let drain = Drain::new();
    for last in ["", "G", "GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"] {
        let mut ends = Vec::new();
        for (mut peer, _) in [connect(restless(), &drain), resting(restless(), &drain).await] {
            peer.write_all(last.as_bytes()).await.unwrap();
            peer.shutdown().await.unwrap();
            let text = rest(peer).await;
            ends.push(text.lines().filter(|line| !line.starts_with("date: ")).collect::<String>());
        }
        assert_eq!(ends[0], ends[1], "{last:?}");
    }
    drain.begin(LONG);
    assert_eq!(drain.finish().await, Finished::Clean);
}

#[tokio::test]
async fn a_drain_closes_a_connection_that_rests() {
    let drain = Drain::new();
    let (peer, _) = resting(restless(), &drain).await;
    let (new, probe) = connect(restless(), &drain);
    probe.rests().await;
    drain.begin(LONG);
    assert_eq!(drain.finish().await, Finished::Clean);
    assert_eq!(rest(peer).await + &rest(new).await, "");
}

#[tokio::test]
async fn resting_does_not_lengthen_the_time_that_a_connection_may_wait() {
    let (mut peer, probe) = connect(HttpOptions { idle_timeout: SHORT, ..restless() }, &Drain::new());
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let asked = Instant::now();
    read_until(&mut peer, "/a .").await;
    let answered = Instant::now();
    probe.rests().await;
    assert_eq!(rest(peer).await, "");
    assert!(asked.elapsed() >= SHORT, "{:?}", asked.elapsed());
    assert!(answered.elapsed() < LONG / 2, "{:?}", answered.elapsed());
}

#[tokio::test]
async fn a_connection_does_not_rest_in_the_middle_of_a_body() {
    let (mut peer, probe) = connect(restless(), &Drain::new());
    peer.write_all(b"POST /leave HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe").await.unwrap();
    read_until(&mut peer, "left").await;
    let body = probe.body.lock().unwrap().take().unwrap();
    let body = tokio::spawn(read_body(body, 1024, LONG));
    assert!(tokio::time::timeout(SHORT, probe.rests()).await.is_err());
    peer.write_all(b"llo").await.unwrap();
    assert_eq!(body.await.unwrap().unwrap(), "llo");
}

#[tokio::test]
async fn the_rest_of_a_body_that_nobody_wants_is_not_taken_for_a_request() {
    let (mut peer, probe) = connect(HttpOptions { rest_after: SHORT, ..restless() }, &Drain::new());
    peer.write_all(b"POST /leave HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\nhe").await.unwrap();
    read_until(&mut peer, "left").await;
    // The read by which the connection finds that it has waited long enough.
    probe.drops_body.store(true, Ordering::Relaxed);
    assert!(tokio::time::timeout(2 * SHORT, probe.rests()).await.is_err());
    let _ = peer.write_all(b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(rest(peer).await, "");
}
