//! Several gateways and several connection points, every connection point on every gateway, each removed and
//! returned under load: what may be repeated is, what may not fails with a reason, and nothing is delivered
//! twice that may not be.

mod support;

#[path = "support/several/mod.rs"]
mod several;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::reason::Reason;
use serde_json::Value;
use several::door::{Ask, Credentials, Door, Said};
use several::hosts::{Hosts, SHARDS, row};
use several::lab::Lab;
use several::load::{Kind, Load, Sent, Target};
use several::organisation::Organisation;
use several::recorder::{Arrived, Recorder};
use support::{client, roamgate, wait_for};

/// A block takes effect within this time, wherever.
const BLOCK: Duration = Duration::from_secs(5);
/// Nothing of the traffic may take longer while one way is up: what is lost with a connection point is sent
/// again at once, and the recorder holds nothing for longer than a chapter's first steps.
const PATIENCE: Duration = Duration::from_secs(8);
/// Requests that are served in a chapter before it is over.
const ENOUGH: usize = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_and_two_connection_points_are_each_removed_and_returned_under_load() {
    let began = Instant::now();
    let organisation = Organisation::new();
    let recorder = Recorder::start(&organisation).await;
    let mut story = Story::start(recorder, &organisation);
    every_connection_point_is_shown_on_every_gateway(&story);
    let (one, two) = (Device::set_up(&story.hosts, "pc-1", 0), Device::set_up(&story.hosts, "pc-2", 1));
    let credentials = [one.credentials(&story.hosts), two.credentials(&story.hosts)];
    println!("[{:.0} s] devices are set up", began.elapsed().as_secs_f64());

    a_token_of_one_gateway_works_at_once_at_the_other(&story, &credentials).await;
    a_session_resumes_on_every_shard_of_its_gateway_and_at_no_other(&story, &one).await;
    story.load = Some(Load::start(story.targets(), &credentials));
    story.load().wait_for_served(ENOUGH);
    for point in 0..2 {
        a_connection_point_is_killed_and_returns(&mut story, point);
        println!("[{:.0} s]", began.elapsed().as_secs_f64());
    }
    for point in 0..2 {
        a_connection_point_is_drained_and_returns(&mut story, point);
        println!("[{:.0} s]", began.elapsed().as_secs_f64());
    }
    a_third_connection_point_comes_and_is_withdrawn(&mut story);
    load_is_shared_evenly_after_all_that(&story);
    println!("[{:.0} s]", began.elapsed().as_secs_f64());

    let roamer = Service::start(&story.hosts, &one);
    gateways_are_killed_and_drained_and_devices_move(&mut story, &roamer);
    println!("[{:.0} s]", began.elapsed().as_secs_f64());
    if let Some(load) = story.load.take() {
        load.stop().await;
    }
    nothing_was_delivered_twice_that_may_not_be(&story);
    drop(roamer);
    a_block_takes_effect_on_both_gateways_and_on_one_that_was_away(&mut story, &two, &credentials[1]).await;
    println!("[{:.0} s] done", began.elapsed().as_secs_f64());
}

#[test]
fn a_lab_of_two_gateways_and_two_connection_points_says_so_in_its_ready_file() {
    let lab = Lab::start(&["--gateways", "2", "--connection-points", "2", "--devices", "1"]);
    let listed = lab.operator(&["gateway", "list"]);
    let gateways = lab.get("gateways").as_array().expect("a list");
    assert_eq!(gateways.len(), 2);
    for gateway in gateways {
        assert_eq!(row(&listed, gateway["name"].as_str().unwrap())["tunnels"], 2 * SHARDS);
        assert!(lab.get("pids")[gateway["process"].as_str().unwrap()].as_u64().is_some());
        assert!(PathBuf::from(gateway["config"].as_str().unwrap()).is_file());
    }
    // What stands under `gateway` is the first of them.
    for name in ["url", "host", "ca_file"] {
        assert_eq!(lab.get("gateway")[name], gateways[0][name], "{name}");
    }
    assert_eq!(lab.get("metrics")["gateway"], gateways[0]["metrics"]);
    assert_ne!(gateways[0]["host"], gateways[1]["host"]);
    let points = lab.get("connection_points").as_array().expect("a list");
    assert_eq!(points.len(), 2);
    for point in points {
        assert!(lab.get("pids")[point["process"].as_str().unwrap()].as_u64().is_some());
        assert_eq!(
            row(&lab.operator(&["connection-point", "list"]), point["name"].as_str().unwrap())["connected"],
            true
        );
    }
    // Its devices know both gateways, and reach both.
    let state = PathBuf::from(lab.get("devices").as_array().unwrap()[1]["state_dir"].as_str().unwrap());
    let (known, _) = wait_for("the device knows both gateways", Duration::from_secs(20), || {
        let status = status_of(&state);
        status["gateways"].as_array().filter(|known| known.len() == 2).cloned()
    });
    println!("{known:?}");
}

