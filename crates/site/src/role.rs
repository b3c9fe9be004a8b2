//! Published roles: management points by number, address and mode.

use proto::id::RoleId;
use proto::link::{RoleTarget, RoleTrust};
use proto::pki::TrustList;
use proto::snapshot::{Change, PublishedRole};
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::db::{self, DbError};
use crate::name::{NameError, check_base_url, check_name};
use crate::{Site, client_settings, snapshot};

pub use proto::combination::Mode as RoleMode;

/// A role to be published.
#[derive(Debug, Clone)]
pub struct NewRole {
    /// Its name, for logs and pages.
    pub name: String,
    /// Base URL inside, without a path.
    pub internal_url: String,
    /// How it speaks to clients inside.
    pub mode: RoleMode,
    /// Whether gateways pass requests to it.
    pub gateway_traffic: bool,
}

/// What to change of a role; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct RoleChange {
    /// Base URL inside.
    pub internal_url: Option<String>,
    /// How it speaks to clients inside.
    pub mode: Option<RoleMode>,
    /// Whether gateways pass requests to it.
    pub gateway_traffic: Option<bool>,
    /// Whether a role in HTTPS mode demands the connection point's own client certificate.
    pub demand_client_certificate: Option<bool>,
}

/// A published role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Its number in external paths: 2^56 and a small number.
    pub id: RoleId,
    /// Its name.
    pub name: String,
    /// What it is; the only kind so far is `management-point`.
    pub kind: String,
    /// Base URL inside. Known to connection points, never to gateways.
    pub internal_url: String,
    /// How it speaks to clients inside.
    pub mode: RoleMode,
    /// Whether gateways pass requests to it.
    pub gateway_traffic: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// Whether, in HTTPS mode, it demands the connection point's own client certificate.
    pub demand_client_certificate: bool,
}

impl Role {
    /// The role as gateways know it: without its address.
    pub(crate) fn published(&self) -> PublishedRole {
        PublishedRole {
            role: self.id,
            name: self.name.clone(),
            gateway_traffic: self.gateway_traffic,
            mode: self.mode,
        }
    }

    /// The role as connection points know it. In HTTPS mode its certificate comes from the
    /// organisation's PKI: the trust list says by whom.
    pub(crate) fn target(&self, trust: &TrustList) -> RoleTarget {
        let https = self.mode == RoleMode::Https;
        RoleTarget {
            role: self.id,
            internal_url: self.internal_url.clone(),
            trust: if https { RoleTrust::Pki { list: trust.clone() } } else { RoleTrust::Site },
            client_certificate: https && self.demand_client_certificate,
        }
    }
}

