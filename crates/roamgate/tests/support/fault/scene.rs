//! One deployment and the faults that it lives through, each measured alike.

use std::time::{Duration, Instant};

use super::deployment::{Deployment, Options};
use super::device::{Ask, Connection, Device, Note};
use super::inner::Inner;
use super::page::{self, Row};
use super::process::{Process, Weight};
use super::traffic::Traffic;
use super::until;

/// Time until a role holds what it held before, once the traffic has ended.
const SETTLE: Duration = Duration::from_secs(20);
/// Most that a role's memory may have grown, KiB.
const GROWTH_KIB: u64 = 20 * 1024;

/// A deployment under test.
pub(crate) struct Scene {
    pub(crate) lab: Deployment,
    baseline: [Weight; 3],
    rows: Vec<Row>,
}

/// A fault that has begun.
#[derive(Debug)]
pub(crate) struct Fault {
    name: String,
    began: Instant,
    pub(crate) traffic: Traffic,
}

/// What is accepted of a fault.
#[derive(Debug, Default)]
pub(crate) struct Expect<'a> {
    /// What devices may see, besides good answers.
    pub(crate) allowed: &'a [&'a str],
    /// What at least one of them must see.
    pub(crate) must: &'a [&'a str],
    /// What the devices saw that the fault is about; the steady traffic must then be untouched.
    pub(crate) victims: Option<Vec<Note>>,
    /// What devices saw besides the steady traffic, which is hit as well.
    pub(crate) extra: Vec<Note>,
    pub(crate) remark: String,
}

impl Scene {
    pub(crate) async fn start(options: Options) -> Self {
        let began = Instant::now();
        let lab = Deployment::start(options).await;
        println!("deployment: {:.1} s", began.elapsed().as_secs_f64());
        let empty = Weight { descriptors: 0, resident_kib: 0 };
        let mut scene = Self { lab, baseline: [empty; 3], rows: Vec::new() };
        // Its kept connections to the management point, from the enrolment, end with it.
        scene.lab.connector.kill();
        scene.lab.connector.start();
        scene.lab.wait_until_connected().await;
        // Once without a fault: what is only made at first use is there then.
        let traffic = scene.traffic().await;
        traffic.stop().await;
        scene.close_inner();
        scene.baseline = scene.rest().await;
        scene
    }

    /// Traffic of which every lane is answered.
    async fn traffic(&self) -> Traffic {
        let traffic = Traffic::start(&self.lab.devices);
        traffic.recovered(Instant::now()).await;
        traffic
    }

    fn processes(&self) -> [&Process; 3] {
        [&self.lab.site, &self.lab.gateway, &self.lab.connector]
    }

    fn weights(&self) -> [Weight; 3] {
        self.processes().map(|process| process.weight().expect("it runs"))
    }

    fn close_inner(&self) {
        self.lab.inner.close_connections();
        self.lab.other.close_connections();
    }

