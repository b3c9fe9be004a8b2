//! What of the site's own ends when: its certificates, its links', secrets of tenants, authorities.
//!
//! Credentials of devices are in `expiry`.

use std::time::Duration;

use proto::time::Timestamp;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Site;
use crate::db::{self, DbError, Tx};
use crate::event::LinkPartyKind;
use crate::keys::KeyState;
use crate::trust::name_text;

/// How long before its end a credential is an alarm.
pub(crate) const WARNING: Duration = Duration::from_hours(30 * 24);

/// Something that ends, whatever the site does, until somebody renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteCredential {
    /// What it is: `key`, `gateway`, `connection-point`, `tenant-secret`, `authority`.
    pub kind: &'static str,
    /// Which one, for people.
    pub name: String,
    /// When it ends.
    pub ends_at: Timestamp,
    /// What an operator does about it, in one sentence.
    pub fix: String,
}

impl Site {
    /// Everything of the site itself that ends, the earliest first. Certificates of roles in enhanced
    /// HTTP mode are not in it: each management point renews its own.
    pub async fn list_site_credentials(&self) -> Result<Vec<SiteCredential>, DbError> {
        self.db().read(list).await
    }
}

/// When a certificate ends; one that cannot be read has ended.
fn end_of(der: &[u8]) -> (String, Timestamp) {
    X509Certificate::from_der(der).map_or_else(
        |_| ("a certificate that cannot be read".to_owned(), Timestamp::default()),
        |(_, certificate)| {
            let end = Timestamp::from_seconds(certificate.validity().not_after.timestamp());
            (name_text(certificate.subject()), end)
        },
    )
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<SiteCredential>, DbError> {
    let mut all = Vec::new();
    let in_use = |state| matches!(state, KeyState::Current | KeyState::Next);
    for record in db::key::list(tx)?.iter().filter(|record| in_use(record.state)) {
        let (name, ends_at) = end_of(&record.certificate);
        let fix = match record.purpose {
            crate::keys::KeyPurpose::TokenSigning => "roamgate key rotate".to_owned(),
            _ => "The site was made for this long: plan a new one.".to_owned(),
        };
        all.push(SiteCredential { kind: "key", name, ends_at, fix });
    }
    for kind in [LinkPartyKind::Gateway, LinkPartyKind::Connector] {
        let word = if kind == LinkPartyKind::Gateway { "gateway" } else { "connection-point" };
        for party in db::link::list(tx, kind)? {
            all.push(SiteCredential {
                kind: word,
                name: party.name,
                ends_at: party.expires_at,
                fix: format!("Add it anew (roamgate {word} add) and give its host the new bundle."),
            });
        }
    }
    for tenant in db::tenant::list(tx)? {
        if let Some(ends_at) = tenant.secret_expires_at.filter(|_| tenant.secret.is_some()) {
            let fix = "Make a new secret for the app and set it: roamgate tenant set-secret.".to_owned();
            all.push(SiteCredential { kind: "tenant-secret", name: tenant.name, ends_at, fix });
        }
    }
    for authority in db::trust::list(tx)? {
        let (name, ends_at) = end_of(&authority.ca.der);
        let fix = "Add the authority's next certificate: roamgate trust add FILE.".to_owned();
        all.push(SiteCredential { kind: "authority", name, ends_at, fix });
    }
    all.sort_by(|a, b| (a.ends_at, &a.name).cmp(&(b.ends_at, &b.name)));
    Ok(all)
}
