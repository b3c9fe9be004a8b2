//! The site process is killed while devices register, 50 at a time: what a device was told is
//! true afterwards, and everything finishes without anybody doing anything but start it again.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::device::RequestError;
use client::identity::KeyMaterial;
use client::state::{MemoryStore, Setup, State};
use client::trust::Pin;
use client::{Device, DeviceOptions};
use proto::id::{ClientId, Thumbprint};
use proto::time::Timestamp;
use runtime::Clock;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use support::{key_pool, roamgate, wait_for};
use tokio::sync::watch;
use tokio::task::JoinSet;

const DEVICES: usize = 2_000;
const AT_ONCE: usize = 50;
/// The site is killed as soon as so many devices were told that they are registered.
const KILLS: [usize; 3] = [DEVICES / 4, DEVICES / 2, DEVICES / 4 * 3];
/// Time for everything, the site being gone three times included.
const BOUND: Duration = Duration::from_mins(3);
/// The pause before a device tries again: anything up to this, then up to twice as much, …
const PAUSE: Duration = Duration::from_millis(20);
/// … and never more than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Time for a site that was asked to end.
const STOP: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_outlive_a_site_that_is_killed_three_times() {
    let began = Instant::now();
    let keys = make_keys();
    println!("{} keys with certificates: {:.1} s", keys.len(), began.elapsed().as_secs_f64());
    let mut site = SiteHost::init();
    site.start();

    let tally = Arc::new(Tally::default());
    let began = Instant::now();
    let mut devices = start_devices(keys, &site, &tally);
    let all_registered = async {
        while let Some(ended) = devices.join_next().await {
            ended.expect("a device finishes");
        }
    };
    let everything = async { tokio::join!(all_registered, kill_again_and_again(&mut site, &tally)) };
    let in_time = tokio::time::timeout(BOUND, everything).await.is_ok();
    assert!(in_time, "{} devices after {} s\n{}", tally.acknowledged(), BOUND.as_secs(), site.output());
    tally.print(began.elapsed());
    assert_eq!(tally.acknowledged(), DEVICES);
    assert!(tally.repeats.load(Ordering::Relaxed) > 0, "nobody noticed that the site was gone");

    site.audit_is_whole();
    site.stop();
    compare(&site.database(), &tally);
}

/// Every key is another one: a device is its key.
fn make_keys() -> Vec<KeyMaterial> {
    let now = Timestamp::from_micros(Clock::system().now());
    let make = |number| {
        KeyMaterial::for_key(key_pool::key(number).into(), now).expect("a certificate for a key of the pool")
    };
    std::thread::scope(|scope| {
        let halves = [0..DEVICES / 2, DEVICES / 2..DEVICES];
        let workers = halves.map(|half| scope.spawn(move || half.map(make).collect::<Vec<_>>()));
        workers.into_iter().flat_map(|worker| worker.join().expect("keys are made")).collect()
    })
}

/// Workers of which each takes the next device when it is done with the last.
fn start_devices(keys: Vec<KeyMaterial>, site: &SiteHost, tally: &Arc<Tally>) -> JoinSet<()> {
    let queue = Arc::new(Mutex::new(keys.into_iter().enumerate()));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (queue, tally, told) = (Arc::clone(&queue), Arc::clone(tally), site.told());
        workers.spawn(async move {
            let next = || queue.lock().expect("no worker failed").next();
            while let Some((number, key)) = next() {
                register_until_done(device(number, key, &told), &tally).await;
            }
        });
    }
    workers
}

/// What a device's administrator knows of the site.
#[derive(Clone)]
struct Told {
    management_point: String,
    root_pem: String,
    pin: Pin,
}

fn device(number: usize, key: KeyMaterial, told: &Told) -> Device {
    let setup = Setup {
        name: format!("kill-{number:04}"),
        hardware_id: format!("2:{number:040X}"),
        site_code: None,
        inside: vec![told.management_point.parse().expect("an address")],
        gateways: Vec::new(),
        always_internet: false,
        // No connection of theirs is TLS; with a root of their own they need not read the system's.
        ca: Some(told.root_pem.clone()),
        pin: told.pin.clone(),
    };
    let options = DeviceOptions {
        state: State::new(setup),
        key,
        store: Arc::new(MemoryStore::default()),
        clock: Clock::system(),
        system_roots: false,
    };
    Device::new(options).expect("a device")
}

