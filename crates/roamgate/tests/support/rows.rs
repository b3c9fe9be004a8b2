//! Each row of the two interdependency tables: devices for every combination that is allowed, and what
//! becomes of those that are not, with the management point in each of its modes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proto::combination::{self, Join, Mode, Row, Scenario, Verdict, Way};
use proto::identity::Method;

use crate::machine::{self, From, Machine, outcome};
use crate::openssl_pki::Pki;
use crate::support::wait_for;
use crate::{
    Devices, FROM, Story, ask_for_user_policy_by, log_of, site_says, tenant, text,
    the_management_point_demands_the_connection_points_certificate,
};

/// What became of each row of the interdependency tables.
pub(crate) struct Table {
    rows: Vec<(&'static Row, Vec<String>)>,
}

/// A device for one place of the table.
struct Placed {
    method: Method,
    join: Join,
    from: From,
    machine: Machine,
    words: Vec<String>,
}

impl Table {
    /// Drives them.
    pub(crate) fn drive(story: &mut Story, devices: &Devices) -> Self {
        let mut table = Self { rows: combination::ROWS.iter().map(|row| (row, Vec::new())).collect() };
        let placed = places(story);
        for mode in [Mode::Ehttp, Mode::Https] {
            set_mode(story, mode);
            table.allowed(story, mode, &placed);
            table.joined_to_nothing_of_a_tenant(story, mode);
            table.users(story, mode, &placed, devices);
            newcomers(story, mode);
            if mode == Mode::Https {
                the_management_point_demands_the_connection_points_certificate(story, devices);
            }
        }
        set_mode(story, Mode::Http);
        table.plain_http(story, devices);
        set_mode(story, Mode::Ehttp);
        table
    }

    fn note(&mut self, mode: Mode, placed: (Method, Join, From), scenario: Scenario, how: &str) {
        let (method, join, from) = placed;
        let row = row(mode, method, join, way(from), scenario);
        let (_, shown) = self.rows.iter_mut().find(|(known, _)| known.name == row.name).expect("a row");
        shown.push(format!("{mode}, {method}, {join}, by {}, {scenario}: {how}", way(from).as_str()));
    }

    /// Rows that allow: each device registers (anew) in this mode and is managed.
    fn allowed(&mut self, story: &Story, mode: Mode, placed: &[Placed]) {
        let began = Instant::now();
        // A few at once: that is what a management point has to bear anyway.
        std::thread::scope(|scope| {
            for some in placed.chunks(placed.len().div_ceil(4)) {
                scope.spawn(move || {
                    for one in some {
                        let name = &one.machine.name;
                        story
                            .set_up(&one.machine, one.from, &one.words)
                            .unwrap_or_else(|why| panic!("{mode}: {name}: {why}"));
                        one.machine.sync().unwrap_or_else(|why| panic!("{mode}: {name}: {why}"));
                    }
                });
            }
        });
        for one in placed {
            let record = one.machine.record(&story.lab);
            assert_eq!(record["method"], one.method.to_string(), "{mode}: {record}");
            assert_eq!(record["join"], one.join.as_str(), "{mode}: {record}");
            assert_eq!(record["approval"], "approved", "{mode}: {record}");
            assert_eq!(record["last_seen_path"], way(one.from).as_str(), "{mode}: {record}");
            let how = format!("managed, {}", record["approved_by"].as_str().unwrap_or_default());
            self.note(mode, (one.method, one.join, one.from), Scenario::Device, &how);
        }
        println!(
            "{mode}: {} devices registered and managed in {:.1} s",
            placed.len(),
            began.elapsed().as_secs_f64()
        );
    }

