//! Steady traffic of numbered requests over several gateways, and what came of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::door::{Ask, Credentials, Door, Said};

/// No request may take longer, whatever happens on its way.
const BOUND: Duration = Duration::from_secs(15);
/// A body that is held whole on every hop, and one that is not.
const SMALL: usize = 2 * 1024;
const LARGE: usize = 192 * 1024;
/// Pause of a worker behind each request: a steady load, and no test of speed.
const PAUSE: Duration = Duration::from_millis(15);
/// Pause when no gateway can be reached.
const NOBODY: Duration = Duration::from_millis(50);

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `GET`.
    Get,
    /// `CCM_POST` with a small body: it may be repeated on the way.
    Small,
    /// `CCM_POST` with a body that no hop keeps: it may not.
    Large,
}

impl Kind {
    /// The kind of a request with this method and so many bytes.
    pub(crate) fn of(method: &str, length: Option<u64>) -> Self {
        match length {
            _ if method == "GET" => Self::Get,
            Some(length) if length == SMALL as u64 => Self::Small,
            _ => Self::Large,
        }
    }

    /// Whether a hop that loses it may send it again.
    pub(crate) fn may_be_repeated(self) -> bool {
        self != Self::Large
    }
}

/// What came of one try of a request at one gateway.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Said(Said),
    /// The connection was not made, or broke.
    Broke(String),
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) kind: Kind,
    /// The tries, each with the gateway's place in the list.
    pub(crate) tries: Vec<(usize, Outcome)>,
    pub(crate) took: Duration,
}

impl Sent {
    /// The answer, if the last try had one.
    pub(crate) fn answer(&self) -> Option<&Said> {
        match self.tries.last() {
            Some((_, Outcome::Said(said))) => Some(said),
            _ => None,
        }
    }

    /// How its last connection ended, where there is no answer.
    pub(crate) fn problem(&self) -> &str {
        match self.tries.last() {
            Some((_, Outcome::Broke(problem))) => problem,
            _ => "",
        }
    }

    /// Whether it was served.
    pub(crate) fn is_served(&self) -> bool {
        self.answer().is_some_and(|said| said.status == 200)
    }
}

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    /// External base address of the role.
    pub(crate) base: String,
}

struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<BTreeMap<u64, Sent>>,
    targets: Vec<Target>,
}

/// The traffic; it stops when it is told to.
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    device: Credentials,
}

impl Load {
    /// Starts it: for each gateway and device one worker a kind, and a second one for small requests.
    pub(crate) fn start(targets: Vec<Target>, devices: &[Credentials]) -> Self {
        let shared = Arc::new(Shared {
            next: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            done: Mutex::default(),
            targets,
        });
        let mut workers = Vec::new();
        for home in 0..shared.targets.len() {
            for device in devices {
                for kind in [Kind::Get, Kind::Small, Kind::Small, Kind::Large] {
                    workers.push(tokio::spawn(work(Arc::clone(&shared), home, device.clone(), kind)));
                }
            }
        }
        Self { shared, workers, device: devices.first().expect("a device").clone() }
    }

    /// Sends one more small request to this gateway, whatever the workers do.
    pub(crate) fn send_one(&self, gateway: usize) {
        let (shared, device) = (Arc::clone(&self.shared), self.device.clone());
        tokio::spawn(async move {
            let (mut at, mut door) = (gateway, None);
            one(&shared, &mut at, &mut door, &device, Kind::Get).await;
        });
    }

    /// The number that the next request will have.
    pub(crate) fn next(&self) -> u64 {
        self.shared.next.load(Ordering::SeqCst)
    }

    /// Requests with these numbers and above that are over.
    pub(crate) fn done(&self, from: u64) -> BTreeMap<u64, Sent> {
        self.shared
            .done
            .lock()
            .expect("no panic")
            .range(from..)
            .map(|(at, sent)| (*at, sent.clone()))
            .collect()
    }

    /// Waits until every number from `from` to `to` is over.
    pub(crate) fn wait_until_over(&self, from: u64, to: u64) {
        let wanted = usize::try_from(to - from).expect("few");
        let over = || self.shared.done.lock().expect("no panic").range(from..to).count() == wanted;
        crate::support::wait_for("every request so far is over", BOUND + Duration::from_secs(5), || {
            over().then_some(())
        });
    }

    /// Waits until so many requests more have been served.
    pub(crate) fn wait_for_served(&self, count: usize) {
        let from = self.next();
        let what = format!("{count} requests more are served");
        crate::support::wait_for(&what, Duration::from_secs(30), || {
            (self.done(from).values().filter(|sent| sent.is_served()).count() >= count).then_some(())
        });
    }

    /// Ends it; everything under way finishes.
    pub(crate) async fn stop(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.await.expect("no panic");
        }
    }
}

async fn work(shared: Arc<Shared>, home: usize, device: Credentials, kind: Kind) {
    let (mut at, mut door) = (home, None);
    while !shared.stop.load(Ordering::SeqCst) {
        let was_answered = one(&shared, &mut at, &mut door, &device, kind).await;
        tokio::time::sleep(if was_answered { PAUSE } else { NOBODY }).await;
    }
}

/// One request, at the gateway at place `at` first. As a device does: where there is no way through one gateway
/// it asks the next one, once. Whether it was answered.
async fn one(
    shared: &Shared,
    at: &mut usize,
    door: &mut Option<Door>,
    device: &Credentials,
    kind: Kind,
) -> bool {
    let number = shared.next.fetch_add(1, Ordering::SeqCst);
    let began = Instant::now();
    let mut tries = Vec::new();
    for _ in 0..shared.targets.len() {
        let outcome = attempt(door, &shared.targets[*at], device, kind, number).await;
        // What may have been delivered, and may not be twice, is not sent again by anybody.
        let (has_no_way, may_go_on) = match &outcome {
            Outcome::Said(said) => (said.status == 503, true),
            Outcome::Broke(_) => (true, kind.may_be_repeated()),
        };
        tries.push((*at, outcome));
        if !has_no_way {
            break;
        }
        *door = None;
        *at = (*at + 1) % shared.targets.len();
        if !may_go_on {
            break;
        }
    }
    let sent = Sent { kind, tries, took: began.elapsed() };
    let was_answered = sent.answer().is_some();
    shared.done.lock().expect("no panic").insert(number, sent);
    was_answered
}

async fn attempt(
    door: &mut Option<Door>,
    target: &Target,
    device: &Credentials,
    kind: Kind,
    number: u64,
) -> Outcome {
    let (method, path, body) = match kind {
        Kind::Get => ("GET", "/SMS_MP_TokenAuth/.sms_aut", 0),
        Kind::Small => ("CCM_POST", "/ccm_system_tokenauth/request", SMALL),
        Kind::Large => ("CCM_POST", "/ccm_system_tokenauth/request", LARGE),
    };
    let ask = Ask { method, base: &target.base, target: format!("{path}?n={number}"), body };
    let exchange = async {
        let mut open = match door.take() {
            Some(open) => open,
            None => Door::open(target.port, device).await?,
        };
        let said = open.ask(&ask).await?;
        if said.stays {
            *door = Some(open);
        }
        Ok::<_, std::io::Error>(said)
    };
    match timeout(BOUND, exchange).await {
        Ok(Ok(said)) => Outcome::Said(said),
        Ok(Err(error)) => Outcome::Broke(error.to_string()),
        Err(_) => Outcome::Broke(format!("no answer within {} s", BOUND.as_secs())),
    }
}
