//! The service on the road: networks that change, permissions that come and go, with requests going on.

use std::sync::{Arc, Mutex};

use proto::request::policy_body::CimValue;
use proto::request::registration::CloudGateway;
use proto::time::Timestamp;
use runtime::Clock;

use super::*;
use crate::device::DeviceOptions;
use crate::identity::KeyMaterial;
use crate::location::Rule;
use crate::state::{Setup, State, Store as _};
use crate::testing::{FakeSite, PolicyFixture, Taken, pin_of};

const NOW: i64 = 1_790_000_000_000_000;
/// Fails a test that waits in vain.
const LIMIT: Duration = Duration::from_mins(1);

/// A service that runs, and the world around it.
struct World {
    clock: Clock,
    site: FakeSite,
    folder: StateFolder,
    network: Arc<Mutex<&'static str>>,
    level: Arc<Mutex<Option<LogLevel>>>,
    drain: Drain,
    service: tokio::task::JoinHandle<Result<(), StateError>>,
    _parent: tempfile::TempDir,
}

impl World {
    /// A device that knows the inside and the gateway, on the network of the office.
    fn start(intervals: Intervals, prepare: impl FnOnce(&FakeSite)) -> Self {
        let clock = Clock::manual(NOW);
        let site = FakeSite::start(&clock);
        prepare(&site);
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(&parent.path().join("state")).unwrap();
        let setup = Setup {
            inside: vec![site.inside()],
            gateways: vec![site.gateway()],
            ca: Some(site.ca.clone()),
            pin: pin_of(site.keys),
            ..crate::state::tests::setup()
        };
        let state = State::new(setup);
        folder.save(&state).unwrap();
        let key = KeyMaterial::generate(Timestamp::from_micros(NOW)).unwrap();
        let store = Arc::new(folder.clone());
        let options = DeviceOptions { state, key, store, clock: clock.clone(), system_roots: false };
        let device = Device::new(options).unwrap();
        let (network, level) = (Arc::new(Mutex::new("office")), Arc::new(Mutex::new(None)));
        let (seen, set) = (Arc::clone(&network), Arc::clone(&level));
        let surroundings = Surroundings {
            network: Box::new(move || Some(Fingerprint::of(vec![(*seen.lock().unwrap()).to_owned()]))),
            set_log_level: Some(Box::new(move |level| *set.lock().unwrap() = Some(level))),
        };
        let drain = Drain::new();
        let service = tokio::spawn(run(device, folder.clone(), intervals, drain.clone(), surroundings));
        Self { clock, site, folder, network, level, drain, service, _parent: parent }
    }

    /// Waits for a state. The clock goes on by a second now and then, as clocks do.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.clock.advance(Duration::from_millis(100));
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn state(&self) -> State {
        self.folder.load().unwrap()
    }

    fn is_at(&self, locality: Locality, rule: Rule) -> bool {
        self.state().whereabouts.is_some_and(|known| (known.locality, known.rule) == (locality, rule))
    }

    /// Waits until no cycle is under way.
    async fn at_rest(&self) {
        self.until("the end of the cycle", |world| world.folder.try_lock().is_ok()).await;
    }

    /// Moves the device to another network, where so much gets through.
    fn move_to(&self, network: &'static str, inside: bool, gateway: bool) {
        self.site.reach(inside, gateway);
        *self.network.lock().unwrap() = network;
    }

    fn reports(&self) -> usize {
        self.site.site().reports.len()
    }

    async fn stop(self) {
        self.drain.begin(LIMIT);
        tokio::time::timeout(LIMIT, self.service).await.expect("it ends").unwrap().unwrap();
    }
}

fn settings(version: &str, allowed: bool) -> Vec<PolicyFixture> {
    let allowed = ("EnableCloudGateway", CimValue::Boolean(allowed));
    vec![PolicyFixture::client_settings(version, &[allowed, ("LogLevel", CimValue::String("debug".into()))])]
}

fn says(site: &FakeSite, allowed: bool) {
    let addresses = vec![site.gateway().to_string()];
    site.site().cloud_gateway = Some(CloudGateway { allowed, addresses });
}

#[tokio::test]
async fn a_device_that_moves_is_managed_over_the_way_that_is_open_within_moments() {
    let world = World::start(Intervals::default(), |site| site.site().policies = settings("1.00", true));
    world.until("a heartbeat from inside", |world| world.reports() == 1).await;
    world.at_rest().await;
    assert!(world.is_at(Locality::Intranet, Rule::InsideAnswered));
    assert_eq!(*world.level.lock().unwrap(), Some(LogLevel::Debug), "as the client settings say");
    world.site.take_seen();

    // Home: the change itself is noticed, no poll is due for most of an hour.
    world.move_to("home", false, true);
    world.until("a heartbeat from outside", |world| world.reports() == 2).await;
    world.at_rest().await;
    assert!(world.is_at(Locality::Internet, Rule::InsideSilent));
    assert!(world.site.take_seen().iter().all(|seen| seen.through_gateway), "nothing else got through");

    // Back again.
    world.move_to("office", true, true);
    world.until("a heartbeat from inside again", |world| world.reports() == 3).await;
    world.at_rest().await;
    assert!(world.is_at(Locality::Intranet, Rule::InsideAnswered));
    assert!(world.site.take_seen().iter().all(|seen| !seen.through_gateway));
    let moved: Vec<_> = world
        .site
        .site()
        .reports
        .iter()
        .map(|report| report.instance("Roamgate_Client").unwrap().value("Locality").unwrap().to_owned())
        .collect();
    assert_eq!(moved, ["intranet", "internet", "intranet"]);
    world.stop().await;
}