    /// A device in a workgroup or a domain only shows a tenant's token, as if it were its own.
    fn joined_to_nothing_of_a_tenant(&mut self, story: &Story, mode: Mode) {
        for join in [Join::Workgroup, Join::Domain] {
            for method in [Method::EntraDevice, Method::EntraUser] {
                for from in FROM {
                    let one = place(story, method, join, from, &format!("no-{mode}"));
                    let name = &one.machine.name;
                    let said = story.set_up(&one.machine, from, &one.words);
                    let refusal = row(mode, method, join, way(from), Scenario::Device).fact;
                    assert!(site_says(story, refusal), "{name}: {refusal:?} is not in the site's logs");
                    let how = if let Some(record) = story.record_of(&one.machine) {
                        // Its key is registered, and waits for a person: the record says why.
                        assert_ne!(record["method"], method.to_string(), "{record}");
                        assert_ne!(record["approval"], "approved", "{record}");
                        let why = record["methods_not_used"].to_string();
                        assert!(why.contains(refusal), "{name}: {record}");
                        "not taken; the key alone is held for a person, the record gives the row's fact"
                    } else {
                        said.expect_err("nothing else carries it");
                        let log = log_of(&one.machine, "CcmMessaging.log");
                        assert!(log.contains("RG-3109"), "{name}: {log}");
                        "refused, RG-3109, with the row's fact"
                    };
                    self.note(mode, (method, join, from), Scenario::Device, how);
                }
            }
        }
    }

    /// User policy: for a user of the tenant; not by a certificate, a device token or a site token.
    fn users(&mut self, story: &Story, mode: Mode, placed: &[Placed], devices: &Devices) {
        for one in placed.iter().filter(|one| one.method == Method::EntraUser) {
            let said = outcome(&one.machine.run(&["user-policy"]));
            let said = said.unwrap_or_else(|why| panic!("{mode}: {}: {why}", one.machine.name));
            assert!(said.contains("1 in force"), "{said}");
            self.note(
                mode,
                (one.method, one.join, one.from),
                Scenario::User,
                "the user's policy is in force",
            );
        }
        // A device in a domain only: itself by a site token, its user by the tenant.
        let from = From::Gateway;
        let mut one = place(story, Method::EntraUser, Join::Domain, from, &format!("domain-user-{mode}"));
        one.words.extend(["--regtoken-file".to_owned(), story.token_file("bulk-user", &story.bulk_token())]);
        let name = &one.machine.name;
        story.set_up(&one.machine, from, &one.words).unwrap_or_else(|why| panic!("{mode}: {name}: {why}"));
        assert_eq!(one.machine.record(&story.lab)["method"], Method::SiteToken.to_string());
        let said =
            outcome(&one.machine.run(&["user-policy"])).unwrap_or_else(|why| panic!("{mode}: {name}: {why}"));
        assert!(said.contains("1 in force"), "{said}");
        self.note(
            mode,
            (Method::EntraUser, Join::Domain, from),
            Scenario::User,
            "the user's policy is in force",
        );
        for method in [Method::Certificate, Method::EntraDevice, Method::SiteToken] {
            for from in FROM {
                let machine = devices.get(method, from);
                let token = outcome(&machine.run(&["token"]))
                    .unwrap_or_else(|why| panic!("{mode}: {}: {why}", machine.name));
                let why = ask_for_user_policy_by(machine, &token);
                assert!(why.contains("RG-3203"), "{mode}: {}: {why}", machine.name);
                self.note(mode, (method, Join::Entra, from), Scenario::User, "refused, RG-3203");
            }
        }
    }

