//! The client settings policy: what every client obeys, made from the site settings.
//!
//! It is public and unsecret: the list of gateways is what any client is told anyway. A change of
//! a setting, a gateway or a role makes a new version in the same transaction.

use proto::id::SiteCode;
use proto::request::policy_body::{CimProperty, CimValue, PolicyBody, PolicyInstance};
use proto::request::policy_query::PolicyId;
use proto::time::Timestamp;

use crate::db::{self, DbError, Tx};
use crate::policy::{self, ALL_DEVICES, PolicyProtection};
use crate::setting::Settings;

/// The policy's id, the same at every site, so that a client knows its settings by it.
pub(crate) const POLICY_ID: &str = "{5f0d8c1e-7a34-4b1c-9e52-3c7d10a6e2b8}";
/// The category of client settings [observed].
pub(crate) const CATEGORY: &str = "ClientAgentConfig";

/// Makes a new version if anything in it changed.
pub(crate) fn refresh(
    tx: &mut dyn Tx,
    site: SiteCode,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), DbError> {
    let id: PolicyId = POLICY_ID.parse().expect("the constant above is a GUID in braces");
    let gateways = gateway_addresses(tx)?;
    let revision = db::policy::newest_revision(tx, POLICY_ID)?;
    let compose = |revision| body(&id, &policy::version(revision), site, settings, &gateways).to_bytes();
    if let Some(existing) = db::policy::find(tx, POLICY_ID, &policy::version(revision))?
        && existing.hash == policy::hash(&compose(revision))
    {
        return Ok(());
    }
    let served = compose(revision + 1);
    let row = db::policy::PolicyRow {
        id: POLICY_ID.to_owned(),
        version: policy::version(revision + 1),
        hash: policy::hash(&served),
        body: served,
        category: CATEGORY.to_owned(),
        flags: PolicyProtection::Public.flags(),
        revision: revision + 1,
        created_at: now,
    };
    db::policy::insert(tx, &row)?;
    db::policy::assign(tx, &row.id, &row.version, ALL_DEVICES, now)?;
    db::policy::raise_serial(tx).map(drop)
}

/// `host/CCM_Proxy_MutualAuth/<role>` of every gateway and role that takes gateway traffic: the
/// form in which clients are told gateways [docs].
fn gateway_addresses(tx: &mut dyn Tx) -> Result<Vec<String>, DbError> {
    let roles = db::role::list(tx)?;
    let gateways = db::link::list_gateways(tx)?;
    let open = roles.iter().filter(|role| role.gateway_traffic);
    Ok(open
        .flat_map(|role| {
            gateways.iter().map(move |gateway| format!("{}/CCM_Proxy_MutualAuth/{}", gateway.host, role.id))
        })
        .collect())
}

/// The settings as the client reads them.
fn body(
    id: &PolicyId,
    version: &str,
    site: SiteCode,
    settings: &Settings,
    gateways: &[String],
) -> PolicyBody {
    let minutes = u32::try_from(settings.policy_polling_interval.as_secs() / 60).unwrap_or(u32::MAX);
    let property = |name: &str, value| CimProperty { name: name.to_owned(), value };
    let instance = PolicyInstance {
        class: "CCM_ClientAgentConfig".to_owned(),
        properties: vec![
            property("SiteSettingsKey", CimValue::UInt32(1)),
            property("PolicyPollingInterval", CimValue::UInt32(minutes)),
            property("EnableCloudGateway", CimValue::Boolean(settings.enable_cmg)),
            property("CloudGatewayList", CimValue::String(gateways.join(";"))),
            property("AllowFirstUse", CimValue::Boolean(settings.allow_first_use)),
            property("LogLevel", CimValue::String(settings.client_log_level.clone())),
        ],
    };
    PolicyBody::of_instances(id.clone(), version, &format!("SMS:{site}"), vec![instance])
}
