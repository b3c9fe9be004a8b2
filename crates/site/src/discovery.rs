//! Which discoveries are on, and why somebody is not known to one of them.

use proto::id::Guid;
use proto::time::Timestamp;

use crate::Site;
use crate::db::tenant::TenantRow;
use crate::db::user::SyncRow;
use crate::db::{self, DbError, Tx};
use crate::directory::Directory;
use crate::sync::{SyncSource, SyncState};

/// The sources and how they stand: what a gap is explained with.
pub(crate) struct Sources {
    pub(crate) tenants: Vec<TenantRow>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) syncs: Vec<SyncRow>,
}

impl Sources {
    pub(crate) fn read(tx: &mut dyn Tx) -> Result<Self, DbError> {
        Ok(Self {
            tenants: db::tenant::list(tx)?,
            directories: db::directory::list(tx)?,
            syncs: db::user::list_syncs(tx)?,
        })
    }

    fn state(&self, source: SyncSource) -> SyncState {
        let found = self.syncs.iter().find(|row| row.source == source);
        found.map(|row| row.state.clone()).unwrap_or_default()
    }

    /// Why the tenant's discovery does not know a user.
    pub(crate) fn explain_entra(&self, tenant: Guid) -> String {
        let Some(row) = self.tenants.iter().find(|row| row.tenant == tenant) else {
            return format!("tenant {tenant} is not onboarded");
        };
        if !row.discovery {
            return format!("the discovery of users of tenant {} is off", row.name);
        }
        let state = self.state(SyncSource::Tenant(tenant));
        explain(&format!("the discovery of users of tenant {}", row.name), &state)
    }

    /// Why no directory knows a SID.
    pub(crate) fn explain_directory(&self) -> String {
        if self.directories.is_empty() {
            return "the discovery of users in an on-premises directory is off: no directory was added"
                .to_owned();
        }
        let each = self.directories.iter().map(|directory| {
            let state = self.state(SyncSource::Directory(directory.id));
            explain(&format!("the discovery in directory {}", directory.name), &state)
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

impl Site {
    /// What stands between a tenant's users and this site, in sentences for an operator: discoveries
    /// that are off, failed or never ran. Empty: nothing.
    pub async fn list_still_off(&self, tenant: Guid) -> Result<Vec<String>, DbError> {
        let sources = self.db().read(Sources::read).await?;
        Ok(still_off(&sources, tenant, true))
    }
}

/// How a discovery that is on came not to know somebody.
fn explain(what: &str, state: &SyncState) -> String {
    let last = state.full_at.max(state.delta_at);
    match (&state.problem, last) {
        (Some(problem), None) => format!("{what} has never succeeded: {problem}"),
        (Some(problem), Some(last)) => format!("{what} has failed since {last}: {problem}"),
        (None, None) => format!("{what} has not run yet"),
        (None, Some(last)) => format!("{what} did not find the user, and ran last at {last}"),
    }
}

/// The sentences of [`Site::list_still_off`]. `hybrid`: users with an on-premises SID are expected.
fn still_off(sources: &Sources, tenant: Guid, hybrid: bool) -> Vec<String> {
    let never = |source| {
        let state = sources.state(source);
        state.problem.is_some() || state.full_at.is_none()
    };
    let on = sources.tenants.iter().any(|row| row.tenant == tenant && row.discovery);
    let mut missing = Vec::new();
    if !on || never(SyncSource::Tenant(tenant)) {
        missing.push(sources.explain_entra(tenant));
    }
    let found = sources.directories.iter().any(|directory| !never(SyncSource::Directory(directory.id)));
    if hybrid && !found {
        missing.push(format!("{}: users with an on-premises SID are refused", sources.explain_directory()));
    }
    missing
}

/// Discoveries that are missing, tenant by tenant: what an alarm says.
pub(crate) fn missing_discoveries(
    tx: &mut dyn Tx,
) -> Result<Vec<(String, Option<Timestamp>, String)>, DbError> {
    let sources = Sources::read(tx)?;
    let enabled = sources.tenants.iter().filter(|row| row.enabled);
    let alarms = enabled.flat_map(|row| {
        let texts = still_off(&sources, row.tenant, row.hybrid_seen_at.is_some());
        texts.into_iter().map(|text| (row.name.clone(), row.user_seen_at, text))
    });
    Ok(alarms.collect())
}