/// What the chapters share.
struct Story {
    hosts: Hosts,
    recorder: Recorder,
    load: Option<Load>,
}

impl Story {
    fn start(recorder: Recorder, organisation: &Organisation) -> Self {
        let url = format!("https://localhost:{}", recorder.address.port());
        let hosts = Hosts::start(2, 2, organisation, &url);
        let story = Self { hosts, recorder, load: None };
        story.know_points();
        story
    }

    fn load(&self) -> &Load {
        self.load.as_ref().expect("it runs")
    }

    fn targets(&self) -> Vec<Target> {
        let target = |at: usize| Target {
            port: self.hosts.gateways[at].port,
            base: self.hosts.external(at, "ServerAuth", &self.hosts.recorder),
        };
        (0..self.hosts.gateways.len()).map(target).collect()
    }

    /// Tells the recorder which processes are connection points now.
    fn know_points(&self) {
        let points = &self.hosts.points;
        self.recorder.know(points.iter().filter(|p| p.is_up()).map(|p| (p.name.clone(), p.pid())).collect());
    }

    /// Has the recorder hold requests, and waits until this connection point has some of each kind under way;
    /// answers their numbers.
    fn hold_some_at(&self, point: &str) -> Vec<u64> {
        let what = format!("requests of both kinds are under way by {point}");
        let (from, mut held) = (self.load().next(), None);
        let (numbers, _) = wait_for(&what, Duration::from_secs(20), || {
            // Every worker waits by now, perhaps without a large one at this connection point: again.
            if held.is_none_or(|since: Instant| since.elapsed() > Duration::from_millis(700)) {
                self.recorder.hold(false);
                self.load().wait_for_served(10);
                self.recorder.hold(true);
                held = Some(Instant::now());
            }
            let under_way = self.recorder.under_way_by(point, from);
            let larges = under_way.values().filter(|kind| **kind == Kind::Large).count();
            (larges >= 1 && under_way.len() >= larges + 2).then_some(under_way)
        });
        numbers.into_keys().collect()
    }

    /// Lines of all gateways' logs about requests that moved to another tunnel.
    fn moved(&self) -> usize {
        self.hosts.gateways.iter().map(|gateway| gateway.process.log_lines("request moves to another")).sum()
    }

    /// Judges the chapter whose first request has this number.
    fn judge(&self, what: &str, from: u64, rule: Rule) -> Tally {
        let to = self.load().next();
        self.load().wait_until_over(from, to);
        let done: BTreeMap<u64, Sent> =
            self.load().done(from).into_iter().filter(|(at, _)| *at < to).collect();
        let arrived = self.recorder.arrived(from);
        let mut tally = Tally::default();
        for (number, sent) in &done {
            let came = arrived.get(number).cloned().unwrap_or_default();
            tally.add(sent, &came);
            assert!(sent.took < PATIENCE, "{what}: {number} hung: {sent:?}");
            if sent.kind.may_be_repeated() {
                assert!(sent.is_served(), "{what}: {number} failed: {sent:?}");
            } else {
                assert!(came.whole <= 1, "{what}: {number} was delivered {} times", came.whole);
                rule.large.judge(what, *number, sent, &came);
            }
            if rule.one_gateway {
                assert_eq!(sent.tries.len(), 1, "{what}: {number} needed another gateway: {sent:?}");
            }
        }
        println!("{what}: {tally}");
        tally
    }
}

