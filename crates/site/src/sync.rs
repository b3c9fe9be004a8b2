//! Runs of the discoveries: full ones and deltas, what they bring, when the next is due.
//!
//! Each source keeps its own rows: a tenant by object id, a directory by SID. A hybrid user is two
//! rows with one SID; nothing is merged on writing, so no source can overwrite the other's.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use proto::id::{Guid, IdError};
use proto::limits::NAME_CHARS;
use proto::time::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use crate::db::user::SyncRow;
use crate::db::{self, DbError, Tx};
use crate::discovery::Sources;
use crate::{Site, limits};

/// Time between two delta runs, and until a failed run is tried again.
const DELTA_EVERY: Duration = Duration::from_mins(5);

/// Time between two full runs: it finds what no delta named.
const FULL_EVERY: Duration = Duration::from_hours(24);

/// Longest pause that a source may ask for.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);

/// A run that has not ended by then was lost with its process.
const LONGEST_RUN: Duration = Duration::from_hours(6);

/// Longest distinguished name and delta link taken, in characters.
const LONG_TEXT: usize = 4096;
/// Longest address of the next delta, in bytes: those of users and devices together.
const LONG_LINK: usize = 64 * 1024;

/// Where users and computers are discovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncSource {
    /// A tenant, by its id.
    Tenant(Guid),
    /// An on-premises directory, by its record's id.
    Directory(Guid),
}

impl fmt::Display for SyncSource {
    /// As in the database: `tenant:` or `directory:` and the id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => write!(f, "tenant:{id}"),
            Self::Directory(id) => write!(f, "directory:{id}"),
        }
    }
}

impl FromStr for SyncSource {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once(':') {
            Some(("directory", id)) => id.parse().map(Self::Directory),
            Some((_, id)) => id.parse().map(Self::Tenant),
            None => text.parse().map(Self::Tenant),
        }
    }
}

/// One run of a discovery. A newer run of the same source makes it void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncId {
    pub(crate) source: SyncSource,
    pub(crate) run: i64,
}

/// How a run ended well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncEnd {
    /// Whether everything was listed: what was not found is gone. A delta run names what is gone.
    pub full: bool,
    /// Where the next delta begins, as the source said.
    pub delta_link: Option<String>,
}

/// How the discovery of a source stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SyncState {
    /// Since when a run is under way.
    pub running_since: Option<Timestamp>,
    /// When a full run ended well last.
    pub full_at: Option<Timestamp>,
    /// When a delta run ended well last.
    pub delta_at: Option<Timestamp>,
    /// When a run failed last, if none ended well since.
    pub failed_at: Option<Timestamp>,
    /// What it met: "consent missing: Directory.Read.All …".
    pub problem: Option<String>,
    /// When the next run is due.
    pub next_due_at: Option<Timestamp>,
    /// Users that it knows.
    pub users: u64,
    /// Computers that it knows.
    pub devices: u64,
}

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueSync {
    /// Of which source.
    pub source: SyncSource,
    /// Whether everything is to be listed.
    pub full: bool,
}

/// A user as a source found it. Text is bounded and stripped of control characters on taking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundUser {
    /// Object id; needed from a tenant.
    pub object_id: Option<Guid>,
    /// On-premises SID; needed from a directory.
    pub sid: Option<String>,
    /// `user@domain`.
    pub principal_name: String,
    /// Name for people.
    pub display_name: String,
    /// Mail address.
    pub mail: String,
    /// `sAMAccountName`, without the domain.
    pub account: String,
    /// The domain.
    pub domain: String,
    /// Distinguished name in the directory.
    pub distinguished_name: String,
    /// A delta says that it is gone.
    pub removed: bool,
}

/// A computer as a source found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundDevice {
    /// Its id in a tenant; needed from there.
    pub device_id: Option<Guid>,
    /// Its on-premises SID.
    pub sid: Option<String>,
    /// Its name.
    pub name: String,
    /// Its distinguished name; needed from a directory.
    pub distinguished_name: String,
    /// A delta says that it is gone.
    pub removed: bool,
}

/// A run of a discovery cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No such source, or not any more.
    #[error("there is no such source of users")]
    Unknown,
    /// A newer run of the same source has begun.
    #[error("a newer run of this discovery has begun")]
    Superseded,
    /// A full run that found nobody takes nobody away.
    #[error("the source named no user at all, so the known ones stay")]
    Empty,
    /// The database failed.
    #[error("discovered users not written")]
    Database(#[from] DbError),
}

impl Site {
    /// Begins a run.
    pub async fn begin_sync(&self, source: SyncSource) -> Result<SyncId, SyncError> {
        let now = self.now();
        self.db()
            .write(move |tx| {
                if !exists(tx, source)? {
                    return Err(SyncError::Unknown);
                }
                let mut row = db::user::find_sync(tx, source)?.unwrap_or_else(|| fresh_row(source));
                row.run += 1;
                row.state.running_since = Some(now);
                db::user::put_sync(tx, &row)?;
                Ok(SyncId { source, run: row.run })
            })
            .await
    }

