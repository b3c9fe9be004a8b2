//! What shuts a device out and what brings it back, over real processes: blocks and how soon they count,
//! clocks that are wrong, answers that are lost, a bulk token on a device that has been away for too long.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::device::RequestError;
use client::identity::KeyMaterial;
use client::policy::PolicyError;
use client::state::{Der, MemoryStore, Setup, State};
use client::trust::Pin;
use client::{Device, DeviceOptions};
use proto::time::Timestamp;
use runtime::Clock;
use runtime::tls::ClientTls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use support::roamer::{Roamer, management_point};
use support::{Lab, wait_for, write_clock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a block may take until it counts everywhere.
const BLOCK_BOUND: Duration = Duration::from_secs(5);
/// How long a device may take until the site sees what is waited for.
const PATIENCE: Duration = Duration::from_secs(40);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[test]
fn devices_are_shut_out_and_come_back() {
    let lab = Lab::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(a_block_counts_on_an_open_connection_and_inside(&lab));
    runtime.block_on(a_blocked_devices_hardware_does_not_come_back_under_another_key(&lab));
    // From here on the story is a day ahead, so that a slow clock is not before the site's beginning.
    write_clock(&lab.clock(), DAY);
    a_slow_clock_is_tolerated_and_named(&lab);
    a_clock_beyond_the_limit_is_told_the_sites_time(&lab);
    a_renewal_whose_answer_is_lost_is_harmless(&lab);
    a_bulk_token_brings_a_stranded_device_back_under_its_id(&lab);
}

/// The gateway knows the key of an open connection that it served a moment ago; the management point knows
/// the device that asks it directly. Both refuse within seconds, and the operator hears who knows.
async fn a_block_counts_on_an_open_connection_and_inside(lab: &Lab) {
    let token = bulk_token(lab, 3);
    let mut outside = device(lab, "blocked-outside", &hardware(1), Road::Gateway);
    set_up(&mut outside, Some(&token)).await;
    let ccm = outside.ccm_token().await.expect("a CCM token").expose().to_owned();
    let mut connection = OpenConnection::to_gateway(lab, &outside, &ccm).await;
    let before = connection.ask().await;
    assert!(!before.contains("RG-1207"), "served: {before}");

    let (id, began) = (id_of(&outside), Instant::now());
    let blocking = operate(lab, ["device", "block", &id]);
    let refused = async {
        loop {
            let answer = connection.ask().await;
            if answer.contains("roamgate-reason: RG-1207") {
                return (answer, began.elapsed());
            }
            assert!(began.elapsed() < BLOCK_BOUND, "still served: {answer}");
        }
    };
    let (answer, (refusal, took)) = tokio::join!(blocking, refused);
    assert!(refusal.starts_with("HTTP/1.1 403 "), "{refusal}");
    report_block("gateway, on an open connection", took, &answer);
    // A new connection fares no better, and the device learns why.
    let error = outside.policy().await.expect_err("blocked");
    assert_eq!(reason_of(&error).as_deref(), Some("RG-1207"), "{error:?}");

    let mut inside = device(lab, "blocked-inside", &hardware(2), Road::Inside);
    set_up(&mut inside, None).await;
    inside.policy().await.expect("policy");
    let (id, began) = (id_of(&inside), Instant::now());
    let blocking = operate(lab, ["device", "block", &id]);
    let refused = async {
        loop {
            match inside.policy().await {
                Ok(_) => assert!(began.elapsed() < BLOCK_BOUND, "still served"),
                Err(error) => return (error, began.elapsed()),
            }
        }
    };
    let (answer, (error, took)) = tokio::join!(blocking, refused);
    assert_eq!(reason_of(&error).as_deref(), Some("RG-3106"), "{error:?}");
    report_block("management point, inside", took, &answer);

    // Taken back, they go on with what they have.
    for device in [&mut outside, &mut inside] {
        let answer = operate(lab, ["device", "unblock", &id_of(device)]).await;
        assert_eq!(answer["gateways_told"], "1 of 1", "{answer}");
        let began = Instant::now();
        while let Err(error) = device.policy().await {
            assert!(began.elapsed() < BLOCK_BOUND, "still refused: {error:?}");
        }
        println!("unblocked: served after {:.2} s", began.elapsed().as_secs_f64());
    }
}

async fn a_blocked_devices_hardware_does_not_come_back_under_another_key(lab: &Lab) {
    let token = bulk_token(lab, 5);
    let mut first = device(lab, "hardware", &hardware(3), Road::Gateway);
    set_up(&mut first, Some(&token)).await;
    operate(lab, ["device", "block", &id_of(&first)]).await;
    let began = Instant::now();
    for road in [Road::Gateway, Road::Inside] {
        let mut again = device(lab, "hardware", &hardware(3), road);
        if road == Road::Gateway {
            again.use_bulk_token(token.clone().into());
        }
        let error = again.register().await.expect_err("the same hardware is blocked");
        let reason = error.reason().map(|reason| reason.to_string());
        assert_eq!(reason.as_deref(), Some("RG-5003"), "{error:?}");
        assert_eq!(again.client_id(), None);
        println!(
            "hardware of a blocked device, new key, {road:?}: refused {:.2} s after the block ({})",
            began.elapsed().as_secs_f64(),
            reason.unwrap_or_default()
        );
    }
    assert!(began.elapsed() < BLOCK_BOUND);
    // Other hardware of the same name is another device.
    let mut other = device(lab, "hardware", &hardware(4), Road::Gateway);
    set_up(&mut other, Some(&token)).await;
    assert_ne!(other.client_id(), first.client_id());
}

/// Nine minutes are more than five and less than the limit: the device works at once, and the site says what
/// is wrong with it.
fn a_slow_clock_is_tolerated_and_named(lab: &Lab) {
    let mut device = Roamer::new(lab, "slow");
    device.set_own_clock(DAY - 9 * 60 - 30);
    set_up_roamer(lab, &device);
    device.start("2s");
    let (record, _) = wait_for("a device whose clock is 9 minutes slow is managed", PATIENCE, || {
        let record = lab.operator(&["device", "show", "slow"]);
        let works = record["presence"] == "online" && record["policy_version"].is_u64();
        (works && record["clock"].is_string()).then_some(record)
    });
    assert_eq!(record["clock"], "this device's clock is 9 minutes slow", "{record}");
    // And it stays named, though the device goes by the site's time now.
    let asked = device.status()["last_policy"].clone();
    wait_for("it asks for policy again", PATIENCE, || {
        (device.status()["last_policy"] != asked).then_some(())
    });
    let record = lab.operator(&["device", "show", "slow"]);
    assert_eq!(record["clock"], "this device's clock is 9 minutes slow", "{record}");
    let status = device.status();
    assert!(status["clock"].as_str().is_some_and(|text| text.contains("9 minutes slow")), "{status:#}");
    assert_eq!(status["last_failure"], Value::Null);
    println!("{}", record["clock"]);
}

/// Beyond the limit the site refuses, says what is wrong and its own time; the device goes by that.
fn a_clock_beyond_the_limit_is_told_the_sites_time(lab: &Lab) {
    let mut device = Roamer::new(lab, "slower");
    set_up_roamer(lab, &device);
    device.set_own_clock(DAY - 3 * HOUR);
    device.start("2s");
    let (record, took) = wait_for("a device whose clock is 3 hours slow is managed", PATIENCE, || {
        let record = lab.operator(&["device", "show", "slower"]);
        (record["presence"] == "online" && record["clock"].is_string()).then_some(record)
    });
    assert!(record["clock"].as_str().is_some_and(|text| text.ends_with("slow")), "{record}");
    // It was refused once, with this reason, by the management point; and asked again by the site's time.
    let refusals = log_lines(&PathBuf::from(lab.text("dir")).join("site"), "RG-3108");
    let of_this = refusals.iter().filter(|line| line.contains("this device's clock is")).count();
    assert!(of_this > 0, "{refusals:?}");
    let again = device.log_lines("asking again with the site's time");
    assert_eq!(again.len(), 1, "once is enough: {again:?}");
    assert_eq!(device.status()["last_failure"], Value::Null);
    println!("RG-3108, corrected by the site's time within {:.1} s", took.as_secs_f64());
}

/// The site gives a new token, and the answer never arrives. Nothing that was given before stops to count.
fn a_renewal_whose_answer_is_lost_is_harmless(lab: &Lab) {
    let mut device = Roamer::new(lab, "loser");
    set_up_roamer(lab, &device);
    let id = device.status()["client_id"].as_str().expect("an id").to_owned();
    // Polls are far apart: what wakes the device is the renewal.
    device.start("1h");
    let before = device.status()["self_prove_token"].clone();
    let from = moment(before["renew_from"].as_str().expect("a moment"));
    let offset = from - Clock::system().now_seconds() - HOUR;
    write_clock(&lab.clock(), offset);
    wait_for("its day token is fresh", PATIENCE, || {
        let status = device.status();
        let expires = status["ccm_token"]["expires"].as_str().map(moment);
        expires.is_some_and(|expires| expires > from + 3 * HOUR).then_some(())
    });
    wait_for("its cycle has ended", PATIENCE, || cycle_has_ended(&device).then_some(()));
    let renewals = || confirmations(lab, &id);
    let (known, refused) = (renewals(), device.log_lines("RG-12").len());

    device.lose_answers(true);
    write_clock(&lab.clock(), offset + HOUR + 60);
    wait_for("the site has given a new token", PATIENCE, || (renewals() > known).then_some(()));
    wait_for("the device has noticed that its answers are lost", PATIENCE, || {
        device.status()["last_failure"].is_object().then_some(())
    });
    assert_eq!(device.status()["self_prove_token"]["expires"], before["expires"], "it did not arrive");
    device.lose_answers(false);
    wait_for("the device has a new token all the same", PATIENCE, || {
        let status = device.status();
        let renewed = status["self_prove_token"]["expires"] != before["expires"];
        (renewed && status["last_failure"].is_null()).then_some(())
    });
    assert_eq!(device.status()["client_id"], *id);
    assert_eq!(device.log_lines("RG-12").len(), refused, "no token of it was refused");
    let record = lab.operator(&["device", "show", &id]);
    assert_eq!(record["recovered_at"], Value::Null, "{record}");
}

/// Past token and recovery window: an installed client is given a bulk token and is the device that it was.
fn a_bulk_token_brings_a_stranded_device_back_under_its_id(lab: &Lab) {
    let mut device = Roamer::new(lab, "stranded");
    set_up_roamer(lab, &device);
    let id = device.status()["client_id"].as_str().expect("an id").to_owned();
    let now: i64 = std::fs::read_to_string(lab.clock()).expect("the clock").parse().expect("a number");
    write_clock(&lab.clock(), now + 275 * DAY);
    wait_for("the site is there again", PATIENCE, || {
        lab.try_operator(&["site", "show"]).status.success().then_some(())
    });
    device.start("2s");
    wait_for("it is refused", PATIENCE, || {
        (device.status()["last_failure"]["reason"] == "RG-5004").then_some(())
    });
    let stranded = || {
        let rows = lab.operator(&["device", "list", "--stranded"]);
        rows.as_array().expect("rows").iter().find(|row| row["client_id"] == *id).cloned()
    };
    let (row, _) = wait_for("it is in the list of the stranded", PATIENCE, stranded);
    assert!(row["advice"].as_str().is_some_and(|advice| advice.contains("bulk token")), "{row}");

    let file = lab.folder.path().join("bulk-token-for-stranded");
    runtime::config::private_file::write(&file, bulk_token(lab, 1).as_bytes()).expect("a file");
    let output =
        device.command(&["register", "--regtoken-file"]).arg(&file).output().expect("the client runs");
    assert!(output.status.success(), "{output:?}");
    let (record, took) = wait_for("it is managed again", PATIENCE, || {
        let record = lab.operator(&["device", "show", &id]);
        (record["presence"] == "online" && device.status()["last_failure"].is_null()).then_some(record)
    });
    assert_eq!((&record["client_id"], &record["name"]), (&id.as_str().into(), &"stranded".into()));
    assert_eq!(device.status()["client_id"], *id);
    assert!(stranded().is_none());
    let rows = lab.operator(&["audit", "list", "--limit", "1000"]);
    let readmitted = |row: &&Value| row["action"] == "device.readmit" && row["subject"] == *id;
    assert!(rows.as_array().expect("rows").iter().any(|row| readmitted(&row)), "{rows}");
    println!("a bulk token brought it back under its id within {:.1} s", took.as_secs_f64());
}

/// By which road a device of this process goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    Gateway,
    Inside,
}