/// What a chapter allows.
#[derive(Clone, Copy)]
struct Rule {
    /// Every gateway is up, and no request needs another than its own.
    one_gateway: bool,
    large: Large,
}

/// What may become of requests that nobody may send again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Large {
    /// They are served.
    Served,
    /// They may be refused, with a reason.
    Refused,
    /// Besides, the connection may end before the request has reached the role: it was closed when it came.
    RefusedOrUnarrived,
    /// Their gateway was killed.
    Anything,
}

impl Rule {
    const NOTHING_FAILS: Self = Self { one_gateway: true, large: Large::Served };
    const LARGE_MAY_FAIL: Self = Self { one_gateway: true, large: Large::Refused };
}

impl Large {
    fn judge(self, what: &str, number: u64, sent: &Sent, came: &Arrived) {
        if sent.is_served() {
            return;
        }
        assert!(self != Self::Served, "{what}: {number} failed: {sent:?}");
        if let Some(said) = sent.answer() {
            let reason = said.reason.as_deref().unwrap_or("none");
            let is_known = Reason::ALL.iter().any(|known| known.to_string() == reason);
            assert!(is_known, "{what}: {number} has no reason of the table: {sent:?}");
            return;
        }
        let may_break = match self {
            Self::Served | Self::Refused => false,
            Self::RefusedOrUnarrived => came.by.is_empty(),
            Self::Anything => true,
        };
        assert!(may_break, "{what}: {number} broke off: {sent:?} {came:?}");
    }
}

/// What came of the requests of a chapter.
#[derive(Default)]
struct Tally {
    served: usize,
    moved_to_other_gateway: usize,
    /// Arrived at the role more than once.
    repeated: usize,
    refused: BTreeMap<String, usize>,
    broke: BTreeMap<String, usize>,
    longest: Duration,
}

impl Tally {
    fn add(&mut self, sent: &Sent, came: &Arrived) {
        self.served += usize::from(sent.is_served());
        self.moved_to_other_gateway += usize::from(sent.tries.len() > 1);
        self.repeated += usize::from(came.by.len() > 1);
        self.longest = self.longest.max(sent.took);
        match sent.answer() {
            Some(said) if said.status == 200 => {}
            Some(said) => {
                let reason = said.reason.as_deref().unwrap_or("no reason");
                *self.refused.entry(format!("{} {reason}", said.status)).or_default() += 1;
            }
            None => *self.broke.entry(sent.problem().to_owned()).or_default() += 1,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} served, {} of them by another gateway, {} arrived twice, refused {:?}, broke off {:?}, longest {} ms",
            self.served,
            self.moved_to_other_gateway,
            self.repeated,
            self.refused,
            self.broke,
            self.longest.as_millis()
        )
    }
}

fn every_connection_point_is_shown_on_every_gateway(story: &Story) {
    let gateways = story.hosts.operator(&["gateway", "list"]);
    let points = story.hosts.operator(&["connection-point", "list"]);
    for name in ["GW1", "GW2"] {
        let shown = story.hosts.operator(&["gateway", "show", name]);
        assert_eq!(shown["tunnels"], 2 * SHARDS, "{shown}");
        assert_eq!((&shown["state"], &shown["shards"]), (&"connected".into(), &SHARDS.into()), "{shown}");
        assert_eq!(row(&gateways, name)["version"], row(&gateways, name)["site_version"]);
    }
    for name in ["CP1", "CP2"] {
        let shown = row(&points, name);
        assert_eq!(shown["connected"], true, "{shown}");
        assert!(shown["since"].is_string(), "{shown}");
    }
}

