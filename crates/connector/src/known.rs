//! What the site said last: gateways, roles, withdrawn certificates. Kept in the state folder,
//! so that device traffic goes on without the site link, also after a restart.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use proto::id::Thumbprint;
use proto::link::{GatewayTarget, RoleTarget};
use runtime::config::private_file::{self, PrivateFileError};
use runtime::telemetry::Chain;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::log::COMPONENT;
use crate::peer::Withdrawn;
use crate::role::Roles;

/// Most gateways that are taken from the site; the field's largest services have sixteen instances.
const GATEWAY_LIMIT: usize = 1000;
/// Most withdrawn certificates that are written down. All are obeyed while we run.
const WITHDRAWN_LIMIT: usize = 20_000;
const FILE: &str = "last-known.json";

/// The state as it is now. Readers take it as it is; the site link alone changes it.
#[derive(Debug)]
pub(crate) struct Known {
    file: PathBuf,
    gateways: watch::Sender<Arc<[GatewayTarget]>>,
    roles: ArcSwap<Roles>,
    role_targets: ArcSwap<Vec<RoleTarget>>,
    withdrawn: Withdrawn,
    withdrawn_changed: watch::Sender<()>,
    version: AtomicU64,
}

/// One thread's copy of the published roles, so that threads do not meet where they count who holds a role: that costs
/// each of them more than all that they look up there.
#[derive(Debug, Default)]
pub(crate) struct RolesOfThread(Mutex<Option<RolesCopy>>);

#[derive(Debug)]
struct RolesCopy {
    of: Arc<Roles>,
    own: Arc<Roles>,
}

impl RolesOfThread {
    fn latest(&self, published: &Arc<Roles>) -> Arc<Roles> {
        let mut copy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A list that is held here cannot be freed, so another one never has its address.
        if copy.as_ref().is_some_and(|copy| !Arc::ptr_eq(&copy.of, published)) {
            *copy = None;
        }
        let make = || RolesCopy { of: Arc::clone(published), own: Arc::new(published.apart()) };
        Arc::clone(&copy.get_or_insert_with(make).own)
    }
}

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastKnown {
    /// Version of the last publication passed on; 0: none.
    version: u64,
    gateways: Vec<GatewayTarget>,
    roles: Vec<RoleTarget>,
    withdrawn: Vec<Thumbprint>,
}

impl Known {
    /// What was kept in `folder`. A file that is missing or damaged means that nothing is known:
    /// the site tells it again, and until then there is nothing to do.
    pub(crate) fn load(folder: &Path) -> Self {
        let file = folder.join(FILE);
        let last = read(&file).unwrap_or_else(|error| {
            warn!(component = COMPONENT, error = %Chain(&error), "what the site said last is lost");
            LastKnown::default()
        });
        let known = Self {
            file,
            gateways: watch::Sender::new(bounded(last.gateways)),
            roles: ArcSwap::default(),
            role_targets: ArcSwap::default(),
            withdrawn: Arc::new(ArcSwap::from_pointee(last.withdrawn.into_iter().collect())),
            withdrawn_changed: watch::Sender::new(()),
            version: AtomicU64::new(last.version),
        };
        known.set_roles(last.roles, |_| {});
        known
    }

    /// The gateways to be connected to, and every later list.
    pub(crate) fn gateways(&self) -> watch::Receiver<Arc<[GatewayTarget]>> {
        self.gateways.subscribe()
    }

    /// The published roles.
    pub(crate) fn roles(&self) -> Arc<Roles> {
        self.roles.load_full()
    }

    /// The same for a thread that asks with each request.
    pub(crate) fn roles_of_thread(&self, own: &RolesOfThread) -> Arc<Roles> {
        own.latest(&self.roles.load())
    }

    /// Withdrawn certificates, for whoever judges a peer.
    pub(crate) fn withdrawn(&self) -> Withdrawn {
        Arc::clone(&self.withdrawn)
    }

    /// Tells of every change of the withdrawn certificates.
    pub(crate) fn withdrawn_changed(&self) -> watch::Receiver<()> {
        self.withdrawn_changed.subscribe()
    }

    /// Version of the latest publication; 0: none was seen.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Takes a new list of gateways.
    pub(crate) fn set_gateways(&self, gateways: Vec<GatewayTarget>) {
        let gateways = bounded(gateways);
        self.gateways.send_if_modified(|current| {
            let changed = **current != *gateways;
            *current = gateways;
            changed
        });
    }

