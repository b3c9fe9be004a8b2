//! Gateways: their bundle, their link certificate, what is known of them.

use proto::bundle::GatewayBundle;
use proto::id::{Guid, Thumbprint};
use proto::link::{GatewayState, GatewayTarget, gateway_name};
use proto::snapshot::Change;
use proto::time::Timestamp;
use proto::trust::Purpose;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::connector::{NewLink, link_identity, pem};
use crate::db::{self, DbError};
use crate::event::LinkPartyKind;
use crate::keys::{CertificateError, ServerNames};
use crate::name::{NameError, check_host, check_name};
use crate::site::lock;
use crate::snapshot::SnapshotError;
use crate::{Site, client_settings, random_guid, snapshot};

/// A gateway to be added.
#[derive(Debug, Clone)]
pub struct NewGateway {
    /// Its name, for logs and pages.
    pub name: String,
    /// External address `host[:port]` as devices write it.
    pub host: String,
    /// `host:port` as connection points reach it.
    pub address: String,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gateway {
    /// Its id, which its link certificate names.
    pub id: Guid,
    /// Its name.
    pub name: String,
    /// External address as devices write it.
    pub host: String,
    /// Address as connection points reach it.
    pub address: String,
    /// Its link certificate.
    pub thumbprint: Thumbprint,
    /// When that certificate ends.
    pub certificate_expires_at: Timestamp,
    /// When it was added.
    pub created_at: Timestamp,
    /// How each connection point sees it, as last reported: id, when, state. Empty after a start
    /// until they have reported.
    pub seen_by: Vec<(Guid, Timestamp, GatewayState)>,
}

/// What a connection point said last of a gateway.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    at: Timestamp,
    /// Since when all its reports have said that there are tunnels.
    tunnels_since: Option<Timestamp>,
    state: GatewayState,
}

impl Report {
    /// The report that takes the place of the one before.
    pub(crate) fn after(before: Option<Self>, state: GatewayState, now: Timestamp) -> Self {
        let since = before.and_then(|before| before.tunnels_since).unwrap_or(now);
        Self { at: now, tunnels_since: (state.tunnels > 0).then_some(since), state }
    }
}

/// Which gateways have taken a version of what is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acknowledgements {
    /// The version asked for.
    pub version: u64,
    /// How many gateways have acknowledged it, or a later one.
    pub acknowledged: usize,
    /// How many there are.
    pub all: usize,
    /// Names of those that have not.
    pub waiting: Vec<String>,
}

