//! The service: keeps a device registered, its tokens fresh, its policy current.

use std::time::Duration;

use proto::reason::Action;
use proto::time::Timestamp;
use runtime::Drain;

use crate::credential::preference::Trigger;
use crate::device::{Device, RequestError};
use crate::failure::CallError;
use crate::location::Locality;
use crate::log::line;
use crate::platform;
use crate::policy::PolicyError;
use crate::retry::Told;
use crate::schedule::{Intervals, LOCATIONS, Outcome, Schedule, heartbeat_is_due};
use crate::state::{StateError, StateFolder, StateLock};
use crate::token::confirmation_is_due;

/// Time between two looks at the clock. Bounds how late the service notices that time jumped
/// (sleep of the machine, the lab's clock).
const TICK: Duration = Duration::from_secs(1);
/// How long the service lets another process work with the state before it looks again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Runs until the drain begins. Each cycle reads the state anew, so that what `sync` or `register`
/// did meanwhile counts.
pub async fn run(
    mut device: Device,
    folder: StateFolder,
    intervals: Intervals,
    drain: Drain,
) -> Result<(), StateError> {
    let mut schedule = Schedule::default();
    let mut cycles = Cycles {
        intervals,
        heartbeat_sent: false,
        locations_asked: None,
        register_again: false,
        started: false,
    };
    line!(info, CcmExec, state = %folder.path().display(), "service started");
    platform::notify_ready();
    while !drain.has_started() {
        // By the corrected clock, as everything that a cycle notes.
        let now = device.now();
        if schedule.is_due(device.state(), now) {
            let Some(lock) = wait_for_turn(&folder, &drain).await? else { break };
            device.reload(folder.load()?);
            // A request under way is finished: it may have changed something at the site.
            let outcome = cycles.run(&mut device).await;
            let poll = intervals.poll.unwrap_or_else(|| device.state().policy.settings.polling());
            schedule.ended(outcome, poll, device.now(), runtime::id::random());
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

/// What outlives one cycle.
struct Cycles {
    intervals: Intervals,
    heartbeat_sent: bool,
    locations_asked: Option<Timestamp>,
    /// The site does not know the device's key any more. Inside, where no token is needed, the
    /// device makes itself known again; its key and thereby its id stay the same.
    register_again: bool,
    /// Whether the first look at the methods was made.
    started: bool,
}

impl Cycles {
    async fn run(&mut self, device: &mut Device) -> Outcome {
        match self.steps(device).await {
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
                if told.is_transient() {
                    Outcome::Transient(told.call().and_then(CallError::retry_after))
                } else {
                    Outcome::Refused
                }
            }
        }
    }

    /// Everything that is due, in the order in which one thing needs the other.
    async fn steps(&mut self, device: &mut Device) -> Result<(), PolicyError> {
        let before = device.state().whereabouts.as_ref().map(|known| known.locality);
        let request = PolicyError::Request;
        device.locate().await.map_err(request)?;
        let place = device.state().whereabouts.as_ref().map(|known| known.locality);
        let trigger = match (self.started, place == before) {
            (false, _) => Trigger::ServiceStart,
            (true, false) => Trigger::NetworkChange,
            (true, true) => Trigger::RegistrationRefresh,
        };
        let method = device.method();
        let inside = device.state().whereabouts.as_ref().is_some_and(|w| w.locality == Locality::Intranet);
        let registration = match device.state().registration {
            Some(_) if !(self.register_again && inside) => {
                // A better method is no reason to stop working by the one that works.
                if let Err(error) = device.refresh(trigger).await {
                    line!(warn, CcmExec, error = %runtime::telemetry::Chain(&error), "the methods could not be looked at anew");
                }
                device.registered().map_err(request)?
            }
            _ => device.register_as(trigger).await.map_err(request)?,
        };
        self.register_again = false;
        self.started = true;
        let now = device.now();
        let waits = !registration.approval.is_approved() || registration.confirmed.is_none();
        if waits || confirmation_is_due(device.state().self_prove.as_ref(), now) {
            let confirmed = device.confirm().await.map_err(request)?;
            if !confirmed.approval.is_approved() {
                line!(info, CcmExec, "the device waits for approval");
                return Ok(());
            }
        }
        device.policy().await?;
        let users: Vec<_> =
            device.state().credentials.accounts.iter().map(|account| account.sid.clone()).collect();
        for sid in users {
            // Kept with its reason for `status`; one user's trouble is no other's and not the device's.
            let _ = device.user_policy(&sid).await;
        }
        let due = self.locations_asked.is_none_or(|asked| now < asked || now.since(asked) >= LOCATIONS);
        if due {
            device.learn_gateways().await.map_err(request)?;
            self.locations_asked = Some(now);
        }
        // A request may have found the inside gone since the cycle began.
        let moved = device.state().whereabouts.as_ref().map(|known| known.locality) != before;
        let moved = moved || device.method() != method;
        if heartbeat_is_due(device.state(), self.heartbeat_sent, moved, self.intervals.heartbeat, now) {
            device.heartbeat().await.map_err(request)?;
            self.heartbeat_sent = true;
        }
        if device.state().contact.failure.is_some() {
            device.clear_failure().map_err(PolicyError::State)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::DeviceOptions;
    use crate::identity::KeyMaterial;
    use crate::state::{Setup, State, Store as _};
    use crate::testing::{FakeSite, PolicyFixture, pin_of};
    use proto::message::MessageEndpoint;
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
        let service = tokio::spawn(run(device, folder.clone(), Intervals::default(), drain.clone()));

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