/// A device in this process, whose requests follow each other without a pause.
fn device(lab: &Lab, name: &str, hardware_id: &str, road: Road) -> Device {
    let clock = Clock::with_offset_file(lab.clock());
    let root = CertificateDer::from_pem_file(lab.text("site_root_file")).expect("the site root");
    let gateway = lab.text("roles.0.mutual_auth").trim_start_matches("https://");
    let (inside, gateways) = match road {
        Road::Gateway => (Vec::new(), vec![gateway.parse().expect("a gateway")]),
        Road::Inside => {
            (vec![format!("http://{}", management_point(lab)).parse().expect("an address")], Vec::new())
        }
    };
    let setup = Setup {
        name: name.to_owned(),
        hardware_id: hardware_id.to_owned(),
        site_code: None,
        inside,
        gateways,
        always_internet: road == Road::Gateway,
        ca: Some(std::fs::read_to_string(lab.text("gateway.ca_file")).expect("an authority")),
        pin: Pin::Certificate(Der(root.to_vec())),
    };
    let options = DeviceOptions {
        state: State::new(setup),
        key: KeyMaterial::generate(Timestamp::from_micros(clock.now())).expect("a key"),
        store: Arc::new(MemoryStore::default()),
        clock,
        system_roots: false,
    };
    Device::new(options).expect("a device")
}