/// An operation on gateways was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Name or address are not taken.
    #[error("gateway not taken")]
    Name(#[from] NameError),
    /// The name is in use.
    #[error("there is a gateway called {0:?} already")]
    Exists(String),
    /// No such gateway.
    #[error("there is no gateway {0}")]
    Unknown(Guid),
    /// No link certificate.
    #[error("link certificate not made")]
    Certificate(#[from] CertificateError),
    /// No snapshot for the bundle.
    #[error("bundle not made")]
    Snapshot(#[from] SnapshotError),
    /// The database failed.
    #[error("gateways not read or written")]
    Database(#[from] DbError),
}

impl Site {
    /// Adds a gateway and answers its bundle: the only copy of its link key.
    pub async fn add_gateway(&self, by: &By, new: NewGateway) -> Result<GatewayBundle, GatewayError> {
        check_name("gateway name", &new.name)?;
        check_host("host", &new.host)?;
        check_host("address", &new.address)?;
        let id = random_guid();
        let names = ServerNames { dns: vec![gateway_name(id)], addresses: Vec::new() };
        let NewLink { link, party, serial } =
            link_identity(self, Purpose::LinkGateway, LinkPartyKind::Gateway, id, &new.name, &names)?;
        let party = db::link::PartyRow { host: new.host, address: new.address, ..party };
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                if db::link::is_name_taken(tx, LinkPartyKind::Gateway, &party.name)? {
                    return Err(GatewayError::Exists(party.name.clone()));
                }
                db::link::insert(tx, &party)?;
                db::crl::insert_issued(tx, party.thumbprint, &serial, party.expires_at, scribe.now)?;
                client_settings::refresh(tx, site, scribe.now)?;
                let detail = json!({ "name": party.name, "host": party.host, "address": party.address });
                scribe.note(tx, "gateway.add", id, &detail)?;
                Ok(())
            })
            .await?;
        self.announce_topology();
        Ok(GatewayBundle {
            format: GatewayBundle::FORMAT.to_owned(),
            site_code: site,
            gateway: id,
            name: new.name,
            site_root_pem: pem("CERTIFICATE", &self.root_certificate()),
            link,
            snapshot: (*self.snapshot()?).clone(),
        })
    }

    /// Removes a gateway: its link certificate is withdrawn, connection points leave it within
    /// five seconds (R43).
    pub async fn remove_gateway(&self, by: &By, id: Guid) -> Result<(), GatewayError> {
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                let party =
                    db::link::withdraw(tx, LinkPartyKind::Gateway, id)?.ok_or(GatewayError::Unknown(id))?;
                db::crl::revoke_issued(tx, party.thumbprint, scribe.now)?;
                snapshot::publish(tx, scribe.now, &Change::WithdrawLink(party.thumbprint))?;
                client_settings::refresh(tx, site, scribe.now)?;
                scribe.note(tx, "gateway.remove", id, &json!({ "name": party.name }))?;
                Ok::<_, GatewayError>(())
            })
            .await?;
        lock(&self.inner.gateway_states).retain(|(gateway, _), _| *gateway != id);
        self.publish_committed().await;
        self.announce_topology();
        Ok(())
    }

    /// All gateways, with what connection points last reported of them.
    pub async fn list_gateways(&self) -> Result<Vec<Gateway>, DbError> {
        let rows = self.db().read(db::link::list_gateways).await?;
        let states = lock(&self.inner.gateway_states);
        let seen_by = |id: Guid| {
            let reports = states.range((id, Guid::nil())..).take_while(|((gateway, _), _)| *gateway == id);
            reports.map(|((_, connector), report)| (*connector, report.at, report.state.clone())).collect()
        };
        let view = |row: db::link::PartyRow| Gateway {
            id: row.id,
            name: row.name,
            host: row.host,
            address: row.address,
            thumbprint: row.thumbprint,
            certificate_expires_at: row.expires_at,
            created_at: row.created_at,
            seen_by: seen_by(row.id),
        };
        Ok(rows.into_iter().map(view).collect())
    }

    /// Since when a connection point has had tunnels to a gateway, as far as it has told this process;
    /// `None`: it has none.
    pub fn tunnels_since(&self, gateway: Guid, connector: Guid) -> Option<Timestamp> {
        lock(&self.inner.gateway_states).get(&(gateway, connector))?.tunnels_since
    }

    /// Which gateways have acknowledged a version, as connection points last reported: how far a block
    /// has got.
    pub async fn acknowledgements(&self, version: u64) -> Result<Acknowledgements, DbError> {
        let gateways = self.list_gateways().await?;
        let has = |gateway: &&Gateway| gateway.seen_by.iter().any(|(_, _, state)| state.version >= version);
        let waiting: Vec<_> =
            gateways.iter().filter(|gateway| !has(gateway)).map(|gateway| gateway.name.clone()).collect();
        Ok(Acknowledgements {
            version,
            acknowledged: gateways.len() - waiting.len(),
            all: gateways.len(),
            waiting,
        })
    }

    /// Names of gateways with a tunnel that have not acknowledged a version.
    pub(crate) async fn list_connected_behind(&self, version: u64) -> Result<Vec<String>, DbError> {
        let gateways = self.list_gateways().await?;
        let behind = gateways.into_iter().filter(|gateway| {
            let states = || gateway.seen_by.iter().map(|(_, _, state)| state);
            states().any(|state| state.tunnels > 0) && !states().any(|state| state.version >= version)
        });
        Ok(behind.map(|gateway| gateway.name).collect())
    }

    /// Whom connection points dial: the complete list.
    pub async fn list_gateway_targets(&self) -> Result<Vec<GatewayTarget>, DbError> {
        let rows = self.db().read(db::link::list_gateways).await?;
        let target = |row: db::link::PartyRow| GatewayTarget {
            gateway: row.id,
            name: row.name,
            address: row.address,
            host: row.host,
        };
        Ok(rows.into_iter().map(target).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_there_since_the_first_report_of_one_after_none() {
        let at = Timestamp::from_seconds;
        let state =
            |tunnels| GatewayState { gateway: Guid::nil(), tunnels, shards: 2, version: 1, problem: None };
        let mut report = None;
        for (second, tunnels, since) in [
            (1, 0, None),
            (2, 1, Some(2)),
            (3, 2, Some(2)),
            (4, 1, Some(2)),
            (5, 0, None),
            (6, 0, None),
            (7, 2, Some(7)),
        ] {
            let next = Report::after(report.take(), state(tunnels), at(second));
            assert_eq!((next.at, next.tunnels_since), (at(second), since.map(at)), "{second}");
            report = Some(next);
        }
    }
}
