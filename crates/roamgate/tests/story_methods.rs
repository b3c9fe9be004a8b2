//! Three ways to prove who you are, inside and through the gateway, over real processes: each method, each
//! row of the two interdependency tables, devices of foreign domains side by side, and what is refused.
//!
//! The lab is told here to approve nothing by its own word: the site host is started again without that,
//! so that every approval is a rule's of the field. Certificates are made by openssl.

mod support;

#[path = "support/field_lines.rs"]
mod field_lines;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/openssl_pki.rs"]
mod openssl_pki;
#[path = "support/refusals.rs"]
mod refusals;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/tenant.rs"]
mod tenant;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use machine::{From, Machine, outcome, site_config};
use openssl_pki::{Issued, Pki};
use proto::identity::Method;
use rows::Table;
use serde_json::{Value, json};
use stand_in::UserSeed;
use support::{Lab, installed, run, wait_for};
use tenant::Tenant;

/// Serial numbers of the story's certificates.
const GOOD_OUTSIDE: u32 = 0x2001;
const GOOD_INSIDE: u32 = 0x2002;
const REVOKED: u32 = 0x2003;
const ENDED: u32 = 0x2004;
const SERVER: u32 = 0x2005;
const CONNECTION_POINT: u32 = 0x2006;
/// Name of the tenant.
const TENANT: &str = "contoso";
/// A user whom both discoveries need to know, and only the tenant's does.
const HYBRID_SID: &str = "S-1-5-21-1527250992-855612568-2252598708-1604";

/// What all chapters share.
struct Story {
    lab: Lab,
    pki: Pki,
    tenant: Tenant,
    /// The user that signs in.
    user: UserSeed,
    /// A user whom the directory would have to know.
    hybrid: UserSeed,
    /// What devices trust: the gateway's, the tenant's and the organisation's authorities.
    authorities: PathBuf,
    outside_certificate: Issued,
    inside_certificate: Issued,
    /// A bulk token that lives for a minute.
    short_token: String,
    /// Roles that were started again here.
    restarted: Vec<Child>,
}

#[test]
fn every_method_and_every_row_of_the_tables_over_real_processes() {
    if !installed("openssl") || !installed("curl") {
        return;
    }
    let mut story = Story::begin();
    let devices = each_method_inside_and_through_the_gateway(&story);
    methods_are_explained(&story, &devices);
    user_policy_reaches_the_user_of_the_tenant_alone(&story, &devices);
    refusals::certificates_are_refused_with_their_cause(&story);
    refusals::a_client_with_a_revoked_certificate_stops(&story);
    refusals::removing_trust_names_who_would_fail(&story, &devices);
    refusals::tokens_are_judged_alike_everywhere(&story, &devices);
    refusals::onboarding_data_are_for_known_tenants(&story);
    refusals::a_tenant_that_is_switched_off_opens_nothing(&story, &devices);
    refusals::an_app_is_no_device_and_a_half_known_user_is_none(&story);
    a_user_stands_in_for_the_device(&story);
    keys_rotate_under_requests(&story, &devices);
    foreign_domains_and_a_workgroup_side_by_side(&story);
    let table = Table::drive(&mut story, &devices);
    table.print_and_check();
    tokens_end_and_are_renewed(&story, &devices);
    let facts = story.facts(&devices);
    the_roles_end_and_write_what_they_counted(&story);
    field_lines::check(&facts);
}

/// A device of each method, both ways.
struct Devices {
    all: Vec<(Method, From, Machine)>,
}

impl Devices {
    fn get(&self, method: Method, from: From) -> &Machine {
        let found = self.all.iter().find(|(m, f, _)| (*m, *f) == (method, from));
        &found.expect("a device of this method").2
    }
}

