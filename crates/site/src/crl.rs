//! Certificate revocation lists: one an issuer, never an older one than before (R6).

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::id::Thumbprint;
use proto::pki::{Crl, CrlError, IssuerId, RevocationSettings, Revocations, RevocationsDelta};
use proto::snapshot::Change;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::audit::By;
use crate::db::crl::{CrlRow, TryRow};
use crate::db::trust::AuthorityRow;
use crate::db::{self, DbError, Tx};
use crate::keys::CertificateError;
use crate::trust::{name_text, names_key_of};
use crate::{Site, limits, snapshot};

/// An issuer's revocation list as the site holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CrlState {
    /// Whose.
    pub issuer: IssuerId,
    /// The issuer's name.
    pub issuer_name: String,
    /// CRL number in hex.
    pub number: String,
    /// When the list was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// Revoked certificates on it.
    pub entries: u64,
    /// Where it came from: a URL, or who uploaded it.
    pub source: String,
    /// When it was taken.
    pub fetched_at: Timestamp,
    /// When a newer one was looked for last.
    pub last_try: Option<Timestamp>,
    /// Whether the next one is overdue.
    pub stale: bool,
    /// What the last attempt met, or since when the list is stale.
    pub problem: Option<String>,
}

/// Where an issuer publishes its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CrlSource {
    /// Whose list.
    pub issuer: IssuerId,
    /// The issuer's name, for logs.
    pub issuer_name: String,
    /// Distribution points named by certificates of trusted authorities, `http:` and `https:` only;
    /// empty: lists of this issuer must be uploaded.
    pub urls: Vec<String>,
    /// When the next list is due; `None`: there is none yet.
    pub next_update: Option<Timestamp>,
    /// When it was tried last.
    pub last_try: Option<Timestamp>,
}