    /// What the roles weigh when nothing comes and goes any more.
    async fn rest(&self) -> [Weight; 3] {
        let mut last = self.weights();
        let mut since = Instant::now();
        until("the roles are at rest", SETTLE, || {
            let now = self.weights();
            if now.map(|weight| weight.descriptors) != last.map(|weight| weight.descriptors) {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_millis(500)
        })
        .await;
        last
    }

    /// Starts the traffic; the fault may begin.
    pub(crate) async fn begin(&self, name: &str) -> Fault {
        let traffic = self.traffic().await;
        Fault { name: name.to_owned(), began: Instant::now(), traffic }
    }

    /// The cause is gone since `healed`: waits until everything is as before, and writes the row.
    pub(crate) async fn end(&mut self, fault: Fault, healed: Instant, expect: Expect<'_>) {
        let Fault { name, began, traffic } = fault;
        let recovered = traffic.recovered(healed).await;
        let notes = traffic.stop().await;
        let during = |note: &&Note| note.ended() >= began;
        let steady: Vec<_> = notes.iter().filter(during).filter(|note| !note.is_good()).cloned().collect();
        let good = notes.iter().filter(during).filter(|note| note.is_good()).count();
        let beside = expect.victims.is_some().then_some(good);
        let (lost, doubled, repeated) = count(&notes, &self.lab.inner);
        let (seen, counts) = match expect.victims {
            None => {
                let of_them = count(&expect.extra, &self.lab.other);
                let extra = expect.extra.into_iter().filter(|note| !note.is_good());
                let counts = (lost + of_them.0, doubled + of_them.1, repeated + of_them.2);
                (steady.into_iter().chain(extra).collect(), counts)
            }
            Some(victims) => {
                let hit: Vec<_> = steady.iter().map(|note| note.seen.label()).collect();
                assert!(hit.is_empty(), "{name}: the others were hit: {hit:?}\n{}", self.said());
                let of_them = count(&victims, &self.lab.other);
                let seen: Vec<Note> = victims.into_iter().filter(|note| !note.is_good()).collect();
                (seen, (lost + of_them.0, doubled + of_them.1, repeated + of_them.2))
            }
        };
        self.close_inner();
        let (left_kib, left_descriptors) = self.settle(&name).await;
        let allowed: Vec<_> =
            expect.allowed.iter().chain(expect.must).map(|label| (*label).to_owned()).collect();
        let row = Row {
            fault: name,
            seen,
            allowed,
            recovered,
            beside,
            lost: counts.0,
            doubled: counts.1,
            repeated: counts.2,
            left_kib,
            left_descriptors,
            remark: expect.remark,
        };
        let groups = row.groups();
        for label in groups.keys() {
            let known = row.allowed.contains(label);
            assert!(known, "{}: a device saw {label:?}: {groups:?}\n{}", row.fault, self.said());
        }
        for label in expect.must {
            assert!(groups.contains_key(*label), "{}: nobody saw {label:?}: {groups:?}", row.fault);
        }
        assert_eq!((row.lost, row.doubled), (0, 0), "{}: lost, doubled", row.fault);
        println!("{}: {groups:?}, back after {recovered:?}, {repeated} repeated", row.fault);
        self.rows.push(row);
    }

    /// The last lines of the roles.
    fn said(&self) -> String {
        let tail = |process: &Process| {
            let output = process.output();
            let lines: Vec<_> = output.lines().filter(|line| !line.contains(" 200 OK ")).collect();
            lines[lines.len().saturating_sub(12)..].join("\n")
        };
        self.processes().map(tail).join("\n---\n")
    }

    /// Memory and descriptors return; most that is left of each.
    async fn settle(&mut self, name: &str) -> (i64, i64) {
        for process in [&mut self.lab.site, &mut self.lab.gateway, &mut self.lab.connector] {
            process.check();
        }
        let mut left = Vec::new();
        let returned = |now: &Weight, before: &Weight| {
            now.descriptors <= before.descriptors && now.resident_kib <= before.resident_kib + GROWTH_KIB
        };
        let began = Instant::now();
        loop {
            let now = self.weights();
            left.clear();
            left.extend(now.into_iter().zip(self.baseline));
            if left.iter().all(|(now, before)| returned(now, before)) {
                break;
            }
            assert!(
                began.elapsed() < SETTLE,
                "{name}: site, gateway, connection point hold (now, before): {left:?}\n{:#?}",
                self.processes().map(Process::descriptors)
            );
            tokio::time::sleep(super::LOOK).await;
        }
        let signed = |number: u64| i64::try_from(number).expect("no such host");
        let kib = left.iter().map(|(now, before)| signed(now.resident_kib) - signed(before.resident_kib));
        (kib.max().unwrap_or_default(), 0)
    }

    /// A device of the other role.
    pub(crate) fn victim(&self) -> Device {
        Device { base: self.lab.other_base.clone(), ..self.lab.devices[0].clone() }
    }

    /// Requests of a device of the other role, one after the other on one connection if it lasts.
    pub(crate) async fn ask_other(&self, asks: &[(usize, usize)]) -> Vec<Note> {
        self.ask_other_on(&mut None, asks).await
    }

    /// The same on this connection, and so through the same tunnel: what is kept behind it is used again.
    pub(crate) async fn ask_other_on(
        &self,
        connection: &mut Option<Connection>,
        asks: &[(usize, usize)],
    ) -> Vec<Note> {
        let (victim, mut notes) = (self.victim(), Vec::new());
        for (body, answer) in asks {
            notes.push(victim.ask(connection, Ask::new(*body, *answer)).await);
        }
        notes
    }

    /// All rows are there: they go to the page, or are held against it.
    pub(crate) fn account(self, section: &str) {
        page::account(section, &self.rows);
    }
}

/// Acknowledged and not delivered; delivered twice though it may not be; delivered twice.
fn count(notes: &[Note], inner: &Inner) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for note in notes {
        let whole = inner.came(note.ask.number).whole;
        counts.0 += usize::from(note.is_good() && whole == 0);
        if whole > 1 {
            let may_be = note.ask.may_be_repeated();
            counts.1 += usize::from(!may_be);
            counts.2 += usize::from(may_be);
        }
    }
    counts
}
