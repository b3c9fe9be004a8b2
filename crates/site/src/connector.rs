//! Connection points: their bundle, their link certificate, when they were last heard.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::bundle::{ConnectorBundle, LinkIdentity};
use proto::id::{Guid, Thumbprint};
use proto::link::{RoleTarget, connector_name};
use proto::snapshot::Change;
use proto::time::Timestamp;
use proto::trust::Purpose;
use serde::Serialize;
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::audit::By;
use crate::db::{self, DbError};
use crate::event::LinkPartyKind;
use crate::keys::{CertificateError, ServerNames};
use crate::name::{NameError, check_host, check_name};
use crate::site::lock;
use crate::{Site, random_guid, snapshot};

/// A connection point to be added.
#[derive(Debug, Clone)]
pub struct NewConnector {
    /// Its name, for logs and pages.
    pub name: String,
    /// `host:port` of the site link, in the order of trying; at least one.
    pub site_links: Vec<String>,
}

/// A connection point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connector {
    /// Its id, which its link certificate names.
    pub id: Guid,
    /// Its name.
    pub name: String,
    /// Its link certificate.
    pub thumbprint: Thumbprint,
    /// When that certificate ends.
    pub certificate_expires_at: Timestamp,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was heard last and which program it runs; `None` after a start until it has called.
    pub last_seen: Option<(Timestamp, String)>,
}

/// An operation on connection points was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// Name or address are not taken.
    #[error("connection point not taken")]
    Name(#[from] NameError),
    /// The bundle would lead nowhere.
    #[error("no address of the site link was given")]
    NoSiteLink,
    /// The name is in use.
    #[error("there is a connection point called {0:?} already")]
    Exists(String),
    /// No such connection point.
    #[error("there is no connection point {0}")]
    Unknown(Guid),
    /// No link certificate.
    #[error("link certificate not made")]
    Certificate(#[from] CertificateError),
    /// The database failed.
    #[error("connection points not read or written")]
    Database(#[from] DbError),
}

impl Site {
    /// Adds a connection point and answers its bundle: the only copy of its link key.
    pub async fn add_connector(&self, by: &By, new: NewConnector) -> Result<ConnectorBundle, ConnectorError> {
        check_name("connection point name", &new.name)?;
        if new.site_links.is_empty() {
            return Err(ConnectorError::NoSiteLink);
        }
        for address in &new.site_links {
            check_host("site link", address)?;
        }
        let id = random_guid();
        let names = ServerNames { dns: vec![connector_name(id)], addresses: Vec::new() };
        let NewLink { link, party, serial } =
            link_identity(self, Purpose::LinkConnector, LinkPartyKind::Connector, id, &new.name, &names)?;
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                if db::link::is_name_taken(tx, LinkPartyKind::Connector, &party.name)? {
                    return Err(ConnectorError::Exists(party.name.clone()));
                }
                db::link::insert(tx, &party)?;
                db::crl::insert_issued(tx, party.thumbprint, &serial, party.expires_at, scribe.now)?;
                scribe.note(tx, "connection-point.add", id, &json!({ "name": party.name }))?;
                Ok(())
            })
            .await?;
        Ok(ConnectorBundle {
            format: ConnectorBundle::FORMAT.to_owned(),
            site_code: self.facts().code,
            connector: id,
            name: new.name,
            site_root_pem: pem("CERTIFICATE", &self.root_certificate()),
            link,
            site_links: new.site_links,
        })
    }

    /// Removes a connection point: its link certificate is withdrawn everywhere.
    pub async fn remove_connector(&self, by: &By, id: Guid) -> Result<(), ConnectorError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let party = db::link::withdraw(tx, LinkPartyKind::Connector, id)?;
                let party = party.ok_or(ConnectorError::Unknown(id))?;
                db::crl::revoke_issued(tx, party.thumbprint, scribe.now)?;
                snapshot::publish(tx, scribe.now, &Change::WithdrawLink(party.thumbprint))?;
                scribe.note(tx, "connection-point.remove", id, &json!({ "name": party.name }))?;
                Ok::<_, ConnectorError>(())
            })
            .await?;
        lock(&self.inner.connectors_seen).remove(&id);
        lock(&self.inner.gateway_states).retain(|(_, connector), _| *connector != id);
        self.publish_committed().await;
        self.announce_topology();
        Ok(())
    }

    /// All connection points.
    pub async fn list_connectors(&self) -> Result<Vec<Connector>, DbError> {
        let rows = self.db().read(|tx| db::link::list(tx, LinkPartyKind::Connector)).await?;
        let seen = lock(&self.inner.connectors_seen);
        let view = |row: db::link::PartyRow| Connector {
            id: row.id,
            name: row.name,
            thumbprint: row.thumbprint,
            certificate_expires_at: row.expires_at,
            created_at: row.created_at,
            last_seen: seen.get(&row.id).cloned(),
        };
        Ok(rows.into_iter().map(view).collect())
    }

    /// Where connection points forward to: roles with gateway traffic only.
    pub async fn list_role_targets(&self) -> Result<Vec<RoleTarget>, DbError> {
        let roles = self.list_roles().await?;
        let snapshot = self.current_snapshot();
        let open = roles.iter().filter(|role| role.gateway_traffic);
        Ok(open.map(|role| role.target(&snapshot.trust)).collect())
    }
}

/// A link identity just made.
pub(crate) struct NewLink {
    /// For the bundle: the only copy of the key.
    pub(crate) link: LinkIdentity,
    /// The row by which the site knows its holder.
    pub(crate) party: db::link::PartyRow,
    /// The certificate's serial, by which it can be revoked.
    pub(crate) serial: Vec<u8>,
}

/// Makes link key and certificate for a host, and the row by which the site knows it.
pub(crate) fn link_identity(
    site: &Site,
    purpose: Purpose,
    kind: LinkPartyKind,
    id: Guid,
    name: &str,
    names: &ServerNames,
) -> Result<NewLink, CertificateError> {
    let now = site.now();
    let issued = site.keys().issue_leaf(purpose, names, now)?;
    let leaf = issued.chain.first().map(Vec::as_slice).unwrap_or_default();
    let parsed = X509Certificate::from_der(leaf).map(|(_, certificate)| {
        let end = Timestamp::from_seconds(certificate.validity().not_after.timestamp());
        (end, certificate.raw_serial().to_vec())
    });
    // What was just made can be read; if not, it counts for nothing from the beginning.
    let (expires_at, serial) = parsed.unwrap_or_else(|_| (now, Vec::new()));
    let party = db::link::PartyRow {
        id,
        kind,
        name: name.to_owned(),
        host: String::new(),
        address: String::new(),
        thumbprint: Thumbprint::of(leaf),
        expires_at,
        created_at: now,
        withdrawn: false,
    };
    let chain: String = issued.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let link = LinkIdentity { certificate_pem: chain, key_pem: pem("PRIVATE KEY", &issued.key) };
    Ok(NewLink { link, party, serial })
}

/// PEM as RFC 7468 writes it: 64 characters a line.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out + "-----END " + label + "-----\n"
}