/// What a device does while its site comes and goes. No failure but one that passes by itself.
async fn register_until_done(mut device: Device, tally: &Tally) {
    let mut attempt = 0;
    while let Err(error) = register(&mut device, tally).await {
        let nobody_there = matches!(error, RequestError::NoWay { .. });
        assert!(nobody_there || error.is_transient(), "{}", runtime::telemetry::Chain(&error));
        tally.repeats.fetch_add(1, Ordering::Relaxed);
        let random = runtime::id::random();
        tokio::time::sleep(runtime::backoff::next(attempt, PAUSE, LONGEST_PAUSE, random)).await;
        attempt += 1;
    }
}

/// Registers and confirms. A device whose confirmation failed begins with the registration again:
/// it must be given the id that it was given before.
async fn register(device: &mut Device, tally: &Tally) -> Result<(), RequestError> {
    device.locate().await?;
    let asked = device.now();
    let registration = device.register().await?;
    tally.acknowledge(device.identity().thumbprint(), registration.client_id, asked);
    let confirmed = device.confirm().await?;
    assert!(confirmed.approval.is_approved(), "{confirmed:?}");
    Ok(())
}

async fn kill_again_and_again(site: &mut SiteHost, tally: &Tally) {
    for at in KILLS {
        let mut count = tally.count.subscribe();
        count.wait_for(|acknowledged| *acknowledged >= at).await.expect("the tally lives on");
        let acknowledged = site.kill(|| tally.acknowledged());
        let gone = Instant::now();
        site.start();
        count.wait_for(|now| *now > acknowledged + AT_ONCE).await.expect("the tally lives on");
        let back = gone.elapsed().as_millis();
        println!("killed with {acknowledged} acknowledged; more than {AT_ONCE} others {back} ms later");
    }
}

/// What devices were told.
#[derive(Default)]
struct Tally {
    devices: Mutex<BTreeMap<Thumbprint, Acknowledged>>,
    count: watch::Sender<usize>,
    /// Attempts that failed.
    repeats: AtomicUsize,
    /// Answers to devices that had one before.
    twice: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    client_id: ClientId,
    /// When the first request that was answered was sent.
    asked: Timestamp,
}

impl Tally {
    fn acknowledge(&self, key: Thumbprint, client_id: ClientId, asked: Timestamp) {
        let mut devices = self.devices.lock().expect("no device failed");
        if let Some(before) = devices.get(&key) {
            assert_eq!(before.client_id, client_id, "one key, two ids");
            self.twice.fetch_add(1, Ordering::Relaxed);
            return;
        }
        devices.insert(key, Acknowledged { client_id, asked });
        self.count.send_modify(|count| *count += 1);
    }

    fn acknowledged(&self) -> usize {
        *self.count.borrow()
    }

    fn print(&self, took: Duration) {
        let rate = f64::from(u32::try_from(self.acknowledged()).expect("some thousand")) / took.as_secs_f64();
        println!(
            "{} devices registered and confirmed in {:.1} s, {rate:.0} a second; {} attempts failed; \
             {} devices registered twice and were given the same id",
            self.acknowledged(),
            took.as_secs_f64(),
            self.repeats.load(Ordering::Relaxed),
            self.twice.load(Ordering::Relaxed),
        );
    }
}

/// What the database holds against what devices were told.
fn compare(database: &Path, tally: &Tally) {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database opens");
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).expect("an answer");
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("an answer");
    let devices = i64::try_from(DEVICES).expect("some thousand");

    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(number("SELECT COUNT(*) FROM device"), devices);
    for column in ["client_id", "signing_thumbprint", "name_key", "hardware_id"] {
        let different = number(&format!("SELECT COUNT(DISTINCT {column}) FROM device"));
        assert_eq!(different, devices, "{column}: some device is there twice");
    }
    assert_eq!(number("SELECT COUNT(*) FROM device WHERE conflict_with IS NOT NULL"), 0);
    let by_rule = "SELECT COUNT(*) FROM device
                   WHERE approval = 'approved' AND approved_by = 'network 127.0.0.0/8'";
    assert_eq!(number(by_rule), devices, "approved by the rule for the inside");
    assert_eq!(number("SELECT COUNT(*) FROM device WHERE confirmed_at IS NULL"), 0);

    let rows = rows(&connection);
    let told = tally.devices.lock().expect("no device failed");
    let mut unanswered = 0;
    for (key, acknowledged) in &*told {
        let row = rows.get(key.as_bytes().as_slice());
        let row = row.unwrap_or_else(|| panic!("{} was acknowledged and is missing", acknowledged.client_id));
        assert_eq!(row.client_id, acknowledged.client_id.guid().as_bytes(), "the id that it was told");
        // On record before it asked: an earlier answer never came.
        unanswered += usize::from(row.registered_at < acknowledged.asked.micros());
    }
    println!("on record before they heard of it, and asked again: {unanswered}");

    // The record of the deed is made in the same transaction: one for each device, as well.
    let audited: BTreeSet<String> = connection
        .prepare("SELECT object FROM audit WHERE act = 'device.register'")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .expect("the audit is read");
    let told: BTreeSet<String> = told.values().map(|device| device.client_id.to_string()).collect();
    assert_eq!(audited, told);
    assert_eq!(number("SELECT COUNT(*) FROM audit WHERE act = 'device.register'"), devices);
}