    /// Takes a new list of roles. Those without a usable URL are left out, and named in the log. `prepare`
    /// does what must be done before the first request goes to one of them.
    pub(crate) fn set_roles(&self, targets: Vec<RoleTarget>, prepare: impl FnOnce(&Roles)) {
        let (roles, bad) = Roles::new(&targets);
        prepare(&roles);
        for error in bad {
            warn!(component = COMPONENT, error = %Chain(&error), "role not published");
        }
        self.roles.store(Arc::new(roles));
        self.role_targets.store(Arc::new(targets));
    }

    /// Takes a new list of withdrawn certificates.
    pub(crate) fn set_withdrawn(&self, thumbprints: Vec<Thumbprint>) {
        self.withdrawn.store(Arc::new(thumbprints.into_iter().collect::<HashSet<_>>()));
        self.withdrawn_changed.send_replace(());
    }

    /// Notes the version of a publication.
    pub(crate) fn set_version(&self, version: u64) {
        self.version.fetch_max(version, Ordering::AcqRel);
    }

    /// Writes everything down, mode 0600. Blocks.
    pub(crate) fn save(&self) -> Result<(), PrivateFileError> {
        let last = LastKnown {
            version: self.version(),
            gateways: self.gateways.borrow().to_vec(),
            roles: self.role_targets.load().to_vec(),
            withdrawn: self.withdrawn.load().iter().take(WITHDRAWN_LIMIT).copied().collect(),
        };
        let text = serde_json::to_vec(&last).map_err(|error| PrivateFileError::Io {
            path: self.file.clone(),
            action: "written",
            source: io::Error::other(error),
        })?;
        private_file::write(&self.file, text)
    }
}

fn bounded(mut gateways: Vec<GatewayTarget>) -> Arc<[GatewayTarget]> {
    gateways.truncate(GATEWAY_LIMIT);
    gateways.into()
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the state file cannot be read")]
    File(#[source] PrivateFileError),
    #[error("the state file is damaged")]
    Content(#[source] serde_json::Error),
}

fn read(file: &Path) -> Result<LastKnown, ReadError> {
    let text = match private_file::read(file) {
        Ok(text) => text,
        Err(PrivateFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(LastKnown::default());
        }
        Err(error) => return Err(ReadError::File(error)),
    };
    serde_json::from_slice(&text).map_err(ReadError::Content)
}

#[cfg(test)]
mod tests {
    use proto::id::{Guid, RoleId};
    use proto::link::RoleTrust;

    use super::*;

    #[test]
    fn what_was_saved_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known::load(folder.path());
        assert_eq!((known.version(), known.gateways().borrow().len()), (0, 0));
        known.set_gateways(vec![GatewayTarget {
            gateway: Guid::nil(),
            name: "gw".into(),
            address: "127.0.0.1:1".into(),
            host: "gw.example".into(),
        }]);
        known.set_roles(
            vec![RoleTarget {
                role: RoleId::FIRST,
                internal_url: "http://mp".into(),
                trust: RoleTrust::Site,
                client_certificate: false,
            }],
            |_| {},
        );
        known.set_withdrawn(vec![Thumbprint::of(b"x")]);
        known.set_version(7);
        known.save().unwrap();

        let again = Known::load(folder.path());
        assert_eq!(again.version(), 7);
        assert_eq!(again.gateways().borrow().len(), 1);
        assert!(again.roles().find(RoleId::FIRST).is_some());
        assert!(again.withdrawn().load().contains(&Thumbprint::of(b"x")));
    }

    #[test]
    fn a_thread_has_the_latest_roles_in_objects_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (known, own) = (Known::load(folder.path()), RolesOfThread::default());
        assert_eq!(known.roles_of_thread(&own).count(), 0);
        for url in ["http://one", "http://two"] {
            let target = RoleTarget {
                role: RoleId::FIRST,
                internal_url: url.into(),
                trust: RoleTrust::Site,
                client_certificate: false,
            };
            known.set_roles(vec![target], |_| {});
            let roles = known.roles_of_thread(&own);
            let (mine, all) = (roles.find(RoleId::FIRST).unwrap(), known.roles());
            assert_eq!(&*mine.base, url);
            assert!(!Arc::ptr_eq(mine, all.find(RoleId::FIRST).unwrap()));
            assert!(Arc::ptr_eq(&roles, &known.roles_of_thread(&own)), "the copy is kept");
        }
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        private_file::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Known::load(folder.path()).version(), 0);
    }

    #[test]
    fn the_same_list_of_gateways_wakes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known::load(folder.path());
        let mut watched = known.gateways();
        watched.mark_unchanged();
        known.set_gateways(Vec::new());
        assert!(!watched.has_changed().unwrap());
    }
}