/// A revocation list was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PutCrlError {
    /// The list itself.
    #[error("revocation list not taken")]
    Crl(#[from] CrlError),
    /// Nobody of this name is trusted, so the list counts for nobody.
    #[error("no trusted authority is called {0}")]
    NoAuthority(String),
    /// Together the lists hold more serials than a snapshot can carry.
    #[error("with this list there would be more than {} revoked certificates in all", limits::REVOKED)]
    TooMany,
    /// The thread that reads lists was lost.
    #[error("revocation list not read: the process is stopping")]
    Stopping,
    /// The database failed.
    #[error("revocation list not written")]
    Database(#[from] DbError),
}

/// The stored lists and attempts, to be shown beside their authorities.
#[derive(Debug, Default)]
pub(crate) struct CrlStates {
    states: Vec<CrlState>,
    tries: Vec<TryRow>,
    check: bool,
}

impl CrlStates {
    pub(crate) fn read(
        tx: &mut dyn Tx,
        settings: RevocationSettings,
        now: Timestamp,
    ) -> Result<Self, DbError> {
        let tries = db::crl::list_tries(tx)?;
        let states = db::crl::list(tx)?.into_iter().map(|row| view(row, &tries, now)).collect();
        Ok(Self { states, tries, check: settings.check })
    }

    pub(crate) fn find(&self, issuer: IssuerId) -> Option<CrlState> {
        self.states.iter().find(|state| state.issuer == issuer).cloned()
    }

    /// What is wrong with an issuer's list, while revocation is checked.
    pub(crate) fn problem(&self, issuer: IssuerId) -> Option<String> {
        if !self.check {
            return None;
        }
        let tried = self.tries.iter().find(|row| row.issuer == issuer && !row.problem.is_empty());
        match (self.find(issuer), tried) {
            (Some(state), _) => state.problem,
            (None, Some(row)) => Some(format!("there is none; the last attempt met: {}", row.problem)),
            (None, None) => Some("there is none".to_owned()),
        }
    }
}

fn view(row: CrlRow, tries: &[TryRow], now: Timestamp) -> CrlState {
    let tried = tries.iter().find(|tried| tried.issuer == row.issuer);
    let met = tried.map(|tried| tried.problem.clone()).filter(|problem| !problem.is_empty());
    let stale = row.next_update < now;
    let problem = match (stale, met) {
        (true, Some(met)) => Some(format!("stale since {}; the last attempt met: {met}", row.next_update)),
        (true, None) => Some(format!("stale since {}", row.next_update)),
        (false, met) => met,
    };
    CrlState {
        issuer: row.issuer,
        issuer_name: row.issuer_name,
        number: row.number,
        this_update: row.this_update,
        next_update: row.next_update,
        entries: row.entries,
        source: row.source,
        fetched_at: row.accepted_at,
        last_try: tried.map(|tried| tried.tried_at),
        stale,
        problem,
    }
}

/// A list that was read and verified, ready to be written.
struct Read {
    row: CrlRow,
    der: Vec<u8>,
    /// The change as published; `None`: nothing changed.
    change: Option<String>,
}

/// Finds the authority that made a list and what to publish of it. Costly: it hashes all of the
/// list, so it runs beside the runtime's threads.
fn read_list(
    bytes: &[u8],
    authorities: &[AuthorityRow],
    lists: &BTreeMap<IssuerId, Arc<Revocations>>,
    source: &str,
    now: Timestamp,
) -> Result<Read, PutCrlError> {
    let crl = Crl::parse(bytes)?;
    let mut refused = None;
    for authority in authorities.iter().filter(|row| crl.is_named_after(&row.ca.der)) {
        let last = lists.get(&authority.issuer).map(Arc::as_ref);
        match crl.verify(&authority.ca.der, last, now) {
            Ok(new) => return prepare(bytes, new, last, lists, source, now),
            // Of several authorities of one name, the one whose key fits has the say.
            Err(error @ CrlError::Signature { .. }) if refused.is_none() => refused = Some(error),
            Err(CrlError::Signature { .. }) => {}
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or_else(|| PutCrlError::NoAuthority(crl.issuer_name()), PutCrlError::Crl))
}

fn prepare(
    bytes: &[u8],
    new: Revocations,
    last: Option<&Revocations>,
    lists: &BTreeMap<IssuerId, Arc<Revocations>>,
    source: &str,
    now: Timestamp,
) -> Result<Read, PutCrlError> {
    let others = lists.iter().filter(|(issuer, _)| **issuer != new.issuer);
    let all = others.map(|(_, list)| list.revoked.len()).sum::<usize>() + new.revoked.len();
    if all > limits::REVOKED {
        return Err(PutCrlError::TooMany);
    }
    let row = CrlRow {
        issuer: new.issuer,
        issuer_name: new.issuer_name.clone(),
        digest: Thumbprint::of(bytes),
        number: new.number.clone(),
        this_update: new.this_update,
        next_update: new.next_update,
        entries: new.revoked.len() as u64,
        source: source.to_owned(),
        accepted_at: now,
    };
    let change = match last {
        Some(last) if *last == new => None,
        last => Some(change_to(new, last)),
    };
    // Ids, names and serials always have a JSON form.
    let change = change.map(|change| serde_json::to_string(&change).expect("a change has a JSON form"));
    Ok(Read { row, der: bytes.to_vec(), change })
}

/// The new list whole, or as changes to the last one, whichever names fewer serials.
fn change_to(new: Revocations, last: Option<&Revocations>) -> Change {
    let Some(last) = last.filter(|last| last.issuer_name == new.issuer_name) else {
        return Change::SetRevocations(new);
    };
    let delta = RevocationsDelta::between(last, &new);
    if delta.len() < new.revoked.len().max(1) {
        Change::AmendRevocations(delta)
    } else {
        Change::SetRevocations(new)
    }
}

/// The stored lists, read anew when the site is opened. Each was verified when it was taken; it is
/// verified again as of that moment, so that a stale one counts as what it is, and one that somebody
/// changed in the database does not count.
pub(crate) fn load(tx: &mut dyn Tx) -> Result<BTreeMap<IssuerId, Arc<Revocations>>, DbError> {
    let authorities = db::trust::list(tx)?;
    let mut lists = BTreeMap::new();
    for row in db::crl::list(tx)? {
        let Some(der) = db::crl::find_bytes(tx, row.issuer)? else { continue };
        let issuers = authorities.iter().filter(|authority| authority.issuer == row.issuer);
        let verified = Crl::parse(&der).ok().and_then(|crl| {
            issuers.into_iter().find_map(|issuer| crl.verify(&issuer.ca.der, None, row.accepted_at).ok())
        });
        let Some(list) = verified else {
            tracing::error!(issuer = %row.issuer_name, "stored revocation list does not hold");
            continue;
        };
        lists.insert(row.issuer, Arc::new(list));
    }
    Ok(lists)
}

impl Site {
    /// Takes a revocation list that an operator uploaded: DER or PEM, of any trusted authority.
    pub async fn put_crl(&self, by: &By, bytes: &[u8]) -> Result<CrlState, PutCrlError> {
        let source = format!("given by {}", by.actor);
        self.take_crl(by, source, bytes).await
    }

    /// Takes a revocation list that was fetched from this URL. The same list again is no change.
    pub async fn put_fetched_crl(&self, url: &str, bytes: &[u8]) -> Result<CrlState, PutCrlError> {
        self.take_crl(&By::site(), url.chars().take(limits::PROBLEM_CHARS).collect(), bytes).await
    }

    async fn take_crl(&self, by: &By, source: String, bytes: &[u8]) -> Result<CrlState, PutCrlError> {
        let _turn = self.inner.trust_turn.lock().await;
        // What is compared with must be what is committed.
        self.catch_up().await?;
        let scribe = self.scribe(by);
        let now = scribe.now;
        let authorities = self.db().read(db::trust::list).await?;
        let lists = self.current_snapshot().revocations.clone();
        let bytes = bytes.to_vec();
        let reading =
            tokio::task::spawn_blocking(move || read_list(&bytes, &authorities, &lists, &source, now));
        let read = reading.await.map_err(|_| PutCrlError::Stopping)??;
        let written = self.db().write(move |tx| {
            let issuer = read.row.issuer;
            if let Some(change) = &read.change {
                db::crl::put(tx, &read.row, &read.der)?;
                snapshot::publish_text(tx, now, change)?;
                let detail = json!({
                    "issuer": read.row.issuer_name, "number": read.row.number, "entries": read.row.entries,
                    "next-update": read.row.next_update.iso8601(), "source": read.row.source,
                });
                scribe.note(tx, "crl.put", issuer, &detail)?;
            }
            db::crl::put_try(tx, &TryRow { issuer, tried_at: now, problem: String::new() })?;
            let row = db::crl::list(tx)?.into_iter().find(|row| row.issuer == issuer);
            Ok::<_, DbError>(view(row.unwrap_or_else(|| read.row.clone()), &db::crl::list_tries(tx)?, now))
        });
        let state = written.await?;
        self.publish_committed().await;
        Ok(state)
    }

    /// Whose lists the site needs, and where they are published: at the places that certificates
    /// name whose issuer is trusted, other authorities' and devices'.
    pub async fn list_crl_sources(&self) -> Result<Vec<CrlSource>, DbError> {
        self.db()
            .read(|tx| {
                let authorities = db::trust::list(tx)?;
                let (lists, tries) = (db::crl::list(tx)?, db::crl::list_tries(tx)?);
                let learnt = db::crl::list_urls(tx)?;
                let mut sources: Vec<CrlSource> = Vec::new();
                for row in &authorities {
                    if sources.iter().any(|source| source.issuer == row.issuer) {
                        continue;
                    }
                    let mut urls = named_places(row, &authorities);
                    let more = learnt.iter().filter(|(issuer, _)| *issuer == row.issuer);
                    urls.extend(more.map(|(_, url)| url.clone()));
                    let mut seen = std::collections::BTreeSet::new();
                    urls.retain(|url| seen.insert(url.clone()));
                    sources.push(CrlSource {
                        issuer: row.issuer,
                        issuer_name: subject(&row.ca.der),
                        urls,
                        next_update: lists.iter().find(|l| l.issuer == row.issuer).map(|l| l.next_update),
                        last_try: tries.iter().find(|t| t.issuer == row.issuer).map(|t| t.tried_at),
                    });
                }
                Ok(sources)
            })
            .await
    }

    /// Notes that an issuer's list could not be fetched or taken; the list in force stays.
    pub async fn note_crl_failure(&self, issuer: IssuerId, text: &str) -> Result<(), DbError> {
        let problem: String = text.chars().filter(|c| !c.is_control()).take(limits::PROBLEM_CHARS).collect();
        let row = TryRow { issuer, tried_at: self.now(), problem };
        self.db().write(move |tx| db::crl::put_try(tx, &row)).await
    }

    /// The site's own revocation list, DER, signed by the authority of links: link certificates that
    /// were withdrawn before their end. Registered certificates of devices are self-signed and
    /// published as blocked in the snapshot. Good for seven days; made anew at each call.
    pub async fn site_crl(&self) -> Result<Vec<u8>, SiteCrlError> {
        let now = self.now();
        let revoked = self.db().read(move |tx| db::crl::list_revoked(tx, now)).await?;
        Ok(self.keys().link_crl(&revoked, now)?)
    }
}

/// What the holder of a certificate is called.
pub(crate) fn subject(der: &[u8]) -> String {
    X509Certificate::from_der(der).map_or_else(|_| "?".to_owned(), |(_, c)| name_text(c.subject()))
}

/// Where authorities below an issuer, by their own certificates, say that its list is.
fn named_places(issuer: &AuthorityRow, authorities: &[AuthorityRow]) -> Vec<String> {
    let Ok((_, issuer_parsed)) = X509Certificate::from_der(&issuer.ca.der) else { return Vec::new() };
    let below = authorities.iter().filter(|other| {
        X509Certificate::from_der(&other.ca.der).is_ok_and(|(_, other)| {
            other.issuer().as_raw() == issuer_parsed.subject().as_raw()
                && names_key_of(&other, &issuer_parsed)
        })
    });
    below.flat_map(|other| Crl::distribution_points(&other.ca.der)).collect()
}

/// The site's own list was not made.
#[derive(Debug, thiserror::Error)]
pub enum SiteCrlError {
    /// Not signed.
    #[error("the site's revocation list was not made")]
    Make(#[from] CertificateError),
    /// The database failed.
    #[error("withdrawn certificates not read")]
    Database(#[from] DbError),
}