fn hardware(number: u8) -> String {
    format!("2:{number:040X}")
}

async fn set_up(device: &mut Device, token: Option<&str>) {
    if let Some(token) = token {
        device.use_bulk_token(token.to_owned().into());
    }
    device.register().await.expect("registered");
    assert!(device.confirm().await.expect("confirmed").approval.is_approved());
}

fn set_up_roamer(lab: &Lab, device: &Roamer) {
    let mut words = device.setup_words(lab);
    words.extend(["--hardware-id".to_owned(), "random".to_owned()]);
    let output = device.set_up(&words, &bulk_token(lab, 1));
    assert!(output.status.success(), "{output:?}");
}

fn bulk_token(lab: &Lab, uses: u8) -> String {
    let made = lab.operator(&["bulk-token", "new", "--max-uses", &uses.to_string()]);
    made["token"].as_str().expect("a token").to_owned()
}

fn id_of(device: &Device) -> String {
    device.client_id().expect("an id").to_string()
}

fn reason_of(error: &PolicyError) -> Option<String> {
    let PolicyError::Request(request) = error else { return None };
    RequestError::reason(request).map(|reason| reason.to_string())
}

/// Runs an operator command while the devices of this process go on.
async fn operate(lab: &Lab, words: [&str; 3]) -> Value {
    let output = tokio::process::Command::from(lab.operator_command(&words)).output().await;
    let output = output.expect("the command runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// A block was answered and has counted in time, and every gateway knows.
fn report_block(place: &str, took: Duration, answer: &Value) {
    assert!(took < BLOCK_BOUND, "{place}: {took:?}");
    assert_eq!(answer["gateways_told"], "1 of 1", "{answer}");
    let told = answer["told_after_ms"].as_u64().expect("a time");
    assert!(Duration::from_millis(told) < BLOCK_BOUND, "{answer}");
    println!(
        "block at the {place}: refused {:.3} s after the command was typed; gateways told: {} after {told} ms",
        took.as_secs_f64(),
        answer["gateways_told"].as_str().unwrap_or_default(),
    );
}

/// One TLS connection to the gateway with a device's certificate, kept for many requests.
struct OpenConnection {
    stream: tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    request: String,
}

impl OpenConnection {
    async fn to_gateway(lab: &Lab, device: &Device, token: &str) -> Self {
        let ca = std::fs::read(lab.text("gateway.ca_file")).expect("an authority");
        let roots = runtime::tls::roots_from_pem(&ca).expect("roots");
        let tls = ClientTls::with_roots(Clock::with_offset_file(lab.clock()), roots)
            .certificate(device.identity().tls())
            .alpn(["http/1.1"])
            .build()
            .expect("TLS");
        let host = lab.text("gateway.host");
        let (_, path) = lab.text("roles.0.server_auth").split_once(host).expect("the gateway's address");
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).expect("a port");
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the gateway");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.expect("a handshake");
        let request = format!(
            "GET {path}/SMS_MP/.sms_aut?MPLIST HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        Self { stream, request }
    }

    /// Asks once more, and answers the head of what came.
    async fn ask(&mut self) -> String {
        self.stream.write_all(self.request.as_bytes()).await.expect("the connection is open");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.expect("an answer on the same connection"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let mut body = vec![0; length.unwrap_or_else(|| panic!("no length: {head}"))];
        self.stream.read_exact(&mut body).await.expect("the answer's body");
        head
    }
}

/// Whether nobody works with the device's state at this moment, and it has asked for policy.
fn cycle_has_ended(device: &Roamer) -> bool {
    let folder = client::state::StateFolder::open(&device.state).expect("the state");
    folder.try_lock().is_ok() && device.status()["last_policy"].is_string()
}

/// How often the site has confirmed a device.
fn confirmations(lab: &Lab, id: &str) -> usize {
    let rows = lab.operator(&["audit", "list", "--limit", "1000"]);
    let confirmed = |row: &&Value| row["action"] == "device.confirm" && row["subject"] == *id;
    rows.as_array().expect("rows").iter().filter(confirmed).count()
}

fn log_lines(folder: &std::path::Path, text: &str) -> Vec<String> {
    let logs = support::files_below(folder);
    let logs = logs.iter().filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    let lines = logs.flat_map(|path| {
        let log = String::from_utf8_lossy(&support::bytes_of(path)).into_owned();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect::<Vec<_>>()
    });
    lines.collect()
}

fn moment(text: &str) -> i64 {
    let moment: jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
    moment.as_second()
}
