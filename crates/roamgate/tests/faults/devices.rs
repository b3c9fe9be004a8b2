//! Devices that break off, are slow, or come by the hundred and do nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fault::deployment::Options;
use crate::fault::device::{Ask, Device, Note, Seen, read_answer};
use crate::fault::scene::{Expect, Scene};
use crate::fault::until;

/// Slow connections, the six kinds together.
const SLOW: usize = 400;
/// Time in which the gateway must have ended all of them that bring no request.
const PATIENCE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_device_is_nobody_elses_trouble() {
    // All of it comes from one device, which is more than one may have under way.
    let gateway = "body_timeout = \"2s\"\n[gateway.limits]\ndevice_at_once = \"off\"".to_owned();
    let options = Options { gateway, ..Options::default() };
    let mut scene = Scene::start(options).await;

    for (name, body) in [
        ("Goes away in the middle of a message of 300 bytes", 300),
        ("Goes away in the middle of a message of 1 MB", 1_000_000),
    ] {
        let fault = scene.begin(name).await;
        let (victim, ask) = (scene.victim(), Ask::new(body, 0));
        let mut connection = victim.connect().await.expect("the gateway");
        let message = [victim.head(ask).into_bytes(), Device::body(ask)].concat();
        let half = message.len() - body / 2;
        connection.write_all(&message[..half]).await.expect("the gateway takes it");
        connection.flush().await.expect("the gateway takes it");
        if !ask.may_be_repeated() {
            let other = &scene.lab.other;
            until("half of it is inside", Duration::from_secs(10), || other.came(ask.number).bytes > 200_000)
                .await;
        }
        drop(connection);
        scene.end(fault, Instant::now(), Expect { victims: Some(Vec::new()), ..Expect::default() }).await;
        assert_eq!(scene.lab.other.came(ask.number).whole, 0, "{name}: it never came whole");
    }

    let fault = scene.begin("Goes away in the middle of an answer of 20 MB").await;
    let (victim, ask) = (scene.victim(), Ask::new(0, 20_000_000));
    let mut connection = victim.connect().await.expect("the gateway");
    connection.write_all(victim.head(ask).as_bytes()).await.expect("the gateway takes it");
    let mut part = vec![0; 100_000];
    connection.read_exact(&mut part).await.expect("an answer begins");
    drop(connection);
    scene.end(fault, Instant::now(), Expect { victims: Some(Vec::new()), ..Expect::default() }).await;

    let fault = scene.begin("Reads an answer of 3 MB at 1 MB/s").await;
    let note = slow_reader(&scene).await;
    let remark = format!("Answered whole after {:.1} s", note.elapsed.as_secs_f64());
    assert!(note.is_good(), "{note:?}");
    scene.end(fault, Instant::now(), Expect { victims: Some(vec![note]), remark, ..Expect::default() }).await;

    let fault = scene.begin("Sends a message of 100 KB in ten pieces, 100 ms apart").await;
    let note = slow_writer(&scene, 10, Duration::from_millis(100)).await;
    let remark = format!("Answered after {:.1} s", note.elapsed.as_secs_f64());
    assert!(note.is_good(), "{note:?}");
    scene.end(fault, Instant::now(), Expect { victims: Some(vec![note]), remark, ..Expect::default() }).await;

    let fault = scene.begin("Sends half of a message and waits (body_timeout 2 s)").await;
    let note = slow_writer(&scene, 2, Duration::from_secs(20)).await;
    let expect = Expect { must: &["408 RG-1009"], victims: Some(vec![note]), ..Expect::default() };
    scene.end(fault, Instant::now(), expect).await;

    crowd(&mut scene).await;
    scene.account("Devices");
}

async fn slow_reader(scene: &Scene) -> Note {
    let (victim, ask) = (scene.victim(), Ask::new(0, 3_000_000));
    let mut connection = victim.connect().await.expect("the gateway");
    let began = Instant::now();
    connection.write_all(victim.head(ask).as_bytes()).await.expect("the gateway takes it");
    let (mut pipe, reader) = tokio::io::duplex(100_000);
    let slowly = async {
        let mut part = vec![0; 100_000];
        while let Ok(length @ 1..) = connection.read(&mut part).await {
            if pipe.write_all(&part[..length]).await.is_err() {
                return;
            }
            // The device's pace.
            tokio::time::sleep(Duration::from_secs_f64(
                f64::from(u32::try_from(length).expect("small")) / 1e6,
            ))
            .await;
        }
    };
    let mut reader = reader;
    let seen = tokio::select! {
        (seen, _) = read_answer(&mut reader, ask) => seen,
        () = slowly => Seen::CutOff,
    };
    Note { ask, began, elapsed: began.elapsed(), seen }
}