/// Through the gateway where it was set up a device got its token; the other gateway has never heard of it.
async fn a_token_of_one_gateway_works_at_once_at_the_other(story: &Story, credentials: &[Credentials]) {
    for (home, credentials) in credentials.iter().enumerate() {
        for gateway in [home, 1 - home] {
            let said = ask(story, gateway, credentials).await.expect("an answer");
            assert_eq!((said.status, &said.reason), (200, &None), "{said:?}");
        }
    }
}

/// One small request on a connection of its own.
async fn ask(story: &Story, gateway: usize, credentials: &Credentials) -> std::io::Result<Said> {
    let mut door = Door::open(story.hosts.gateways[gateway].port, credentials).await?;
    door.ask(&get(&story.hosts.external(gateway, "ServerAuth", &story.hosts.recorder))).await
}

fn get(base: &str) -> Ask<'_> {
    Ask { method: "GET", base, target: "/SMS_MP_TokenAuth/.sms_aut?n=0".to_owned(), body: 0 }
}

/// Tickets are of one gateway, and good on all its shards; which shard a connection meets is the kernel's choice.
async fn a_session_resumes_on_every_shard_of_its_gateway_and_at_no_other(story: &Story, device: &Device) {
    const CONNECTIONS: usize = 24;
    for home in 0..2 {
        // A memory of sessions that is empty.
        let credentials = device.credentials(&story.hosts);
        let base = story.hosts.external(home, "ServerAuth", &story.hosts.recorder);
        let port = story.hosts.gateways[home].port;
        let mut first = Door::open(port, &credentials).await.expect("a connection");
        assert!(!first.is_resumed(), "the first one knows no session");
        assert_eq!(first.ask(&get(&base)).await.expect("an answer").status, 200);
        for _ in 0..CONNECTIONS {
            let mut door = Door::open(port, &credentials).await.expect("a connection");
            assert!(door.is_resumed(), "a ticket of this gateway");
            // The token's key was proved in the handshake of before, and counts.
            let said = door.ask(&get(&base)).await.expect("an answer");
            assert_eq!(said.status, 200, "{said:?}");
        }
        let mut other =
            Door::open(story.hosts.gateways[1 - home].port, &credentials).await.expect("a connection");
        assert!(!other.is_resumed(), "a ticket of another gateway is worth nothing");
        let base = story.hosts.external(1 - home, "ServerAuth", &story.hosts.recorder);
        assert_eq!(other.ask(&get(&base)).await.expect("an answer").status, 200);
        println!("GW{}: {CONNECTIONS} connections resumed, none at the other gateway", home + 1);
    }
}

fn a_connection_point_is_killed_and_returns(story: &mut Story, point: usize) {
    let name = story.hosts.points[point].name.clone();
    let (from, moved) = (story.load().next(), story.moved());
    let held = story.hold_some_at(&name);
    story.hosts.points[point].kill();
    story.recorder.hold(false);
    story.hosts.wait_until_tunnels_are(&format!("the gateways know that {name} is gone"), SHARDS);
    story.load().wait_for_served(ENOUGH);
    let returned = Instant::now();
    story.hosts.points[point].start_again();
    story.know_points();
    let took = story.hosts.wait_for_tunnels(&format!("{name} is back on every shard"));
    story.load().wait_for_served(ENOUGH);
    println!(
        "{name}: {:.1} s from its start until all its tunnels are up ({took:?})",
        returned.elapsed().as_secs_f64()
    );
    let tally = story.judge(&format!("{name} killed"), from, Rule::LARGE_MAY_FAIL);
    let arrived = story.recorder.arrived(from);
    let done = story.load().done(from);
    // What was under way there and may be repeated came a second time, by the other one, and was served; the rest
    // was refused.
    let (mut again, mut lost) = (0, 0);
    for number in held {
        let (sent, came) = (&done[&number], &arrived[&number]);
        if sent.kind.may_be_repeated() {
            assert!(came.by.len() == 2 && came.by[1] != name, "{number}: {came:?}");
            again += 1;
        } else {
            assert!(!sent.is_served() && came.by == [name.clone()], "{number}: {sent:?} {came:?}");
            lost += 1;
        }
    }
    assert!(again >= 2 && lost >= 1 && tally.repeated >= again);
    println!(
        "{name}: {again} held requests went again by the other one, {lost} large ones were refused; the gateways \
         moved {} in all",
        story.moved() - moved
    );
}

