//! The line between connection point and gateway is silent, slow or torn.

use std::time::{Duration, Instant};

use crate::fault::deployment::Options;
use crate::fault::device::{Ask, Device, Note};
use crate::fault::inner::Manner;
use crate::fault::scene::{Expect, Fault, Scene};
use crate::fault::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a tunnel that breaks does to a request.
const LOST: &[&str] = &["502 RG-1103", "503 RG-1102", "answer cut off", "connection closed"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_to_the_gateway_is_noticed_and_dialled_again() {
    let mut scene = Scene::start(Options::default()).await;

    let fault = scene.begin("Half-open: all tunnels silent, new ones possible").await;
    scene.lab.line.silence();
    // From here on nobody but the roles themselves can help.
    let began = Instant::now();
    scene.end(fault, began, Expect { allowed: LOST, must: &["502 RG-1103"], ..Expect::default() }).await;
    scene.lab.line.be_good();

    let fault = scene.begin("Silent altogether for 4 s, then as before").await;
    scene.lab.line.silence_everything();
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.lab.line.be_good();
    scene.end(fault, Instant::now(), Expect::default()).await;

    let fault = scene.begin("All tunnels reset (RST)").await;
    scene.lab.line.reset();
    scene.end(fault, Instant::now(), Expect { allowed: LOST, ..Expect::default() }).await;

    torn_in_a_request(&mut scene).await;
    torn_in_an_answer(&mut scene).await;

    for milliseconds in [50, 300, 1_000] {
        let fault = scene.begin(&format!("{milliseconds} ms more each way")).await;
        scene.lab.line.delay(Duration::from_millis(milliseconds));
        let (slowest, served) = served(&fault, Instant::now()).await;
        scene.lab.line.be_good();
        let remark = format!("All {served} answered, the slowest after {:.2} s", slowest.as_secs_f64());
        scene.end(fault, Instant::now(), Expect { remark, ..Expect::default() }).await;
    }

    let fault = scene.begin("256 KiB/s in each tunnel").await;
    scene.lab.line.limit(256 * 1024);
    let (slowest, served) = served(&fault, Instant::now()).await;
    scene.lab.line.be_good();
    let remark = format!("All {served} answered, the slowest after {:.2} s", slowest.as_secs_f64());
    scene.end(fault, Instant::now(), Expect { remark, ..Expect::default() }).await;

    scene.account("The line between connection point and gateway");
}

/// Waits until every lane has several answers on the line as it is; the slowest, and how many.
async fn served(fault: &Fault, from: Instant) -> (Duration, usize) {
    fault.traffic.recovered(from).await;
    let notes = fault.traffic.notes();
    let on_it = notes.iter().filter(|note| note.began >= from);
    (on_it.clone().map(|note| note.elapsed).max().unwrap_or_default(), on_it.count())
}

/// A message that is never sent twice is on its way when the tunnels break.
async fn torn_in_a_request(scene: &mut Scene) {
    let fault = scene.begin("All tunnels reset in the middle of a message of 1 MB").await;
    let (victim, ask) = (scene.victim(), Ask::new(1_000_000, 0));
    let mut connection = victim.connect().await.expect("the gateway");
    let message = [victim.head(ask).into_bytes(), Device::body(ask)].concat();
    let (first, rest) = message.split_at(message.len() / 2);
    let began = Instant::now();
    connection.write_all(first).await.expect("the gateway takes it");
    connection.flush().await.expect("the gateway takes it");
    let other = &scene.lab.other;
    until("half of it is inside", Duration::from_secs(10), || other.came(ask.number).bytes > 200_000).await;
    scene.lab.line.reset();
    let torn = Instant::now();
    // It may be told before it is through.
    let _ = connection.write_all(rest).await;
    let (seen, _) = crate::fault::device::read_answer(&mut connection, ask).await;
    drop(connection);
    let victim = Note { ask, began: torn, elapsed: torn.elapsed(), seen };
    println!("torn request: {:?} after {:?} of {:?}", victim.seen, victim.elapsed, began.elapsed());
    assert_eq!(scene.lab.other.came(ask.number).whole, 0, "it never came whole");
    assert_eq!(victim.seen.label(), "502 RG-1103");
    let remark = format!("The message: {} after {:.2} s", victim.seen.label(), victim.elapsed.as_secs_f64());
    scene.end(fault, torn, Expect { allowed: LOST, remark, ..Expect::default() }).await;
}

/// A device has half of an answer when the tunnels break.
async fn torn_in_an_answer(scene: &mut Scene) {
    let fault = scene.begin("All tunnels reset in the middle of an answer of 20 MB").await;
    let (victim, ask) = (scene.victim(), Ask::new(0, 20_000_000));
    let mut connection = victim.connect().await.expect("the gateway");
    scene.lab.other.behave(Manner::Good);
    connection.write_all(victim.head(ask).as_bytes()).await.expect("the gateway takes it");
    connection.flush().await.expect("the gateway takes it");
    let mut part = vec![0; 100_000];
    connection.read_exact(&mut part).await.expect("an answer begins");
    assert!(part.starts_with(b"HTTP/1.1 200 "));
    scene.lab.line.reset();
    let torn = Instant::now();
    let mut left = Vec::new();
    let outcome = connection.read_to_end(&mut left).await;
    let elapsed = torn.elapsed();
    drop(connection);
    assert!(left.len() < 19_900_000, "it never came whole: {} bytes, {outcome:?}", left.len());
    let remark = format!("The answer: cut off after {:.2} s", elapsed.as_secs_f64());
    scene.end(fault, torn, Expect { allowed: LOST, remark, ..Expect::default() }).await;
}
