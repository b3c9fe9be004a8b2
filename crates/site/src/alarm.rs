//! Alarms: what weakens security (R71), what has stopped working, and what is about to.

use proto::id::Guid;
use proto::pki::{CrlPolicy, RevocationSettings};
use proto::time::Timestamp;
use serde::Serialize;

use crate::approval::ApprovalRule;
use crate::crl::CrlStates;
use crate::db::{self, DbError, Tx};
use crate::device::{Device, DeviceFilter, DeviceMark};
use crate::registration::{Burst, Door, USER_LIMIT};
use crate::role::{Role, RoleMode};
use crate::setting::SettingView;
use crate::site::lock;
use crate::{Site, client_settings, discovery, forecast};

/// Users that are named one by one.
const USERS: u32 = 20;
/// Bursts of registrations that are named one by one, the newest first.
const BURSTS: usize = 20;

/// One thing that an operator should know of, for as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// What it is about: `setting`, `client-settings`, `registration`, `approval-rule`, `crl`, `tenant`, `discovery`, `credential`,
    /// `device`, `role`, `lab`.
    pub kind: &'static str,
    /// Which setting, rule, issuer, tenant, …
    pub object: String,
    /// What it means, in one sentence.
    pub text: String,
    /// What an operator does about it, in one sentence.
    pub fix: String,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
}

impl Alarm {
    fn new(kind: &'static str, object: impl Into<String>, text: String, fix: impl Into<String>) -> Self {
        Self { kind, object: object.into(), text, fix: fix.into(), since: None }
    }

    fn since(self, since: Option<Timestamp>) -> Self {
        Self { since, ..self }
    }
}

impl Site {
    /// Everything that an operator should know of now: weak settings and rules first, then what does
    /// not work, then what will end.
    pub async fn list_alarms(&self) -> Result<Vec<Alarm>, DbError> {
        let settings = self.list_settings().await?;
        let mut alarms: Vec<_> = settings.iter().filter_map(weak_setting).collect();
        alarms.extend(self.approval_rules().iter().filter_map(weak_rule));
        let expects = self.approval_rules().contains(&ApprovalRule::ExpectedList);
        let (now, revocation) = (self.now(), self.settings().revocation);
        let more = self.db().read(move |tx| {
            let mut alarms = Vec::new();
            if expects {
                alarms.extend(weak_expected(tx)?);
            }
            alarms.extend(lists(tx, revocation, now)?);
            alarms.extend(tenants(tx, now)?);
            alarms.extend(weak_client_settings(tx)?);
            alarms.extend(discoveries(tx)?);
            alarms.extend(db::role::list(tx)?.iter().filter_map(misplaced_role));
            alarms.extend(ending(tx, now)?);
            alarms.extend(crowded_users(tx)?);
            Ok::<_, DbError>(alarms)
        });
        alarms.extend(more.await?);
        alarms.extend(lock(&self.inner.rates).bursts(now).iter().take(BURSTS).map(crowded_door));
        alarms.extend(self.device_alarms().await?);
        if self.is_lab() {
            let text = "This site is a lab: it approves devices on the lab's word.".to_owned();
            let fix = "Manage no real device with it.";
            alarms.push(Alarm::new("lab", self.facts().code.to_string(), text, fix));
        }
        Ok(alarms)
    }

    /// Devices that fell below their certificate, and records in conflict: one alarm each kind, with
    /// names to begin with.
    async fn device_alarms(&self) -> Result<Vec<Alarm>, DbError> {
        let mut alarms = Vec::new();
        let fallen = self.list_fallen_back().await?;
        if let Some(since) = fallen.iter().filter_map(|device| device.fell_back_at).min() {
            let text = format!("{} fell back from the certificate that it had.", some(&fallen));
            let fix = "Look why with roamgate device show DEVICE; renew the certificate, or settle it.";
            alarms.push(Alarm::new("device", "fallen back", text, fix).since(Some(since)));
        }
        let filter = DeviceFilter { conflicts: true, ..DeviceFilter::default() };
        let rivals = self.list_devices(filter).await?;
        if !rivals.is_empty() {
            let text = format!("{} claims the name, hardware or key of another.", some(&rivals));
            let fix = "Compare both with roamgate device show DEVICE, then roamgate device settle DEVICE.";
            alarms.push(Alarm::new("device", "conflict", text, fix));
        }
        let filter = DeviceFilter { mark: Some(DeviceMark::Suspected), ..DeviceFilter::default() };
        let copies = self.list_devices(filter).await?;
        let since = copies.iter().filter_map(|device| device.clone_suspicion.as_ref()).map(|copy| copy.since);
        if let Some(since) = since.min() {
            let text = format!("{} is held: its key or its hardware is used twice.", some(&copies));
            let fix =
                "See the difference with roamgate device show DEVICE, then roamgate device settle DEVICE.";
            alarms.push(Alarm::new("device", "copy", text, fix).since(Some(since)));
        }
        Ok(alarms)
    }
}

