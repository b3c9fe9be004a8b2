//! A signed-in connection to a directory.

use std::time::Duration;

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry};
use runtime::Clock;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout};

use super::entry::{Computer, Person};
use super::error::{DirectoryError, password_reason};
use super::mark::Mark;
use super::search::Search;
use crate::config::Attributes;
use crate::outbound::tls;

/// Time for the connection with its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for one answer: a page of results at most.
pub(super) const ANSWER: Duration = Duration::from_mins(1);
/// Result "invalid credentials".
const INVALID_CREDENTIALS: u32 = 49;

/// A directory, where to search in it, and as whom.
#[derive(Debug, Clone)]
pub struct DirectorySource {
    /// `ldap://host[:port]` or `ldaps://host[:port]`.
    pub url: String,
    /// Where the search begins.
    pub base: String,
    /// Which users; empty: all.
    pub filter: String,
    /// Who searches; empty: nobody in particular.
    pub bind_dn: String,
    /// That account's password.
    pub secret: Option<SecretString>,
    /// Authorities of the server's certificate besides the system's, PEM.
    pub ca_pem: Option<String>,
    /// Whether a connection to `ldap://` turns to TLS before anything is said.
    pub start_tls: bool,
    /// What its attributes are called.
    pub attributes: Attributes,
}

/// What kind of directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Active Directory: the server, and its last change at sign-in.
    Active { server: String, highest: u64 },
    /// Another.
    Other,
}

/// A connection. Ends when dropped.
#[derive(Debug)]
pub struct Session {
    ldap: Ldap,
    source: DirectorySource,
    kind: Kind,
    begun: Instant,
    /// Latest change seen, in a directory that dates them.
    newest: Option<proto::time::Timestamp>,
}

impl Session {
    /// Connects, checks the server's certificate by `clock`, signs in.
    pub async fn open(source: DirectorySource, clock: &Clock) -> Result<Self, DirectoryError> {
        let secure = source.url.starts_with("ldaps://") || source.start_tls;
        if source.secret.is_some() && !secure {
            return Err(DirectoryError::ClearPassword);
        }
        let mut settings = LdapConnSettings::new().set_conn_timeout(CONNECT).set_starttls(source.start_tls);
        if secure {
            settings = settings.set_config(tls(clock, source.ca_pem.as_deref())?);
        }
        let connecting = LdapConnAsync::with_settings(settings, &source.url);
        let connected = timeout(CONNECT, connecting).await.map_err(|_| DirectoryError::TimedOut(CONNECT))?;
        let (connection, mut ldap) = connected.map_err(|error| DirectoryError::of(error, CONNECT))?;
        // It ends with the last handle. What it says was said to the operation, too.
        tokio::spawn(async move { drop(connection.drive().await) });
        sign_in(&mut ldap, &source).await?;
        let kind = kind(&mut ldap).await?;
        Ok(Self { ldap, source, kind, begun: Instant::now(), newest: None })
    }

    /// Users: all, or those that changed since a mark.
    pub async fn users(&mut self, since: Option<&Mark>) -> Result<Search<'_, Person>, DirectoryError> {
        let filter = match (self.source.filter.trim(), &self.kind) {
            ("", Kind::Active { .. }) => "(&(objectCategory=person)(objectClass=user))",
            ("", Kind::Other) => "(objectClass=person)",
            (filter, _) => filter,
        };
        let filter = self.since(filter, since)?;
        Search::begin(&self.ldap, &self.source, filter, self.dates(), &mut self.newest).await
    }

    /// Computers likewise.
    pub async fn computers(&mut self, since: Option<&Mark>) -> Result<Search<'_, Computer>, DirectoryError> {
        let filter = self.since(&self.source.attributes.computers, since)?;
        Search::begin(&self.ldap, &self.source, filter, self.dates(), &mut self.newest).await
    }

    /// Where the next delta begins, once users and computers were read; `None` where nothing is
    /// known to begin at.
    pub fn mark(&self) -> Option<Mark> {
        match &self.kind {
            Kind::Active { server, highest } => Some(Mark::Usn { server: server.clone(), after: *highest }),
            Kind::Other => self.newest.map(|newest| Mark::before(newest, self.begun.elapsed())),
        }
    }

    /// Ends the connection politely.
    pub async fn close(mut self) {
        // The server learns of it either way.
        let _ = timeout(CONNECT, self.ldap.unbind()).await;
    }

    fn dates(&self) -> bool {
        self.kind == Kind::Other
    }

    fn since(&self, filter: &str, since: Option<&Mark>) -> Result<String, DirectoryError> {
        let Some(mark) = since else { return Ok(filter.to_owned()) };
        let fits = match (mark, &self.kind) {
            (Mark::Usn { server, after }, Kind::Active { server: this, highest }) => {
                server == this && after <= highest
            }
            (Mark::Time { .. }, Kind::Other) => true,
            _ => false,
        };
        if fits { Ok(format!("(&{filter}{})", mark.filter())) } else { Err(DirectoryError::Resync) }
    }
}

async fn sign_in(ldap: &mut Ldap, source: &DirectorySource) -> Result<(), DirectoryError> {
    // A name without a password would be an unauthenticated bind, which succeeds for anybody.
    let Some(secret) = source.secret.as_ref().filter(|_| !source.bind_dn.is_empty()) else { return Ok(()) };
    let bound = ldap.with_timeout(ANSWER).simple_bind(&source.bind_dn, secret.expose_secret()).await;
    let result = bound.map_err(|error| DirectoryError::of(error, ANSWER))?;
    match result.rc {
        0 => Ok(()),
        INVALID_CREDENTIALS => Err(DirectoryError::Password {
            account: source.bind_dn.clone(),
            reason: password_reason(&result.text),
        }),
        _ => Err(DirectoryError::of_search(&result, &source.base, &source.bind_dn)),
    }
}

/// Asks the server what it is.
async fn kind(ldap: &mut Ldap) -> Result<Kind, DirectoryError> {
    let attributes = vec!["highestCommittedUSN", "dsServiceName"];
    let asked = ldap.with_timeout(ANSWER).search("", Scope::Base, "(objectClass=*)", attributes).await;
    let found = match asked {
        Ok(found) => found.success(),
        Err(error) => return Err(DirectoryError::of(error, ANSWER)),
    };
    let entries = match found {
        Ok((entries, _)) => entries,
        // A server that hides this is none of Microsoft's.
        Err(LdapError::LdapResult { .. }) => return Ok(Kind::Other),
        Err(error) => return Err(DirectoryError::of(error, ANSWER)),
    };
    let root = entries.into_iter().next().map(SearchEntry::construct);
    let first = |name: &str| root.as_ref()?.attrs.get(name)?.first().cloned();
    let highest = first("highestCommittedUSN").and_then(|number| number.parse().ok());
    Ok(match (first("dsServiceName"), highest) {
        (Some(server), Some(highest)) => Kind::Active { server, highest },
        _ => Kind::Other,
    })
}
