//! Users as all discoveries together know them, and the judgement whether one is completely
//! discovered.

use std::time::Duration;

use proto::id::Guid;
use proto::limits::NAME_CHARS;
use proto::time::Timestamp;
use serde::Serialize;

use crate::db::user::{UserPage, UserRow};
use crate::db::{self, DbError, Tx};
use crate::discovery::Sources;
use crate::site::lock;
use crate::sync::{FoundUser, SyncSource, line, normal_sid};
use crate::{Site, limits};

/// How often it is noted that users of a tenant come.
const NOTE_USERS_EVERY: Duration = Duration::from_hours(1);

/// One source's knowledge of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// The source.
    pub source: SyncSource,
    /// When it said so last.
    pub seen_at: Timestamp,
}

/// A user as all sources together know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Object id in the tenant.
    pub object_id: Option<Guid>,
    /// On-premises SID.
    pub sid: Option<String>,
    /// `user@domain`.
    pub principal_name: String,
    /// Name for people.
    pub display_name: String,
    /// Mail address.
    pub mail: String,
    /// Account name in the domain.
    pub account: String,
    /// The domain.
    pub domain: String,
    /// Distinguished name in the directory.
    pub distinguished_name: String,
    /// What a tenant knows.
    pub entra: Option<Sighting>,
    /// What a directory knows.
    pub directory: Option<Sighting>,
    /// What is missing for this user to be let in; `None`: completely discovered.
    pub gap: Option<UserGap>,
}

/// Which discovery misses a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// That of the tenant.
    Entra,
    /// That of the on-premises directory.
    Directory,
    /// Both.
    Both,
}

/// Why a user is not completely discovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserGap {
    /// Which discovery misses the user.
    pub missing: Missing,
    /// What is missing where, and whether that discovery is off, failed or never ran.
    pub text: String,
}

impl UserGap {
    /// The field's log line for a user who is refused for it [docs].
    pub fn log_line(user: Guid, sid: Option<&str>) -> String {
        format!("AAD user with ID {user} and SID {} is not completely discovered", sid.unwrap_or_default())
    }
}

/// Which users to list. Fields left out do not filter.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// A part of a name, in any case.
    pub text: Option<String>,
    /// Only users that would be refused.
    pub incomplete: bool,
    /// Users to pass over, for the next page.
    pub offset: u32,
    /// At most 1,000; 0 means that many.
    pub limit: u32,
}

/// An organisational unit with computers that the tenants lack: it lies outside the scope of the
/// synchronisation, or the join is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnsyncedUnit {
    /// Its distinguished name.
    pub unit: String,
    /// Computers that no tenant has.
    pub missing: u64,
    /// Computers that a tenant has.
    pub synced: u64,
    /// Names of some of the missing ones, at most five.
    pub examples: Vec<String>,
}

/// A user was not judged, or is not let in.
#[derive(Debug, thiserror::Error)]
pub enum JudgeUserError {
    /// Not completely discovered.
    #[error("{}", .0.text)]
    Gap(UserGap),
    /// The database failed.
    #[error("users not read")]
    Database(#[from] DbError),
}

impl Site {
    /// Users, merged over all sources, in the order of their names.
    pub async fn list_users(&self, filter: UserFilter) -> Result<Vec<User>, DbError> {
        let limit = if filter.limit == 0 { limits::PAGE } else { filter.limit.min(limits::PAGE) };
        let page = UserPage {
            text: filter.text.unwrap_or_default().to_lowercase(),
            incomplete: filter.incomplete,
            offset: filter.offset,
            limit,
        };
        self.db()
            .read(move |tx| {
                let sources = Sources::read(tx)?;
                let rows = db::user::list_users(tx, &page)?;
                rows.into_iter().map(|row| complete(tx, &sources, row)).collect()
            })
            .await
    }

    /// A user by object id, SID, principal name, mail, account name or `domain\account`.
    pub async fn find_user(&self, text: &str) -> Result<Option<User>, DbError> {
        let text = line(text.trim(), NAME_CHARS);
        if text.is_empty() {
            return Ok(None);
        }
        self.db()
            .read(move |tx| {
                let Some(row) = db::user::find_by_text(tx, &text)? else { return Ok(None) };
                let sources = Sources::read(tx)?;
                complete(tx, &sources, row).map(Some)
            })
            .await
    }