fn a_connection_point_is_drained_and_returns(story: &mut Story, point: usize) {
    let name = story.hosts.points[point].name.clone();
    let from = story.load().next();
    let held = story.hold_some_at(&name);
    story.hosts.points[point].ask_to_stop();
    // The gateways have heard the goodbye when what comes anew takes the other way.
    let after = story.load().next();
    wait_for("new requests take the other way", Duration::from_secs(5), || {
        // All workers wait for answers.
        story.load().send_one(0);
        let arrived = story.recorder.arrived(after);
        arrived.values().any(|came| came.by.iter().any(|by| *by != name)).then_some(())
    });
    story.recorder.hold(false);
    let took = story.hosts.points[point].wait_until_stopped();
    story.load().wait_for_served(ENOUGH);
    story.hosts.points[point].start_again();
    story.know_points();
    story.hosts.wait_for_tunnels(&format!("{name} is back on every shard"));
    story.load().wait_for_served(ENOUGH);
    let tally = story.judge(&format!("{name} drained"), from, Rule::NOTHING_FAILS);
    let arrived = story.recorder.arrived(from);
    assert!(
        held.iter().all(|number| arrived[number].by == [name.clone()]),
        "what was under way finished there"
    );
    assert_eq!(tally.repeated, 0, "nothing was lost, so nothing was sent twice");
    println!("{name}: stopped {:.1} s after it was asked, with {} under way", took.as_secs_f64(), held.len());
}

/// Its certificate is withdrawn while it carries requests: it is out at once, and stays out.
fn a_third_connection_point_comes_and_is_withdrawn(story: &mut Story) {
    let from = story.load().next();
    let third = story.hosts.add_point(3);
    story.know_points();
    story.hosts.wait_for_tunnels("CP3 is on every shard of every gateway");
    let held = story.hold_some_at("CP3");
    let asked = Instant::now();
    story.hosts.operator(&["connection-point", "remove", "CP3"]);
    story.hosts.wait_until_tunnels_are("no gateway has a tunnel of CP3", 2 * SHARDS);
    println!("CP3: out {:.1} s after an operator said so", asked.elapsed().as_secs_f64());
    story.recorder.hold(false);
    story.load().wait_for_served(ENOUGH);
    story.judge("CP3 withdrawn", from, Rule::LARGE_MAY_FAIL);
    let (done, arrived) = (story.load().done(from), story.recorder.arrived(from));
    for number in held {
        let (sent, came) = (&done[&number], &arrived[&number]);
        assert_eq!(sent.is_served(), sent.kind.may_be_repeated(), "{number}: {sent:?} {came:?}");
    }
    // It still runs and still dials; nobody lets it in.
    assert!(story.hosts.points[third].is_up());
    assert!(story.hosts.gateways.iter().all(|gateway| gateway.tunnels() == Some(2 * SHARDS)));
    story.hosts.points.remove(third).kill();
}

fn load_is_shared_evenly_after_all_that(story: &Story) {
    let from = story.load().next();
    story.load().wait_for_served(4 * ENOUGH);
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for arrived in story.recorder.arrived(from).values() {
        for by in &arrived.by {
            *shares.entry(by.clone()).or_default() += 1;
        }
    }
    let all: usize = shares.values().sum();
    println!("requests by connection point: {shares:?}");
    for name in ["CP1", "CP2"] {
        let share = shares.get(name).copied().unwrap_or_default();
        assert!(share * 4 >= all, "{name} carries less than a quarter: {shares:?}");
    }
    assert_eq!(shares.len(), 2, "{shares:?}");
}

