//! What results for a device, and why.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use proto::id::{ClientId, Guid};
use proto::request::registration::CloudGateway;
use serde::Serialize;

use super::known::{self, KNOWN, Known, STANDARD};
use super::{DEFAULT_NAME, body};
use crate::Site;
use crate::db::{self, DbError, Tx};
use crate::device::DeviceError;
use crate::method::Preference;
use crate::policy::ALL_DEVICES;
use crate::setting::Settings;

/// What results for a device of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resultant {
    /// The setting.
    pub setting: &'static str,
    /// Its value for this device.
    pub value: String,
    /// The client settings that say so.
    pub from: String,
    /// Why these and no others.
    pub reason: String,
    /// What the device says it applied; `None`: it has not said.
    pub reported: Option<String>,
    /// Whether that is something else.
    pub differs: bool,
}

/// A custom object as far as it decides. In the order of priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) id: Guid,
    pub(crate) name: String,
    pub(crate) priority: u32,
    pub(crate) values: BTreeMap<String, String>,
    /// Collections that it is for: id and name.
    pub(crate) targets: Vec<(String, String)>,
    /// Collections that it is not for.
    pub(crate) excluded: Vec<(String, String)>,
}

/// Everything that decides besides the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objects {
    /// Custom ones, the smallest priority first.
    pub(crate) custom: Vec<Object>,
    /// What the default settings say of those that no site setting is about.
    pub(crate) default: BTreeMap<String, String>,
    pub(crate) settings: Settings,
    /// Client settings whose site setting an operator has set.
    pub(crate) set_at_site: HashSet<&'static str>,
}

/// One setting as it results. Most settings of most devices are what they are by default, and cost no copy.
#[derive(Debug, Clone)]
struct Value {
    known: &'static Known,
    text: Cow<'static, str>,
    from: Cow<'static, str>,
    reason: Cow<'static, str>,
}

/// Every setting as it results for a device.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    values: Vec<Value>,
    /// Custom objects that are for the device, by id in the order of priority.
    pub(crate) applied: Vec<Guid>,
}

/// Why an object is, or is not, for a device.
enum Fit<'o> {
    For(&'o str),
    NotFor(&'o str),
    Elsewhere,
}

impl Object {
    fn fit(&self, member_of: &HashSet<String>) -> Fit<'_> {
        let of = |(id, _): &&(String, String)| id == ALL_DEVICES || member_of.contains(id);
        let Some((_, target)) = self.targets.iter().find(of) else { return Fit::Elsewhere };
        match self.excluded.iter().find(of) {
            Some((_, name)) => Fit::NotFor(name),
            None => Fit::For(target),
        }
    }
}

impl Objects {
    pub(crate) fn load(tx: &mut dyn Tx) -> Result<Self, DbError> {
        let rows = db::setting::list(tx)?;
        let set =
            |known: &&Known| known.site_setting.is_some_and(|name| rows.iter().any(|row| row.name == name));
        let set_at_site = KNOWN.iter().filter(set).map(|known| known.name).collect();
        let (default, custom) = db::client_settings::list_objects(tx)?;
        Ok(Self { custom, default, settings: Settings::from_rows(&rows), set_at_site })
    }

    /// What results for a member of these collections.
    pub(crate) fn resolve(&self, member_of: &HashSet<String>) -> Resolved {
        let fits: Vec<_> = self.custom.iter().map(|object| (object, object.fit(member_of))).collect();
        self.decide(&fits)
    }

    /// What results where exactly these objects apply; `None`: one of them is gone.
    pub(crate) fn resolve_applied(&self, applied: &[Guid]) -> Option<Resolved> {
        let gone = applied.iter().any(|id| !self.custom.iter().any(|object| object.id == *id));
        let fit = |object: &Object| if applied.contains(&object.id) { Fit::For("") } else { Fit::Elsewhere };
        let fits: Vec<_> = self.custom.iter().map(|object| (object, fit(object))).collect();
        (!gone).then(|| self.decide(&fits))
    }