    /// Takes users that the run found, 1,000 in a transaction.
    pub async fn put_users(&self, sync: SyncId, users: Vec<FoundUser>) -> Result<(), SyncError> {
        let now = self.now();
        for chunk in users.chunks(limits::FOUND_AT_ONCE) {
            let chunk: Vec<_> = chunk.iter().map(clean_user).collect();
            let write = self.db().write(move |tx| {
                current_run(tx, sync)?;
                for user in &chunk {
                    // A row without its key could be compared with nothing.
                    let Some(key) = user_key(sync.source, user) else { continue };
                    if user.removed {
                        db::user::vanish_user(tx, sync.source, &key, now)?;
                    } else {
                        db::user::put_user(tx, sync.source, sync.run, &key, user, now)?;
                    }
                }
                Ok::<_, SyncError>(())
            });
            write.await?;
        }
        Ok(())
    }

    /// Takes computers that the run found, 1,000 in a transaction.
    pub async fn put_devices(&self, sync: SyncId, devices: Vec<FoundDevice>) -> Result<(), SyncError> {
        let now = self.now();
        for chunk in devices.chunks(limits::FOUND_AT_ONCE) {
            let chunk: Vec<_> = chunk.iter().map(clean_device).collect();
            let write = self.db().write(move |tx| {
                current_run(tx, sync)?;
                for device in &chunk {
                    let Some(key) = device_key(sync.source, device) else { continue };
                    if device.removed {
                        db::user::vanish_device(tx, sync.source, &key, now)?;
                    } else {
                        let unit = unit_of(&device.distinguished_name);
                        db::user::put_device(tx, sync.source, sync.run, &key, unit, device, now)?;
                    }
                }
                Ok::<_, SyncError>(())
            });
            write.await?;
        }
        Ok(())
    }

    /// Ends a run. After a full one, users and computers that it did not find count as gone; one
    /// that found no user at all where some were known is taken for a failure.
    pub async fn finish_sync(&self, sync: SyncId, end: SyncEnd) -> Result<SyncState, SyncError> {
        let now = self.now();
        let link = end.delta_link.filter(|link| link.len() <= LONG_LINK);
        let finished = self.db().write(move |tx| {
            let mut row = current_run(tx, sync)?;
            row.state.running_since = None;
            let (found, _) = db::user::count_found(tx, sync.source, sync.run)?;
            let (known, _) = db::user::count_found(tx, sync.source, 0)?;
            if end.full && found == 0 && known > 0 {
                row.state.failed_at = Some(now);
                row.state.problem = Some(SyncError::Empty.to_string());
                row.state.next_due_at = Some(now.plus(DELTA_EVERY));
                db::user::put_sync(tx, &row)?;
                return Ok(None);
            }
            if end.full {
                db::user::vanish_older(tx, sync.source, sync.run, now)?;
                row.state.full_at = Some(now);
                row.full_wanted = false;
            } else {
                row.state.delta_at = Some(now);
            }
            row.delta_link.clone_from(&link);
            // Without a link only a full run can be next.
            (row.state.users, row.state.devices) = db::user::count_found(tx, sync.source, 0)?;
            row.state.failed_at = None;
            row.state.problem = None;
            row.state.next_due_at = Some(next_due(&row.state, now));
            db::user::put_sync(tx, &row)?;
            Ok::<_, SyncError>(Some(row.state))
        });
        finished.await?.ok_or(SyncError::Empty)
    }

    /// Ends a run that failed. What is known stays; the next run is due when the source said (six
    /// hours at most), or in five minutes.
    pub async fn fail_sync(
        &self,
        sync: SyncId,
        text: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), SyncError> {
        let now = self.now();
        let problem = line(text, limits::PROBLEM_CHARS);
        let pause = retry_after.unwrap_or(DELTA_EVERY).min(LONGEST_PAUSE);
        self.db()
            .write(move |tx| {
                let mut row = current_run(tx, sync)?;
                row.state.running_since = None;
                row.state.failed_at = Some(now);
                row.state.problem = Some(problem.clone());
                row.state.next_due_at = Some(now.plus(pause));
                Ok(db::user::put_sync(tx, &row)?)
            })
            .await
    }

    /// Where the next delta of a source begins; `None`: only a full run can be next.
    pub async fn delta_link(&self, source: SyncSource) -> Result<Option<String>, DbError> {
        let row = self.db().read(move |tx| db::user::find_sync(tx, source)).await?;
        Ok(row.filter(|row| !row.full_wanted).and_then(|row| row.delta_link))
    }

    /// Runs that are due now: of enabled tenants with discovery, and of every directory.
    pub async fn list_due_syncs(&self) -> Result<Vec<DueSync>, DbError> {
        let now = self.now();
        let sources = self.db().read(Sources::read).await?;
        let wanted = sources
            .tenants
            .iter()
            .filter(|row| row.enabled && row.discovery)
            .map(|row| SyncSource::Tenant(row.tenant))
            .chain(sources.directories.iter().map(|directory| SyncSource::Directory(directory.id)));
        let rows: HashMap<_, _> = sources.syncs.iter().map(|row| (row.source, row)).collect();
        Ok(wanted.filter_map(|source| due(source, rows.get(&source).copied(), now)).collect())
    }