/// Custom client settings that weaken devices; the default's are site settings.
fn weak_client_settings(tx: &mut dyn Tx) -> Result<Vec<Alarm>, DbError> {
    let alarm = |(object, setting, value): (String, &str, String)| {
        let text = format!("The client settings {object:?} set {setting} to {value:?} for some devices.");
        Alarm::new(
            "client-settings",
            object,
            text,
            "Take the value away unless these devices really need it.",
        )
    };
    Ok(client_settings::list_weak(tx)?.into_iter().map(alarm).collect())
}

/// How many devices, and a few of their names.
fn some(devices: &[Device]) -> String {
    let names: Vec<_> = devices.iter().take(3).map(|device| device.name.as_str()).collect();
    match devices.len() {
        1 => format!("device {}", names.join("")),
        more => format!("each of {more} devices ({}, …)", names.join(", ")),
    }
}

fn weak_setting(setting: &SettingView) -> Option<Alarm> {
    let text =
        format!("{} is {:?} instead of {:?}: {}.", setting.name, setting.value, setting.default, setting.doc);
    let fix = format!("roamgate settings set {} {}", setting.name, setting.default);
    let is_weak = setting.weakens && setting.value != setting.default;
    is_weak.then(|| Alarm::new("setting", setting.name, text, fix).since(setting.changed_at))
}

fn weak_rule(rule: &ApprovalRule) -> Option<Alarm> {
    let text = "This rule approves every device that reaches a management point, from anywhere.".to_owned();
    let object = format!("{} {}", rule.kind(), rule.argument());
    rule.is_weak()
        .then(|| Alarm::new("approval-rule", object, text, "Name the networks that are really yours."))
}

/// Anybody can claim a name: an expected device without a hardware id is a weak rule (R17).
fn weak_expected(tx: &mut dyn Tx) -> Result<Option<Alarm>, DbError> {
    let waiting = db::approval::count_expected_by_name_alone(tx)?;
    let text = format!(
        "{waiting} expected devices are expected by name alone: whoever claims the name is approved."
    );
    let fix = "Add their hardware ids, or remove the entries when the devices have come.";
    Ok((waiting > 0).then(|| Alarm::new("approval-rule", "expected-list", text, fix)))
}

/// Lists that are missing, stale or could not be fetched, once an issuer.
fn lists(tx: &mut dyn Tx, revocation: RevocationSettings, now: Timestamp) -> Result<Vec<Alarm>, DbError> {
    let states = CrlStates::read(tx, revocation, now)?;
    let mut issuers = std::collections::BTreeSet::new();
    let mut alarms = Vec::new();
    for authority in db::trust::list(tx)? {
        let Some(problem) = states.problem(authority.issuer).filter(|_| issuers.insert(authority.issuer))
        else {
            continue;
        };
        let name = crate::crl::subject(&authority.ca.der);
        let state = states.find(authority.issuer);
        let stale = state.as_ref().is_none_or(|state| state.stale);
        let effect = match (stale, revocation.policy) {
            (false, _) => "the list in force goes on",
            (true, CrlPolicy::Hard) => "its clients are refused",
            (true, CrlPolicy::Soft) => "its clients go on unchecked",
        };
        let text = format!("Revocation list of {name}: {problem}; {effect}.");
        let fix = "Say where it is published (roamgate trust distribution-point AUTHORITY URL), or upload it: roamgate trust crl FILE.";
        let since = state.filter(|state| state.stale).map(|state| state.next_update);
        alarms.push(Alarm::new("crl", name, text, fix).since(since));
    }
    Ok(alarms)
}

