//! On-premises directories (LDAP) whose users and computers are discovered.

use proto::id::Guid;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::By;
use crate::db::{self, DbError};
use crate::keys::SealError;
use crate::name::{NameError, check_name, check_text, check_url};
use crate::sync::{SyncSource, SyncState};
use crate::tenant::{CA_PEM_BYTES, is_pem};
use crate::{Site, limits, random_guid};

/// What a directory's secret is sealed for.
const SECRET_PURPOSE: &str = "directory-secret";
/// Longest search filter, in characters.
const FILTER_CHARS: usize = 2000;

/// A directory to be searched.
#[derive(Clone)]
pub struct NewDirectory {
    /// Its name, for logs and pages: the domain.
    pub name: String,
    /// `ldap://host[:port]` or `ldaps://host[:port]`.
    pub url: String,
    /// Where the search begins, a distinguished name.
    pub base: String,
    /// Which users; empty: all of them.
    pub filter: String,
    /// Who searches, a distinguished name; empty: nobody in particular.
    pub bind_dn: String,
    /// The password of that account.
    pub secret: Option<Zeroizing<String>>,
    /// Certificates that the server's TLS may also lead to, PEM.
    pub ca_pem: Option<String>,
    /// Whether an `ldap:` connection turns to TLS before anything is said.
    pub start_tls: bool,
}

impl std::fmt::Debug for NewDirectory {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewDirectory")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Names the record.
    pub id: Guid,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Where the search begins.
    pub base: String,
    /// Which users; empty: all of them.
    pub filter: String,
    /// Who searches.
    pub bind_dn: String,
    /// Whether a secret is kept for it.
    pub has_secret: bool,
    /// Certificates that the server's TLS may also lead to, PEM.
    pub ca_pem: Option<String>,
    /// Whether an `ldap:` connection turns to TLS first.
    pub start_tls: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How its discovery stands.
    pub sync: SyncState,
}

/// An operation on directories was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A value is not taken.
    #[error("directory not taken")]
    Name(#[from] NameError),
    /// The name is in use.
    #[error("there is a directory called {0:?} already")]
    Exists(String),
    /// More than a site can need.
    #[error("more than {} directories", crate::limits::DIRECTORIES)]
    TooMany,
    /// A password would cross the network in the clear.
    #[error("a password goes over TLS only: use ldaps:// or start_tls")]
    ClearSecret,
    /// The search filter is longer than any real one.
    #[error("the search filter is longer than {FILTER_CHARS} characters")]
    Filter,
    /// Its certificates are no PEM file of a sensible size.
    #[error("the certificates of the directory's TLS are no PEM text of at most {CA_PEM_BYTES} bytes")]
    CaPem,
    /// No such directory.
    #[error("there is no directory {0}")]
    Unknown(Guid),
    /// The secret was not sealed or does not open.
    #[error("directory's secret not sealed or opened")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error("directories not read or written")]
    Database(#[from] DbError),
}

fn check(new: &NewDirectory) -> Result<(), DirectoryError> {
    check_name("directory name", &new.name)?;
    check_url("directory address", &new.url, &["ldap", "ldaps"])?;
    check_name("base", &new.base)?;
    check_text("account", &new.bind_dn)?;
    if new.filter.chars().count() > FILTER_CHARS || new.filter.chars().any(char::is_control) {
        return Err(DirectoryError::Filter);
    }
    if new.ca_pem.as_deref().is_some_and(|pem| !is_pem(pem)) {
        return Err(DirectoryError::CaPem);
    }
    if new.secret.is_some() && !new.start_tls && !new.url.starts_with("ldaps://") {
        return Err(DirectoryError::ClearSecret);
    }
    Ok(())
}

impl Site {
    /// Adds a directory; its users and computers are looked for at once.
    pub async fn add_directory(&self, by: &By, new: NewDirectory) -> Result<Directory, DirectoryError> {
        check(&new)?;
        let id = random_guid();
        let seal = |secret: &Zeroizing<String>| {
            self.key_file().seal(id.as_bytes(), SECRET_PURPOSE, secret.as_bytes())
        };
        let secret = new.secret.as_ref().map(seal).transpose()?;
        let scribe = self.scribe(by);
        let row = Directory {
            id,
            name: new.name,
            url: new.url.trim_end_matches('/').to_owned(),
            base: new.base,
            filter: new.filter,
            bind_dn: new.bind_dn,
            has_secret: secret.is_some(),
            ca_pem: new.ca_pem,
            start_tls: new.start_tls,
            created_at: scribe.now,
            created_by: by.actor.to_string(),
            sync: SyncState::default(),
        };
        let added = self.db().write(move |tx| {
            let others = db::directory::list(tx)?;
            if others.len() >= limits::DIRECTORIES {
                return Err(DirectoryError::TooMany);
            }
            if others.iter().any(|other| other.name == row.name) {
                return Err(DirectoryError::Exists(row.name.clone()));
            }
            db::directory::insert(tx, &row, secret.as_deref())?;
            let detail =
                json!({ "name": row.name, "url": row.url, "base": row.base, "account": row.bind_dn });
            scribe.note(tx, "directory.add", id, &detail)?;
            Ok(row.clone())
        });
        let added = added.await?;
        self.wanted_syncs().notify_one();
        Ok(added)
    }

    /// All directories.
    pub async fn list_directories(&self) -> Result<Vec<Directory>, DirectoryError> {
        let listed = self.db().read(|tx| {
            let mut rows = db::directory::list(tx)?;
            for row in &mut rows {
                let sync = db::user::find_sync(tx, SyncSource::Directory(row.id))?;
                row.sync = sync.map(|sync| sync.state).unwrap_or_default();
            }
            Ok::<_, DbError>(rows)
        });
        Ok(listed.await?)
    }

    /// Forgets a directory with its users and computers.
    pub async fn remove_directory(&self, by: &By, id: Guid) -> Result<(), DirectoryError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                if !db::directory::delete(tx, id)? {
                    return Err(DirectoryError::Unknown(id));
                }
                db::user::delete_source(tx, SyncSource::Directory(id))?;
                scribe.note(tx, "directory.remove", id, &json!({}))?;
                Ok(())
            })
            .await
    }

    /// The password of the searching account; `None`: none was given.
    pub async fn directory_secret(&self, id: Guid) -> Result<Option<Zeroizing<String>>, DirectoryError> {
        let found = self.db().read(move |tx| db::directory::find_secret(tx, id)).await?;
        let sealed = found.ok_or(DirectoryError::Unknown(id))?.0;
        sealed.map(|sealed| self.open_secret(id, SECRET_PURPOSE, &sealed)).transpose().map_err(Into::into)
    }
}
