//! Too many requests, too few descriptors, a full disk, new certificates, another clock.

use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;

use crate::fault::deployment::Options;
use crate::fault::device::{Ask, Note, Seen};
use crate::fault::inner::Manner;
use crate::fault::scene::{Expect, Scene};
use crate::fault::until;

const SECTION: &str = "Limits and surroundings";
/// Requests at once that the gateway takes.
const REQUESTS: usize = 8;
/// Most descriptors of the gateway in the tests where they are few.
const DESCRIPTORS: u32 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_refused_early_and_the_rest_is_served() {
    let options = Options {
        // Two devices stand for many.
        gateway: format!(
            "max_requests = {REQUESTS}\n[gateway.limits]\ndevice_requests = \"off\"\ndevice_at_once = \"off\""
        ),
        gateway_descriptors: Some(DESCRIPTORS),
        ..Options::default()
    };
    let mut scene = Scene::start(options).await;
    overload(&mut scene).await;
    few_descriptors(&mut scene).await;
    scene.account(SECTION);
}

/// Three times as many devices as places, each of which asks again at once, whatever it is told.
async fn overload(scene: &mut Scene) {
    let fault = scene.begin("Three times as many requests at once as max_requests (8)").await;
    let before = scene.lab.gateway.weight().expect("it runs");
    scene.lab.other.behave(Manner::Slow(Duration::from_millis(200)));
    let until = Instant::now() + Duration::from_secs(3);
    let tasks: Vec<_> = (0..REQUESTS * 3)
        .map(|_| {
            let victim = scene.victim();
            tokio::spawn(async move {
                let (mut connection, mut notes) = (None, Vec::new());
                while Instant::now() < until {
                    notes.push(victim.ask(&mut connection, Ask::new(0, 0)).await);
                }
                notes
            })
        })
        .collect();
    let mut victims = Vec::new();
    let mut most = before.resident_kib;
    for task in tasks {
        victims.extend(task.await.expect("a device asks"));
        most = most.max(scene.lab.gateway.weight().expect("it runs").resident_kib);
    }
    scene.lab.other.behave(Manner::Good);
    let healed = Instant::now();
    let served = victims.iter().filter(|note| note.is_good()).count();
    let steady: Vec<_> = fault.traffic.notes();
    let went_on =
        steady.iter().filter(|note| note.is_good() && note.ended() + Duration::from_secs(3) > healed).count();
    for note in victims.iter().chain(&steady) {
        if let Seen::Refused { status: 429 | 503, retry_after, .. } = note.seen {
            assert!(retry_after.is_some_and(|seconds| (1..=30).contains(&seconds)), "{note:?}");
        }
    }
    assert!(served > REQUESTS && went_on > 0, "{served} of the crowd, {went_on} of the others");
    let grown = most.saturating_sub(before.resident_kib);
    assert!(grown < 20 * 1024, "the gateway grew by {grown} KiB under load");
    let remark = format!(
        "All with Retry-After; {served} of {} of the crowd and {went_on} of the others were answered; the \
         gateway grew by {:.1} MiB",
        victims.len(),
        f64::from(u32::try_from(grown).expect("small")) / 1024.0
    );
    let expect = Expect { must: &["503 RG-1105"], extra: victims, remark, ..Expect::default() };
    scene.end(fault, healed, expect).await;
}