/// An operation on roles was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Name or address are not taken.
    #[error("role not taken")]
    Name(#[from] NameError),
    /// The name is in use.
    #[error("there is a role called {0:?} already")]
    Exists(String),
    /// No such role.
    #[error("there is no role {0}")]
    Unknown(RoleId),
    /// The database failed.
    #[error("roles not read or written")]
    Database(#[from] DbError),
}

const KIND: &str = "management-point";

impl Site {
    /// Publishes a management point under the next number.
    pub async fn add_role(&self, by: &By, new: NewRole) -> Result<Role, RoleError> {
        check_name("role name", &new.name)?;
        check_base_url("internal URL", &new.internal_url)?;
        let scribe = self.scribe(by);
        let site = self.facts().code;
        let role = self
            .db()
            .write(move |tx| {
                if db::role::list(tx)?.iter().any(|role| role.name == new.name) {
                    return Err(RoleError::Exists(new.name.clone()));
                }
                let role = Role {
                    id: db::role::next_id(tx)?,
                    name: new.name.clone(),
                    kind: KIND.to_owned(),
                    internal_url: new.internal_url.clone(),
                    mode: new.mode,
                    gateway_traffic: new.gateway_traffic,
                    created_at: scribe.now,
                    demand_client_certificate: false,
                };
                db::role::insert(tx, &role)?;
                snapshot::publish(tx, scribe.now, &Change::SetRole(role.published()))?;
                client_settings::refresh(tx, site, scribe.now)?;
                scribe.note(tx, "role.add", role.id, &detail(&role))?;
                Ok(role)
            })
            .await?;
        self.publish_committed().await;
        self.announce_topology();
        Ok(role)
    }

    /// Changes a role: address, mode, gateway traffic.
    pub async fn set_role(&self, by: &By, id: RoleId, change: RoleChange) -> Result<Role, RoleError> {
        if let Some(url) = &change.internal_url {
            check_base_url("internal URL", url)?;
        }
        let scribe = self.scribe(by);
        let site = self.facts().code;
        let role = self
            .db()
            .write(move |tx| {
                let mut role = db::role::find(tx, id)?.ok_or(RoleError::Unknown(id))?;
                let before = role.published();
                role.internal_url = change.internal_url.clone().unwrap_or(role.internal_url);
                role.mode = change.mode.unwrap_or(role.mode);
                role.gateway_traffic = change.gateway_traffic.unwrap_or(role.gateway_traffic);
                role.demand_client_certificate =
                    change.demand_client_certificate.unwrap_or(role.demand_client_certificate);
                db::role::update(tx, &role)?;
                if role.published() != before {
                    snapshot::publish(tx, scribe.now, &Change::SetRole(role.published()))?;
                    client_settings::refresh(tx, site, scribe.now)?;
                }
                scribe.note(tx, "role.set", id, &detail(&role))?;
                Ok::<_, RoleError>(role)
            })
            .await?;
        self.publish_committed().await;
        self.announce_topology();
        Ok(role)
    }

    /// Takes a role back: gateways refuse its path within seconds.
    pub async fn remove_role(&self, by: &By, id: RoleId) -> Result<(), RoleError> {
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                let role = db::role::find(tx, id)?.ok_or(RoleError::Unknown(id))?;
                db::role::delete(tx, id)?;
                snapshot::publish(tx, scribe.now, &Change::RemoveRole(id))?;
                client_settings::refresh(tx, site, scribe.now)?;
                scribe.note(tx, "role.remove", id, &detail(&role))?;
                Ok::<_, RoleError>(())
            })
            .await?;
        self.publish_committed().await;
        self.announce_topology();
        Ok(())
    }

    /// A role by its number.
    pub async fn find_role(&self, id: RoleId) -> Result<Option<Role>, DbError> {
        self.db().read(move |tx| db::role::find(tx, id)).await
    }

    /// All roles.
    pub async fn list_roles(&self) -> Result<Vec<Role>, DbError> {
        self.db().read(db::role::list).await
    }
}

fn detail(role: &Role) -> serde_json::Value {
    json!({
        "name": role.name, "url": role.internal_url, "mode": role.mode.as_str(),
        "gateway-traffic": role.gateway_traffic, "demand-client-certificate": role.demand_client_certificate,
    })
}

#[cfg(test)]
mod tests {
    use proto::pki::TrustedCa;

    use super::*;

    #[test]
    fn a_connection_point_trusts_a_role_by_its_mode() {
        let trust = TrustList { authorities: vec![TrustedCa { der: vec![1], root: true }] };
        let mut role = Role {
            id: RoleId::FIRST,
            name: String::new(),
            kind: KIND.to_owned(),
            internal_url: String::new(),
            mode: RoleMode::default(),
            gateway_traffic: true,
            created_at: Timestamp::default(),
            demand_client_certificate: true,
        };
        assert_eq!(role.mode, RoleMode::Ehttp, "the default");
        let target = role.target(&trust);
        assert_eq!((target.trust, target.client_certificate), (RoleTrust::Site, false));
        role.mode = RoleMode::Https;
        let target = role.target(&trust);
        assert_eq!((target.trust, target.client_certificate), (RoleTrust::Pki { list: trust }, true));
    }
}