    /// A management point in plain HTTP mode.
    fn plain_http(&mut self, story: &Story, devices: &Devices) {
        let mode = Mode::Http;
        for method in Method::PREFERENCE {
            let machine = devices.get(method, From::Gateway);
            let why = machine.sync().expect_err("a gateway passes nothing to an HTTP management point");
            assert!(why.contains("RG-1006"), "{}: {why}", machine.name);
            self.note(
                mode,
                (method, Join::Entra, From::Gateway),
                Scenario::Device,
                "refused at the gateway, RG-1006",
            );
        }
        for join in Join::ALL {
            let one = place(story, Method::SiteToken, join, From::Inside, "http");
            story
                .set_up(&one.machine, From::Inside, &one.words)
                .unwrap_or_else(|why| panic!("{}: {why}", one.machine.name));
            one.machine.sync().unwrap_or_else(|why| panic!("{}: {why}", one.machine.name));
            let record = one.machine.record(&story.lab);
            assert_eq!(record["method"], Method::SiteToken.to_string(), "{record}");
            assert_eq!(record["join"], join.as_str(), "{record}");
            self.note(mode, (Method::SiteToken, join, From::Inside), Scenario::Device, "managed");
        }
        for method in [Method::Certificate, Method::EntraDevice, Method::EntraUser] {
            let one = place(story, method, Join::Hybrid, From::Inside, "http");
            story
                .set_up(&one.machine, From::Inside, &one.words)
                .unwrap_or_else(|why| panic!("{}: {why}", one.machine.name));
            let record = one.machine.record(&story.lab);
            assert_eq!(record["method"], Method::SiteToken.to_string(), "{record}");
            let reasons = record["methods_not_used"].as_array().expect("a list");
            let why =
                reasons.iter().find(|one| one["method"] == method.to_string()).expect("a reason")["reason"]
                    .clone();
            let fact = row(mode, method, Join::Hybrid, Way::Intranet, Scenario::Device).fact;
            let how = if why == fact {
                "refused with the row's fact; its site token carries the device".to_owned()
            } else {
                // A tenant's token is not sent where anybody can read it; what the management point would
                // answer stands in its own tests, over a real socket (`combination`).
                format!(
                    "not even tried over plain HTTP ({why}); the answer to it: management-point/tests, `combination`"
                )
            };
            assert!(method != Method::Certificate || why == fact, "{record}");
            self.note(mode, (method, Join::Hybrid, From::Inside), Scenario::Device, &how);
            if method == Method::EntraUser {
                let why = outcome(&one.machine.run(&["user-policy"])).expect_err("no user over plain HTTP");
                let how = format!(
                    "no policy ({}); the answer to it: management-point/tests, `combination`",
                    why.replace('\n', " ")
                );
                self.note(mode, (method, Join::Hybrid, From::Inside), Scenario::User, &how);
            }
        }
    }

    /// Prints what became of each; fails if nothing was shown of one.
    pub(crate) fn print_and_check(&self) {
        for (row, shown) in &self.rows {
            println!("row {}: {}", row.name, row.fact);
            for how in shown {
                println!("    {how}");
            }
        }
        let missing: Vec<_> =
            self.rows.iter().filter(|(_, shown)| shown.is_empty()).map(|(row, _)| row.name).collect();
        assert_eq!(missing, [""; 0], "rows that nothing was shown of");
    }
}

/// A device for each combination that enhanced HTTP and HTTPS allow.
fn places(story: &Story) -> Vec<Placed> {
    let mut all = Vec::new();
    for one in combination::combinations() {
        let allowed = one.row.verdict == Verdict::Allowed;
        if one.mode != Mode::Ehttp || one.scenario != Scenario::Device || !allowed {
            continue;
        }
        let from = if one.way == Way::Gateway { From::Gateway } else { From::InsideTls };
        all.push(place(story, one.method, one.join, from, "row"));
    }
    all
}

fn way(from: From) -> Way {
    if from == From::Gateway { Way::Gateway } else { Way::Intranet }
}

fn row(mode: Mode, method: Method, join: Join, way: Way, scenario: Scenario) -> &'static Row {
    let wanted = (mode, method, join, way, scenario);
    let found = combination::combinations()
        .find(|one| (one.mode, one.method, one.join, one.way, one.scenario) == wanted);
    found.expect("the table is complete").row
}

