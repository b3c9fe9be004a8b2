//! Authorities of other people whose client certificates count, and the ready-made judgement of them.
//!
//! The list is for one purpose: certificates of devices, and of management points in HTTPS mode (R8).
//! The site's own authorities never get into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use der::Decode as _;
use proto::id::Thumbprint;
use proto::pki::{Distrust, IssuerId, TrustStore, TrustStoreError, TrustedCa, Usage};
use proto::snapshot::{Change, Snapshot};
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;
use tracing::error;
use x509_cert::name::Name;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};

use crate::audit::By;
use crate::crl::{CrlState, CrlStates};
use crate::db::trust::AuthorityRow;
use crate::db::{self, DbError};
use crate::device::Device;
use crate::name::{NameError, check_url};
use crate::site::read;
use crate::{Site, limits, snapshot};

/// An authority that an operator told the site to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// SHA-256 of its certificate: its name in commands.
    pub id: Thumbprint,
    /// Its subject.
    pub subject: String,
    /// Who issued it; of a root the same.
    pub issuer: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Whether chains may end here.
    pub root: bool,
    /// When it was added.
    pub added_at: Timestamp,
    /// By whom.
    pub added_by: String,
    /// Its revocation list, where there is one.
    pub crl: Option<CrlState>,
    /// What the last attempt to fetch its list met, or that there is none; `None`: all is well, or
    /// revocation is not checked.
    pub crl_problem: Option<String>,
    /// The certificate, DER.
    #[serde(skip)]
    pub der: Vec<u8>,
}