    /// An operator wants a run now.
    pub async fn want_sync(&self, source: SyncSource, full: bool) -> Result<(), SyncError> {
        let now = self.now();
        self.db()
            .write(move |tx| {
                if !exists(tx, source)? {
                    return Err(SyncError::Unknown);
                }
                let mut row = db::user::find_sync(tx, source)?.unwrap_or_else(|| fresh_row(source));
                row.full_wanted |= full;
                row.state.next_due_at = Some(now);
                Ok(db::user::put_sync(tx, &row)?)
            })
            .await?;
        self.wanted_syncs().notify_one();
        Ok(())
    }

    /// Wakes the fetcher when a run is wanted; then it asks [`Site::list_due_syncs`].
    pub fn wanted_syncs(&self) -> &Notify {
        &self.inner.wanted_syncs
    }
}

/// When a source is due after a run that ended well at `now`.
fn next_due(state: &SyncState, now: Timestamp) -> Timestamp {
    let full = state.full_at.map_or(now, |at| at.plus(FULL_EVERY));
    full.min(now.plus(DELTA_EVERY)).max(now)
}

/// Whether a source is due, and for what. A run that never ended counts as lost after six hours.
fn due(source: SyncSource, row: Option<&SyncRow>, now: Timestamp) -> Option<DueSync> {
    let Some(row) = row else { return Some(DueSync { source, full: true }) };
    let running = row.state.running_since.is_some_and(|since| now.since(since) < LONGEST_RUN);
    let is_due = row.state.next_due_at.is_none_or(|at| at <= now);
    let old = row.state.full_at.is_none_or(|at| now.since(at) >= FULL_EVERY);
    let full = row.full_wanted || old || row.delta_link.is_none();
    (is_due && !running).then_some(DueSync { source, full })
}

/// The row of a run that is still the newest of its source.
fn current_run(tx: &mut dyn Tx, sync: SyncId) -> Result<SyncRow, SyncError> {
    let row = db::user::find_sync(tx, sync.source)?.ok_or(SyncError::Unknown)?;
    let under_way = row.run == sync.run && row.state.running_since.is_some();
    if under_way { Ok(row) } else { Err(SyncError::Superseded) }
}

/// Whether the source is still configured.
fn exists(tx: &mut dyn Tx, source: SyncSource) -> Result<bool, DbError> {
    match source {
        SyncSource::Tenant(id) => Ok(db::tenant::find(tx, id)?.is_some()),
        SyncSource::Directory(id) => Ok(db::directory::find_secret(tx, id)?.is_some()),
    }
}

fn fresh_row(source: SyncSource) -> SyncRow {
    SyncRow { source, run: 0, state: SyncState::default(), full_wanted: false, delta_link: None }
}

fn clean_user(user: &FoundUser) -> FoundUser {
    FoundUser {
        sid: user.sid.as_deref().and_then(normal_sid),
        principal_name: line(&user.principal_name, NAME_CHARS),
        display_name: line(&user.display_name, NAME_CHARS),
        mail: line(&user.mail, NAME_CHARS),
        account: line(&user.account, NAME_CHARS),
        domain: line(&user.domain, NAME_CHARS),
        distinguished_name: line(&user.distinguished_name, LONG_TEXT),
        object_id: user.object_id,
        removed: user.removed,
    }
}

fn clean_device(device: &FoundDevice) -> FoundDevice {
    FoundDevice {
        sid: device.sid.as_deref().and_then(normal_sid),
        name: line(&device.name, NAME_CHARS),
        distinguished_name: line(&device.distinguished_name, LONG_TEXT),
        device_id: device.device_id,
        removed: device.removed,
    }
}

/// What a source knows a user by; `None`: it names none, so nothing could be compared with it.
fn user_key(source: SyncSource, user: &FoundUser) -> Option<String> {
    match source {
        SyncSource::Tenant(_) => user.object_id.map(|id| id.to_string()),
        SyncSource::Directory(_) => user.sid.clone(),
    }
}

/// What a source knows a computer by.
fn device_key(source: SyncSource, device: &FoundDevice) -> Option<String> {
    match source {
        SyncSource::Tenant(_) => device.device_id.map(|id| id.to_string()),
        SyncSource::Directory(_) => device
            .sid
            .clone()
            .or_else(|| Some(device.distinguished_name.to_lowercase()).filter(|name| !name.is_empty())),
    }
}

/// The organisational unit of a distinguished name: all but its first part. A comma in a name is
/// escaped by a backslash (RFC 4514).
fn unit_of(distinguished_name: &str) -> &str {
    let mut escaped = false;
    for (place, c) in distinguished_name.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => return distinguished_name.get(place + 1..).unwrap_or_default().trim_start(),
            _ => {}
        }
    }
    ""
}

/// A line of bounded length without control characters: directories hold what people typed (R28).
pub(crate) fn line(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

/// A SID in the one spelling by which two sources are compared.
pub(crate) fn normal_sid(sid: &str) -> Option<String> {
    let sid = line(sid.trim(), NAME_CHARS).to_uppercase();
    (!sid.is_empty()).then_some(sid)
}
