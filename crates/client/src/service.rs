//! The service: keeps a device registered, its tokens fresh, its policy current.

use std::time::Duration;

use proto::reason::Action;
use runtime::Drain;

use crate::credential::preference::Trigger;
use crate::device::{Device, Occasion, RequestError};
use crate::location::Locality;
use crate::log::line;
use crate::network::{Fingerprint, Watch};
use crate::platform;
use crate::policy::{LogLevel, PolicyError};
use crate::retry::Told;
use crate::schedule::{Intervals, Outcome, Schedule, heartbeat_is_due};
use crate::state::{Registration, StateError, StateFolder, StateLock};
use crate::token::{Freshness, confirmation_is_due};

/// Time between two looks at the clock. Bounds how late the service notices that time jumped
/// (sleep of the machine, the lab's clock).
const TICK: Duration = Duration::from_secs(1);
/// How long the service lets another process work with the state before it looks again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What the service watches and moves besides the device.
pub struct Surroundings {
    /// The fingerprint of the network that the device is on; `None` where it is not to be had.
    pub network: Box<dyn FnMut() -> Option<Fingerprint> + Send>,
    /// Sets how much is logged, as the client settings say; `None`: that was settled elsewhere.
    pub set_log_level: Option<Box<dyn Fn(LogLevel) + Send + Sync>>,
}

impl Default for Surroundings {
    /// This machine's network, and a log level that policy does not move.
    fn default() -> Self {
        Self { network: Box::new(platform::network), set_log_level: None }
    }
}

