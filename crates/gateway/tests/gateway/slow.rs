//! Slow devices (R51): 400 connections of six kinds beside good requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use proto::id::Guid;
use runtime::config::HumanDuration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, watch};

use crate::connector::{FakeConnector, Handler, ok};
use crate::device::{Device, connect_from, facts};
use crate::site::ROLE;
use crate::{Running, start, within};

/// Slow connections of each kind; the last kind has what is missing to 400.
const OF_A_KIND: usize = 67;
const SLOW: usize = 400;
/// Good requests beside them.
const GOOD: usize = 100;
/// The times that the gateway of this test gives, in place of tens of seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same for a handshake: four hundred at once take their time themselves.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// By when a slow connection must be gone: its time, and room for a busy machine.
const GONE: Duration = Duration::from_secs(25);
/// Pause between two drops.
const DRIP: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    HandshakeNeverFinished,
    HeadByteByByte,
    HeadNeverFinished,
    BodyTrickled,
    AnswerNeverRead,
    SilentAfterHandshake,
}

const KINDS: [Kind; 6] = [
    Kind::HandshakeNeverFinished,
    Kind::HeadByteByByte,
    Kind::HeadNeverFinished,
    Kind::BodyTrickled,
    Kind::AnswerNeverRead,
    Kind::SilentAfterHandshake,
];

async fn gateway() -> Running {
    start(|config| {
        let patience = HumanDuration::new(PATIENCE);
        config.max_connections = 600;
        config.max_requests = 300;
        // Two devices stand for four hundred.
        config.limits.device_at_once = gateway::limit::AtOnce::OFF;
        config.body_timeout = patience;
        config.idle_timeout = patience;
        config.limits.head_timeout = patience;
        config.limits.handshake_timeout = HumanDuration::new(HANDSHAKE);
        config.limits.write_timeout = patience;
    })
    .await
}

/// Sends drops until the other side has gone away.
async fn drip(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), drop: &[u8]) {
    let mut sink = [0; 4096];
    let mut tick = tokio::time::interval(DRIP);
    loop {
        tokio::select! {
            read = stream.read(&mut sink) => if !matches!(read, Ok(1..)) { return },
            _ = tick.tick() => if stream.write_all(drop).await.is_err() || stream.flush().await.is_err() { return },
        }
    }
}

/// What the players wait for.
struct Signals {
    all_begun: Barrier,
    /// Turns true when the gateway has no request under way any more.
    nothing_under_way: watch::Sender<bool>,
}

/// Plays one of them; returns when the gateway has dropped it.
async fn play(kind: Kind, gateway: &Running, device: &Device, token: &str, signals: &Signals) {
    let all_begun = &signals.all_begun;
    let base = format!("/CCM_Proxy_ServerAuth/{ROLE}");
    let head = format!("Host: gw\r\nAuthorization: Bearer {token}\r\n");
    if kind == Kind::HandshakeNeverFinished {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // The first bytes of a ClientHello.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
        all_begun.wait().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        return;
    }
    let mut stream = device.tls(gateway).await;
    let begin = match kind {
        Kind::HeadByteByByte | Kind::HeadNeverFinished => {
            format!("GET {base}/SMS_MP_TokenAuth/.sms_aut?x HTTP/1.1\r\n{head}")
        }
        Kind::BodyTrickled => {
            let length = "Content-Length: 100000";
            format!("CCM_POST {base}/ccm_system_tokenauth/request HTTP/1.1\r\n{head}{length}\r\n\r\n")
        }
        Kind::AnswerNeverRead => {
            format!("GET {base}/SMS_MP_TokenAuth/.sms_aut?large HTTP/1.1\r\n{head}\r\n")
        }
        Kind::HandshakeNeverFinished | Kind::SilentAfterHandshake => String::new(),
    };
    if !begin.is_empty() {
        let _ = stream.write_all(begin.as_bytes()).await;
        let _ = stream.flush().await;
    }
    all_begun.wait().await;
    match kind {
        Kind::HeadByteByByte => drip(&mut stream, b"x").await,
        Kind::BodyTrickled => drip(&mut stream, b"y").await,
        // Whoever reads nothing sees nothing: what is in the socket's buffers hides the end.
        Kind::AnswerNeverRead => {
            let _ = signals.nothing_under_way.subscribe().wait_for(|nothing| *nothing).await;
        }
        _ => {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

#[tokio::test]
async fn four_hundred_slow_connections_are_dropped_and_good_requests_go_on() {
    let gateway = gateway().await;
    let large = Bytes::from(vec![b'x'; 32 << 20]);
    let handler: Handler =
        Arc::new(move |head, _| if head.target.contains("large") { ok(large.clone()) } else { ok("small") });
    let _connector =
        FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), handler).await;
    let (slow, good) = (Device::new(1), Device::new(2));
    let (slow_token, good_token) = (slow.token(&gateway), good.token(&gateway));
    let signals = Signals { all_begun: Barrier::new(SLOW + 1), nothing_under_way: watch::Sender::new(false) };

    let kinds = (0..SLOW).map(|number| KINDS[(number / OF_A_KIND).min(KINDS.len() - 1)]);
    let players = kinds.map(|kind| {
        let play = play(kind, &gateway, &slow, &slow_token, &signals);
        async move { (kind, tokio::time::timeout(GONE + PATIENCE, play).await.is_ok()) }
    });
    let beside = async {
        let mut connection = good.connect(&gateway).await;
        signals.all_begun.wait().await;
        let mut times = Vec::new();
        for _ in 0..GOOD {
            let begun = Instant::now();
            let got = connection.ask(facts(&good_token)).await;
            assert_eq!((got.status, &got.body[..]), (200, &b"small"[..]));
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        crate::eventually(async || {
            let (_, text) = crate::admin::get(&gateway, "/metrics").await;
            text.contains("\nroamgate_gateway_requests_in_flight 0\n").then_some(())
        })
        .await;
        signals.nothing_under_way.send_replace(true);
        times
    };
    let (dropped, times) = tokio::join!(join_all(players), beside);

    let p95 = times[GOOD * 95 / 100];
    println!(
        "{GOOD} good requests beside {SLOW} slow connections: p95 {p95:?}, slowest {:?}",
        times[GOOD - 1]
    );
    for kind in KINDS {
        let of_kind: Vec<_> = dropped.iter().filter(|(of, _)| *of == kind).collect();
        let in_time = of_kind.iter().filter(|(_, gone)| *gone).count();
        println!("{kind:?}: {in_time} of {} dropped in time", of_kind.len());
        assert!(in_time * 10 >= of_kind.len() * 9, "{kind:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_flood_from_many_sources_leaves_a_good_device_alone() {
    let gateway = start(|config| {
        config.max_connections = 5000;
        config.limits.source_handshakes = "1/min burst 3".parse().unwrap();
    })
    .await;
    let flood = (0..2000_u32).map(async |number| {
        let [_, _, high, low] = number.to_be_bytes();
        let connect = connect_from(&gateway, [127, 1 + high, low, 1]);
        // The kernel's queue may be full for a moment; whoever is not let in is part of the flood as well.
        let _ = tokio::time::timeout(Duration::from_secs(5), connect).await;
    });
    join_all(flood).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (503, Some("RG-1102")), "there is no tunnel, but it is let in and heard");
    within(gateway.stop()).await;
}
