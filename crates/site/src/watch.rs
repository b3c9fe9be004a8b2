//! What a site tells whoever watches it: whether it can work, and what it counts.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proto::reason::Reason;
use proto::token::TokenClass;
use runtime::metrics::Counter;
use tokio::time::timeout;

use crate::db::{self, DbError, DeviceCount, Queued, WriterCounts};
use crate::registration::{Registration, RegistrationError};
use crate::site::{Site, lock};

/// How long an answer about devices or the disk is good for: monitors ask often, and many at once.
const FRESH: Duration = Duration::from_secs(15);
/// What is written beside the database to see whether the disk takes it.
const PROBE_BYTES: usize = 1024 * 1024;
/// Ending of the file for that.
const PROBE: &str = "probe";

/// Counters of a site since its start.
#[derive(Debug)]
pub struct SiteCounts {
    tokens: Box<[Counter]>,
    registrations: Counter,
    registration_refusals: Box<[Counter]>,
    devices: Mutex<Option<(Instant, Vec<DeviceCount>)>>,
    disk: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Default for SiteCounts {
    fn default() -> Self {
        Self {
            tokens: CLASSES.iter().map(|_| Counter::default()).collect(),
            registrations: Counter::default(),
            registration_refusals: Reason::ALL.iter().map(|_| Counter::default()).collect(),
            devices: Mutex::default(),
            disk: Mutex::default(),
        }
    }
}

/// Classes of tokens that a site mints, with their names on pages.
const CLASSES: [(TokenClass, &str); 5] = [
    (TokenClass::Bulk, "bulk"),
    (TokenClass::SelfProve, "self_prove"),
    (TokenClass::PreAuth, "pre_auth"),
    (TokenClass::Device, "device"),
    (TokenClass::User, "user"),
];

impl SiteCounts {
    /// A token was minted.
    pub(crate) fn minted(&self, class: TokenClass) {
        let place = CLASSES.iter().position(|(known, _)| *known == class);
        if let Some(counter) = place.and_then(|place| self.tokens.get(place)) {
            counter.count();
        }
    }

    /// A registration was decided: taken, or refused for this reason.
    pub(crate) fn registered(&self, outcome: Result<(), Reason>) {
        match outcome {
            Ok(()) => self.registrations.count(),
            Err(reason) => {
                if let Some(counter) = self.registration_refusals.get(reason as usize) {
                    counter.count();
                }
            }
        }
    }

    /// Tokens minted, by class.
    pub fn tokens(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.iter().zip(self.tokens.iter()).map(|((_, name), counter)| (*name, counter.get()))
    }

    /// Registrations that were taken, first ones and renewed.
    pub fn registrations(&self) -> u64 {
        self.registrations.get()
    }

    /// Registrations that were refused, by reason; reasons that occurred.
    pub fn registration_refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.registration_refusals.iter().map(Counter::get);
        Reason::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Why a site cannot write.
#[derive(Debug, thiserror::Error)]
pub enum NotWritable {
    /// The database did not take a transaction.
    #[error("the database takes no transaction")]
    Database(#[source] DbError),
    /// It did not answer in time.
    #[error("the database did not answer within {} seconds", db::PATIENCE.as_secs())]
    Stuck,
}

impl Site {
    /// What it counts.
    pub fn counts(&self) -> &SiteCounts {
        &self.inner.counts
    }

    /// What its database's writer counts.
    pub fn writer_counts(&self) -> &WriterCounts {
        self.db().writer_counts()
    }

    /// Jobs that wait for its database.
    pub fn db_queued(&self) -> Queued {
        self.db().queued()
    }

    /// Counts how a registration ended, and passes it on.
    pub(crate) fn noted(
        &self,
        outcome: Result<Registration, RegistrationError>,
    ) -> Result<Registration, RegistrationError> {
        self.counts().registered(outcome.as_ref().map(drop).map_err(RegistrationError::reason));
        outcome
    }

    /// Whether the database takes a transaction now, and how long that took.
    pub async fn check_writable(&self) -> Result<Duration, NotWritable> {
        let began = Instant::now();
        match timeout(db::PATIENCE, self.db().write(|_| Ok::<_, DbError>(()))).await {
            Ok(outcome) => outcome.map(|()| began.elapsed()).map_err(NotWritable::Database),
            Err(_) => Err(NotWritable::Stuck),
        }
    }

    /// Whether the disk of the database takes another MiB; the answer is up to 15 seconds old. Where it does not: what
    /// the system said.
    pub async fn check_disk(&self) -> Result<(), String> {
        let counts = &self.inner.counts;
        if let Some((_, known)) = lock(&counts.disk).as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return known.clone();
        }
        let probe = probe_path(&self.inner.database);
        let outcome = tokio::task::spawn_blocking(move || probe_disk(&probe)).await;
        let outcome = outcome.map_err(|error| error.to_string()).flatten();
        *lock(&counts.disk) = Some((Instant::now(), outcome.clone()));
        outcome
    }

    /// Whether the site's keys verify anything: some token key is in force.
    pub fn has_token_keys(&self) -> bool {
        !self.current_snapshot().token_certificates.is_empty()
    }

    /// Devices by approval, method and block; the answer is up to 15 seconds old.
    pub async fn count_devices(&self) -> Result<Vec<DeviceCount>, DbError> {
        let counts = &self.inner.counts;
        if let Some((_, known)) = lock(&counts.devices).as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(known.clone());
        }
        let devices = self.db().read(db::census::count).await?;
        *lock(&counts.devices) = Some((Instant::now(), devices.clone()));
        Ok(devices)
    }
}

fn probe_path(database: &std::path::Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(PROBE);
    name.into()
}

fn probe_disk(path: &std::path::Path) -> Result<(), String> {
    use std::io::Write as _;
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_data()
    };
    let written: std::io::Result<()> = write();
    // Left over, it would be overwritten next time.
    let _ = std::fs::remove_file(path);
    written.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_token_is_counted_under_its_own_name() {
        let counts = SiteCounts::default();
        for (class, _) in CLASSES {
            counts.minted(class);
        }
        counts.minted(TokenClass::Device);
        let expected = [("bulk", 1), ("self_prove", 1), ("pre_auth", 1), ("device", 2), ("user", 1)];
        assert_eq!(counts.tokens().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn registrations_are_counted_by_how_they_ended() {
        let counts = SiteCounts::default();
        counts.registered(Ok(()));
        counts.registered(Err(Reason::Blocked));
        assert_eq!(counts.registrations(), 1);
        assert_eq!(counts.registration_refusals().collect::<Vec<_>>(), [(Reason::Blocked, 1)]);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_with_what_the_system_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = probe_path(&folder.path().join("site.db"));
        assert_eq!(probe_disk(&path), Ok(()));
        assert!(!path.exists(), "nothing is left");
        let nowhere = probe_path(&folder.path().join("missing/site.db"));
        assert!(probe_disk(&nowhere).unwrap_err().contains("No such file"));
    }
}