/// All descriptors are taken by connections that do nothing: kept ones are served, new ones as soon as others end.
async fn few_descriptors(scene: &mut Scene) {
    let fault = scene.begin("64 descriptors in all, every one taken").await;
    let address = scene.lab.gateway_address;
    let mut held = Vec::new();
    for _ in 0..DESCRIPTORS {
        // The kernel takes them; the gateway may not be able to.
        held.push(TcpStream::connect(address).await.expect("the kernel takes it"));
    }
    let gateway = &scene.lab.gateway;
    until("no descriptor is left", Duration::from_secs(10), || {
        gateway.weight().expect("it runs").descriptors >= DESCRIPTORS as usize
    })
    .await;
    let (began, processor) = (Instant::now(), gateway.processor_time());
    let victim = scene.victim();
    let newcomer = tokio::spawn(async move { victim.ask(&mut None, Ask::new(0, 0)).await });
    fault.traffic.recovered(began).await;
    // How long the want lasts, for the processor time that it costs.
    tokio::time::sleep_until((began + Duration::from_secs(3)).into()).await;
    let used =
        gateway.processor_time().saturating_sub(processor).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(used < 0.9, "the gateway used {used:.2} of a core");
    drop(held);
    let healed = Instant::now();
    let note: Note = newcomer.await.expect("a device asks");
    assert!(note.is_good(), "a new connection, once there is a descriptor: {note:?}");
    let remark = format!(
        "Kept connections are served, a new one {:.2} s after the others had gone; the gateway used {:.0} % of a core, \
         traffic included",
        note.ended().saturating_duration_since(healed).as_secs_f64(),
        used * 100.0
    );
    scene.end(fault, healed, Expect { victims: Some(vec![note]), remark, ..Expect::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_around_a_gateway_fails_no_request() {
    let mut scene = Scene::start(Options::default()).await;
    reloads(&mut scene).await;
    nothing_can_be_stored(&mut scene).await;
    clock(&mut scene).await;
    scene.account(SECTION);
}

async fn reloads(scene: &mut Scene) {
    let fault = scene.begin("Certificate and configuration read again 100 times").await;
    for round in 0..100 {
        scene.lab.write_certificate();
        scene.lab.gateway.signal("HUP");
        if round % 10 == 0 {
            let victim = scene.victim();
            let note = victim.ask(&mut None, Ask::new(0, 0)).await;
            assert!(note.is_good(), "a new connection in round {round}: {note:?}");
        }
    }
    let newest = scene.lab.folder.path().join("gateway.pem");
    let newest = CertificateDer::from_pem_file(newest).expect("a certificate");
    let began = Instant::now();
    loop {
        let connection = scene.victim().connect().await.expect("the gateway");
        let shown = connection.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
        if shown == Some(newest.clone()) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the last certificate is not shown");
    }
    scene.end(fault, Instant::now(), Expect { victims: Some(Vec::new()), ..Expect::default() }).await;
}

/// Whoever may do anything cannot be kept from writing by a mode, so what stands where the files belong are
/// folders.
async fn nothing_can_be_stored(scene: &mut Scene) {
    let fault = scene.begin("Gateway's state folder takes nothing any more").await;
    let folder = scene.lab.folder.path().join("gateway-state");
    for file in ["snapshot.json", "changes.jsonl"] {
        let path = folder.join(file);
        if path.exists() {
            std::fs::remove_file(&path).expect("a file of the gateway");
        }
        std::fs::create_dir_all(path.join("in-the-way")).expect("a folder");
    }
    let words = ["role", "add", "LATER", "--mode", "ehttp", "--internal-url", "https://localhost:1"];
    let role = scene.lab.operator(&words).await;
    let id = role["role_id"].as_str().expect("an id").to_owned();
    // What the site publishes counts all the same: the new role is known, if only as one that is not there.
    let victim =
        crate::fault::device::Device { base: format!("/CCM_Proxy_ServerAuth/{id}"), ..scene.victim() };
    let began = Instant::now();
    let note = loop {
        let note = victim.ask(&mut None, Ask::new(0, 0)).await;
        if note.seen.label() == "502 RG-2101" {
            break note;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "the change does not count: {note:?}");
    };
    let gateway = &scene.lab.gateway;
    until("the gateway says so", Duration::from_secs(10), || gateway.output().contains("cannot be stored"))
        .await;
    for file in ["snapshot.json", "changes.jsonl"] {
        std::fs::remove_dir_all(folder.join(file)).expect("a folder of this test");
    }
    let healed = Instant::now();
    let remark =
        "What the site publishes counts all the same, and the log says that it cannot be stored".to_owned();
    let expect = Expect { must: &["502 RG-2101"], victims: Some(vec![note]), remark, ..Expect::default() };
    scene.end(fault, healed, expect).await;
}

async fn clock(scene: &mut Scene) {
    let file = scene.lab.folder.path().join("clock-offset");
    for (name, seconds, must) in [
        ("Every clock steps an hour ahead and back", 3_600, &[][..]),
        ("Every clock steps ten hours ahead (tokens live eight) and back", 36_000, &["401 RG-1203"]),
        ("Every clock steps an hour back and ahead again", -3_600, &["401 RG-1204"]),
    ] {
        let fault = scene.begin(name).await;
        let stepped = Instant::now();
        crate::support::write_clock(&file, seconds);
        match must.first() {
            Some(label) => {
                until(&format!("a device sees {label}"), Duration::from_secs(10), || {
                    fault.traffic.notes().iter().any(|note| note.seen.label() == *label)
                })
                .await;
            }
            None => drop(fault.traffic.recovered(stepped + Duration::from_millis(500)).await),
        }
        crate::support::write_clock(&file, 0);
        scene.end(fault, Instant::now(), Expect { must, ..Expect::default() }).await;
    }
}
