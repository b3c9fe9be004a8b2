//! The connection point's own PKI certificate, for management points in HTTPS mode that demand one: which of
//! the configured ones is shown to which role.
//!
//! Chosen when the roles change, and anew every minute: files are exchanged, certificates end. What was
//! considered stands in the log in the field's words, whenever it comes out another way than before.

mod choose;
mod files;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use proto::id::RoleId;
use proto::pki::TrustStore;
use proto::time::Timestamp;
use runtime::tls::OwnCertificate;
use tracing::{info, warn};

use crate::log::{self, COMPONENT};
use crate::role::{Issuer, Role, Roles};
use choose::{Choice, choose};
use files::Found;

pub(crate) use files::Files;

/// The certificates and what was chosen of them.
#[derive(Debug)]
pub(crate) struct RoleCertificates {
    files: Files,
    chosen: ArcSwap<HashMap<RoleId, Arc<OwnCertificate>>>,
    told: Mutex<HashMap<RoleId, Vec<String>>>,
}

impl RoleCertificates {
    /// Nothing is read before the first [`RoleCertificates::refresh`].
    pub(crate) fn new(files: Files) -> Self {
        Self { files, chosen: ArcSwap::default(), told: Mutex::default() }
    }

    /// What this role is shown. `None`: it demands nothing, or there is nothing for it; then the role says
    /// what it misses.
    pub(crate) fn of_role(&self, role: &Role) -> Option<Arc<OwnCertificate>> {
        if !role.demands_certificate() {
            return None;
        }
        self.chosen.load().get(&role.id).map(Arc::clone)
    }

    /// Reads the files and chooses for each role that demands a certificate. Blocks.
    pub(crate) fn refresh(&self, roles: &Roles, now: Timestamp) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let demanding = roles.demanding();
        told.retain(|id, _| demanding.iter().any(|role| role.id == *id));
        // A connection point that no role asks needs no files.
        let found = if demanding.is_empty() { Found::default() } else { self.files.read() };
        let nobody = TrustStore::default();
        let mut chosen = HashMap::new();
        for role in demanding {
            let allowed = match role.tls.as_ref().map(|tls| &tls.issuer) {
                Some(Issuer::Pki(store)) => store,
                // A role of the site's own issuing asks nobody for a certificate of somebody else's.
                Some(Issuer::Site) | None => &nobody,
            };
            let choice = choose(&found.candidates, allowed, now);
            let is_news = told.insert(role.id, choice.lines.clone()).as_ref() != Some(&choice.lines);
            if is_news {
                tell(role, &choice, &found);
            }
            match choice.chosen {
                Some(own) => drop(chosen.insert(role.id, own)),
                None => log::line("missing role certificate. reload in next cycle"),
            }
        }
        self.chosen.store(Arc::new(chosen));
    }
}

/// The field's lines, and in ours who is shown what, or what is missing.
fn tell(role: &Role, choice: &Choice, found: &Found) {
    for problem in &found.problems {
        warn!(component = COMPONENT, error = %problem, "file of the client certificate is passed over");
    }
    choice.lines.iter().for_each(|line| log::line(line));
    let (role, configured) = (&*role.base, found.candidates.len());
    match &choice.chosen {
        Some(own) => {
            let name = own.leaf().common_name().unwrap_or_default();
            info!(component = COMPONENT, role, certificate = name, "client certificate is shown to the role");
        }
        None if configured == 0 => warn!(
            component = COMPONENT,
            role,
            "the role demands a client certificate and none is configured: set client_certificate and client_key"
        ),
        None => warn!(
            component = COMPONENT,
            role,
            configured,
            "the role demands a client certificate and none of the configured ones can be shown"
        ),
    }
}

#[cfg(test)]
mod tests {
    use proto::link::{RoleTarget, RoleTrust};

    use super::testing::{Pki, now, write};
    use super::*;

    #[test]
    fn files_that_are_exchanged_count_at_the_next_look_and_the_ended_one_is_dropped() {
        let (pki, folder) = (Pki::new("Ours"), tempfile::tempdir().unwrap());
        let target = RoleTarget {
            role: RoleId::FIRST,
            internal_url: "https://mp.example".into(),
            trust: RoleTrust::Pki { list: pki.list() },
            client_certificate: true,
        };
        let (roles, _) = Roles::new(&[target]);
        let role = roles.find(RoleId::FIRST).unwrap();
        let files = Files::new(vec![folder.path().to_owned()], vec![folder.path().to_owned()]);
        let certificates = RoleCertificates::new(files);
        let shown = |now| {
            certificates.refresh(&roles, now);
            certificates.of_role(role).map(|own| own.leaf().common_name().unwrap().to_owned())
        };
        assert_eq!(shown(now()), None);
        write(folder.path(), "first", &pki, true, |_| {});
        assert_eq!(shown(now()).as_deref(), Some("first"));
        let in_a_year = now().plus(std::time::Duration::from_hours(365 * 24));
        assert_eq!(shown(in_a_year), None, "what has ended is shown to nobody");
        write(folder.path(), "second", &pki, true, |leaf| leaf.not_after = rcgen::date_time_ymd(2028, 1, 1));
        assert_eq!(shown(in_a_year).as_deref(), Some("second"));
        std::fs::remove_file(folder.path().join("second.key")).unwrap();
        assert_eq!(shown(now()).as_deref(), Some("first"));
    }
}