/// Tenants whose keys cannot be fetched, or do not count any more.
fn tenants(tx: &mut dyn Tx, now: Timestamp) -> Result<Vec<Alarm>, DbError> {
    let enabled = db::tenant::list(tx)?.into_iter().filter(|row| row.enabled);
    let problem = |row: db::tenant::TenantRow| {
        let over = row.keys_until.filter(|until| *until < now);
        let text = match (row.keys_problem.as_str(), row.keys_until, over) {
            ("", None, _) | ("", Some(_), None) => return None,
            (problem, None, _) => format!("Keys of {} were never fetched: {problem}.", row.name),
            (problem, Some(_), None) => {
                format!("Keys of {} could not be fetched: {problem}; the known ones go on.", row.name)
            }
            (problem, Some(_), Some(over)) => format!(
                "Keys of {} count no longer, since {over}, and its tokens are refused{}.",
                row.name,
                if problem.is_empty() { String::new() } else { format!(": {problem}") }
            ),
        };
        let fix = "Check address, proxy and certificates with roamgate tenant verify TENANT.";
        Some(Alarm::new("tenant", row.name, text, fix).since(over.or(row.keys_fetched_at)))
    };
    Ok(enabled.filter_map(problem).collect())
}

/// Users of tenants for whom more devices came than one user has: their tokens may be stolen.
fn crowded_users(tx: &mut dyn Tx) -> Result<Vec<Alarm>, DbError> {
    let name = |id: Option<Guid>| id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    let alarm = |(tenant, user, count, since): db::user_key::HeldForUser| {
        let (tenant, user) = (name(tenant), name(user));
        let text = format!(
            "{count} devices that came with tokens of user {user} of tenant {tenant} are held: more new keys in a \
             day than entra_user_devices allows. The user's token may be stolen."
        );
        let fix = "If it is, revoke the user's sessions and delete these devices; if not, approve them.";
        Alarm::new("device", format!("user {user}"), text, fix).since(Some(since))
    };
    Ok(db::user_key::list_held(tx, USER_LIMIT, USERS)?.into_iter().map(alarm).collect())
}

/// More devices came by one door than usual (R19): a roll-out, or what let them in was stolen.
fn crowded_door(burst: &Burst) -> Alarm {
    let Burst { door, since, came, refused, .. } = burst;
    let waiting = match refused {
        0 => String::new(),
        refused => format!(", and requests of further ones were told to wait {refused} times"),
    };
    let text = format!("{came} new devices registered with {door} within an hour{waiting}.");
    let fix = match door {
        Door::Token(_) => {
            "If nobody rolls out devices, roamgate bulk-token block TOKEN; a roll-out needs nothing."
        }
        Door::Certificate(_) | Door::TenantDevice { .. } | Door::TenantUser { .. } => {
            "One host or user has few devices: see `roamgate device list`, and block those that nobody knows."
        }
        _ => "If nobody rolls out devices, look where they come from; a roll-out needs nothing.",
    };
    Alarm::new("registration", door.to_string(), text, fix).since(Some(*since))
}

fn discoveries(tx: &mut dyn Tx) -> Result<Vec<Alarm>, DbError> {
    let missing = discovery::missing_discoveries(tx)?;
    let alarm = |(tenant, seen, problem): (String, Option<Timestamp>, String)| {
        let come =
            seen.map(|at| format!(" Users came last at {at}; those whom it does not know are refused."));
        let text = format!("Tenant {tenant}: {problem}.{}", come.unwrap_or_default());
        let fix = "Switch the discovery on, add the directory, or give the app its consent.";
        Alarm::new("discovery", tenant, text, fix).since(seen)
    };
    Ok(missing.into_iter().map(alarm).collect())
}

/// A role that gateways are to pass requests to, and do not.
fn misplaced_role(role: &Role) -> Option<Alarm> {
    let text = match (role.gateway_traffic, role.mode) {
        (true, RoleMode::Http) => format!(
            "{} is to take requests from gateways, and gateways pass nothing to a role in plain HTTP mode.",
            role.name
        ),
        (true, RoleMode::Ehttp | RoleMode::Https) if !role.internal_url.starts_with("https://") => format!(
            "{} is in mode {} and connection points are told the address {}, which is not HTTPS.",
            role.name, role.mode, role.internal_url
        ),
        _ => return None,
    };
    let fix =
        "roamgate role set ROLE --mode ehttp --internal-url https://HOST:PORT, or --gateway-traffic off.";
    Some(Alarm::new("role", role.name.clone(), text, fix))
}

/// What ends within a month, or has ended.
fn ending(tx: &mut dyn Tx, now: Timestamp) -> Result<Vec<Alarm>, DbError> {
    let soon = now.plus(forecast::WARNING);
    let ends = forecast::list(tx)?.into_iter().filter(|credential| credential.ends_at <= soon);
    let alarm = |credential: forecast::SiteCredential| {
        let verb = if credential.ends_at <= now { "ended" } else { "ends" };
        let text =
            format!("The {} of {} {verb} at {}.", credential.kind, credential.name, credential.ends_at);
        Alarm::new("credential", credential.name, text, credential.fix)
    };
    Ok(ends.map(alarm).collect())
}