/// Both gateways in turn, each with SIGKILL and with SIGTERM: the first one is always the one that the device uses.
fn gateways_are_killed_and_drained_and_devices_move(story: &mut Story, roamer: &Service) {
    for is_drain in [false, true] {
        let from = story.load().next();
        let at = roamer.gateway(&story.hosts);
        let name = story.hosts.gateways[at].process.name.clone();
        let began = Instant::now();
        let rule = if is_drain {
            // A request under way finishes; one that comes on a kept connection is refused and asked elsewhere.
            story.hosts.gateways[at].process.ask_to_stop();
            story.hosts.gateways[at].process.wait_until_stopped();
            Rule { one_gateway: false, large: Large::RefusedOrUnarrived }
        } else {
            story.hosts.gateways[at].process.kill();
            Rule { one_gateway: false, large: Large::Anything }
        };
        let how = if is_drain { "drained" } else { "killed" };
        wait_for(&format!("{name} {how}: the device is on the other one"), Duration::from_secs(15), || {
            roamer.answered_by(&story.hosts, 1 - at).then_some(())
        });
        let moved = began.elapsed();
        story.load().wait_for_served(ENOUGH);
        story.hosts.gateways[at].process.start_again();
        story.hosts.wait_for_tunnels(&format!("{name} has all its tunnels again"));
        story.load().wait_for_served(ENOUGH);
        story.judge(&format!("{name} {how}"), from, rule);
        println!("{name} {how}: the device went on after {:.1} s", moved.as_secs_f64());
    }
    // It came back to the first one when the second one went.
}

/// Over the whole story, and over what nobody waited for any more.
fn nothing_was_delivered_twice_that_may_not_be(story: &Story) {
    let arrived = story.recorder.arrived(1);
    let large = arrived.values().filter(|came| came.kind == Some(Kind::Large));
    let (mut all, mut whole) = (0, 0);
    for came in large {
        assert!(came.whole <= 1 && came.by.len() <= 1, "{came:?}");
        (all, whole) = (all + 1, whole + came.whole);
    }
    let twice = arrived.values().filter(|came| came.whole > 1).count();
    println!(
        "{} requests arrived; of {all} large ones {whole} whole, none twice; {twice} small ones twice",
        arrived.len()
    );
    assert!(all > 100);
}