#[tokio::test]
async fn a_way_that_closes_under_a_request_sends_it_the_other_way() {
    let world = World::start(Intervals { poll: Some(Duration::from_mins(10)), heartbeat: None }, |site| {
        site.site().policies = settings("1.00", true);
    });
    world.until("a heartbeat from inside", |world| world.reports() == 1).await;
    world.at_rest().await;
    // The network stays what it was, and the inside is gone all the same.
    world.site.reach(false, true);
    world.clock.advance(Duration::from_mins(11));
    world.until("a heartbeat from outside", |world| world.reports() == 2).await;
    assert_eq!(world.state().contact.failure, None, "no request was lost");
    world.stop().await;
}

#[tokio::test]
async fn where_the_device_is_is_looked_into_every_24_hours_however_seldom_it_polls() {
    let month = Duration::from_hours(30 * 24);
    let world = World::start(Intervals { poll: Some(month), heartbeat: Some(month) }, |site| {
        site.site().policies = settings("1.00", true);
    });
    world.until("a heartbeat from inside", |world| world.reports() == 1).await;
    world.at_rest().await;
    world.site.reach(false, true);
    world.clock.advance(Duration::from_hours(21));
    tokio::time::sleep(TICK * 2).await;
    assert!(world.is_at(Locality::Intranet, Rule::InsideAnswered), "not yet");
    world.clock.advance(Duration::from_hours(6));
    world.until("another decision", |world| world.is_at(Locality::Internet, Rule::InsideSilent)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_permission_that_is_withdrawn_and_given_back_reaches_a_device_that_never_comes_inside() {
    let world = World::start(Intervals::default(), |site| {
        says(site, true);
        site.site().policies = settings("1.00", true);
    });
    world.until("a heartbeat from inside", |world| world.reports() == 1).await;
    world.at_rest().await;
    world.move_to("home", false, true);
    world.until("a heartbeat from outside", |world| world.reports() == 2).await;
    world.at_rest().await;

    // Withdrawn: the next poll hears it, and nothing but the question goes through the gateway from then on.
    says(&world.site, false);
    world.site.site().policies = settings("2.00", false);
    world.site.site().serial = 2;
    world.clock.advance(Duration::from_mins(67));
    world.until("the site's word", |world| world.state().place.site.is_some_and(|word| !word.allowed)).await;
    world.at_rest().await;
    world.site.take_seen();
    for _ in 0..2 {
        world.clock.advance(Duration::from_mins(67));
        let asked = |world: &World| {
            let seen = &world.site.site().seen;
            seen.iter().any(|seen| seen.endpoint == Some(proto::message::MessageEndpoint::ClientRegistration))
        };
        world.until("the question", asked).await;
        world.at_rest().await;
        let seen = world.site.take_seen();
        assert!(
            seen.iter().all(|seen| seen.target == "/CCM_STS"
                || seen.endpoint == Some(proto::message::MessageEndpoint::ClientRegistration)),
            "{seen:?}"
        );
    }
    assert!(world.is_at(Locality::Internet, Rule::GatewayForbidden));

    // Given back: within a poll the device works again, and says so.
    let before = world.reports();
    says(&world.site, true);
    world.site.site().policies = settings("3.00", true);
    world.site.site().serial = 3;
    world.clock.advance(Duration::from_mins(67));
    world.until("a heartbeat", |world| world.reports() > before).await;
    world.at_rest().await;
    assert!(world.is_at(Locality::Internet, Rule::InsideSilent));
    let report = world.site.site().reports.pop().unwrap();
    let ours = report.instance("Roamgate_Client").unwrap();
    assert_eq!((ours.value("EnableCloudGateway"), ours.value("PolicyVersion")), (Some("TRUE"), Some("3.00")));
    world.stop().await;
}

#[tokio::test]
async fn a_renewal_that_gets_lost_stops_nothing_else() {
    let world = World::start(Intervals::default(), |site| site.site().policies = settings("1.00", true));
    world.until("a heartbeat", |world| world.reports() == 1).await;
    world.at_rest().await;
    let first = world.state().self_prove.unwrap();
    // Confirmations are refused from now on, as by a site that is busy with something.
    world.site.site().confirms = Taken::No;
    world.site.site().policies = settings("2.00", true);
    world.site.site().serial = 2;
    world.clock.advance(Duration::from_hours(40 * 24));
    world.until("the new settings are reported", |world| world.reports() == 2).await;
    world.at_rest().await;
    let state = world.state();
    assert_eq!(state.self_prove.unwrap().expires, first.expires, "the token of before still counts");
    assert_eq!(state.policy.settings.version.as_deref(), Some("2.00"));
    world.site.site().confirms = Taken::Yes;
    world.clock.advance(Duration::from_hours(6));
    world.until("the renewal", |world| world.state().self_prove.unwrap().expires > first.expires).await;
    world.stop().await;
}