impl Story {
    fn begin() -> Self {
        let lab = Lab::start();
        let folder = lab.folder.path().to_owned();
        let pki = Pki::new(&folder.join("contoso-pki"), "Contoso");
        let server = pki.server(SERVER);
        let _own = pki.client("cp1.contoso.example", CONNECTION_POINT);
        let candidates = unfit_certificates(&pki, &folder);
        let outside_certificate = pki.client("pki-gateway.contoso.example", GOOD_OUTSIDE);
        let inside_certificate = pki.client("pki-inside.contoso.example", GOOD_INSIDE);
        let user = UserSeed::cloud(tenant::fresh(), "megan@contoso.example", "Megan");
        let hybrid = UserSeed::cloud(tenant::fresh(), "adele@contoso.example", "Adele").with_sid(HYBRID_SID);

        let mut restarted = Vec::new();
        let site = site_config(&lab);
        let keys = format!("certificate = {}\nkey = {}\n", quoted(&server.certificate), quoted(&server.key));
        add_to_section(&site, "[management-point]", &keys);
        restarted.push(restart(&lab, "site", &site));
        let connector = connector_config(&lab);
        let keys = format!(
            "client_certificate = {0}\nclient_key = {0}\nverbose_logging = true\n",
            quoted(&candidates)
        );
        add_to_section(&connector, "[connection-point]", &keys);
        restarted.push(restart(&lab, "connection-point", &connector));
        wait_for("site and connection point are back", Duration::from_mins(1), || {
            let gateways = lab.try_operator(&["gateway", "list"]);
            let gateways: Value = serde_json::from_slice(&gateways.stdout).ok()?;
            (gateways[0]["tunnels"].as_u64()? > 0).then_some(())
        });

        lab.operator(&["trust", "add", &text(&pki.authorities())]);
        for list in pki.lists(1, &[REVOKED]) {
            lab.operator(&["trust", "crl", &text(&list)]);
        }
        let made = lab.operator(&["bulk-token", "new", "--lifetime", "1 min"]);
        let short_token = made["token"].as_str().expect("a token").to_owned();
        let tenant = Tenant::start(&lab, TENANT, vec![user.clone(), hybrid.clone()]);
        tenant.user_policy(&lab);
        let authorities = folder.join("authorities.pem");
        let pem = [PathBuf::from(lab.text("gateway.ca_file")), tenant.ca_file.clone(), pki.authorities()]
            .map(|path| std::fs::read_to_string(path).expect("PEM"));
        std::fs::write(&authorities, pem.concat()).expect("a file");
        let story = Self {
            lab,
            pki,
            tenant,
            user,
            hybrid,
            authorities,
            outside_certificate,
            inside_certificate,
            short_token,
            restarted,
        };
        story.wait_for_gateway();
        story
    }

    /// Waits until the gateway has the site's newest version.
    fn wait_for_gateway(&self) {
        wait_for("the gateway has the newest version", Duration::from_secs(20), || {
            let gateway = self.lab.operator(&["gateway", "list"])[0].clone();
            (gateway["version"] == gateway["site_version"]).then_some(())
        });
    }

    fn set_up(&self, machine: &Machine, from: From, words: &[String]) -> Result<String, String> {
        outcome(&machine.set_up(&self.lab, from, &self.authorities, words))
    }

