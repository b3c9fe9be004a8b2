//! A role's process ends, halts or restarts under load.

use std::time::{Duration, Instant};

use crate::fault::deployment::Options;
use crate::fault::device::{Ask, Device};
use crate::fault::inner::Manner;
use crate::fault::scene::{Expect, Scene};
use crate::fault::until;

/// What is under way when a tunnel breaks, and what comes while there is none.
const WITHOUT_TUNNEL: &[&str] = &["503 RG-1102", "502 RG-1103"];
/// What a device meets whose gateway is gone.
const WITHOUT_GATEWAY: &[&str] = &["connection closed", "answer cut off", "no connection"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_end_come_back_without_anybodys_help() {
    let mut scene = Scene::start(Options::default()).await;

    let fault = scene.begin("Connection point killed, started again a second later").await;
    scene.lab.connector.kill();
    let gone = Instant::now();
    until_note(&fault, "503 RG-1102").await;
    outage(gone).await;
    scene.lab.connector.start();
    let expect = Expect {
        allowed: &["502 RG-1103", "answer cut off", "connection closed"],
        must: &["503 RG-1102"],
        ..Expect::default()
    };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("Gateway killed, started again a second later").await;
    scene.lab.gateway.kill();
    let gone = Instant::now();
    until_note(&fault, "no connection").await;
    outage(gone).await;
    scene.lab.gateway.start();
    let expect = Expect {
        allowed: &[WITHOUT_GATEWAY, WITHOUT_TUNNEL].concat(),
        must: &["no connection"],
        ..Expect::default()
    };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("Connection point halted (SIGSTOP) for 3 s, then continued").await;
    scene.lab.connector.signal("STOP");
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.lab.connector.signal("CONT");
    scene.end(fault, Instant::now(), Expect::default()).await;

    let fault =
        scene.begin("Connection point halted (SIGSTOP) until the gateway gives it up, then continued").await;
    scene.lab.connector.signal("STOP");
    until_note(&fault, "503 RG-1102").await;
    scene.lab.connector.signal("CONT");
    let expect = Expect {
        allowed: &["answer cut off", "connection closed"],
        must: WITHOUT_TUNNEL,
        ..Expect::default()
    };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("Gateway halted (SIGSTOP) for 3 s, then continued").await;
    scene.lab.gateway.signal("STOP");
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.lab.gateway.signal("CONT");
    scene.end(fault, Instant::now(), Expect::default()).await;

    drained(&mut scene).await;
    site_gone(&mut scene).await;
    scene.account("Processes");
}

/// What is under way is finished, nothing new begins.
async fn drained(scene: &mut Scene) {
    let fault = scene.begin("Gateway drained (SIGTERM) with a request under way, then started again").await;
    scene.lab.other.behave(Manner::Slow(Duration::from_secs(2)));
    let (victim, ask) = (scene.victim(), Ask::new(300, 0));
    let under_way = tokio::spawn(async move { victim.ask(&mut None, ask).await });
    let other = &scene.lab.other;
    until("the request is inside", Duration::from_secs(10), || other.came(ask.number).whole > 0).await;
    scene.lab.gateway.signal("TERM");
    let note = under_way.await.expect("a device asks");
    assert!(note.is_good(), "the request under way: {note:?}");
    scene.lab.other.behave(Manner::Good);
    scene.lab.gateway.wait_for_end().await;
    scene.lab.gateway.start();
    let expect = Expect {
        allowed: &["503 RG-1106", "no connection", "connection closed", "503 RG-1102", "502 RG-1103"],
        must: &["no connection"],
        remark: format!("The one under way: 200 after {:.2} s", note.elapsed.as_secs_f64()),
        ..Expect::default()
    };
    scene.end(fault, Instant::now(), expect).await;
}

/// Devices with a token are served by every other role; the gateway keeps what it knows.
async fn site_gone(scene: &mut Scene) {
    let fault = scene.begin("Site host killed, management point and all, started again 2 s later").await;
    scene.lab.site.kill();
    let gone = Instant::now();
    let device = Device { base: scene.lab.management_point_base.clone(), ..scene.victim() };
    let (mut connection, mut victims) = (None, Vec::new());
    for body in [0, 300, 100_000] {
        victims.push(device.ask(&mut connection, Ask::new(body, 0)).await);
    }
    drop(connection);
    let (status, page) = scene.lab.page("/readyz").await;
    tokio::time::sleep_until((gone + Duration::from_secs(2)).into()).await;
    scene.lab.site.start();
    scene.lab.wait_for_site().await;
    assert_eq!(status, 200, "the gateway is ready: {page}");
    let expect = Expect { must: &["502 RG-2101"], victims: Some(victims), ..Expect::default() };
    scene.end(fault, Instant::now(), expect).await;
}

/// Waits until a device of the steady traffic has seen this.
async fn until_note(fault: &crate::fault::scene::Fault, label: &str) {
    until(&format!("a device sees {label}"), Duration::from_secs(20), || {
        fault.traffic.notes().iter().any(|note| note.seen.label() == label)
    })
    .await;
}

/// The length of the outage is a part of the fault.
async fn outage(gone: Instant) {
    tokio::time::sleep_until((gone + Duration::from_secs(1)).into()).await;
}
