//! Packets that are dropped, in a network namespace: the whole deployment runs in one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fault::deployment::Options;
use crate::fault::scene::{Expect, Scene};

/// Set for the process inside the namespace.
const INSIDE: &str = "ROAMGATE_FAULTS_NAMESPACE";

#[test]
fn packets_that_are_lost_delay_and_lose_nothing() {
    let probe = "ip link set lo up && nft add table ip roamgate && tc qdisc add dev lo root tbf rate 1mbit burst 64kb \
                 latency 400ms";
    let probe = Command::new("unshare").args(["-Urn", "--", "sh", "-c", probe]).stdin(Stdio::null()).output();
    let denied = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = denied {
        println!("SKIPPED: no network namespace with nft and tc here: {reason}");
        return;
    }
    let status = Command::new("unshare")
        .args(["-Urn", "--", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "network::inside_the_namespace", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .expect("a namespace");
    assert!(status.success(), "in the namespace: {status}");
}

/// Does nothing unless it was started by the test above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_the_namespace() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let mut scene = Scene::start(Options::default()).await;
    let port = scene.lab.line.port;
    let run = |script: &str| {
        let status = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).status();
        assert!(status.expect("a shell").success(), "{script}");
    };
    run(
        "nft add table ip roamgate; nft 'add chain ip roamgate faults { type filter hook input priority 0; }'",
    );
    for percent in [1, 5, 20] {
        let fault = scene.begin(&format!("{percent} % of the tunnels' packets lost, each way")).await;
        for side in ["dport", "sport"] {
            run(&format!(
                "nft add rule ip roamgate faults tcp {side} {port} numgen random mod 100 '<' {percent} drop"
            ));
        }
        let from = Instant::now();
        // For so long.
        tokio::time::sleep(Duration::from_secs(3)).await;
        run("nft flush chain ip roamgate faults");
        let healed = Instant::now();
        let notes = fault.traffic.notes();
        let on_it: Vec<_> = notes.iter().filter(|note| note.ended() >= from && note.is_good()).collect();
        let slowest = on_it.iter().map(|note| note.elapsed).max().unwrap_or_default();
        let remark =
            format!("{} answered meanwhile, the slowest after {:.2} s", on_it.len(), slowest.as_secs_f64());
        scene.end(fault, healed, Expect { remark, ..Expect::default() }).await;
    }

    let fault = scene.begin("Every packet of the tunnels dropped silently").await;
    for side in ["dport", "sport"] {
        run(&format!("nft add rule ip roamgate faults tcp {side} {port} drop"));
    }
    crate::fault::until("a device sees that", Duration::from_secs(20), || {
        fault.traffic.notes().iter().any(|note| note.seen.label() == "503 RG-1102")
    })
    .await;
    run("nft flush chain ip roamgate faults");
    let expect = Expect {
        allowed: &["answer cut off", "connection closed"],
        must: &["502 RG-1103", "503 RG-1102"],
        ..Expect::default()
    };
    scene.end(fault, Instant::now(), expect).await;

    let fault = scene.begin("256 KiB/s for everything on the host").await;
    run("tc qdisc add dev lo root tbf rate 2097152bit burst 64kb latency 2s");
    let from = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    run("tc qdisc del dev lo root");
    let healed = Instant::now();
    let notes = fault.traffic.notes();
    let on_it: Vec<_> = notes.iter().filter(|note| note.ended() >= from && note.is_good()).collect();
    let slowest = on_it.iter().map(|note| note.elapsed).max().unwrap_or_default();
    let remark =
        format!("{} answered meanwhile, the slowest after {:.2} s", on_it.len(), slowest.as_secs_f64());
    scene.end(fault, healed, Expect { remark, ..Expect::default() }).await;

    scene.account("Network");
}