    /// Whether a user whose Entra token was verified is completely discovered: by the tenant, and,
    /// where the token names an on-premises SID, by a directory, too.
    pub async fn judge_user(
        &self,
        tenant: Guid,
        user: Guid,
        sid: Option<&str>,
    ) -> Result<User, JudgeUserError> {
        let sid = sid.and_then(normal_sid);
        self.note_user(tenant, sid.is_some()).await?;
        let judged = self.db().read(move |tx| {
            let entra = db::user::find_entra(tx, tenant, user)?;
            // A token may leave the SID out; a user whom the tenant knows as hybrid is one all the same.
            let sid = sid.clone().or_else(|| entra.as_ref().and_then(|row| row.user.sid.clone()));
            let directory = match &sid {
                Some(sid) => db::user::find_by_sid(tx, sid, true)?,
                None => None,
            };
            let sources = Sources::read(tx)?;
            let gap = find_gap(&sources, tenant, sid.as_deref(), entra.as_ref(), directory.as_ref());
            Ok::<_, DbError>(merge(entra.as_ref(), directory.as_ref(), gap))
        });
        let mut judged = judged.await?;
        match judged.gap.take() {
            None => Ok(judged),
            Some(gap) => Err(JudgeUserError::Gap(gap)),
        }
    }

    /// Notes once an hour that users of a tenant come: then a discovery that is off is an alarm.
    async fn note_user(&self, tenant: Guid, hybrid: bool) -> Result<(), DbError> {
        let now = self.now();
        {
            let mut seen = lock(&self.inner.users_seen);
            // Only onboarded tenants get here, so the map is as small as their list.
            let known = seen.get(&(tenant, hybrid));
            if known.is_some_and(|at| now.since(*at) < NOTE_USERS_EVERY) {
                return Ok(());
            }
            seen.insert((tenant, hybrid), now);
        }
        self.db().write(move |tx| db::tenant::set_user_seen(tx, tenant, now, hybrid)).await
    }

    /// Organisational units with computers that no tenant has.
    pub async fn list_unsynced_units(&self) -> Result<Vec<UnsyncedUnit>, DbError> {
        self.db().read(db::user::list_unsynced).await
    }
}

/// Whether a user whose token names this SID, or none, is completely discovered.
fn find_gap(
    sources: &Sources,
    tenant: Guid,
    sid: Option<&str>,
    entra: Option<&UserRow>,
    directory: Option<&UserRow>,
) -> Option<UserGap> {
    let entra_gap = match (entra, sid) {
        (None, _) => Some(sources.explain_entra(tenant)),
        (Some(row), Some(sid)) if row.user.sid.as_deref() != Some(sid) => {
            let known = row.user.sid.as_deref().unwrap_or("no SID");
            Some(format!("the tenant knows this user with {known}, and the token says {sid}"))
        }
        _ => None,
    };
    let directory_gap = (sid.is_some() && directory.is_none()).then(|| sources.explain_directory());
    match (entra_gap, directory_gap) {
        (None, None) => None,
        (Some(text), None) => Some(UserGap { missing: Missing::Entra, text }),
        (None, Some(text)) => Some(UserGap { missing: Missing::Directory, text }),
        (Some(entra), Some(directory)) => {
            Some(UserGap { missing: Missing::Both, text: format!("{entra}; {directory}") })
        }
    }
}

/// One person out of what both sides know; names of the tenant count before the directory's.
fn merge(entra: Option<&UserRow>, directory: Option<&UserRow>, gap: Option<UserGap>) -> User {
    let sighting = |row: &UserRow| Sighting { source: row.source, seen_at: row.seen_at };
    let sightings = (entra.map(sighting), directory.map(sighting));
    let empty = FoundUser::default();
    let first = entra.map_or(&empty, |row| &row.user);
    let second = directory.map_or(&empty, |row| &row.user);
    let text = |pick: fn(&FoundUser) -> &String| {
        let own = pick(first);
        if own.is_empty() { pick(second).clone() } else { own.clone() }
    };
    User {
        object_id: first.object_id,
        sid: first.sid.clone().or_else(|| second.sid.clone()),
        principal_name: text(|user| &user.principal_name),
        display_name: text(|user| &user.display_name),
        mail: text(|user| &user.mail),
        account: text(|user| &user.account),
        domain: text(|user| &user.domain),
        distinguished_name: text(|user| &user.distinguished_name),
        entra: sightings.0,
        directory: sightings.1,
        gap,
    }
}

/// Finds the other side of a row and what is missing.
fn complete(tx: &mut dyn Tx, sources: &Sources, row: UserRow) -> Result<User, DbError> {
    let sid = row.user.sid.clone();
    let other = |tx: &mut dyn Tx, in_directory| match &sid {
        Some(sid) => db::user::find_by_sid(tx, sid, in_directory),
        None => Ok(None),
    };
    let (entra, directory) = match row.source {
        SyncSource::Tenant(_) => {
            let directory = other(tx, true)?;
            (Some(row), directory)
        }
        SyncSource::Directory(_) => (other(tx, false)?, Some(row)),
    };
    let gap = match entra.as_ref().map(|row| row.source) {
        Some(SyncSource::Tenant(tenant)) => {
            find_gap(sources, tenant, sid.as_deref(), entra.as_ref(), directory.as_ref())
        }
        _ => Some(UserGap { missing: Missing::Entra, text: "no tenant knows this user".to_owned() }),
    };
    Ok(merge(entra.as_ref(), directory.as_ref(), gap))
}