/// A device that is joined so and proves itself so; not set up yet.
fn place(story: &Story, method: Method, join: Join, from: From, prefix: &str) -> Placed {
    let word = match method {
        Method::Certificate => "pki",
        Method::EntraDevice => "entra",
        Method::EntraUser => "user",
        Method::SiteToken => "token",
    };
    let place = if from == From::Gateway { "gw" } else { "in" };
    let machine =
        Machine::new(&story.lab, &format!("{prefix}-{word}-{}-{place}.contoso.example", join.as_str()));
    let (fixture, is_of_tenant) = match join {
        Join::Workgroup => ("not-joined.txt", false),
        Join::Domain => ("domain-only.txt", false),
        Join::Entra => ("entra-joined.txt", true),
        Join::Hybrid => ("hybrid-joined.txt", true),
    };
    let mut words = Vec::new();
    let tenant = &story.tenant;
    let mut device = tenant::fresh();
    match method {
        Method::Certificate => {
            let store = machine.side_folder("certificates");
            let serial = 0x4000 + SERIAL.fetch_add(1, Ordering::SeqCst);
            Pki::put(&story.pki.client(&machine.name, serial), &store);
            words.extend(["--certificate-store".to_owned(), text(&store)]);
        }
        Method::EntraDevice => {
            let folder = machine.side_folder("workplace-join");
            let seed = tenant.join(&machine.name, &folder);
            device = seed.id;
            if is_of_tenant {
                words.extend(["--workplace-join".to_owned(), text(&folder)]);
            } else {
                let token = tenant.control.device_token(tenant.id, &seed).expect("a token");
                words.extend(["--device-token-command".to_owned(), tenant.program(&machine.name, &token)]);
            }
            words.extend(tenant.words(from != From::Gateway));
        }
        Method::EntraUser => {
            let token = tenant.control.user_token(tenant.id, &story.user, None).expect("a token");
            words.extend(["--user-token-command".to_owned(), tenant.program(&machine.name, &token)]);
            words.extend(tenant.words(from != From::Gateway));
        }
        Method::SiteToken if from == From::Inside => {}
        Method::SiteToken => {
            // In HTTPS mode being inside is not enough: the device has registered before.
            if from == From::Gateway {
                words.extend([
                    "--regtoken-file".to_owned(),
                    story.token_file(&machine.name, &story.bulk_token()),
                ]);
            }
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dsregcmd").join(fixture);
    let joined = std::fs::read_to_string(path).expect("a fixture");
    let joined = joined
        .replace("9aaf466a-3f40-4468-b3cd-f0010f21f05a", &tenant.id.to_string())
        .replace("8d2b4ff9-0172-4998-9851-b5324303385f", &device.to_string());
    let file = machine.side_folder("join").join("dsregcmd.txt");
    std::fs::write(&file, joined).expect("a file");
    words.extend(["--join-status".to_owned(), text(&file)]);
    Placed { method, join, from, machine, words }
}

/// Further serial numbers.
static SERIAL: AtomicU32 = AtomicU32::new(0);

fn set_mode(story: &Story, mode: Mode) {
    let tls = story.lab.text("roles.0.internal_url");
    let plain = machine::inside(&story.lab);
    let url = if mode == Mode::Http { plain.as_str() } else { tls };
    story.lab.operator(&["role", "set", "MP1", "--mode", mode.as_str(), "--internal-url", url]);
    story.wait_for_gateway();
    wait_for(&format!("the management point is in mode {mode}"), Duration::from_secs(20), || {
        let ask = |base: &str, words: &[&str]| story.curl(words, &format!("{base}/SMS_MP/.sms_aut?MPLIST"));
        let ready = match mode {
            Mode::Http => ask(&plain, &[]).starts_with("HTTP/1.1 200") && ask(tls, &["-k"]).is_empty(),
            Mode::Ehttp => !ask(tls, &["-k"]).is_empty() && ask(tls, &[]).is_empty(),
            // The organisation's own certificate, which curl trusts here.
            Mode::Https => !ask(tls, &[]).is_empty(),
        };
        ready.then_some(())
    });
}

/// Devices that bring a fresh key and nothing else.
fn newcomers(story: &Story, mode: Mode) {
    let machine = Machine::new(&story.lab, &format!("new-{mode}.contoso.example"));
    let said = story.set_up(&machine, From::InsideTls, &[]);
    match mode {
        Mode::Https => {
            said.expect_err("being inside is not enough");
            let refused = combination::judge_newcomer(mode, Way::Intranet).expect_err("a refusal");
            assert!(log_of(&machine, "CcmMessaging.log").contains("RG-3109"));
            assert!(site_says(story, refused.row.fact));
            println!("row {}: refused, RG-3109, with the row's fact", refused.row.name);
        }
        Mode::Http | Mode::Ehttp => {
            said.expect("the network's rule");
            println!("row newcomer-intranet: {}", machine.record(&story.lab)["summary"]);
        }
    }
    // Through a gateway the client would not even begin; its key is shown with curl.
    let machine = Machine::new(&story.lab, &format!("stranger-{mode}.contoso.example"));
    let why = story.set_up(&machine, From::Gateway, &[]).expect_err("nothing to show");
    let url = format!("{}/ccm_system/request", story.lab.text("roles.0.mutual_auth"));
    let answer = story.curl(&["-X", "CCM_POST", "-d", "x"], &url);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    println!(
        "row newcomer-gateway: {} / {}",
        why.replace('\n', " "),
        answer.lines().next().unwrap_or_default()
    );
}
