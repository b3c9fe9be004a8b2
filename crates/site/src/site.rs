//! The handle of a running site.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use proto::entra::TenantSet;
use proto::id::{ClientId, Guid, SiteCode};
use proto::snapshot::{Signed, Snapshot};
use proto::time::Timestamp;
use proto::token::{KeySet, KeySetError};
use proto::trust::Purpose;
use runtime::clock::Clock;
use tokio::sync::{Notify, watch};
use tracing::error;

use crate::approval::ApprovalRule;
use crate::audit::{By, Scribe};
use crate::clone::Trails;
use crate::contact::Seen;
use crate::db::{self, Db, DbCounts, DbError, DbOptions};
use crate::event::CounterWindow;
use crate::gateway::Report;
use crate::keys::{
    CertificateError, IssuedCertificate, KeyFile, KeyFileError, KeyLoadError, ServerNames, SignError,
    SiteKeys,
};
use crate::registration::Rates;
use crate::setting::Settings;
use crate::snapshot::Published;
use crate::stranded::{Knocker, Waiting};
use crate::tenant_key::KeyWishes;
use crate::trust::Trust;
use crate::watch::SiteCounts;

/// Time between two passes of [`Site::run_upkeep`]: how late "last seen" may be on disk, and how
/// late a retired key leaves the published set.
const UPKEEP_EVERY: Duration = Duration::from_secs(2);

/// Where a site's files are.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// The database file.
    pub database: PathBuf,
    /// The key file; must not lie where copies of the database go.
    pub key_file: PathBuf,
    /// How the database is run.
    pub options: DbOptions,
    /// Whether this is the lab, where [`Evidence::Lab`](crate::Evidence::Lab) counts and records
    /// may be seeded. No configuration key sets it: the lab starts its own children with it.
    pub lab: bool,
}

impl SiteConfig {
    /// The usual options for these files.
    pub fn new(database: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            database: database.into(),
            key_file: key_file.into(),
            options: DbOptions::default(),
            lab: false,
        }
    }
}

