use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::drain::Finished;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::from_std(bind(LOOPBACK).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn echo(mut stream: TcpStream, _peer: SocketAddr) {
    let (mut read, mut write) = stream.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

async fn is_served(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
}

#[test]
fn an_address_in_use_is_named_with_the_reason() {
    let first = bind(LOOPBACK).unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}: another program has it"));
}

#[test]
fn all_shards_listen_on_the_port_that_the_first_one_got() {
    let listeners = bind_shards(LOOPBACK, 3).unwrap();
    let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    assert_eq!(ports.len(), 3);
    assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    assert_eq!(bind_shards(LOOPBACK, 0).unwrap().len(), 1);
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_and_places_come_back() {
    let (listener, address) = listener();
    let (drain, options) = (Drain::new(), AcceptOptions::new(1));
    drain.spawn(serve_plain(listener, options.clone(), drain.clone(), echo));

    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(is_served(&mut first).await);
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(!is_served(&mut second).await, "the only place is taken");
    drop(first);
    while options.cap.free() == 0 {
        tokio::task::yield_now().await;
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(is_served(&mut third).await);
}

/// Lets in `places` at a time, which come back.
struct Few(Arc<tokio::sync::Semaphore>);

impl Few {
    fn options(places: usize) -> AcceptOptions<Self> {
        AcceptOptions::new(10).admit(Arc::new(Self(Arc::new(tokio::sync::Semaphore::new(places)))))
    }
}

impl Admission for Few {
    type Pass = tokio::sync::OwnedSemaphorePermit;

    fn connected(&self, peer: IpAddr) -> Option<Self::Pass> {
        assert!(peer.is_loopback());
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

#[tokio::test]
async fn whoever_is_not_admitted_is_closed_unanswered_and_a_pass_is_kept_to_the_end() {
    let (listener, address) = listener();
    let options = Few::options(1);
    let drain = Drain::new();
    drain.spawn(serve_plain(listener, options.clone(), drain.clone(), echo));
    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(is_served(&mut first).await);
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(!is_served(&mut second).await);
    assert_eq!(options.cap.counts().not_admitted.get(), 1);
    drop(first);
    while options.admission.0.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(is_served(&mut third).await);
}

#[tokio::test]
async fn connections_that_wait_are_all_taken_and_answer_without_delay() {
    let (listener, address) = listener();
    let mut waiting = Vec::new();
    for _ in 0..=3 * ACCEPTED_AT_ONCE {
        waiting.push(TcpStream::connect(address).await.unwrap());
    }
    let drain = Drain::new();
    let handler = |stream: TcpStream, peer| async move {
        assert!(stream.nodelay().unwrap(), "from the listening socket, or told");
        echo(stream, peer).await;
    };
    drain.spawn(serve_plain(listener, AcceptOptions::new(waiting.len()), drain.clone(), handler));
    for stream in &mut waiting {
        assert!(is_served(stream).await);
    }
}

#[test]
fn whoever_says_nothing_keeps_a_place_for_a_shorter_time_where_places_are_scarce() {
    let (long, short) = (Duration::from_secs(10), Duration::from_secs(1));
    assert_eq!(handshake_time(long, false), HandshakeTime { hello: long, whole: long });
    let hello = HELLO_TIMEOUT_WHEN_SCARCE;
    assert_eq!(handshake_time(long, true), HandshakeTime { hello, whole: long });
    assert_eq!(handshake_time(short, true), HandshakeTime { hello: short, whole: short });
    let cap = ConnectionCap::new(8);
    let held: Vec<_> = (0..6).map(|_| cap.take().unwrap()).collect();
    assert!(!cap.is_scarce(), "a quarter is free");
    let _more = cap.take().unwrap();
    assert!(cap.is_scarce());
    drop(held);
    assert_eq!((cap.free(), cap.is_scarce()), (7, false));
}

#[tokio::test]
async fn a_drain_ends_the_loop_and_closes_the_listener() {
    let (listener, address) = listener();
    let drain = Drain::new();
    drain.spawn(serve_plain(listener, AcceptOptions::new(10), drain.clone(), echo));
    drain.begin(Duration::from_secs(5));
    assert_eq!(drain.finish().await, Finished::Clean);
    assert!(TcpStream::connect(address).await.is_err());
}

/// Fails as a process without free descriptors does, and then works.
struct Starved {
    listener: TcpListener,
    failures: AtomicUsize,
}

impl Incoming for Starved {
    async fn next(&self) -> Accepted {
        const EMFILE: i32 = 24;
        let failed = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failed.is_ok() {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.listener.accept().await
    }

    async fn next_waiting(&self) -> Option<Accepted> {
        None
    }
}

#[tokio::test]
async fn the_loop_outlives_a_want_of_descriptors() {
    let (listener, address) = listener();
    let starved = Starved { listener, failures: AtomicUsize::new(2) };
    let drain = Drain::new();
    let tasks = drain.clone();
    drain.spawn(async move {
        let start = |stream, peer, held: Held<()>| {
            tasks.spawn(async move {
                echo(stream, peer).await;
                drop(held);
            });
        };
        accept_each(starved, &AcceptOptions::new(1), &tasks, start).await;
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(is_served(&mut stream).await);
}
