//! Making a site: names, keys, first operator, first policy, all in one transaction.

use std::io;
use std::path::{Path, PathBuf};

use proto::id::{Guid, SiteCode};
use proto::time::Timestamp;
use runtime::clock::Clock;
use serde_json::json;
use zeroize::Zeroizing;

use crate::approval::default_rules;
use crate::audit::{By, Scribe};
use crate::db::{self, Db, DbError, DbOptions};
use crate::keys::{
    CertificateError, KeyFile, KeyFileError, KeyPurpose, NewKey, SealError, verifying_certificates,
    write_private,
};
use crate::name::{NameError, check_name};
use crate::network::Network;
use crate::operator::{Operator, hash_key, new_key};
use crate::policy::ALL_DEVICES;
use crate::site::{OpenError, SiteFacts};
use crate::{Site, client_settings, key, random_guid};

/// What a new site is made of.
#[derive(Debug, Clone)]
pub struct InitConfig {
    /// The database file; made when it is not there.
    pub database: PathBuf,
    /// The key file; made when it is not there, else taken.
    pub key_file: PathBuf,
    /// The site's three characters.
    pub code: SiteCode,
    /// The site's name for people.
    pub name: String,
    /// The hierarchy; `None` draws one.
    pub hierarchy: Option<Guid>,
    /// Networks whose devices are approved: the rule `network` (settled point 17).
    pub intranet: Vec<Network>,
    /// The first operator's name.
    pub operator: String,
    /// Where the first operator's key is written, with mode 0600. Must not exist.
    pub operator_key_file: PathBuf,
    /// How the database is run.
    pub options: DbOptions,
    /// Whether this is the lab: see [`SiteConfig::lab`](crate::SiteConfig::lab).
    pub lab: bool,
}

/// A site was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A name is not taken.
    #[error("site not made")]
    Name(#[from] NameError),
    /// The database holds a site.
    #[error("{0} holds a site already")]
    Exists(String),
    /// The key file was not made or taken.
    #[error("site not made")]
    KeyFile(#[from] KeyFileError),
    /// The operator's key was not written.
    #[error("operator key file {path}")]
    OperatorKey {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No keys.
    #[error("site keys not made")]
    Keys(#[from] CertificateError),
    /// The thread that makes keys was lost.
    #[error("site keys not made: the process is stopping")]
    Stopping,
    /// Keys were not sealed.
    #[error("site keys not sealed")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error("site not made")]
    Database(#[from] DbError),
    /// The new site does not open.
    #[error("site made, but not opened")]
    Open(#[from] OpenError),
}

impl Site {
    /// Makes a site and opens it. A failure leaves no half-made site; files that it made itself
    /// may stay and are taken the next time, the operator's key excepted.
    pub async fn init(config: InitConfig, clock: Clock) -> Result<Self, InitError> {
        check_name("site name", &config.name)?;
        check_name("operator name", &config.operator)?;
        let now = Timestamp::from_micros(clock.now());
        let db = Db::open(&config.database, &config.options, now)?;
        if db.read(db::site::find).await?.is_some() {
            return Err(InitError::Exists(config.database.display().to_string()));
        }
        let file = take_key_file(&config.key_file)?;
        let made = tokio::task::spawn_blocking(move || NewKey::make_all(now)).await;
        let made = made.map_err(|_| InitError::Stopping)??;
        let records = made.iter().map(|key| key.seal(&file, now)).collect::<Result<Vec<_>, _>>()?;

        let key = write_operator_key(&config.operator_key_file)?;
        let facts = SiteFacts {
            code: config.code,
            name: config.name,
            hierarchy: config.hierarchy.unwrap_or_else(random_guid),
            created_at: now,
        };
        let operator =
            Operator { id: random_guid(), name: config.operator, created_at: now, disabled: false };
        let rules = default_rules(config.intranet);
        let scribe = Scribe::new(file.audit_key(), now, By::site());
        let hash = hash_key(&key);
        let written = db.write(move |tx| {
            db::site::insert(tx, &facts)?;
            for record in &records {
                db::key::insert(tx, record)?;
            }
            key::publish_first_keys(tx, &facts, verifying_certificates(&records, now))?;
            db::operator::insert(tx, &operator, &hash)?;
            db::approval::replace(tx, &rules)?;
            db::collection::insert(tx, ALL_DEVICES, "All devices", now)?;
            client_settings::refresh(tx, facts.code, now)?;
            let root =
                records.iter().find(|record| record.purpose == KeyPurpose::Root).map(|record| record.id);
            let rules: Vec<_> = rules.iter().map(|rule| json!([rule.kind(), rule.argument()])).collect();
            let detail = json!({
                "name": facts.name, "hierarchy": facts.hierarchy, "root": root,
                "operator": operator.name, "approval-rules": rules,
            });
            scribe.note(tx, "site.init", facts.code, &detail)
        });
        if let Err(error) = written.await {
            // A key that opens nothing must not lie about.
            let _ = std::fs::remove_file(&config.operator_key_file);
            return Err(error.into());
        }
        Ok(Self::start(db, file, clock, &config.database, config.lab).await?)
    }
}

fn take_key_file(path: &Path) -> Result<KeyFile, KeyFileError> {
    if path.exists() { KeyFile::load(path) } else { KeyFile::create(path) }
}

fn write_operator_key(path: &Path) -> Result<Zeroizing<String>, InitError> {
    let key = new_key();
    let line = Zeroizing::new(format!("{}\n", key.as_str()));
    write_private(path, line.as_bytes())
        .map_err(|source| InitError::OperatorKey { path: path.display().to_string(), source })?;
    Ok(key)
}