/// What a site is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFacts {
    /// Its three characters.
    pub code: SiteCode,
    /// Its name for people.
    pub name: String,
    /// The hierarchy: `TenantId` and issuer of its tokens.
    pub hierarchy: Guid,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A site could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key file was not taken.
    #[error("site not opened")]
    KeyFile(#[from] KeyFileError),
    /// The database was not opened.
    #[error("site not opened")]
    Database(#[from] DbError),
    /// There is no site in the database.
    #[error("{0} holds no site yet: run `roamgate site init`")]
    NotInitialised(String),
    /// The keys are not usable.
    #[error("site keys not opened")]
    Keys(#[from] KeyLoadError),
    /// A token signing certificate is damaged.
    #[error("site keys not opened")]
    KeySet(#[from] KeySetError),
}

/// A running site. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Site {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) counts: SiteCounts,
    pub(crate) database: PathBuf,
    db: Db,
    clock: Clock,
    file: KeyFile,
    facts: SiteFacts,
    lab: bool,
    keys: RwLock<Arc<SiteKeys>>,
    key_set: RwLock<Arc<KeySet>>,
    settings: RwLock<Arc<Settings>>,
    rules: RwLock<Arc<Vec<ApprovalRule>>>,
    pub(crate) snapshot: RwLock<Arc<Snapshot>>,
    pub(crate) signed_snapshot: Mutex<Option<(u64, Arc<Signed>)>>,
    pub(crate) published: watch::Sender<Published>,
    /// Held while what was committed is read back into the caches above, so that they only move forward.
    pub(crate) refresh: tokio::sync::Mutex<()>,
    pub(crate) seen: Mutex<HashMap<ClientId, Seen>>,
    pub(crate) trails: Mutex<Trails>,
    pub(crate) rates: Mutex<Rates>,
    pub(crate) knocks: Mutex<HashMap<Knocker, Waiting>>,
    /// By gateway and connection point.
    pub(crate) gateway_states: Mutex<BTreeMap<(Guid, Guid), Report>>,
    pub(crate) connectors_seen: Mutex<HashMap<Guid, (Timestamp, String)>>,
    pub(crate) counters: Mutex<VecDeque<CounterWindow>>,
    pub(crate) trust: RwLock<Arc<Trust>>,
    pub(crate) tenants: RwLock<Arc<TenantSet>>,
    /// Held by whoever changes authorities or revocation lists: a list is compared with the one
    /// before it outside the transaction that writes it.
    pub(crate) trust_turn: tokio::sync::Mutex<()>,
    /// The version that published the ring's newest next key, and when.
    pub(crate) next_key_published: Mutex<Option<(u64, Timestamp)>>,
    pub(crate) key_wishes: Mutex<KeyWishes>,
    pub(crate) wanted_keys: Notify,
    pub(crate) wanted_syncs: Notify,
    /// When users of a tenant, with an on-premises SID or without, were last noted.
    pub(crate) users_seen: Mutex<HashMap<(Guid, bool), Timestamp>>,
}

impl Site {
    /// Opens the site in these files.
    pub async fn open(config: SiteConfig, clock: Clock) -> Result<Self, OpenError> {
        let file = KeyFile::load(&config.key_file)?;
        let now = Timestamp::from_micros(clock.now());
        let db = Db::open(&config.database, &config.options, now)?;
        Self::start(db, file, clock, &config.database, config.lab).await
    }

    pub(crate) async fn start(
        db: Db,
        file: KeyFile,
        clock: Clock,
        database: &Path,
        lab: bool,
    ) -> Result<Self, OpenError> {
        let now = Timestamp::from_micros(clock.now());
        let loaded = db.read(move |tx| {
            let facts = db::site::find(tx)?;
            let records = db::key::list(tx)?;
            let settings = Settings::from_rows(&db::setting::list(tx)?);
            Ok::<_, DbError>((facts, records, settings, db::approval::list(tx)?))
        });
        let (facts, records, settings, rules) = loaded.await?;
        let facts = facts.ok_or_else(|| OpenError::NotInitialised(database.display().to_string()))?;
        let keys = SiteKeys::open(&records, &file)?;
        let key_set = crate::key::verifying_keys(&keys, facts.hierarchy, now)?;
        let site_facts = facts.clone();
        let certificates = keys.ring.verifying(now);
        let obeyed = settings.for_gateways();
        let snapshot = db
            .read(move |tx| crate::snapshot::build(tx, &site_facts, certificates.clone(), obeyed, now))
            .await?;
        let published = Published { version: snapshot.version, topology: 0 };
        let trust = Trust::of(&snapshot);
        let tenants = TenantSet::new(snapshot.tenants.values());
        let inner = Inner {
            counts: SiteCounts::default(),
            database: database.to_owned(),
            db,
            clock,
            file,
            facts,
            lab,
            keys: RwLock::new(Arc::new(keys)),
            key_set: RwLock::new(Arc::new(key_set)),
            settings: RwLock::new(Arc::new(settings)),
            rules: RwLock::new(Arc::new(rules)),
            snapshot: RwLock::new(Arc::new(snapshot)),
            signed_snapshot: Mutex::new(None),
            published: watch::Sender::new(published),
            refresh: tokio::sync::Mutex::new(()),
            seen: Mutex::default(),
            trails: Mutex::default(),
            rates: Mutex::default(),
            knocks: Mutex::default(),
            gateway_states: Mutex::default(),
            connectors_seen: Mutex::default(),
            counters: Mutex::default(),
            trust: RwLock::new(Arc::new(trust)),
            tenants: RwLock::new(Arc::new(tenants)),
            trust_turn: tokio::sync::Mutex::new(()),
            next_key_published: Mutex::default(),
            key_wishes: Mutex::default(),
            wanted_keys: Notify::new(),
            wanted_syncs: Notify::new(),
            users_seen: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes what is only in memory and closes the database.
    pub async fn close(self) {
        if let Err(error) = self.flush_seen().await {
            error!(%error, "last contacts not written");
        }
        if let Err(error) = self.flush_knocks().await {
            error!(%error, "who knocked in vain is not written");
        }
        self.inner.db.clone().close().await;
    }

    /// What the site is called.
    pub fn facts(&self) -> &SiteFacts {
        &self.inner.facts
    }

    /// The site's time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.inner.clock.now())
    }

    /// Whether this site was opened by the lab.
    pub fn is_lab(&self) -> bool {
        self.inner.lab
    }

    /// The site settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        read(&self.inner.settings)
    }

    /// The approval rules in force, in their order.
    pub fn approval_rules(&self) -> Arc<Vec<ApprovalRule>> {
        read(&self.inner.rules)
    }

    /// How much the database was asked for since the site was opened: what a request costs, and how many
    /// share a commit.
    pub fn database_counts(&self) -> DbCounts {
        self.inner.db.counts()
    }

    /// The public token keys in force. Asked for anew on every request, so that a dropped key is
    /// out at once.
    pub fn token_keys(&self) -> Arc<KeySet> {
        read(&self.inner.key_set)
    }

    /// The site root, DER: the trusted root key.
    pub fn root_certificate(&self) -> Vec<u8> {
        self.keys().root_certificate().to_vec()
    }

    /// The site signing certificate (what `SITESIGNCERT` returns) and its intermediate, DER.
    pub fn site_signing_chain(&self) -> Vec<Vec<u8>> {
        self.keys().site_signing_chain()
    }

    /// The certificate of the key that signs answers, and its intermediate, DER.
    pub fn message_chain(&self) -> Vec<Vec<u8>> {
        self.keys().message_chain()
    }

    /// Signs an answer with the message key: ES256, 64 bytes.
    pub fn sign_answer(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.keys().sign_answer(message)
    }

    /// Makes a certificate for a listener of the site's own hosts: [`Purpose::RoleTls`] for a
    /// management point, [`Purpose::LinkSite`] for site link and operator API. Made when a host
    /// starts and kept in memory only, so it is not audited.
    pub fn issue_server_certificate(
        &self,
        purpose: Purpose,
        names: &ServerNames,
    ) -> Result<IssuedCertificate, CertificateError> {
        self.keys().issue_leaf(purpose, names, self.now())
    }

    /// Does what is due every two seconds, for as long as it is polled. Call [`Site::close`] at the end.
    pub async fn run_upkeep(&self) {
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.upkeep().await {
                error!(%error, "site upkeep failed and will be tried again");
            }
        }
    }

    /// One pass: writes last contacts, forgets old message ids, withdraws keys past their end.
    pub async fn upkeep(&self) -> Result<(), DbError> {
        self.flush_seen().await?;
        self.flush_knocks().await?;
        self.forget_messages().await?;
        self.withdraw_ended_keys().await?;
        self.catch_up().await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn key_file(&self) -> &KeyFile {
        &self.inner.file
    }

    pub(crate) fn keys(&self) -> Arc<SiteKeys> {
        read(&self.inner.keys)
    }

    pub(crate) fn audit_key(&self) -> hmac::Key {
        self.inner.file.audit_key()
    }

    pub(crate) fn scribe(&self, by: &By) -> Scribe {
        Scribe::new(self.audit_key(), self.now(), by.clone())
    }

    pub(crate) fn put_keys(&self, keys: SiteKeys, set: KeySet) {
        write(&self.inner.keys, keys);
        write(&self.inner.key_set, set);
    }

    pub(crate) fn put_key_set(&self, set: KeySet) {
        write(&self.inner.key_set, set);
    }

    pub(crate) fn put_settings(&self, settings: Settings) {
        write(&self.inner.settings, settings);
    }

    pub(crate) fn put_rules(&self, rules: Vec<ApprovalRule>) {
        write(&self.inner.rules, rules);
    }
}

/// A poisoned lock only says that another thread panicked between two whole values.
pub(crate) fn read<T>(lock: &RwLock<Arc<T>>) -> Arc<T> {
    Arc::clone(&lock.read().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn write<T>(lock: &RwLock<Arc<T>>, value: T) {
    *lock.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
