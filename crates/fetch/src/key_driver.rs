//! Keeps the keys of tenants fresh: every quarter of an hour, and when somebody met a key that is
//! not known (R12).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::id::Guid;
use proto::time::Timestamp;
use runtime::telemetry::{Chain, OneLine};
use runtime::{Clock, Drain};
use site::{Site, Tenant, TenantError, TenantPart, WantedKeys};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::log::TENANTS;
use crate::openid::{OpenIdError, fetch_keys};
use crate::outbound::{Outbound, OutboundError, Proxies};
use crate::schedule::keys_due;
use crate::workers::Workers;

/// Time between two looks at the clock and at the tenants: how long a new tenant waits.
const TICK: Duration = Duration::from_secs(2);

/// Keys were not fetched or not taken.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    /// The way out.
    #[error("keys not fetched")]
    Outbound(#[from] OutboundError),
    /// The provider.
    #[error("keys not fetched")]
    Provider(#[from] OpenIdError),
    /// The site.
    #[error("keys not taken")]
    Site(#[from] TenantError),
}

/// The last attempt for a tenant, from its beginning on.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    at: Timestamp,
    failures: u32,
    due: Timestamp,
}

impl Attempt {
    fn new(at: Timestamp, failures: u32) -> Self {
        Self { at, failures, due: keys_due(at, failures, runtime::id::random()) }
    }

    /// A clock that was set back makes everything due: whatever was planned is worthless.
    fn is_due(self, now: Timestamp) -> bool {
        now >= self.due || now < self.at
    }
}

pub(crate) async fn run(site: &Site, config: &Config, clock: &Clock, drain: &Drain) {
    let mut attempts: BTreeMap<Guid, Attempt> = BTreeMap::new();
    let mut workers = Workers::new();
    // Kept until the tenant's task is free: what it fetches now may have been read too early.
    let mut wanted = BTreeSet::new();
    while !drain.has_started() {
        match site.list_tenants().await {
            Ok(tenants) => {
                let open = |id: &Guid| tenants.iter().any(|tenant| tenant.tenant == *id && tenant.enabled);
                if let WantedKeys::Fetch(tenant) = site.take_wanted_keys() {
                    wanted.insert(tenant);
                }
                attempts.retain(|id, _| open(id));
                wanted.retain(open);
                for tenant in tenants.into_iter().filter(|tenant| tenant.enabled) {
                    let id = tenant.tenant;
                    let now = site.now();
                    let due = wanted.contains(&id) || is_due(attempts.get(&id), &tenant, now);
                    if due && !workers.is_busy(id) {
                        wanted.remove(&id);
                        attempts.insert(id, Attempt::new(now, failures(&attempts, id)));
                        let (site, clock, proxies) = (site.clone(), clock.clone(), config.proxies);
                        workers.start(id, async move { refresh(&site, &clock, proxies, &tenant).await });
                    }
                }
            }
            Err(error) => error!(component = TENANTS, error = %Chain(&error), "tenants not read"),
        }
        tokio::select! {
            () = drain.started() => {}
            () = tokio::time::sleep(TICK) => {}
            () = site.wanted_keys().notified() => {}
            (id, refreshed) = workers.finished() => {
                let failures = if refreshed == Some(true) { 0 } else { failures(&attempts, id).saturating_add(1) };
                // Counted from its beginning: it may have hung, or the clock been moved.
                if let Some(attempt) = attempts.get_mut(&id) {
                    *attempt = Attempt::new(attempt.at, failures);
                }
            }
        }
    }
}

/// Attempts for a tenant that failed in a row.
fn failures(attempts: &BTreeMap<Guid, Attempt>, tenant: Guid) -> u32 {
    attempts.get(&tenant).map_or(0, |last| last.failures)
}

/// Whether a tenant's keys are due. Before the first attempt of this process, what the site noted
/// counts.
fn is_due(last: Option<&Attempt>, tenant: &Tenant, now: Timestamp) -> bool {
    match (last, tenant.keys_fetched_at) {
        (Some(attempt), _) => attempt.is_due(now),
        (None, Some(fetched)) if tenant.keys_problem.is_none() => {
            now >= keys_due(fetched, 0, 0) || now < fetched
        }
        (None, _) => true,
    }
}

/// Fetches one tenant's keys and hands them to the site; what goes wrong is noted there.
async fn refresh(site: &Site, clock: &Clock, proxies: Proxies, tenant: &Tenant) -> bool {
    let failed = match fetch(site, clock, proxies, tenant).await {
        Ok(keys) => {
            info!(component = TENANTS, tenant = %tenant.name, keys, "keys of tenant fetched");
            return true;
        }
        Err(error) => error,
    };
    // Where it is shown it stands under keys; the step in between says nothing that is new there.
    let cause: &(dyn std::error::Error + 'static) = match &failed {
        KeysError::Outbound(error) => error,
        KeysError::Provider(OpenIdError::Keys(error)) => error,
        KeysError::Provider(error) => error,
        KeysError::Site(_) => &failed,
    };
    let text = Chain(cause).to_string();
    warn!(component = TENANTS, tenant = %tenant.name, error = %OneLine(&text), "keys of tenant not fetched");
    // What the site refused, it has noted.
    if !matches!(failed, KeysError::Site(_))
        && let Err(error) = site.note_tenant_failure(tenant.tenant, TenantPart::Keys, &text).await
    {
        error!(component = TENANTS, error = %Chain(&error), "failure of tenant not noted");
    }
    false
}

async fn fetch(site: &Site, clock: &Clock, proxies: Proxies, tenant: &Tenant) -> Result<usize, KeysError> {
    let outbound = Outbound::new(clock, tenant.ca_pem.as_deref(), proxies)?;
    let fetched = fetch_keys(&outbound, &tenant.authority, &tenant.issuers).await?;
    let count = fetched.keys.keys.len();
    site.put_tenant_keys(tenant.tenant, &fetched.issuers, fetched.keys, site.now()).await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_moved_makes_an_attempt_due() {
        let at = Timestamp::from_seconds(1_800_000_000);
        let attempt = Attempt::new(at, 0);
        assert!(!attempt.is_due(at) && !attempt.is_due(at.plus(Duration::from_mins(11))));
        assert!(attempt.is_due(at.plus(Duration::from_mins(19))), "forward");
        assert!(attempt.is_due(at.minus(Duration::from_secs(1))), "back");
    }
}
