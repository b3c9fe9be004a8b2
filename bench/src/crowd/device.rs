//! Devices as the real client's library plays them, by the thousand in one process: each with a key, a
//! connection and a memory of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::device::{DeviceError, RequestError};
use client::failure::CallError;
use client::identity::KeyMaterial;
use client::state::{MemoryStore, Setup, State};
use client::token::TokenText;
use client::{Device, DeviceOptions};
use runtime::Clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::figures::{Histogram, Reasons, Seconds};
use super::pause::{Pause, blank_state};
use super::site::Site;

/// How often a device that is not let in tries again at the latest, as one that polls every minute.
const POLL: Duration = Duration::from_mins(1);

/// A device and its name.
pub(crate) struct Played {
    /// The name under which it registers.
    pub(crate) name: String,
    /// It.
    pub(crate) device: Device,
    /// Its key, for connections that are made without the client.
    pub(crate) key: KeyMaterial,
}

/// Makes devices of keys, on all cores. Sends nothing.
pub(crate) fn make(site: &Site, keys: Vec<KeyMaterial>) -> Result<Vec<Played>, DeviceError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let numbered: Vec<_> = keys.into_iter().enumerate().collect();
    let share = numbered.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = numbered
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || {
                    chunk.iter().map(|(number, key)| one(site, *number, key)).collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let mut devices = Vec::new();
        for worker in workers {
            let made = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            devices.extend(made?);
        }
        Ok(devices)
    })
}

fn one(site: &Site, number: usize, key: &KeyMaterial) -> Result<Played, DeviceError> {
    let name = format!("crowd-{number:05}");
    let setup = Setup {
        name: name.clone(),
        hardware_id: format!("2:{number:040X}"),
        site_code: None,
        inside: Vec::new(),
        gateways: vec![site.gateway.clone()],
        always_internet: true,
        ca: Some(site.gateway_ca.clone()),
        pin: site.pin.clone(),
    };
    let device = Device::new(DeviceOptions {
        state: State::new(setup),
        key: key.clone(),
        store: Arc::new(MemoryStore::default()),
        clock: Clock::system(),
        system_roots: false,
    })?;
    Ok(Played { name, device, key: key.clone() })
}

/// How a crowd came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Devices that were acknowledged: name and the id that they were told.
    pub(crate) acknowledged: BTreeMap<String, String>,
    /// From the common start until a device was acknowledged.
    pub(crate) times: Histogram,
    /// Acknowledged in each second.
    pub(crate) seconds: Seconds,
    /// Attempts that failed and were made again.
    pub(crate) again: Reasons,
    /// Devices that gave up, since no later attempt could help.
    pub(crate) given_up: Reasons,
}

/// What devices do once they are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// Nothing: the acknowledgement counts.
    Nothing,
    /// They confirm and get a CCM token of the class Device.
    Confirm,
}

/// Sends devices in by a bulk token, so many at once, and gives back those that are in. Ends after `bound`
/// whoever is missing.
pub(crate) async fn enter(
    devices: Vec<Played>,
    token: &TokenText,
    at_once: usize,
    afterwards: Afterwards,
    bound: Duration,
) -> (Vec<Played>, Entry) {
    let entry = Arc::new(Mutex::new(Entry::default()));
    let turns = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
    let began = Instant::now();
    let mut all = JoinSet::new();
    for mut played in devices {
        let (entry, turns, token) = (Arc::clone(&entry), Arc::clone(&turns), token.clone());
        all.spawn(async move {
            let _turn = turns.acquire_owned().await;
            played.device.use_bulk_token(token);
            let is_in = come_in(&mut played, afterwards, &entry, began).await;
            is_in.then_some(played)
        });
    }
    let mut inside = Vec::new();
    let everybody = async {
        while let Some(ended) = all.join_next().await {
            inside.extend(ended.ok().flatten());
        }
    };
    // Whoever is missing after this time is missing in the result, too.
    let _ = tokio::time::timeout(bound, everybody).await;
    all.abort_all();
    inside.sort_by(|one, other| one.name.cmp(&other.name));
    let entry = lock(&entry).clone();
    (inside, entry)
}

/// Tries until it is in, or until trying again cannot help.
async fn come_in(played: &mut Played, afterwards: Afterwards, entry: &Mutex<Entry>, began: Instant) -> bool {
    let state = blank_state();
    let mut pause = Pause::new(POLL, Clock::system());
    loop {
        match once(played, afterwards, entry, began).await {
            Ok(()) => return true,
            Err(error) => {
                let setback = error.call().filter(|_| error.is_transient()).map(CallError::setback);
                let Some(setback) = setback else {
                    lock(entry).given_up.add(label(&error));
                    return false;
                };
                lock(entry).again.add(label(&error));
                pause.after_failure(setback, &state).await;
            }
        }
    }
}

async fn once(
    played: &mut Played,
    afterwards: Afterwards,
    entry: &Mutex<Entry>,
    began: Instant,
) -> Result<(), RequestError> {
    if played.device.client_id().is_none() {
        let registration = played.device.register().await?;
        let (after, id) = (began.elapsed(), registration.client_id.to_string());
        let mut entry = lock(entry);
        entry.times.add(after);
        entry.seconds.add(after);
        entry.acknowledged.insert(played.name.clone(), id);
    }
    if afterwards == Afterwards::Confirm {
        played.device.confirm().await?;
        played.device.ccm_token().await?;
    }
    Ok(())
}

fn lock(entry: &Mutex<Entry>) -> std::sync::MutexGuard<'_, Entry> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failure as figures name it: who refused with what, or what the network did.
pub(crate) fn label(error: &RequestError) -> String {
    match error.call() {
        Some(CallError::Refused { refusal, .. }) => match refusal.reason {
            Some(reason) => format!("{} {reason}", refusal.status),
            None => format!("{} {}", refusal.status, refusal.phrase),
        },
        Some(CallError::NameNotResolved { .. }) => "name not resolved".to_owned(),
        Some(CallError::CannotConnect { .. }) => "no connection".to_owned(),
        Some(CallError::TimedOut { .. }) => "no answer in time".to_owned(),
        Some(CallError::Tls { fault, .. }) => format!("TLS: {fault}"),
        Some(CallError::Broken { .. }) => "connection broken".to_owned(),
        Some(CallError::TooLarge { .. }) => "answer too large".to_owned(),
        Some(CallError::NotBelieved { .. }) => "answer not believed".to_owned(),
        None => error.to_string(),
    }
}