struct DeviceRow {
    client_id: Vec<u8>,
    registered_at: i64,
}

fn rows(connection: &Connection) -> BTreeMap<Vec<u8>, DeviceRow> {
    let mut statement = connection
        .prepare("SELECT signing_thumbprint, client_id, registered_at FROM device")
        .expect("the statement fits");
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, DeviceRow { client_id: row.get(1)?, registered_at: row.get(2)? }))
        })
        .expect("the devices are read");
    rows.collect::<Result<_, _>>().expect("the devices are read")
}

/// A site host as its administrator runs it; its process ends with the test at the latest.
struct SiteHost {
    folder: tempfile::TempDir,
    management_point: u16,
    operator_api: u16,
    process: Option<Child>,
}

impl SiteHost {
    fn init() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [management_point, link, operator_api] = free_ports();
        let site = Self { folder, management_point, operator_api, process: None };
        let mut init = Command::new(roamgate());
        init.args(["site", "init", "--site-code", "RG1", "--listen", "127.0.0.1", "--host", "localhost"])
            .args(["--intranet", "127.0.0.0/8", "--mp-port", &management_point.to_string()])
            .args(["--link-port", &link.to_string(), "--api-port", &operator_api.to_string(), "--dir"])
            .arg(site.path(""));
        support::run(&mut init, b"");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("site").join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("site.db")
    }

    fn told(&self) -> Told {
        let root = self.path("site-root.pem");
        Told {
            management_point: format!("http://127.0.0.1:{}", self.management_point),
            root_pem: std::fs::read_to_string(&root).expect("the site root"),
            pin: Pin::from_file(&root).expect("the site root"),
        }
    }

    /// Starts it, and waits for nothing: devices find out by themselves.
    fn start(&mut self) {
        let output = OpenOptions::new().create(true).append(true).open(self.folder.path().join("output"));
        let process = Command::new(roamgate())
            .arg("serve")
            .arg("--config")
            .arg(self.path("site.toml"))
            .arg("--end-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output.expect("a file for what it prints"))
            .spawn();
        self.process = Some(process.expect("the site starts"));
    }

    /// `kill -9`, and looks at something at the last moment before.
    fn kill<T>(&mut self, look: impl FnOnce() -> T) -> T {
        let mut process = self.process.take().expect("it runs");
        assert!(process.try_wait().expect("a state").is_none(), "the site ended:\n{}", self.output());
        let seen = look();
        process.kill().expect("it is killed");
        let status = process.wait().expect("it is gone");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        seen
    }

    fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        drop(process.stdin.take());
        let (status, _) = wait_for("the site ends", STOP, || process.try_wait().expect("a state"));
        assert!(status.success(), "{status}\n{}", self.output());
    }

    fn audit_is_whole(&self) {
        let output = Command::new(roamgate())
            .args(["audit", "verify", "--output", "json"])
            .args(["--server", &format!("https://localhost:{}", self.operator_api), "--ca-file"])
            .arg(self.path("site-root.pem"))
            .arg("--operator-key-file")
            .arg(self.path("operator.key"))
            .env("ROAMGATE_CONTEXT", self.folder.path().join("context.toml"))
            .output()
            .expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let verdict: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        println!("audit verify: {verdict}");
        assert_eq!(verdict["ok"], true);
        assert!(verdict["rows"].as_u64().is_some_and(|rows| rows >= DEVICES as u64));
    }

    /// What all its processes printed.
    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for SiteHost {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Free ports below those that the system gives to outgoing connections: while the site is down
/// a device's attempt to reach it could be given the site's own port, and hold it.
fn free_ports() -> [u16; 3] {
    let first = 20_000 + u16::try_from(runtime::id::random() % 10_000).expect("below 10,000");
    let free = (first..).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.take(3).collect::<Vec<_>>().try_into().expect("three free ports")
}
