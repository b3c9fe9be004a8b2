//! The policy that carries client settings: one body for each combination of custom settings that
//! some device has, a new version when what it says changes.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use proto::id::{Guid, SiteCode};
use proto::request::policy_body::{CimProperty, CimValue, PolicyBody, PolicyInstance};
use proto::request::policy_query::PolicyId;
use proto::time::Timestamp;

use super::known::{Form, NONE, STANDARD};
use super::{Objects, Resolved};
use crate::db::{self, DbError, Tx};
use crate::policy::{self, PolicyProtection};
use crate::role::RoleMode;

/// The policy's id, the same at every site, so that a client knows its settings by it.
pub(crate) const POLICY_ID: &str = "{5f0d8c1e-7a34-4b1c-9e52-3c7d10a6e2b8}";
/// The category of client settings [observed].
const CATEGORY: &str = "ClientAgentConfig";

/// Makes new versions of all bodies whose content changed with the site settings, the gateways or
/// the custom settings. A combination that no body is there for yet gets one when a device of it
/// asks, see [`current_version`].
pub(crate) fn refresh(tx: &mut dyn Tx, site: SiteCode, now: Timestamp) -> Result<(), DbError> {
    let objects = Objects::load(tx)?;
    let gateways = gateway_addresses(tx)?;
    let mut changed = false;
    let mut variants = db::client_settings::list_variants(tx)?;
    if !variants.iter().any(String::is_empty) {
        variants.push(String::new());
    }
    for variant in variants {
        let applied: Option<Vec<Guid>> =
            variant.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().ok()).collect();
        match applied.and_then(|applied| objects.resolve_applied(&applied)) {
            Some(resolved) => changed |= put_variant(tx, site, &resolved, &gateways, now)?.1,
            None => db::client_settings::forget_variant(tx, &variant)?,
        }
    }
    if changed { db::policy::raise_serial(tx).map(drop) } else { Ok(()) }
}

/// The version of the body that says what results for a device; `None` where it is still to be
/// made by [`make_version`].
pub(crate) fn current_version(tx: &mut dyn Tx, resolved: &Resolved) -> Result<Option<String>, DbError> {
    let gateways = gateway_addresses(tx)?;
    let found = db::client_settings::find_variant(tx, &resolved.variant())?;
    Ok(found.filter(|(content, _)| *content == content_of(resolved, &gateways)).map(|(_, version)| version))
}

/// The same, and the body is made where it is not there.
pub(crate) fn make_version(
    tx: &mut dyn Tx,
    site: SiteCode,
    resolved: &Resolved,
    now: Timestamp,
) -> Result<String, DbError> {
    let gateways = gateway_addresses(tx)?;
    let known = db::client_settings::find_variant(tx, &resolved.variant())?.is_some();
    let (version, changed) = put_variant(tx, site, resolved, &gateways, now)?;
    if known && changed {
        // What changed it should have done this; a list never changes under its serial.
        db::policy::raise_serial(tx)?;
    }
    Ok(version)
}

/// Leads a combination to a body that says what results: the one it has, one that another
/// combination has, or a new one. Answers its version, and whether the combination has changed it.
fn put_variant(
    tx: &mut dyn Tx,
    site: SiteCode,
    resolved: &Resolved,
    gateways: &[String],
    now: Timestamp,
) -> Result<(String, bool), DbError> {
    let variant = resolved.variant();
    let content = content_of(resolved, gateways);
    if let Some((_, version)) =
        db::client_settings::find_variant(tx, &variant)?.filter(|(known, _)| *known == content)
    {
        return Ok((version, false));
    }
    let version = match db::client_settings::find_content(tx, &content)? {
        Some(version) => version,
        None => insert_body(tx, site, resolved, gateways, now)?,
    };
    db::client_settings::put_variant(tx, &variant, &content, &version)?;
    Ok((version, true))
}

fn insert_body(
    tx: &mut dyn Tx,
    site: SiteCode,
    resolved: &Resolved,
    gateways: &[String],
    now: Timestamp,
) -> Result<String, DbError> {
    let id: PolicyId = POLICY_ID.parse().expect("the constant above is a GUID in braces");
    let revision = db::policy::newest_revision(tx, POLICY_ID)? + 1;
    let version = policy::version(revision);
    let served = compose(&id, &version, site, resolved, gateways).to_bytes();
    let row = db::policy::PolicyRow {
        id: POLICY_ID.to_owned(),
        version: version.clone(),
        hash: policy::hash(&served),
        body: served,
        category: CATEGORY.to_owned(),
        flags: PolicyProtection::Public.flags(),
        revision,
        created_at: now,
    };
    db::policy::insert(tx, &row)?;
    Ok(version)
}

/// `host/CCM_Proxy_MutualAuth/<role>` of every gateway and role that takes gateway traffic: the
/// form in which clients are told gateways [docs]. A role in plain HTTP takes none, whatever else its
/// record says: a gateway refuses it there (RG-1006).
pub(super) fn gateway_addresses(tx: &mut dyn Tx) -> Result<Vec<String>, DbError> {
    let roles = db::role::list(tx)?;
    let gateways = db::link::list_gateways(tx)?;
    let open = roles.iter().filter(|role| role.gateway_traffic && role.mode != RoleMode::Http);
    Ok(open
        .flat_map(|role| {
            gateways.iter().map(move |gateway| format!("{}/CCM_Proxy_MutualAuth/{}", gateway.host, role.id))
        })
        .collect())
}

/// A hash of what a body says, whatever its version.
fn content_of(resolved: &Resolved, gateways: &[String]) -> Vec<u8> {
    let mut text = String::new();
    for (known, value) in resolved.values() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}={}:{value}", known.name, value.len());
    }
    text.push_str(&gateways.join("\n"));
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// The settings as the client reads them.
fn compose(
    id: &PolicyId,
    version: &str,
    site: SiteCode,
    resolved: &Resolved,
    gateways: &[String],
) -> PolicyBody {
    let property = |name: &str, value| CimProperty { name: name.to_owned(), value };
    let mut properties = vec![property("SiteSettingsKey", CimValue::UInt32(1))];
    properties
        .extend(resolved.values().map(|(known, value)| property(known.name, written(known.form, value))));
    properties.push(property("CloudGatewayList", CimValue::String(gateways.join(";"))));
    let instance = PolicyInstance { class: "CCM_ClientAgentConfig".to_owned(), properties };
    PolicyBody::of_instances(id.clone(), version, &format!("SMS:{site}"), vec![instance])
}

fn written(form: Form, value: &str) -> CimValue {
    match form {
        Form::Switch => CimValue::Boolean(value == "yes"),
        // Stored values were read by their form, so this is always a number.
        Form::Number { .. } => CimValue::UInt32(value.parse().unwrap_or_default()),
        // The client's own standard is the empty text.
        Form::Methods if value == STANDARD => CimValue::String(String::new()),
        Form::Address if value == NONE => CimValue::String(String::new()),
        Form::Word(_) | Form::Methods | Form::Address => CimValue::String(value.to_owned()),
    }
}