    fn curl(&self, words: &[&str], url: &str) -> String {
        let output = Command::new("curl")
            .args(["-s", "-i", "--http1.1", "--max-time", "20", "--cacert"])
            .arg(&self.authorities)
            .args(words)
            .arg(url)
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the site has on record of a machine, if anything.
    fn record_of(&self, machine: &Machine) -> Option<Value> {
        let output = self.lab.try_operator(&["device", "show", &machine.name]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    fn token_file(&self, name: &str, text: &str) -> String {
        let file = self.lab.folder.path().join(name);
        runtime::config::private_file::write(&file, text).expect("a file");
        file.display().to_string()
    }

    fn bulk_token(&self) -> String {
        let made = self.lab.operator(&["bulk-token", "new", "--note", "story of the methods"]);
        made["token"].as_str().expect("a token").to_owned()
    }

    fn facts(&self, devices: &Devices) -> field_lines::Facts<'_> {
        let records: Vec<_> = devices.all.iter().map(|(_, _, machine)| machine.record(&self.lab)).collect();
        let id = |record: &Value| record["client_id"].as_str().expect("an id").to_owned();
        let entra = devices.get(Method::EntraDevice, From::Gateway).record(&self.lab);
        field_lines::Facts {
            lab: &self.lab,
            devices: records.iter().map(id).collect(),
            tenant: self.tenant.id.to_string(),
            client_app: self.tenant.client_app.to_string(),
            entra_device: entra["entra_device"].as_str().expect("an id").to_owned(),
            user: self.user.id.to_string(),
            hybrid: (self.hybrid.id.to_string(), HYBRID_SID.to_owned()),
        }
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        for child in &mut self.restarted {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn quoted(path: &Path) -> String {
    toml::Value::String(text(path)).to_string()
}

fn add_to_section(file: &Path, section: &str, keys: &str) {
    let config = std::fs::read_to_string(file).expect("a configuration");
    let config = config.replacen(&format!("{section}\n"), &format!("{section}\n{keys}"), 1);
    runtime::config::private_file::write(file, config).expect("a configuration");
}

/// Ends a role of the lab and starts it again with its configuration as it is now, and nothing else.
fn restart(lab: &Lab, role: &str, config: &Path) -> Child {
    let pid = lab.get("pids")[role].as_u64().expect("a pid").to_string();
    run(Command::new("kill").arg(&pid), b"");
    wait_for(&format!("{role} has ended"), Duration::from_secs(30), || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie has ended: the lab reaps it at its own end.
        (state.is_empty() || state.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')))
            .then_some(())
    });
    start(lab, role, config)
}

fn start(lab: &Lab, role: &str, config: &Path) -> Child {
    let output = std::fs::File::create(lab.folder.path().join(format!("{role}.again"))).expect("a file");
    let copy = output.try_clone().expect("a file");
    Command::new(support::roamgate())
        .args(["serve", "--end-with-stdin", "--config"])
        .arg(config)
        .env("ROAMGATE_CLOCK_OFFSET_FILE", PathBuf::from(lab.text("dir")).join("clock-offset"))
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(copy)
        .spawn()
        .expect("the role starts")
}

fn connector_config(lab: &Lab) -> PathBuf {
    PathBuf::from(lab.text("dir")).join("connection-point").join("connection-point.toml")
}

/// A folder of certificates none of which the connection point can show: a server's, one of an authority that
/// is not trusted, one whose key is missing, one that has ended.
fn unfit_certificates(pki: &Pki, folder: &Path) -> PathBuf {
    let foreign = Pki::new(&folder.join("stranger-pki"), "Stranger");
    let to = folder.join("connection-point-certificates");
    runtime::config::private_dir::create(&to).expect("a folder");
    for (name, issued, with_key) in [
        ("server", pki.server(0x2700), true),
        ("foreign", foreign.client("cp1.stranger.example", 0x2701), true),
        ("keyless", pki.client("cp1-keyless.contoso.example", 0x2702), false),
        ("ended", pki.ended_client("cp1-ended.contoso.example", 0x2703), true),
    ] {
        let bytes = std::fs::read(&issued.certificate).expect("a file");
        std::fs::write(to.join(format!("{name}.pem")), bytes).expect("a file");
        if with_key {
            let bytes = std::fs::read(&issued.key).expect("a file");
            runtime::config::private_file::write(to.join(format!("{name}.key")), bytes).expect("a file");
        }
    }
    to
}

const FROM: [From; 2] = [From::Gateway, From::InsideTls];

fn each_method_inside_and_through_the_gateway(story: &Story) -> Devices {
    let mut all = Vec::new();
    for from in FROM {
        let place = if from == From::Gateway { "gateway" } else { "inside" };
        for (method, word) in [
            (Method::Certificate, "pki"),
            (Method::EntraDevice, "entra"),
            (Method::EntraUser, "user"),
            (Method::SiteToken, "token"),
        ] {
            let machine = Machine::new(&story.lab, &format!("{word}-{place}.contoso.example"));
            let words = words_of(story, &machine, method, from);
            let began = Instant::now();
            story.set_up(&machine, from, &words).unwrap_or_else(|why| panic!("{}: {why}", machine.name));
            machine.sync().unwrap_or_else(|why| panic!("{}: {why}", machine.name));
            let record = machine.record(&story.lab);
            println!(
                "{method} by way of the {}: managed after {:.1} s; {}",
                record["last_seen_path"].as_str().unwrap_or_default(),
                began.elapsed().as_secs_f64(),
                record["summary"].as_str().unwrap_or_default()
            );
            all.push((method, from, machine));
        }
    }
    Devices { all }
}

/// The words of setup by which a device proves itself by a method.
fn words_of(story: &Story, machine: &Machine, method: Method, from: From) -> Vec<String> {
    match method {
        Method::Certificate => {
            let store = machine.side_folder("certificates");
            let certificate =
                if from == From::Gateway { &story.outside_certificate } else { &story.inside_certificate };
            Pki::put(certificate, &store);
            vec!["--certificate-store".to_owned(), text(&store)]
        }
        Method::EntraDevice => {
            let folder = machine.side_folder("workplace-join");
            story.tenant.join(&machine.name, &folder);
            let mut words = vec!["--workplace-join".to_owned(), text(&folder)];
            words.extend(story.tenant.words(from != From::Gateway));
            words
        }
        Method::EntraUser => {
            let token = story.tenant.control.user_token(story.tenant.id, &story.user, None).expect("a token");
            let program = story.tenant.program(&machine.name, &token);
            let mut words = vec!["--user-token-command".to_owned(), program];
            words.extend(story.tenant.words(from != From::Gateway));
            words
        }
        Method::SiteToken if from == From::Gateway => {
            vec!["--regtoken-file".to_owned(), story.token_file("bulk", &story.bulk_token())]
        }
        Method::SiteToken => Vec::new(),
    }
}

/// The record says what was proved, since when, by which rule it was let in, and why nothing better.
fn methods_are_explained(story: &Story, devices: &Devices) {
    for (method, from, machine) in &devices.all {
        let record = machine.record(&story.lab);
        let status = machine.status();
        let name = &machine.name;
        assert_eq!(record["method"], method.to_string(), "{record}");
        assert_eq!(status["method"], method.to_string(), "{status}");
        let path = if *from == From::Gateway { "gateway" } else { "intranet" };
        assert_eq!(record["last_seen_path"], path, "{record}");
        let rule = record["approved_rule"].as_str().expect("a rule");
        let expected = match (method, from) {
            (Method::Certificate, From::Gateway) => "pki",
            // Inside the network's rule may have been first.
            (Method::Certificate, _) => {
                if rule.starts_with("network") {
                    "network"
                } else {
                    "pki"
                }
            }
            (Method::EntraDevice | Method::EntraUser, _) => "entra",
            (Method::SiteToken, From::Gateway) => "bulk-token",
            (Method::SiteToken, _) => "network",
        };
        assert!(rule.starts_with(expected), "{name}: {rule}");
        // The wire's number: 3 is the tenant's, 1 everybody else's.
        let number = if expected == "entra" { 3 } else { 1 };
        let log = std::fs::read_to_string(machine.state.join("logs").join("ClientIDManagerStartup.log"))
            .expect("a log");
        let line = format!("Approval status {number}");
        assert!(log.contains(&line), "{name}: {line:?} is not in its log");
        assert!(record["policy_version"].as_u64().is_some_and(|version| version > 0), "{record}");
        assert!(status["policies"].as_array().is_some_and(|policies| policies.len() >= 3), "{status}");
        for field in ["method_since", "method_reason"] {
            assert!(record[field].as_str().is_some_and(|text| !text.is_empty()), "{name}: {field}: {record}");
        }
        let reasons = record["methods_not_used"].as_array().expect("a list");
        let better = Method::PREFERENCE.iter().take_while(|better| *better != method).count();
        assert_eq!(reasons.len(), better, "{name}: {reasons:?}");
        assert!(reasons.iter().all(|one| one["reason"].as_str().is_some_and(|why| !why.is_empty())));
        println!("{name}: {method}, because {}; not better: {reasons:?}", record["method_reason"]);
    }
}

fn user_policy_reaches_the_user_of_the_tenant_alone(story: &Story, devices: &Devices) {
    for from in FROM {
        let machine = devices.get(Method::EntraUser, from);
        let said =
            outcome(&machine.run(&["user-policy"])).unwrap_or_else(|why| panic!("{}: {why}", machine.name));
        assert!(said.contains("1 in force"), "{said}");
        println!("user policy on {}: {said}", machine.name);
    }
    // A user signs in on the page of the tenant: the device code flow.
    let machine = devices.get(Method::EntraDevice, From::Gateway);
    sign_in(story, machine);
    let said = outcome(&machine.run(&["user-policy", "megan@contoso.example"])).expect("user policy");
    assert!(said.contains("1 in force"), "{said}");
    println!("user policy on {} after a sign-in: {said}", machine.name);

    // A certificate, a device token and a site token have no user. The client would not even ask; here it
    // is made to, by an account whose token is the device's own.
    for (method, from) in [
        (Method::Certificate, From::Gateway),
        (Method::SiteToken, From::Gateway),
        (Method::EntraDevice, From::InsideTls),
        (Method::SiteToken, From::InsideTls),
    ] {
        let machine = devices.get(method, from);
        let token = outcome(&machine.run(&["token"])).unwrap_or_else(|why| panic!("{}: {why}", machine.name));
        let why = ask_for_user_policy_by(machine, &token);
        assert!(why.contains("RG-3203"), "{}: {why}", machine.name);
        println!(
            "user policy by {method}: {}",
            why.lines().find(|line| line.contains("RG-3203")).unwrap_or_default()
        );
    }
}

/// Signs the story's user in on a device, with curl as the user's browser.
fn sign_in(story: &Story, machine: &Machine) {
    let mut child = machine.command(&["sign-in"]).stdout(Stdio::piped()).spawn().expect("the client runs");
    let tenant = &story.tenant;
    let (code, _) = wait_for("a sign-in waits", Duration::from_secs(20), || {
        tenant.control.waiting_codes(tenant.id).ok()?.first().cloned()
    });
    let page = format!("{}/{}/device", tenant.base, tenant.id);
    let code = format!("user_code={code}");
    let answer = story.curl(
        &[
            "--data-urlencode",
            &code,
            "--data-urlencode",
            "account=megan@contoso.example",
            "-d",
            "decision=approve",
        ],
        &page,
    );
    assert!(answer.contains("Done."), "{answer}");
    assert!(child.wait().expect("it ends").success(), "the sign-in");
}

/// Puts an account with this CCM token into the device's memory, asks for its policy, and takes it out.
fn ask_for_user_policy_by(machine: &Machine, token: &str) -> String {
    let before = std::fs::read(machine.state_file()).expect("the state");
    let mut state: Value = serde_json::from_slice(&before).expect("JSON");
    let now = runtime::Clock::system().now();
    let hour = 3_600_000_000_i64;
    state["credentials"]["accounts"] = json!([{
        "sid": "S-1-12-1-1-2-3-4",
        "tenant": tenant::fresh().to_string(),
        "user": tenant::fresh().to_string(),
        "name": "nobody@contoso.example",
        "source": "command",
        "refresh": null,
        "token": null,
        "ccm": {"text": token, "kind": "device", "received": now, "expires": now + hour, "renew_from": now + hour / 2},
        "used": now,
    }]);
    runtime::config::private_file::write(machine.state_file(), state.to_string()).expect("the state");
    let output = machine.run(&["user-policy"]);
    runtime::config::private_file::write(machine.state_file(), before).expect("the state");
    outcome(&output).expect_err("no user policy for this device")
}

/// The device's own token cannot be had, a user's can: the field's lines of falling back.
fn a_user_stands_in_for_the_device(story: &Story) {
    let machine = Machine::new(&story.lab, "fallback.contoso.example");
    let mut words = words_of(story, &machine, Method::EntraUser, From::Gateway);
    words.extend(["--device-token-command".to_owned(), "false".to_owned()]);
    story.set_up(&machine, From::Gateway, &words).expect("the user's token carries it");
    let record = machine.record(&story.lab);
    assert_eq!(record["method"], Method::EntraUser.to_string(), "{record}");
    println!("no device token, but a user's: {} {}", record["summary"], record["methods_not_used"]);
}

fn keys_rotate_under_requests(story: &Story, devices: &Devices) {
    let machines: Vec<_> = FROM.map(|from| devices.get(Method::SiteToken, from)).into_iter().collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let workers: Vec<_> = machines
            .iter()
            .map(|machine| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut served = 0;
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        machine.sync().unwrap_or_else(|why| panic!("{}: {why}", machine.name));
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for _ in 0..2 {
            story.lab.operator(&["key", "rotate"]);
            story.wait_for_gateway();
            story.tenant.control.rotate_keys(story.tenant.id).expect("new keys");
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        workers.into_iter().map(|worker| worker.join().expect("no good token was refused")).sum::<u32>()
    });
    // A token of the tenant's new key, which nobody had seen before.
    story.tenant.control.replace_keys(story.tenant.id).expect("new keys");
    let machine = Machine::new(&story.lab, "newkey.contoso.example");
    let words = words_of(story, &machine, Method::EntraDevice, From::Gateway);
    let (tries, took) = {
        let mut tries = 0;
        wait_for("a token of an unseen key is taken", Duration::from_secs(90), || {
            tries += 1;
            story.set_up(&machine, From::Gateway, &words).ok().map(|_| tries)
        })
    };
    assert_eq!(machine.record(&story.lab)["method"], Method::EntraDevice.to_string());
    println!(
        "two rotations of the site's key: {served} rounds of requests, none refused; the tenant's keys replaced: \
         taken after {:.1} s, {tries} tries, no restart",
        took.as_secs_f64()
    );
}

/// Must show 8: two foreign domains and a workgroup, at once.
fn foreign_domains_and_a_workgroup_side_by_side(story: &Story) {
    let fixture = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dsregcmd").join(name);
        std::fs::read_to_string(path).expect("a fixture")
    };
    let plan = [
        ("fs1.foreign.example", fixture("domain-only.txt").replace("CONTOSO", "FOREIGN"), "domain"),
        ("pc7.other.example", fixture("domain-only.txt").replace("CONTOSO", "OTHER"), "domain"),
        ("kiosk-3", fixture("not-joined.txt"), "workgroup"),
    ];
    let bulk = story.token_file("bulk-foreign", &story.bulk_token());
    let machines: Vec<_> = plan
        .iter()
        .enumerate()
        .map(|(index, (name, joined, join))| {
            let machine = Machine::new(&story.lab, name);
            let file = machine.side_folder("join").join("dsregcmd.txt");
            std::fs::write(&file, joined).expect("a file");
            let mut words = vec!["--join-status".to_owned(), text(&file)];
            if index == 0 {
                // One of them has a certificate of the organisation.
                let store = machine.side_folder("certificates");
                Pki::put(&story.pki.client(name, 0x2100), &store);
                words.extend(["--certificate-store".to_owned(), text(&store)]);
            } else {
                words.extend(["--regtoken-file".to_owned(), bulk.clone()]);
            }
            (machine, words, *join)
        })
        .collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (machine, words, _) in &machines {
            scope.spawn(|| {
                story
                    .set_up(machine, From::Gateway, words)
                    .unwrap_or_else(|why| panic!("{}: {why}", machine.name));
                for _ in 0..3 {
                    machine.sync().unwrap_or_else(|why| panic!("{}: {why}", machine.name));
                }
            });
        }
    });
    for (machine, _, join) in &machines {
        let record = machine.record(&story.lab);
        assert_eq!(record["join"], *join, "{record}");
        assert_eq!(record["presence"], "online", "{record}");
        assert_eq!(record["approval"], "approved", "{record}");
        assert_eq!(record["conflict_with"], json!([]), "{record}");
        assert_eq!(record["fqdn"], machine.name, "{record}");
        assert!(record["policy_version"].as_u64().is_some_and(|version| version > 0), "{record}");
        let doctor = String::from_utf8_lossy(&machine.run(&["doctor"]).stdout).into_owned();
        assert!(!doctor.is_empty());
        println!("{} ({join}): {}", machine.name, record["summary"].as_str().unwrap_or_default());
    }
    println!("side by side through one gateway after {:.1} s", began.elapsed().as_secs_f64());
}

fn log_of(machine: &Machine, file: &str) -> String {
    std::fs::read_to_string(machine.state.join("logs").join(file)).unwrap_or_default()
}

/// Whether some log of the site host says this.
fn site_says(story: &Story, text: &str) -> bool {
    let logs = PathBuf::from(story.lab.text("dir")).join("site").join("logs");
    support::files_below(&logs)
        .iter()
        .any(|path| String::from_utf8_lossy(&support::bytes_of(path)).contains(text))
}

/// An HTTPS management point that demands a client certificate of the connection point: what it considers,
/// what its absence looks like, and what it shows once there is one.
fn the_management_point_demands_the_connection_points_certificate(story: &mut Story, devices: &Devices) {
    let machine = devices.get(Method::SiteToken, From::Gateway);
    let folder = story.lab.folder.path().join("connection-point-certificates");
    story.lab.operator(&["role", "set", "MP1", "--demand-client-certificate", "on"]);
    story.wait_for_gateway();
    let (why, _) = wait_for("the management point wants a certificate", Duration::from_secs(20), || {
        let why = machine.sync().err()?;
        why.contains("Clientcertificaterequired").then_some(why)
    });
    println!("the connection point has no certificate to show: {}", why.replace('\n', " "));
    for end in ["pem", "key"] {
        let from = story.pki.file(&format!("cp1.contoso.example-{CONNECTION_POINT:x}.{end}"));
        let bytes = std::fs::read(from).expect("a file");
        runtime::config::private_file::write(folder.join(format!("own.{end}")), bytes).expect("a file");
    }
    let mut old = story.restarted.pop().expect("the connection point");
    drop(old.stdin.take());
    old.wait().expect("it ends");
    story.restarted.push(start(&story.lab, "connection-point", &connector_config(&story.lab)));
    wait_for("the connection point shows its certificate", Duration::from_secs(30), || machine.sync().ok());
    story.lab.operator(&["role", "set", "MP1", "--demand-client-certificate", "off"]);
    story.wait_for_gateway();
}

/// Gateway and connection point write their counters every five minutes, and at their end.
fn the_roles_end_and_write_what_they_counted(story: &Story) {
    for (role, file, counters) in [
        ("gateway", "CMGService.log", "RequestUri: "),
        ("connection-point", "SMS_Cloud_ProxyConnector.log", "ReportTrafficData"),
    ] {
        let pid = if role == "gateway" {
            story.lab.get("pids")[role].as_u64().expect("a pid").to_string()
        } else {
            story.restarted.last().expect("the connection point").id().to_string()
        };
        run(Command::new("kill").arg(pid), b"");
        let log = PathBuf::from(story.lab.text("dir")).join(role).join("logs").join(file);
        wait_for(&format!("{role} has written what it counted"), Duration::from_secs(20), || {
            String::from_utf8_lossy(&support::bytes_of(&log)).contains(counters).then_some(())
        });
    }
}

/// A CCM token near its end is renewed; a bulk token past its end is refused by name.
fn tokens_end_and_are_renewed(story: &Story, devices: &Devices) {
    let clock = PathBuf::from(story.lab.text("dir")).join("clock-offset");
    std::fs::write(&clock, (7 * 3600 + 1800).to_string()).expect("the clock");
    let machine = devices.get(Method::SiteToken, From::Gateway);
    machine.sync().unwrap_or_else(|why| panic!("{}: {why}", machine.name));
    assert!(log_of(machine, "CcmMessaging.log").contains("is already expired or close to expire"));
    let bearer = format!("Authorization: Bearer {}", story.short_token);
    let url = format!("{}/CCM_STS", story.lab.text("roles.0.internal_url"));
    let answer = story.curl(&["-k", "-H", &bearer], &url);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    println!("a bulk token past its end, inside: {}", answer.lines().next().unwrap_or_default());
}