async fn slow_writer(scene: &Scene, pieces: usize, pause: Duration) -> Note {
    let (victim, ask) = (scene.victim(), Ask::new(100_000, 0));
    let connection = victim.connect().await.expect("the gateway");
    let began = Instant::now();
    let message = [victim.head(ask).into_bytes(), Device::body(ask)].concat();
    let (mut reader, mut writer) = tokio::io::split(connection);
    let write = async {
        for piece in message.chunks(message.len().div_ceil(pieces)) {
            if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        std::future::pending::<()>().await;
    };
    let (seen, _) = tokio::select! {
        answer = read_answer(&mut reader, ask) => answer,
        () = write => unreachable!("it never ends"),
    };
    Note { ask, began, elapsed: began.elapsed(), seen }
}

/// Connections of six kinds that want nothing but a place.
async fn crowd(scene: &mut Scene) {
    let fault = scene.begin("400 slow connections of six kinds").await;
    let victim = Arc::new(scene.victim());
    let before = scene.lab.gateway.weight().expect("it runs");
    let mut all = JoinSet::new();
    for number in 0..SLOW {
        let victim = Arc::clone(&victim);
        all.spawn(async move { idler(number % 6, &victim).await });
    }
    let most = before.descriptors + SLOW / 2;
    let gateway = &scene.lab.gateway;
    until("they are there", PATIENCE, || gateway.weight().expect("it runs").descriptors > most).await;
    let there = Instant::now();
    fault.traffic.recovered(there).await;
    let in_crowd: Vec<_> = fault
        .traffic
        .notes()
        .into_iter()
        .filter(|note| note.began >= there)
        .map(|note| note.elapsed)
        .collect();
    let mut kinds = [Duration::ZERO; 6];
    let ended = tokio::time::timeout(PATIENCE, async {
        while let Some(ended) = all.join_next().await {
            let (kind, held) = ended.expect("a device");
            kinds[kind] = held.max(kinds[kind]);
        }
    });
    assert!(ended.await.is_ok(), "some are held longer than {PATIENCE:?}: {kinds:?}");
    let names = [
        "no byte",
        "half a TLS hello",
        "TLS and no request",
        "half a head",
        "a byte of a body each second",
        "an answer that is not read",
    ];
    let held: Vec<_> =
        names.iter().zip(kinds).map(|(name, held)| format!("{name} {:.0} s", held.as_secs_f64())).collect();
    let slowest = in_crowd.iter().max().copied().unwrap_or_default();
    let remark = format!(
        "Closed after, at the latest: {}. The others' slowest answer meanwhile: {:.2} s",
        held.join(", "),
        slowest.as_secs_f64()
    );
    scene.end(fault, Instant::now(), Expect { victims: Some(Vec::new()), remark, ..Expect::default() }).await;
}

/// One of them; its kind, and how long it was held.
async fn idler(kind: usize, victim: &Device) -> (usize, Duration) {
    let began = Instant::now();
    match kind {
        0 | 1 => {
            let mut stream = TcpStream::connect(victim.gateway).await.expect("the gateway");
            if kind == 1 {
                let _ = stream.write_all(&[22, 3, 1, 0, 200, 1, 0]).await;
            }
            until_closed(&mut stream).await;
        }
        _ => {
            let Ok(mut stream) = victim.connect().await else { return (kind, began.elapsed()) };
            let ask = Ask::new(if kind == 4 { 100 } else { 0 }, if kind == 5 { 1_000_000 } else { 0 });
            let head = victim.head(ask);
            match kind {
                2 => {}
                3 => {
                    let _ = stream.write_all(&head.as_bytes()[..head.len() / 2]).await;
                }
                4 => {
                    let _ = stream.write_all(head.as_bytes()).await;
                    let body = Device::body(ask);
                    for byte in body.chunks(1) {
                        if stream.write_all(byte).await.is_err() {
                            break;
                        }
                        let mut answer = [0; 1000];
                        let second =
                            tokio::time::timeout(Duration::from_secs(1), stream.read(&mut answer)).await;
                        if second.is_ok() {
                            break;
                        }
                    }
                }
                _ => {
                    let _ = stream.write_all(head.as_bytes()).await;
                    // It goes away by itself, before the gateway has lost patience (30 s).
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    return (kind, began.elapsed());
                }
            }
            until_closed(&mut stream).await;
        }
    }
    (kind, began.elapsed())
}

async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut nothing = [0; 1000];
    while let Ok(1..) = stream.read(&mut nothing).await {}
}