/// Runs until the drain begins. Each cycle reads the state anew, so that what `sync` or `register`
/// did meanwhile counts.
pub async fn run(
    mut device: Device,
    folder: StateFolder,
    intervals: Intervals,
    drain: Drain,
    surroundings: Surroundings,
) -> Result<(), StateError> {
    let Surroundings { mut network, set_log_level } = surroundings;
    let mut schedule = Schedule::default();
    let mut watch = Watch::default();
    let mut occasion = Occasion::Start;
    let mut cycles = Cycles {
        intervals,
        set_log_level,
        log_level: None,
        heartbeat_sent: false,
        locations: Locations::Wanted,
        register_again: false,
        started: false,
    };
    line!(info, CcmExec, state = %folder.path().display(), "service started");
    platform::notify_ready();
    while !drain.has_started() {
        // By the corrected clock, as everything that a cycle notes.
        let now = device.now();
        let moved = watch.look(network());
        device.on_network(watch.settled());
        if moved {
            line!(info, LocationServices, "the network changed; looking where the device is now");
            schedule.network_changed(now, runtime::id::random());
            if occasion != Occasion::Start {
                occasion = Occasion::NetworkChange;
            }
        }
        if schedule.is_due(device.state(), now) {
            let Some(lock) = wait_for_turn(&folder, &drain).await? else { break };
            device.reload(folder.load()?);
            if occasion == Occasion::Poll && schedule.look_is_due(now) {
                occasion = Occasion::Regular;
            }
            // A request under way is finished: it may have changed something at the site.
            let outcome = cycles.run(&mut device, occasion).await;
            let now = device.now();
            if occasion != Occasion::Poll {
                schedule.looked(now, runtime::id::random());
            }
            let poll = intervals.poll.unwrap_or_else(|| device.state().policy.settings.polling());
            schedule.ended(outcome, poll, now, runtime::id::random());
            schedule.note_renewals(device.state(), now);
            occasion = Occasion::Poll;
            drop(lock);
        }
        tokio::select! {
            () = drain.started() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    platform::notify_stopping();
    line!(info, CcmExec, "service stopped");
    Ok(())
}

/// Waits until no other process works with the state; `None` when the service is to end.
async fn wait_for_turn(folder: &StateFolder, drain: &Drain) -> Result<Option<StateLock>, StateError> {
    loop {
        match folder.try_lock() {
            Err(StateError::Busy(_)) => {}
            other => return other.map(Some),
        }
        tokio::select! {
            () = drain.started() => return Ok(None),
            () = tokio::time::sleep(BUSY_PAUSE) => {}
        }
    }
}

/// What is known of the site's locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locations {
    /// The site is to be asked: a fresh look was made since it last named them.
    Wanted,
    /// It named them.
    Known,
}

/// What outlives one cycle.
struct Cycles {
    intervals: Intervals,
    set_log_level: Option<Box<dyn Fn(LogLevel) + Send + Sync>>,
    /// The level that was set last.
    log_level: Option<LogLevel>,
    heartbeat_sent: bool,
    locations: Locations,
    /// The site does not know the device's key any more. Inside, where no token is needed, the
    /// device makes itself known again; its key and thereby its id stay the same.
    register_again: bool,
    /// Whether the first look at the methods was made.
    started: bool,
}

impl Cycles {
    async fn run(&mut self, device: &mut Device, occasion: Occasion) -> Outcome {
        match self.steps(device, occasion).await {
            Ok(()) => {
                line!(debug, CcmExec, "cycle done");
                Outcome::Done
            }
            Err(error) => {
                let told = error.told();
                line!(
                    warn,
                    CcmExec,
                    error = %runtime::telemetry::Chain(&error),
                    hresult = told.map(|told| told.hresult().to_string()),
                    reason = told.and_then(RequestError::reason).map(|reason| reason.to_string()),
                    request_id = told.and_then(RequestError::request_id).map(|id| id.to_string()),
                    "cycle not finished"
                );
                let Some(told) = told else { return Outcome::Refused };
                device.note_failure(&error, told);
                self.register_again =
                    told.reason().is_some_and(|reason| reason.row().action == Action::Register);
                match told.call() {
                    Some(call) if told.is_transient() => Outcome::Transient(call.setback()),
                    _ => Outcome::Refused,
                }
            }
        }
    }

    /// Everything that is due, in the order in which one thing needs the other.
    async fn steps(&mut self, device: &mut Device, occasion: Occasion) -> Result<(), PolicyError> {
        let request = PolicyError::Request;
        let before = place(device);
        self.apply_log_level(device);
        device.look_around(occasion).await.map_err(request)?;
        let trigger = match occasion {
            _ if !self.started => Trigger::ServiceStart,
            Occasion::NetworkChange => Trigger::NetworkChange,
            _ if place(device) != before => Trigger::NetworkChange,
            _ => Trigger::RegistrationRefresh,
        };
        if occasion != Occasion::Poll {
            self.locations = Locations::Wanted;
        }
        let method = device.method();
        let inside = place(device) == Some(Locality::Intranet);
        let registration = match device.state().registration {
            Some(_) if !(self.register_again && inside) => {
                refresh(device, trigger).await;
                device.registered().map_err(request)?
            }
            _ => device.register_as(trigger).await.map_err(request)?,
        };
        self.register_again = false;
        self.started = true;
        if !confirm(device, registration).await.map_err(request)? {
            return Ok(());
        }
        let policy = device.policy().await?;
        if policy.settings_changed {
            self.apply_log_level(device);
            refresh(device, Trigger::Policy).await;
        }
        if device.state().policy.settings.user_policy {
            let accounts = device.state().credentials.accounts.iter();
            let users: Vec<_> = accounts.map(|account| account.sid.clone()).collect();
            for sid in users {
                // Kept with its reason for `status`; one user's trouble is no other's and not the device's.
                let _ = device.user_policy(&sid).await;
            }
        }
        if self.locations == Locations::Wanted {
            device.learn_gateways().await.map_err(request)?;
            device.learn_inside().await.map_err(request)?;
            self.locations = Locations::Known;
        }
        // A request may have found the inside gone since the cycle began.
        let news = place(device) != before || device.method() != method;
        let interval = self.intervals.heartbeat.unwrap_or_else(|| device.state().policy.settings.heartbeat());
        if heartbeat_is_due(device.state(), self.heartbeat_sent, news, interval, device.now()) {
            device.heartbeat().await.map_err(request)?;
            self.heartbeat_sent = true;
        }
        if device.state().contact.failure.is_some() {
            device.clear_failure().map_err(PolicyError::State)?;
        }
        Ok(())
    }

    /// Logs as much as the client settings say.
    fn apply_log_level(&mut self, device: &Device) {
        let level = device.state().policy.settings.log_level;
        if let (Some(set), Some(level)) = (&self.set_log_level, level)
            && self.log_level != Some(level)
        {
            set(level);
            self.log_level = Some(level);
            line!(info, CcmExec, level = level.name(), "log level as the client settings say");
        }
    }
}

/// Confirms the registration where that is due: while the device waits for approval, to renew its
/// self-prove token, and to hear whether the gateway is still forbidden to a device that is outside.
/// `false`: the device may do no more for now.
async fn confirm(device: &mut Device, registration: Registration) -> Result<bool, RequestError> {
    let waits = !registration.approval.is_approved() || registration.confirmed.is_none();
    let asks = device.may_only_ask_for_permission();
    let self_prove = device.state().self_prove.as_ref();
    if !waits && !asks && !confirmation_is_due(self_prove, device.now()) {
        return Ok(true);
    }
    let counts = self_prove.is_some_and(|token| token.judge(device.now()) != Freshness::Expired);
    match device.confirm().await {
        Ok(confirmed) if !confirmed.approval.is_approved() => {
            line!(info, CcmExec, "the device waits for approval");
            Ok(false)
        }
        Ok(_) if device.may_only_ask_for_permission() => {
            line!(
                info,
                LocationServices,
                "the site forbids this device the gateway; asking again at the next policy poll"
            );
            Ok(false)
        }
        Ok(_) => Ok(true),
        // The token of now still counts, and a lost answer to its renewal costs nothing.
        Err(error) if !waits && !asks && counts => {
            line!(warn, ClientIDManagerStartup, error = %runtime::telemetry::Chain(&error), "the self-prove token was not renewed; the present one still counts");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Where the device is, as last decided.
fn place(device: &Device) -> Option<Locality> {
    device.state().whereabouts.as_ref().map(|known| known.locality)
}

/// Looks at the methods anew. A better method is no reason to stop working by the one that works.
async fn refresh(device: &mut Device, trigger: Trigger) {
    if let Err(error) = device.refresh(trigger).await {
        line!(warn, CcmExec, error = %runtime::telemetry::Chain(&error), "the methods could not be looked at anew");
    }
}

#[cfg(test)]
mod roaming_tests;
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::DeviceOptions;
    use crate::identity::KeyMaterial;
    use crate::state::{Setup, State, Store as _};
    use crate::testing::{FakeSite, PolicyFixture, pin_of};
    use proto::message::MessageEndpoint;
    use proto::time::Timestamp;
    use runtime::Clock;

    const NOW: i64 = 1_790_000_000_000_000;
    /// Fails a test that waits in vain.
    const LIMIT: Duration = Duration::from_secs(30);

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    #[tokio::test]
    async fn the_service_registers_gets_policy_reports_polls_again_and_ends_when_asked() {
        let clock = Clock::manual(NOW);
        let site = FakeSite::start(&clock);
        site.site().policies = vec![PolicyFixture::settings("1.00", "")];
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(&parent.path().join("state")).unwrap();
        let setup = Setup {
            inside: vec![site.inside()],
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
        let drain = Drain::new();
        let service = tokio::spawn(run(
            device,
            folder.clone(),
            Intervals::default(),
            drain.clone(),
            Surroundings::default(),
        ));

        until("a heartbeat", || site.site().reports.len() == 1).await;
        until("its state on the disk", || folder.load().unwrap().contact.heartbeat.is_some()).await;
        // The next poll counts from the end of the cycle: the clock must not move before it.
        let cycle_ended = || folder.try_lock().is_ok();
        until("the end of the cycle", cycle_ended).await;
        let asked = |site: &FakeSite| {
            let seen = site.take_seen();
            seen.iter().filter(|seen| seen.endpoint == Some(MessageEndpoint::PolicyManager)).count()
        };
        assert_eq!(asked(&site), 1);
        // The settings say thirty minutes.
        clock.advance(Duration::from_mins(40));
        let mut polls = 0;
        until("another poll", || {
            polls += asked(&site);
            polls == 1
        })
        .await;
        until("the end of the second cycle", cycle_ended).await;
        assert_eq!(site.site().reports.len(), 1, "a heartbeat is due in a week");

        // New settings are reported at once.
        site.site().policies = vec![PolicyFixture::settings("2.00", "")];
        site.site().serial = 2;
        clock.advance(Duration::from_mins(40));
        until("a heartbeat with the new version", || site.site().reports.len() == 2).await;
        drain.begin(LIMIT);
        tokio::time::timeout(LIMIT, service).await.expect("it ends").unwrap().unwrap();
        assert!(folder.try_lock().is_ok(), "and leaves the folder to others");
    }
}