async fn a_block_takes_effect_on_both_gateways_and_on_one_that_was_away(
    story: &mut Story,
    device: &Device,
    credentials: &Credentials,
) {
    let blocked = Instant::now();
    let told = story.hosts.operator(&["device", "block", &device.id]);
    assert!(told["gateways_told"].as_str().is_some_and(|told| told.contains("2 of 2")), "{told}");
    for gateway in 0..2 {
        until_refused(story, gateway, credentials, blocked).await;
    }
    story.hosts.operator(&["device", "unblock", &device.id]);
    for gateway in 0..2 {
        let began = Instant::now();
        while ask(story, gateway, credentials).await.expect("an answer").status != 200 {
            assert!(began.elapsed() < BLOCK, "served again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    // One gateway is away while the device is blocked.
    story.hosts.gateways[0].process.kill();
    let told = story.hosts.operator(&["device", "block", &device.id]);
    println!("blocked while GW1 is away: {}", told["gateways_told"]);
    until_refused(story, 1, credentials, Instant::now()).await;
    story.hosts.gateways[0].process.start_again();
    let returned = Instant::now();
    let mut served = 0;
    loop {
        match ask(story, 0, credentials).await {
            Ok(said) if said.reason == Some(Reason::DeviceBlocked.to_string()) => break,
            Ok(said) if said.status == 200 => served += 1,
            // Not there yet, or without a tunnel.
            Ok(said) => assert_eq!(said.status, 503, "{said:?}"),
            Err(_) => {}
        }
        assert!(returned.elapsed() < 2 * BLOCK, "GW1 serves a blocked device");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = returned.elapsed();
    println!(
        "GW1 refuses the blocked device {:.2} s after its return; it let {served} requests in before",
        took.as_secs_f64()
    );
    assert!(took < BLOCK);
    story.hosts.wait_for_tunnels("GW1 has all its tunnels and the newest version");
}

async fn until_refused(story: &Story, gateway: usize, credentials: &Credentials, since: Instant) {
    loop {
        let said = ask(story, gateway, credentials).await.expect("an answer");
        if said.reason == Some(Reason::DeviceBlocked.to_string()) {
            assert_eq!(said.status, 403, "{said:?}");
            break;
        }
        assert!(since.elapsed() < BLOCK, "GW{} still serves a blocked device: {said:?}", gateway + 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("GW{} refuses {:.2} s after the block", gateway + 1, since.elapsed().as_secs_f64());
}

/// A device: the client's own program and its state.
struct Device {
    id: String,
    state: PathBuf,
}

impl Device {
    /// Sets it up over the internet by a bulk registration token; it is told one gateway.
    fn set_up(hosts: &Hosts, name: &str, gateway: usize) -> Self {
        let folder = hosts.folder.path().join(name);
        runtime::config::private_dir::create(&folder).expect("a folder");
        let (state, token) = (folder.join("state"), folder.join("bulk-token"));
        hosts.operator(&[
            "bulk-token",
            "new",
            "--max-uses",
            "1",
            "--token-file",
            &token.display().to_string(),
        ]);
        let address = hosts.external(gateway, "MutualAuth", &hosts.management_point);
        let mut setup = Command::new(roamgate());
        setup.args(["client", "setup", "--hardware-id", "random", "--name", name, "--state"]).arg(&state);
        setup.arg("--ca-file").arg(&hosts.authority).arg("--site-root");
        setup.arg(hosts.folder.path().join("site").join("site-root.pem")).arg("--regtoken-file").arg(&token);
        setup.args([format!("/mp:https://{address}"), format!("CCMHOSTNAME={address}")]);
        setup.args(["SMSSITECODE=RG1", "CCMALWAYSINF=1"]);
        support::run(&mut setup, b"");
        let synced = client(&state, &["sync"]);
        assert!(synced.status.success(), "{}", String::from_utf8_lossy(&synced.stderr));
        let status = status_of(&state);
        for gateway in &hosts.gateways {
            let known = status["gateways"].as_array().expect("a list");
            let is_known =
                known.iter().any(|known| known.as_str().is_some_and(|known| known.contains(&gateway.host)));
            assert!(is_known, "the site named both: {status}");
        }
        Self { id: status["client_id"].as_str().expect("an id").to_owned(), state }
    }

    fn credentials(&self, hosts: &Hosts) -> Credentials {
        Credentials::of(hosts, &self.state)
    }
}

fn status_of(state: &std::path::Path) -> Value {
    let output = client(state, &["status", "--output", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A device's service, which polls all the time.
struct Service {
    state: PathBuf,
    child: Child,
}

impl Service {
    fn start(hosts: &Hosts, device: &Device) -> Self {
        let output = std::fs::File::create(device.state.with_extension("out")).expect("a file");
        let mut command = Command::new(roamgate());
        command.args(["client", "service", "--end-with-stdin", "--poll-interval", "1s", "--state"]);
        command.arg(&device.state).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(output);
        let service =
            Self { state: device.state.clone(), child: command.spawn().expect("the service starts") };
        let before = service.answered();
        wait_for("the service polls", Duration::from_secs(20), || {
            (service.answered() != before).then_some(())
        });
        println!("the device uses GW{}", service.gateway(hosts) + 1);
        service
    }

    fn answered(&self) -> Value {
        status_of(&self.state)["last_policy"].clone()
    }

    /// Which gateway it used last.
    fn gateway(&self, hosts: &Hosts) -> usize {
        let address = status_of(&self.state)["address"].as_str().expect("an address").to_owned();
        let found =
            hosts.gateways.iter().position(|gateway| address.starts_with(&format!("{}/", gateway.host)));
        found.unwrap_or_else(|| panic!("{address} is no gateway"))
    }

    /// Whether its last policy came through this gateway, without trouble.
    fn answered_by(&self, hosts: &Hosts, gateway: usize) -> bool {
        let status = status_of(&self.state);
        let address = status["address"].as_str().unwrap_or_default();
        address.starts_with(&hosts.gateways[gateway].host) && status["last_failure"].is_null()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > Duration::from_secs(15) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