    fn decide(&self, fits: &[(&Object, Fit<'_>)]) -> Resolved {
        let applied = fits.iter().filter(|(_, fit)| matches!(fit, Fit::For(_)));
        Resolved {
            applied: applied.map(|(object, _)| object.id).collect(),
            values: KNOWN.iter().map(|known| self.decide_one(known, fits)).collect(),
        }
    }

    fn decide_one(&self, known: &'static Known, fits: &[(&Object, Fit<'_>)]) -> Value {
        let mut passed_over = String::new();
        for (object, fit) in fits {
            let Some(text) = object.values.get(known.name) else { continue };
            match fit {
                Fit::For(target) => {
                    let reason = format!(
                        "priority {}, because the device is in collection {target:?}{passed_over}",
                        object.priority
                    );
                    return Value {
                        known,
                        text: text.clone().into(),
                        from: object.name.clone().into(),
                        reason: reason.into(),
                    };
                }
                Fit::NotFor(collection) => {
                    // Writing to a string cannot fail.
                    let _ = write!(
                        passed_over,
                        "; {:?} (priority {}) is not for collection {collection:?}",
                        object.name, object.priority
                    );
                }
                Fit::Elsewhere => {}
            }
        }
        let by_default = self.default.get(known.name).cloned();
        let (text, said) = match (by_default, known.by_site(&self.settings)) {
            (_, Some(text)) if self.set_at_site.contains(known.name) => (text.into(), true),
            (_, Some(text)) => (text.into(), false),
            (Some(text), None) => (text.into(), true),
            (None, None) => (Cow::Borrowed(known.default), false),
        };
        let reason = if said {
            "the default settings say so, and no custom settings for this device name it"
        } else {
            "nobody has said otherwise"
        };
        let reason = if passed_over.is_empty() {
            Cow::Borrowed(reason)
        } else {
            Cow::Owned(format!("{reason}{passed_over}"))
        };
        Value { known, text, from: Cow::Borrowed(DEFAULT_NAME), reason }
    }
}

impl Resolved {
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|value| value.known.name == name).map_or("", |value| &value.text)
    }

    /// Name, form and text of each, in the order of bodies.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static Known, &str)> {
        self.values.iter().map(|value| (value.known, &*value.text))
    }

    /// Names the combination of custom objects that leads here.
    pub(crate) fn variant(&self) -> String {
        self.applied.iter().map(Guid::to_string).collect::<Vec<_>>().join(",")
    }

    /// Which methods the device is to be preferred with.
    pub(crate) fn preference(&self) -> Preference {
        let value = self.values.iter().find(|value| value.known.name == "MethodPreference");
        let Some(value) = value.filter(|value| value.text != STANDARD) else { return Preference::default() };
        match known::methods(&value.text) {
            Some(first) => Preference::new(&first, value.from.clone().into_owned()),
            None => Preference::default(),
        }
    }

    /// Whether, and by which addresses, the device may use gateways.
    pub(crate) fn cloud_gateway(&self, tx: &mut dyn Tx) -> Result<CloudGateway, DbError> {
        Ok(CloudGateway {
            allowed: self.value("EnableCloudGateway") == "yes",
            addresses: body::gateway_addresses(tx)?,
        })
    }

    fn compare(&self, heartbeat: &str) -> Vec<Resultant> {
        let reported = reported(heartbeat);
        let view = |value: &Value| {
            let reported = reported.get(value.known.name).cloned();
            let form = value.known.form;
            Resultant {
                setting: value.known.name,
                value: value.text.clone().into_owned(),
                from: value.from.clone().into_owned(),
                reason: value.reason.clone().into_owned(),
                differs: reported.as_deref().is_some_and(|text| !form.same(text, &value.text)),
                reported: reported.map(|text| form.meant(&text)),
            }
        };
        self.values.iter().map(view).collect()
    }
}

