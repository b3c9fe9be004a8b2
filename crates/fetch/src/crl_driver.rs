//! Keeps revocation lists fresh: each at half of the life that it has left, and from then on until
//! there is a newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::pki::IssuerId;
use proto::time::Timestamp;
use runtime::telemetry::{Chain, OneLine};
use runtime::{Clock, Drain};
use site::{CrlSource, PutCrlError, Site};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::crl::{CrlFetchError, TIME, fetch};
use crate::log::LISTS;
use crate::outbound::Proxies;
use crate::schedule::list_due;
use crate::workers::Workers;

/// Time between two looks at the clock and at what the site needs.
const TICK: Duration = Duration::from_secs(2);
/// Places of one issuer that are tried.
const PLACES: usize = 8;

/// A list was not fetched or not taken from one place.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    /// Not fetched.
    #[error(transparent)]
    Fetch(#[from] CrlFetchError),
    /// Not taken.
    #[error(transparent)]
    Put(#[from] PutCrlError),
    /// A good list, of somebody else.
    #[error("the list is that of {0}")]
    Foreign(String),
}

pub(crate) async fn run(site: &Site, config: &Config, clock: &Clock, drain: &Drain) {
    let mut failures: BTreeMap<IssuerId, u32> = BTreeMap::new();
    let mut workers = Workers::new();
    // One draw for each wait, so that a due time does not move while it is waited for.
    let mut chance: BTreeMap<IssuerId, u64> = BTreeMap::new();
    while !drain.has_started() {
        match site.list_crl_sources().await {
            Ok(sources) => {
                let known = |id: &IssuerId| sources.iter().any(|source| source.issuer == *id);
                failures.retain(|id, _| known(id));
                chance.retain(|id, _| known(id));
                for source in sources {
                    let failed = failures.get(&source.issuer).copied().unwrap_or(0);
                    let random = *chance.entry(source.issuer).or_insert_with(runtime::id::random);
                    if !source.urls.is_empty() && is_due(&source, failed, random, site.now()) {
                        let (site, clock, proxies) = (site.clone(), clock.clone(), config.proxies);
                        let issuer = source.issuer;
                        workers.start(issuer, async move { refresh(&site, &clock, proxies, &source).await });
                    }
                }
            }
            Err(error) => error!(component = LISTS, error = %Chain(&error), "sources of lists not read"),
        }
        tokio::select! {
            () = drain.started() => {}
            () = tokio::time::sleep(TICK) => {}
            (issuer, refreshed) = workers.finished() => {
                let failed = failures.entry(issuer).or_default();
                *failed = if refreshed == Some(true) { 0 } else { failed.saturating_add(1) };
                chance.remove(&issuer);
            }
        }
    }
}

/// Whether to look for a newer list of an issuer. A clock that was set back makes it due.
fn is_due(source: &CrlSource, failures: u32, random: u64, now: Timestamp) -> bool {
    match source.last_try {
        None => true,
        Some(tried) => now < tried || now >= list_due(tried, source.next_update, failures, random),
    }
}

/// Tries the places of one issuer in turn; the first good list counts. What each met is noted at the
/// site when none had one.
async fn refresh(site: &Site, clock: &Clock, proxies: Proxies, source: &CrlSource) -> bool {
    let mut problems = Vec::new();
    for url in source.urls.iter().take(PLACES) {
        match take(site, clock, proxies, source, url).await {
            Ok(entries) => {
                info!(component = LISTS, issuer = %OneLine(&source.issuer_name), url = %OneLine(url), entries, "revocation list fetched");
                return true;
            }
            Err(error) => problems.push(format!("{url}: {}", Chain(&error))),
        }
    }
    let text = problems.join("; ");
    warn!(component = LISTS, issuer = %OneLine(&source.issuer_name), error = %OneLine(&text), "revocation list not fetched");
    if let Err(error) = site.note_crl_failure(source.issuer, &text).await {
        error!(component = LISTS, error = %Chain(&error), "failure of a revocation list not noted");
    }
    false
}

async fn take(
    site: &Site,
    clock: &Clock,
    proxies: Proxies,
    source: &CrlSource,
    url: &str,
) -> Result<u64, PlaceError> {
    let bytes = fetch(clock, proxies, url, TIME).await?;
    let state = site.put_fetched_crl(url, &bytes).await?;
    if state.issuer == source.issuer {
        Ok(state.entries)
    } else {
        Err(PlaceError::Foreign(state.issuer_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_due_when_it_was_never_tried_and_when_the_clock_was_set_back() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let mut source = CrlSource {
            issuer: IssuerId::new(b"name", b"key"),
            issuer_name: "CN=CA".to_owned(),
            urls: vec!["http://h/ca.crl".to_owned()],
            next_update: None,
            last_try: None,
        };
        assert!(is_due(&source, 0, 0, now));
        source.last_try = Some(now);
        source.next_update = Some(now.plus(Duration::from_hours(8)));
        assert!(!is_due(&source, 0, 0, now.plus(Duration::from_hours(3))));
        assert!(is_due(&source, 0, u64::MAX, now.plus(Duration::from_hours(4))));
        assert!(is_due(&source, 0, 0, now.minus(Duration::from_secs(1))));
        assert!(is_due(&source, 1, u64::MAX, now.plus(Duration::from_mins(1))), "soon after a failure");
    }
}
