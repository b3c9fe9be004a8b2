//! Objects of client settings: made, changed and removed by operators.

use std::collections::BTreeMap;

use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::known::{self, Known};
use super::{Objects, refresh};
use crate::audit::{By, Scribe};
use crate::db::client_settings::ObjectRow;
use crate::db::{self, DbError, Tx};
use crate::name::{NameError, check_name};
use crate::setting::SettingError;
use crate::{Site, limits, random_guid};

/// The name of the settings that are for all devices.
pub(crate) const DEFAULT_NAME: &str = "default";
/// Their priority: after all others, as in the field.
pub(crate) const DEFAULT_PRIORITY: u32 = 10_000;
/// The step between priorities that the site chooses itself.
const PRIORITY_STEP: u32 = 1;

/// Client settings as an operator sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientSettings {
    /// Their name; `default` are those for all devices.
    pub name: String,
    /// The smallest number wins; 10,000 is the default's.
    pub priority: u32,
    /// What they say, by the name of the setting. The default names only what an operator set.
    pub values: BTreeMap<String, String>,
    /// Names of the collections that they are for. Empty for the default, which is for all.
    pub collections: Vec<String>,
    /// Names of the collections that they are not for.
    pub not_for: Vec<String>,
    /// When they were changed last; `None`: never.
    pub changed_at: Option<Timestamp>,
    /// By whom.
    pub changed_by: Option<String>,
}

/// Custom client settings to be made.
#[derive(Debug, Clone, Default)]
pub struct NewClientSettings {
    /// Their name, in use by no others in any case.
    pub name: String,
    /// 1 to 9,999, in use by no others; `None` takes the next after the others.
    pub priority: Option<u32>,
    /// What they say.
    pub values: BTreeMap<String, String>,
    /// Collections that they are for, by name or id.
    pub collections: Vec<String>,
    /// Collections that they are not for.
    pub not_for: Vec<String>,
}

/// A change of client settings. What is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct ClientSettingsChange {
    /// Another priority. Not for the default.
    pub priority: Option<u32>,
    /// Values to set; an empty one is taken away, so that others decide. What is not named stays.
    pub values: BTreeMap<String, String>,
    /// The complete list of collections that they are for. Not for the default.
    pub collections: Option<Vec<String>>,
    /// The complete list of collections that they are not for. Not for the default.
    pub not_for: Option<Vec<String>>,
}