/// An operation on the trust list was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// More than a site can need.
    #[error("more than {} authorities", crate::limits::AUTHORITIES)]
    TooMany,
    /// A certificate that cannot be read as one.
    #[error("authority {0} cannot be read")]
    Unreadable(Thumbprint),
    /// The site's own authority: its link and role certificates would open the door of devices (R8).
    #[error("{0} is one of the site's own authorities; trust is kept apart by purpose")]
    Own(Thumbprint),
    /// No such authority.
    #[error("there is no trusted authority {0}")]
    Unknown(Thumbprint),
    /// The address is not taken.
    #[error("distribution point not taken")]
    Url(#[from] NameError),
    /// It cannot serve as an authority.
    #[error("authority not taken")]
    Unusable(#[from] TrustStoreError),
    /// The thread that judges was lost.
    #[error("trust not judged: the process is stopping")]
    Stopping,
    /// The database failed.
    #[error("trust list not read or written")]
    Database(#[from] DbError),
}

/// The trust list ready for judging, and how often it has changed since the site was opened.
#[derive(Debug)]
pub(crate) struct Trust {
    generation: u64,
    store: Arc<TrustStore>,
}

impl Trust {
    /// What is published, made ready.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self { generation: 1, store: Arc::new(make_store(snapshot)) }
    }

    /// Made anew if anything that it depends on differs between two versions.
    pub(crate) fn after(&self, before: &Snapshot, now: &Snapshot) -> Option<Self> {
        let same_lists = before.revocations.len() == now.revocations.len()
            && before
                .revocations
                .iter()
                .zip(&now.revocations)
                .all(|((_, before), (_, now))| Arc::ptr_eq(before, now));
        let same =
            same_lists && before.trust == now.trust && before.settings.revocation == now.settings.revocation;
        (!same).then(|| Self { generation: self.generation + 1, store: Arc::new(make_store(now)) })
    }
}

/// Each authority was tried before it was added, so a list that does not work any more is damaged:
/// then nobody is trusted.
fn make_store(snapshot: &Snapshot) -> TrustStore {
    let made = TrustStore::new(&snapshot.trust, &snapshot.revocations, snapshot.settings.revocation);
    made.unwrap_or_else(|error| {
        error!(%error, "trust list not usable: no client certificate is trusted");
        TrustStore::default()
    })
}

/// What people call the holder of a name: RFC 4514, at most 200 characters.
pub(crate) fn name_text(name: &X509Name<'_>) -> String {
    let text = Name::from_der(name.as_raw()).map_or_else(|_| name.to_string(), |name| name.to_string());
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn moment(time: ASN1Time) -> Timestamp {
    Timestamp::from_seconds(time.timestamp())
}

/// A stored authority as an operator sees it.
fn view(row: AuthorityRow, crls: &CrlStates) -> Result<Authority, TrustError> {
    let id = row.ca.id();
    let (_, certificate) = X509Certificate::from_der(&row.ca.der).map_err(|_| TrustError::Unreadable(id))?;
    Ok(Authority {
        id,
        subject: name_text(certificate.subject()),
        issuer: name_text(certificate.issuer()),
        not_before: moment(certificate.validity().not_before),
        not_after: moment(certificate.validity().not_after),
        root: row.ca.root,
        added_at: row.added_at,
        added_by: row.added_by,
        crl: crls.find(row.issuer),
        crl_problem: crls.problem(row.issuer),
        der: row.ca.der,
    })
}

fn views(rows: Vec<AuthorityRow>, crls: &CrlStates) -> Result<Vec<Authority>, TrustError> {
    rows.into_iter().map(|row| view(row, crls)).collect()
}

/// Whether a certificate's key identifier of its issuer, where it has one, is this authority's.
pub(crate) fn names_key_of(certificate: &X509Certificate<'_>, authority: &X509Certificate<'_>) -> bool {
    let named = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let own = authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    match (named, own) {
        (Some(named), Some(own)) => named == own,
        _ => true,
    }
}

impl Site {
    /// Adds authorities; those that are there already stay as they are. Answers all of the given
    /// ones, each once. Gateways and management points have them within seconds.
    pub async fn add_trust(
        &self,
        by: &By,
        authorities: Vec<TrustedCa>,
    ) -> Result<Vec<Authority>, TrustError> {
        let own = self.keys().authority_certificates();
        if let Some(ca) = authorities.iter().find(|ca| own.contains(&ca.der)) {
            return Err(TrustError::Own(ca.id()));
        }
        let _turn = self.inner.trust_turn.lock().await;
        let scribe = self.scribe(by);
        let settings = self.settings().revocation;
        let added_by = by.actor.to_string();
        let now = scribe.now;
        let written = self.db().write(move |tx| {
            let mut list = db::trust::trust_list(tx)?;
            for ca in &authorities {
                let (id, known) = (ca.id(), list.authorities.iter().any(|other| other.der == ca.der));
                if known {
                    continue;
                }
                let issuer = IssuerId::of(&ca.der).ok_or(TrustError::Unreadable(id))?;
                let row = AuthorityRow { issuer, ca: ca.clone(), added_at: now, added_by: added_by.clone() };
                db::trust::insert(tx, &row)?;
                let detail = view(row, &CrlStates::default())?;
                let detail = json!({ "subject": detail.subject, "root": ca.root, "until": detail.not_after });
                scribe.note(tx, "trust.add", id, &detail)?;
                list.authorities.push(ca.clone());
            }
            if list.authorities.len() > limits::AUTHORITIES {
                return Err(TrustError::TooMany);
            }
            TrustStore::new(&list, &BTreeMap::new(), settings)?;
            snapshot::publish(tx, now, &Change::SetTrust(list))?;
            let given: BTreeSet<_> = authorities.iter().map(TrustedCa::id).collect();
            let rows = db::trust::list(tx)?.into_iter().filter(|row| given.contains(&row.ca.id()));
            views(rows.collect(), &CrlStates::read(tx, settings, now)?)
        });
        let written = written.await?;
        self.publish_committed().await;
        // Connection points trust roles in HTTPS mode by this list.
        self.announce_topology();
        Ok(written)
    }

    /// Names an address where an authority publishes its own revocation list: `http:` or `https:`.
    ///
    /// A certificate of an authority names where *its issuer's* list is, so the list of an authority
    /// that issues to devices only is named nowhere but in their certificates, and no address out of
    /// one of those is followed (rule 6 of the threat model).
    pub async fn name_distribution_point(
        &self,
        by: &By,
        id: Thumbprint,
        url: &str,
    ) -> Result<Authority, TrustError> {
        check_url("distribution point", url, &["http", "https"])?;
        let (settings, scribe, url) = (self.settings().revocation, self.scribe(by), url.to_owned());
        self.db()
            .write(move |tx| {
                let row = db::trust::list(tx)?.into_iter().find(|row| row.ca.id() == id);
                let row = row.ok_or(TrustError::Unknown(id))?;
                db::crl::put_url(tx, row.issuer, &url, scribe.now, limits::CRL_URLS)?;
                scribe.note(tx, "trust.distribution-point", id, &json!({ "url": url }))?;
                view(row, &CrlStates::read(tx, settings, scribe.now)?)
            })
            .await
    }

    /// All authorities in the order in which they were added.
    pub async fn list_trust(&self) -> Result<Vec<Authority>, TrustError> {
        let (settings, now) = (self.settings().revocation, self.now());
        self.db().read(move |tx| views(db::trust::list(tx)?, &CrlStates::read(tx, settings, now)?)).await
    }

    /// Takes an authority out, and its revocation list unless another certificate of the same name
    /// and key needs it. Answers what was removed.
    pub async fn remove_trust(&self, by: &By, id: Thumbprint) -> Result<Authority, TrustError> {
        let _turn = self.inner.trust_turn.lock().await;
        let (settings, scribe) = (self.settings().revocation, self.scribe(by));
        let removed = self.db().write(move |tx| {
            let rows = db::trust::list(tx)?;
            let row = rows.iter().find(|row| row.ca.id() == id).ok_or(TrustError::Unknown(id))?;
            let shared = rows.iter().any(|other| other.issuer == row.issuer && other.ca.id() != id);
            let removed = view(row.clone(), &CrlStates::read(tx, settings, scribe.now)?)?;
            db::trust::delete(tx, id)?;
            let left = db::trust::trust_list(tx)?;
            snapshot::publish(tx, scribe.now, &Change::SetTrust(left))?;
            if !shared && db::crl::delete(tx, row.issuer)? {
                snapshot::publish(tx, scribe.now, &Change::RemoveRevocations(row.issuer))?;
            }
            scribe.note(tx, "trust.remove", id, &json!({ "subject": removed.subject }))?;
            Ok::<_, TrustError>(removed)
        });
        let removed = removed.await?;
        self.publish_committed().await;
        self.announce_topology();
        Ok(removed)
    }

    /// What removing an authority would do: devices whose certificate is trusted now and would not be.
    pub async fn judge_without(&self, id: Thumbprint) -> Result<Vec<(Device, Distrust)>, TrustError> {
        let snapshot = self.current_snapshot();
        let mut list = snapshot.trust.clone();
        let before = list.authorities.len();
        list.authorities.retain(|authority| authority.id() != id);
        if list.authorities.len() == before {
            return Err(TrustError::Unknown(id));
        }
        let with = self.trust_store();
        let without = TrustStore::new(&list, &snapshot.revocations, snapshot.settings.revocation)?;
        let (without, now) = (Arc::new(without), self.now());
        let mut failing = Vec::new();
        let mut after = None;
        loop {
            let page = self.list_with_pki(after).await?;
            let Some(last) = page.last().map(|device| device.id) else { return Ok(failing) };
            after = Some(last);
            let (with, without) = (Arc::clone(&with), Arc::clone(&without));
            let judge = move || would_fail(page, &with, &without, now);
            failing.extend(tokio::task::spawn_blocking(judge).await.map_err(|_| TrustError::Stopping)?);
        }
    }

    /// The trust list ready for judging, as published now.
    pub fn trust_store(&self) -> Arc<TrustStore> {
        Arc::clone(&read(&self.inner.trust).store)
    }

    /// Rises whenever [`Site::trust_store`] changes: verdicts are kept with it. Starts anew when the
    /// site is opened.
    pub fn trust_generation(&self) -> u64 {
        read(&self.inner.trust).generation
    }
}

/// Devices of a page that `with` trusts and `without` does not.
fn would_fail(
    page: Vec<Device>,
    with: &TrustStore,
    without: &TrustStore,
    now: Timestamp,
) -> Vec<(Device, Distrust)> {
    let judge = |store: &TrustStore, device: &Device| match &device.pki {
        Some(pki) => store.judge(&pki.chain, Usage::Client, now).err(),
        None => None,
    };
    let trusted = page.into_iter().filter(|device| judge(with, device).is_none());
    trusted.filter_map(|device| judge(without, &device).map(|why| (device, why))).collect()
}