/// What a heartbeat says of applied settings: its object `settings`, a text a name.
fn reported(heartbeat: &str) -> BTreeMap<String, String> {
    let json: serde_json::Value = serde_json::from_str(heartbeat).unwrap_or_default();
    let Some(settings) = json.get("settings").and_then(serde_json::Value::as_object) else {
        return BTreeMap::new();
    };
    let named = settings.iter().filter_map(|(name, value)| {
        let known = known::find(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((known.name.to_owned(), text.chars().take(proto::limits::NAME_CHARS).collect()))
    });
    named.collect()
}

/// What results for a device; for one that is in no collection but "All devices" when `None`.
pub(crate) fn resolve_for(tx: &mut dyn Tx, device: Option<ClientId>) -> Result<Resolved, DbError> {
    let objects = Objects::load(tx)?;
    let member_of = match device {
        Some(device) if !objects.custom.is_empty() => db::collection::list_of(tx, device)?,
        _ => Vec::new(),
    };
    Ok(objects.resolve(&member_of.into_iter().collect()))
}

impl Site {
    /// Every client setting as it results for a device, with the reason, and what the device says
    /// it applied.
    pub async fn resultant(&self, device: ClientId) -> Result<Vec<Resultant>, DeviceError> {
        self.db()
            .read(move |tx| {
                let found = db::device::find(tx, device)?.ok_or(DeviceError::Unknown(device))?;
                Ok(resolve_for(tx, Some(device))?.compare(&found.heartbeat))
            })
            .await
    }

    /// Whether, and by which addresses, a device may use gateways. An unknown device has what the
    /// default settings and those for all devices say.
    pub async fn cloud_gateway(&self, device: ClientId) -> Result<CloudGateway, DbError> {
        self.db().read(move |tx| resolve_for(tx, Some(device))?.cloud_gateway(tx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::identity::Method;

    fn object(priority: u32, values: &[(&str, &str)], targets: &[&str], excluded: &[&str]) -> Object {
        let named =
            |list: &[&str]| list.iter().map(|id| ((*id).to_owned(), format!("name of {id}"))).collect();
        Object {
            id: Guid::from_bytes([u8::try_from(priority).unwrap(); 16]),
            name: format!("object {priority}"),
            priority,
            values: values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            targets: named(targets),
            excluded: named(excluded),
        }
    }

    fn objects(custom: Vec<Object>) -> Objects {
        Objects {
            custom,
            default: BTreeMap::new(),
            settings: Settings::default(),
            set_at_site: HashSet::new(),
        }
    }

    fn member(of: &[&str]) -> HashSet<String> {
        of.iter().map(|id| (*id).to_owned()).collect()
    }

    fn shown(objects: &Objects, of: &[&str], name: &str) -> (String, String, String) {
        let resolved = objects.resolve(&member(of));
        let value = resolved.values.iter().find(|value| value.known.name == name).unwrap();
        let owned = |text: &str| text.to_owned();
        (owned(&value.text), owned(&value.from), owned(&value.reason))
    }

    #[test]
    fn the_smallest_priority_that_names_a_setting_gives_its_value() {
        let all = objects(vec![
            object(1, &[("LogLevel", "debug")], &["A"], &[]),
            object(2, &[("LogLevel", "trace"), ("EnableCloudGateway", "no")], &["A", "B"], &[]),
        ]);
        assert_eq!(shown(&all, &["A", "B"], "LogLevel").0, "debug");
        assert_eq!(shown(&all, &["B"], "LogLevel").0, "trace");
        let (value, from, reason) = shown(&all, &["A"], "EnableCloudGateway");
        assert_eq!((value.as_str(), from.as_str()), ("no", "object 2"));
        assert_eq!(reason, "priority 2, because the device is in collection \"name of A\"");
        let (value, from, reason) = shown(&all, &["C"], "EnableCloudGateway");
        assert_eq!(
            (value.as_str(), from.as_str(), reason.as_str()),
            ("yes", "default", "nobody has said otherwise")
        );
    }

    #[test]
    fn settings_are_not_for_those_that_are_named_so_and_the_reason_says_it() {
        let all = objects(vec![object(5, &[("EnableCloudGateway", "no")], &[ALL_DEVICES], &["Servers"])]);
        assert_eq!(shown(&all, &[], "EnableCloudGateway").0, "no");
        let (value, _, reason) = shown(&all, &["Servers"], "EnableCloudGateway");
        assert_eq!(value, "yes");
        assert!(
            reason.contains("\"object 5\" (priority 5) is not for collection \"name of Servers\""),
            "{reason}"
        );
    }

    #[test]
    fn a_preference_of_methods_names_who_prefers() {
        let all = objects(vec![object(1, &[("MethodPreference", "site-token")], &["A"], &[])]);
        let preference = all.resolve(&member(&["A"])).preference();
        assert_eq!((preference.order[0], preference.from.as_deref()), (Method::SiteToken, Some("object 1")));
        assert_eq!(all.resolve(&member(&[])).preference(), Preference::default());
    }

    #[test]
    fn what_a_device_applied_is_compared_by_meaning() {
        let resolved = objects(Vec::new()).resolve(&member(&[]));
        let heartbeat = r#"{"settings":{"EnableCloudGateway":"FALSE","PolicyPollingInterval":60,"LogLevel":"INFO","x":"y"}}"#;
        let list = resolved.compare(heartbeat);
        let of = |name: &str| list.iter().find(|resultant| resultant.setting == name).unwrap();
        assert_eq!(
            (of("EnableCloudGateway").differs, of("EnableCloudGateway").reported.as_deref()),
            (true, Some("no"))
        );
        assert!(!of("PolicyPollingInterval").differs && !of("LogLevel").differs);
        assert_eq!((of("NetworkProbe").differs, of("NetworkProbe").reported.as_deref()), (false, None));
        assert!(resolved.compare("not JSON").iter().all(|resultant| !resultant.differs));
    }

    #[test]
    fn a_variant_is_resolved_by_its_objects_and_dropped_with_them() {
        let all = objects(vec![object(1, &[("LogLevel", "debug")], &["A"], &[])]);
        let resolved = all.resolve(&member(&["A"]));
        let again = all.resolve_applied(&resolved.applied).unwrap();
        assert_eq!((again.value("LogLevel"), again.variant()), ("debug", resolved.variant()));
        assert!(all.resolve_applied(&[Guid::nil()]).is_none());
        assert_eq!(all.resolve_applied(&[]).unwrap().variant(), "");
    }
}