/// Client settings were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientSettingsError {
    /// A name is not taken.
    #[error("client settings not taken")]
    Name(#[from] NameError),
    /// The name is in use.
    #[error("there are client settings called {0:?} already")]
    Exists(String),
    /// No such object.
    #[error("there are no client settings called {0:?}; `roamgate client-settings list` shows all")]
    Unknown(String),
    /// No such setting.
    #[error("there is no client setting {0:?}; `roamgate client-settings known` shows all")]
    UnknownSetting(String),
    /// The value does not fit.
    #[error("{name} takes {form}, not {value:?}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What it takes.
        form: String,
        /// What was given.
        value: String,
    },
    /// The priority is out of bounds.
    #[error("priority {0} is not one of 1 to {last}", last = DEFAULT_PRIORITY - 1)]
    Priority(u32),
    /// The priority is in use.
    #[error("priority {0} is in use")]
    PriorityTaken(u32),
    /// No such collection.
    #[error("there is no collection {0:?}")]
    UnknownCollection(String),
    /// A collection cannot be both.
    #[error("collection {0:?} is named twice: they cannot be for it and not for it")]
    Twice(String),
    /// The default is for all devices and cannot be removed.
    #[error(
        "the default client settings are for all devices, come last and stay; only their values can be set"
    )]
    Default,
    /// More than a site can need.
    #[error("more than {} client settings, or {} collections", limits::CLIENT_SETTINGS, limits::TARGETS)]
    TooMany,
    /// The default's value is that of a site setting, which was not set.
    #[error("site setting not set")]
    SiteSetting(#[from] SettingError),
    /// The database failed.
    #[error("client settings not read or written")]
    Database(#[from] DbError),
}

/// Values in their one spelling; an empty one stays empty.
fn read_values(
    given: BTreeMap<String, String>,
) -> Result<Vec<(&'static Known, String)>, ClientSettingsError> {
    let read = |(name, text): (String, String)| {
        let known = known::find(&name)
            .ok_or_else(|| ClientSettingsError::UnknownSetting(name.chars().take(80).collect()))?;
        let value = if text.is_empty() { Some(String::new()) } else { known.form.read(&text) };
        let wrong = || ClientSettingsError::Value {
            name: known.name,
            form: known.form.describe(),
            value: text.chars().take(80).collect(),
        };
        Ok((known, value.ok_or_else(wrong)?))
    };
    given.into_iter().map(read).collect()
}

fn apply_values(values: &mut BTreeMap<String, String>, given: &[(&'static Known, String)]) {
    for (known, text) in given {
        if text.is_empty() {
            values.remove(known.name);
        } else {
            values.insert(known.name.to_owned(), text.clone());
        }
    }
}

fn is_default(name: &str) -> bool {
    name.eq_ignore_ascii_case(DEFAULT_NAME)
}

/// Ids of collections that were given by name or id.
fn find_collections(tx: &mut dyn Tx, given: &[String]) -> Result<Vec<String>, ClientSettingsError> {
    if given.len() > limits::TARGETS {
        return Err(ClientSettingsError::TooMany);
    }
    let mut ids = Vec::new();
    for text in given {
        let unknown = || ClientSettingsError::UnknownCollection(text.chars().take(80).collect());
        let id = db::collection::find(tx, text)?.ok_or_else(unknown)?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Writes where an object is aimed at.
fn aim(
    tx: &mut dyn Tx,
    object: &ObjectRow,
    collections: &[String],
    not_for: &[String],
) -> Result<(), ClientSettingsError> {
    if let Some(twice) = collections.iter().find(|id| not_for.contains(id)) {
        return Err(ClientSettingsError::Twice(twice.clone()));
    }
    db::client_settings::replace_targets(tx, object.id, collections, not_for)?;
    Ok(())
}

fn free_priority(tx: &mut dyn Tx, wanted: Option<u32>, own: Option<u32>) -> Result<u32, ClientSettingsError> {
    let (_, others) = db::client_settings::list_objects(tx)?;
    let Some(wanted) = wanted else {
        let last = others.iter().map(|object| object.priority).max().unwrap_or_default();
        return free_priority(tx, Some(last + PRIORITY_STEP), own);
    };
    if !(1..DEFAULT_PRIORITY).contains(&wanted) {
        return Err(ClientSettingsError::Priority(wanted));
    }
    if own != Some(wanted) && others.iter().any(|object| object.priority == wanted) {
        return Err(ClientSettingsError::PriorityTaken(wanted));
    }
    Ok(wanted)
}

fn view(tx: &mut dyn Tx, name: &str) -> Result<ClientSettings, ClientSettingsError> {
    let all = list(tx)?;
    all.into_iter()
        .find(|object| object.name.to_lowercase() == name.to_lowercase())
        .ok_or_else(|| ClientSettingsError::Unknown(name.chars().take(80).collect()))
}

/// All objects by priority, the default last.
fn list(tx: &mut dyn Tx) -> Result<Vec<ClientSettings>, DbError> {
    let objects = Objects::load(tx)?;
    let names = |list: &[(String, String)]| list.iter().map(|(_, name)| name.clone()).collect();
    let mut all = Vec::new();
    for object in &objects.custom {
        let row = db::client_settings::find(tx, &object.name)?;
        all.push(ClientSettings {
            name: object.name.clone(),
            priority: object.priority,
            values: object.values.clone(),
            collections: names(&object.targets),
            not_for: names(&object.excluded),
            changed_at: row.as_ref().map(|row| row.changed_at),
            changed_by: row.map(|row| row.changed_by),
        });
    }
    let mut values = objects.default.clone();
    for known in known::KNOWN.iter().filter(|known| objects.set_at_site.contains(known.name)) {
        values.extend(known.by_site(&objects.settings).map(|text| (known.name.to_owned(), text)));
    }
    let row = db::client_settings::find(tx, DEFAULT_NAME)?;
    all.push(ClientSettings {
        name: DEFAULT_NAME.to_owned(),
        priority: DEFAULT_PRIORITY,
        values,
        collections: Vec::new(),
        not_for: Vec::new(),
        changed_at: row.as_ref().map(|row| row.changed_at),
        changed_by: row.map(|row| row.changed_by),
    });
    Ok(all)
}

/// Whether a value is weaker than what holds without it (R71).
fn weakens(name: &str, value: &str) -> bool {
    match name {
        "CheckServerCrl" => value == "no",
        "MethodPreference" => value != known::STANDARD && !value.starts_with("certificate"),
        _ => false,
    }
}

/// Values of custom client settings that weaken devices: object, setting, value.
pub(crate) fn list_weak(tx: &mut dyn Tx) -> Result<Vec<(String, &'static str, String)>, DbError> {
    let (_, objects) = db::client_settings::list_objects(tx)?;
    let weak = objects.into_iter().flat_map(|object| {
        let name = object.name;
        let weak = object.values.into_iter().filter(|(setting, value)| weakens(setting, value));
        weak.filter_map(move |(setting, value)| Some((name.clone(), known::find(&setting)?.name, value)))
    });
    Ok(weak.collect())
}

/// What every change ends with: the audit, bodies anew, a higher serial.
fn conclude(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    site: proto::id::SiteCode,
    act: &'static str,
    object: &ClientSettings,
) -> Result<(), DbError> {
    refresh(tx, site, scribe.now)?;
    // Which devices they are for may have changed without any body that is there.
    db::policy::raise_serial(tx)?;
    let weak = object.values.iter().any(|(name, value)| weakens(name, value));
    let detail = json!({
        "priority": object.priority, "values": object.values, "collections": object.collections,
        "not-for": object.not_for, "weakens": weak,
    });
    scribe.note(tx, act, &object.name, &detail)
}

impl Site {
    /// Makes custom client settings.
    pub async fn add_client_settings(
        &self,
        by: &By,
        new: NewClientSettings,
    ) -> Result<ClientSettings, ClientSettingsError> {
        check_name("client settings name", &new.name)?;
        if is_default(&new.name) {
            return Err(ClientSettingsError::Exists(DEFAULT_NAME.to_owned()));
        }
        let values = read_values(new.values)?;
        let (name, priority) = (new.name, new.priority);
        let (collections, not_for) = (new.collections, new.not_for);
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                if db::client_settings::find(tx, &name)?.is_some() {
                    return Err(ClientSettingsError::Exists(name.clone()));
                }
                if db::client_settings::count(tx)? >= limits::CLIENT_SETTINGS as u64 {
                    return Err(ClientSettingsError::TooMany);
                }
                let mut row = ObjectRow {
                    id: random_guid(),
                    name: name.clone(),
                    priority: free_priority(tx, priority, None)?,
                    values: BTreeMap::new(),
                    changed_at: scribe.now,
                    changed_by: scribe.by.actor.to_string(),
                };
                apply_values(&mut row.values, &values);
                db::client_settings::put(tx, &row)?;
                let (aimed, spared) = (find_collections(tx, &collections)?, find_collections(tx, &not_for)?);
                aim(tx, &row, &aimed, &spared)?;
                let made = view(tx, &name)?;
                conclude(tx, &scribe, site, "client-settings.add", &made)?;
                Ok(made)
            })
            .await
    }

    /// Changes client settings. Values of the default that a site setting holds are set there.
    pub async fn set_client_settings(
        &self,
        by: &By,
        name: &str,
        change: ClientSettingsChange,
    ) -> Result<ClientSettings, ClientSettingsError> {
        let mut values = read_values(change.values)?;
        let aimed = change.priority.is_some() || change.collections.is_some() || change.not_for.is_some();
        if is_default(name) {
            if aimed {
                return Err(ClientSettingsError::Default);
            }
            for (known, text) in &values {
                if let Some(setting) = known.site_setting {
                    let value = if text.is_empty() { known.default } else { text.as_str() };
                    self.set_setting(by, setting, &known.for_site(value)).await?;
                }
            }
            values.retain(|(known, _)| known.site_setting.is_none());
        }
        let name = if is_default(name) { DEFAULT_NAME.to_owned() } else { name.to_owned() };
        let (priority, collections, not_for) = (change.priority, change.collections, change.not_for);
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                let found = db::client_settings::find(tx, &name)?;
                let mut row = match found {
                    Some(row) => row,
                    None if is_default(&name) => ObjectRow::default_settings(scribe.now),
                    None => return Err(ClientSettingsError::Unknown(name.chars().take(80).collect())),
                };
                if priority.is_some() {
                    row.priority = free_priority(tx, priority, Some(row.priority))?;
                }
                apply_values(&mut row.values, &values);
                row.changed_at = scribe.now;
                row.changed_by = scribe.by.actor.to_string();
                db::client_settings::put(tx, &row)?;
                if collections.is_some() || not_for.is_some() {
                    let (now_for, now_not_for) = db::client_settings::list_targets(tx, row.id)?;
                    let aimed = collections.as_ref().map(|given| find_collections(tx, given)).transpose()?;
                    let spared = not_for.as_ref().map(|given| find_collections(tx, given)).transpose()?;
                    aim(tx, &row, &aimed.unwrap_or(now_for), &spared.unwrap_or(now_not_for))?;
                }
                let changed = view(tx, &name)?;
                conclude(tx, &scribe, site, "client-settings.set", &changed)?;
                Ok(changed)
            })
            .await
    }

    /// Forgets custom client settings. Answers what they were.
    pub async fn remove_client_settings(
        &self,
        by: &By,
        name: &str,
    ) -> Result<ClientSettings, ClientSettingsError> {
        if is_default(name) {
            return Err(ClientSettingsError::Default);
        }
        let name = name.to_owned();
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                let gone = view(tx, &name)?;
                db::client_settings::delete(tx, &name)?;
                conclude(tx, &scribe, site, "client-settings.remove", &gone)?;
                Ok(gone)
            })
            .await
    }

    /// All client settings by priority, the default last.
    pub async fn list_client_settings(&self) -> Result<Vec<ClientSettings>, DbError> {
        self.db().read(list).await
    }
}
