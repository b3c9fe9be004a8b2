//! What takes minutes: the same faults many times in a row, and the times that a gateway has unless it is told
//! otherwise. Started by `bench/faults/run.sh`.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fault::deployment::Options;
use crate::fault::device::Ask;
use crate::fault::inner::Manner;
use crate::fault::scene::{Expect, Scene};
use crate::fault::until;

const SECTION: &str = "Again and again, and as configured by default";
/// Set to 1 by the script.
const LONG: &str = "ROAMGATE_FAULTS_LONG";
/// What a tunnel or a gateway that comes and goes does to requests.
const COMING_AND_GOING: &[&str] =
    &["502 RG-1103", "503 RG-1102", "answer cut off", "connection closed", "no connection"];
/// Times that a process is killed.
const KILLS: usize = 20;
/// Times that the line goes silent.
const SILENCES: usize = 5;

fn is_asked_for() -> bool {
    let is = std::env::var_os(LONG).is_some_and(|value| value == "1");
    if !is {
        println!("SKIPPED: takes minutes; bench/faults/run.sh runs it");
    }
    is
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_piles_up_when_processes_and_lines_fail_again_and_again() {
    if !is_asked_for() {
        return;
    }
    let mut scene = Scene::start(Options::default()).await;

    let fault = scene.begin("Connection point killed and started 20 times").await;
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        scene.lab.connector.kill();
        scene.lab.connector.start();
        slowest = slowest.max(fault.traffic.recovered(Instant::now()).await);
    }
    let remark = format!("Back each time, after {:.2} s at the latest", slowest.as_secs_f64());
    let expect = Expect { allowed: COMING_AND_GOING, must: &["503 RG-1102"], remark, ..Expect::default() };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("Gateway killed and started 20 times").await;
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        scene.lab.gateway.kill();
        scene.lab.gateway.start();
        slowest = slowest.max(fault.traffic.recovered(Instant::now()).await);
    }
    let remark = format!("Back each time, after {:.2} s at the latest", slowest.as_secs_f64());
    let expect = Expect { allowed: COMING_AND_GOING, must: &["no connection"], remark, ..Expect::default() };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("All tunnels half-open, five times").await;
    let mut slowest = Duration::ZERO;
    for _ in 0..SILENCES {
        let began = Instant::now();
        scene.lab.line.silence();
        slowest = slowest.max(fault.traffic.recovered(began).await);
        scene.lab.line.be_good();
    }
    let remark = format!("Back each time, after {:.1} s at the latest", slowest.as_secs_f64());
    let expect = Expect { allowed: COMING_AND_GOING, must: &["502 RG-1103"], remark, ..Expect::default() };
    scene.end(fault, Instant::now(), expect).await;

    scene.account(SECTION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_times_that_a_gateway_has_by_default_end_everything_that_hangs() {
    if !is_asked_for() {
        return;
    }
    let mut scene = Scene::start(Options::default()).await;

    let fault = scene.begin("The server inside never answers (default: 60 s)").await;
    scene.lab.other.behave(Manner::Never);
    let asks = [0, 300, 100_000].map(|body| {
        let victim = scene.victim();
        // Longer than a device of the other tests waits.
        tokio::spawn(
            async move { victim.ask_for(&mut None, Ask::new(body, 0), Duration::from_secs(90)).await },
        )
    });
    let mut victims = Vec::new();
    for ask in asks {
        victims.push(ask.await.expect("a device asks"));
    }
    scene.lab.other.behave(Manner::Good);
    assert!(victims.iter().all(|note| !note.is_good()), "{victims:?}");
    // By default the gateway waits five seconds longer, so that the hop that knows more says it.
    let expect = Expect { must: &["504 RG-2102"], victims: Some(victims), ..Expect::default() };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("A device reads nothing of an answer of 20 MB").await;
    let (victim, ask) = (scene.victim(), Ask::new(0, 20_000_000));
    let before = scene.lab.gateway.weight().expect("it runs").descriptors;
    let mut connection = victim.connect().await.expect("the gateway");
    connection.write_all(victim.head(ask).as_bytes()).await.expect("the gateway takes it");
    connection.flush().await.expect("the gateway takes it");
    let (began, gateway) = (Instant::now(), &scene.lab.gateway);
    until("the gateway has given it up", Duration::from_secs(100), || {
        gateway.weight().expect("it runs").descriptors <= before
    })
    .await;
    let held = began.elapsed();
    let mut left = Vec::new();
    let outcome = connection.read_to_end(&mut left).await;
    drop(connection);
    assert!(left.len() < 20_000_000, "it never came whole: {outcome:?}");
    let remark = format!("Given up after {:.0} s", held.as_secs_f64());
    scene.end(fault, Instant::now(), Expect { victims: Some(Vec::new()), remark, ..Expect::default() }).await;

    scene.account(SECTION);
}
