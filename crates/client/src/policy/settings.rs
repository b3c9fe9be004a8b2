//! Client settings: the policy that governs the client itself.

use std::time::Duration;

use proto::identity::Method;
use proto::request::policy_body::{CimValue, PolicyBody};
use runtime::telemetry::Level;
use serde::{Deserialize, Serialize};

use crate::address::{GatewayAddress, InsideAddress};
use crate::credential::preference::read_preference;
use crate::credential::revocation::CrlCheck;
use crate::location::{GATEWAYS, Permission};
use crate::probe;

/// The class of the client's settings [observed].
const CLASS: &str = "CCM_ClientAgentConfig";
/// Minutes between two policy polls unless policy says otherwise [docs].
const POLLING_MINUTES: u32 = 60;
/// Longest time between two polls that policy may set, in minutes: a day.
const POLLING_MINUTES_MAX: u32 = 24 * 60;
/// Minutes between two heartbeats unless policy says otherwise: seven days [docs].
const HEARTBEAT_MINUTES: u32 = 7 * 24 * 60;
/// Shortest and longest time between two heartbeats that policy may set, in minutes.
const HEARTBEAT_BOUNDS: (u32, u32) = (15, 43_200);
/// Most names that are remembered of settings that this client does not have, or cannot read.
const NAMES: usize = 16;
/// Longest such name, in characters.
const NAME_CHARS: usize = 64;

/// Names of the settings that this client has, as policy carries and reports name them.
mod name {
    pub(super) const POLLING: &str = "PolicyPollingInterval";
    pub(super) const GATEWAY: &str = "EnableCloudGateway";
    pub(super) const FIRST_USE: &str = "AllowFirstUse";
    pub(super) const LOG_LEVEL: &str = "LogLevel";
    pub(super) const SERVER_CRL: &str = "CheckServerCrl";
    pub(super) const HEARTBEAT: &str = "HeartbeatInterval";
    pub(super) const USER_POLICY: &str = "EnableUserPolicy";
    pub(super) const PROBE: &str = "NetworkProbe";
    pub(super) const METHODS: &str = "MethodPreference";
    /// Those, and what stands beside them in the instance.
    pub(super) const ALL: [&str; 11] = [
        POLLING,
        GATEWAY,
        FIRST_USE,
        LOG_LEVEL,
        SERVER_CRL,
        HEARTBEAT,
        USER_POLICY,
        PROBE,
        METHODS,
        "SiteSettingsKey",
        "CloudGatewayList",
    ];
}

/// How much the client writes to its logs (`LogLevel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Warnings and errors.
    Warn,
    /// The usual.
    #[default]
    Info,
    /// Everything.
    Debug,
    /// Everything; this client knows nothing finer.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word in policy and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of the log files.
    pub const fn level(self) -> Level {
        match self {
            Self::Error => Level::Errors,
            Self::Warn => Level::Warnings,
            Self::Info => Level::Default,
            Self::Debug | Self::Trace => Level::Verbose,
        }
    }
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// Version of the policy that they came from; none while no such policy was applied.
    pub version: Option<String>,
    /// `SiteSettingsKey` [observed].
    pub key: Option<u64>,
    /// Minutes between two policy polls.
    pub polling_minutes: u32,
    /// "Enable clients to use a cloud management gateway".
    pub gateway_allowed: bool,
    /// Gateways that the site names.
    pub gateways: Vec<GatewayAddress>,
    /// Whether a device without a pinned root may take the first one that it is shown.
    pub first_use_allowed: bool,
    /// How much is logged; none: nobody said so.
    pub log_level: Option<LogLevel>,
    /// Minutes between two heartbeats; none: nobody said so.
    pub heartbeat_minutes: Option<u32>,
    /// Whether policy of users is asked for.
    pub user_policy: bool,
    /// The network-location probe: whoever hears the site's signature from there is inside.
    pub network_probe: Option<InsideAddress>,
    /// The same as the site wrote it.
    pub network_probe_text: String,
    /// Methods that the site prefers for this device, the most wanted first (`MethodPreference`, [ours]);
    /// empty: the usual order.
    pub method_preference: Vec<Method>,
    /// "Clients check the CRL for site systems" (`CheckServerCrl`, [ours]).
    pub revocation_check: Option<CrlCheck>,
    /// Settings that the site sent and this client does not have.
    pub ignored: Vec<String>,
    /// Settings whose value this client cannot read: they keep their default.
    pub unreadable: Vec<String>,
}

impl Default for ClientSettings {
    /// What holds before the first policy [docs].
    fn default() -> Self {
        Self {
            version: None,
            key: None,
            polling_minutes: POLLING_MINUTES,
            gateway_allowed: true,
            gateways: Vec::new(),
            first_use_allowed: true,
            log_level: None,
            heartbeat_minutes: None,
            user_policy: true,
            network_probe: None,
            network_probe_text: String::new(),
            method_preference: Vec::new(),
            revocation_check: None,
            ignored: Vec::new(),
            unreadable: Vec::new(),
        }
    }
}

impl ClientSettings {
    /// Reads the settings of a policy body that has some. What a value cannot be keeps its default, and what
    /// this client does not know does nothing; both are reported.
    pub(crate) fn find(body: &PolicyBody, version: &str) -> Option<Self> {
        let instance = body.instances().find(|instance| instance.class.eq_ignore_ascii_case(CLASS))?;
        let mut settings = Self { version: Some(version.to_owned()), ..Self::default() };
        for property in &instance.properties {
            let known = name::ALL.into_iter().find(|known| known.eq_ignore_ascii_case(&property.name));
            let Some(known) = known else {
                note(&mut settings.ignored, &property.name);
                continue;
            };
            if settings.take(known, &property.value).is_none() {
                note(&mut settings.unreadable, known);
            }
        }
        Some(settings)
    }

    /// Takes one setting; `None`: its value cannot be read.
    fn take(&mut self, name: &'static str, value: &CimValue) -> Option<()> {
        let number = || as_number(value).and_then(|number| u32::try_from(number).ok());
        let truth = || as_truth(value);
        let text = || value.as_str().map(str::trim);
        match name {
            name::POLLING => {
                self.polling_minutes = number().filter(|minutes| *minutes > 0)?.min(POLLING_MINUTES_MAX);
            }
            name::GATEWAY => self.gateway_allowed = truth()?,
            name::FIRST_USE => self.first_use_allowed = truth()?,
            name::LOG_LEVEL => {
                let text = text()?;
                let level = LogLevel::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
                self.log_level = Some(level?);
            }
            name::SERVER_CRL => {
                let by_truth = || truth().map(|on| if on { CrlCheck::Soft } else { CrlCheck::Off });
                self.revocation_check = Some(text().and_then(CrlCheck::read).or_else(by_truth)?);
            }
            name::HEARTBEAT => {
                let (least, most) = HEARTBEAT_BOUNDS;
                self.heartbeat_minutes = Some(number().filter(|minutes| *minutes > 0)?.clamp(least, most));
            }
            name::USER_POLICY => self.user_policy = truth()?,
            name::PROBE => {
                let text = text()?;
                if !text.is_empty() {
                    self.network_probe = Some(probe::read_url(text).ok()?);
                    text.clone_into(&mut self.network_probe_text);
                }
            }
            name::METHODS => {
                let text = text()?;
                self.method_preference = read_preference(text);
                if self.method_preference.is_empty() && !text.is_empty() {
                    return None;
                }
            }
            "SiteSettingsKey" => self.key = Some(as_number(value)?),
            "CloudGatewayList" => {
                let list = text()?.split(';');
                self.gateways = list.filter_map(|text| text.trim().parse().ok()).take(GATEWAYS).collect();
            }
            _ => return None,
        }
        Some(())
    }

    /// Time between two policy polls.
    pub fn polling(&self) -> Duration {
        minutes(self.polling_minutes)
    }

    /// Time between two heartbeats.
    pub fn heartbeat(&self) -> Duration {
        minutes(self.heartbeat_minutes.unwrap_or(HEARTBEAT_MINUTES))
    }

    /// What the client really does by now, setting by setting under the names of the policy: what it reports.
    /// `permission` and `check` are what counts, whoever says so.
    pub fn applied(&self, permission: Permission, check: CrlCheck) -> Vec<(&'static str, String)> {
        let truth = |on: bool| if on { "TRUE" } else { "FALSE" }.to_owned();
        let methods: Vec<_> = self.method_preference.iter().map(|method| method.name()).collect();
        vec![
            (name::POLLING, self.polling_minutes.to_string()),
            (name::GATEWAY, truth(permission.is_allowed())),
            (name::FIRST_USE, truth(self.first_use_allowed)),
            (name::LOG_LEVEL, self.log_level.unwrap_or_default().name().to_owned()),
            (name::SERVER_CRL, truth(check != CrlCheck::Off)),
            (name::HEARTBEAT, self.heartbeat_minutes.unwrap_or(HEARTBEAT_MINUTES).to_string()),
            (name::USER_POLICY, truth(self.user_policy)),
            (name::PROBE, self.network_probe_text.clone()),
            (name::METHODS, methods.join(",")),
        ]
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

/// Remembers a name, bounded and on one line.
fn note(names: &mut Vec<String>, name: &str) {
    if names.len() < NAMES {
        names.push(name.chars().filter(|c| !c.is_control() && *c != ';').take(NAME_CHARS).collect());
    }
}

/// A number, or the truth of a boolean, or a number written as text.
fn as_number(value: &CimValue) -> Option<u64> {
    let text = || value.as_str().and_then(|text| text.trim().parse().ok());
    value.as_u64().or_else(|| value.as_bool().map(u64::from)).or_else(text)
}

/// A boolean, or a number, or one of them as text.
fn as_truth(value: &CimValue) -> Option<bool> {
    let word = || match value.as_str()?.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" => Some(true),
        "false" | "no" => Some(false),
        _ => None,
    };
    as_number(value).map(|number| number != 0).or_else(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::request::policy_body::{CimProperty, PolicyInstance};

    fn body(properties: &[(&str, CimValue)]) -> PolicyBody {
        let properties = properties
            .iter()
            .map(|(name, value)| CimProperty { name: (*name).to_owned(), value: value.clone() })
            .collect();
        let instance = PolicyInstance { class: CLASS.to_owned(), properties };
        PolicyBody::of_instances("SRC10000".parse().unwrap(), "3.00", "SMS:RG1", vec![instance])
    }

    fn found(properties: &[(&str, CimValue)]) -> ClientSettings {
        ClientSettings::find(&body(properties), "3.00").unwrap()
    }

    fn text(text: &str) -> CimValue {
        CimValue::String(text.to_owned())
    }

    #[test]
    fn settings_are_read_in_the_forms_that_occur() {
        let list = "gw1/CCM_Proxy_MutualAuth/7; gw2:8443/CCM_Proxy_MutualAuth/8;nonsense;";
        let found = found(&[
            ("SiteSettingsKey", CimValue::UInt32(1)),
            ("PolicyPollingInterval", CimValue::UInt32(5)),
            ("enablecloudgateway", CimValue::Boolean(false)),
            ("CloudGatewayList", text(list)),
            ("AllowFirstUse", text("0")),
            ("LogLevel", text("Debug")),
            ("CheckServerCrl", CimValue::Boolean(false)),
            ("HeartbeatInterval", CimValue::UInt32(60)),
            ("EnableUserPolicy", CimValue::Boolean(false)),
            ("NetworkProbe", text("https://probe.example.org/")),
            ("MethodPreference", text("site-token,certificate")),
        ]);
        assert_eq!((found.version.as_deref(), found.key), (Some("3.00"), Some(1)));
        assert_eq!((found.polling(), found.gateway_allowed), (Duration::from_mins(5), false));
        assert_eq!((found.gateways.len(), found.first_use_allowed, found.user_policy), (2, false, false));
        assert_eq!(found.log_level.map(LogLevel::level), Some(Level::Verbose));
        assert_eq!(found.revocation_check, Some(CrlCheck::Off));
        assert_eq!(found.heartbeat(), Duration::from_hours(1));
        assert_eq!(found.network_probe.unwrap().to_string(), "https://probe.example.org");
        assert_eq!(found.method_preference, [Method::SiteToken, Method::Certificate]);
        assert!(found.ignored.is_empty() && found.unreadable.is_empty());
    }

    #[test]
    fn what_is_missing_or_wrong_keeps_its_default_and_is_named() {
        assert_eq!(ClientSettings::find(&PolicyBody { rules: Vec::new(), ..body(&[]) }, "1"), None);
        assert_eq!(found(&[]), ClientSettings { version: Some("3.00".into()), ..ClientSettings::default() });
        for (name, value) in [
            ("PolicyPollingInterval", CimValue::UInt32(0)),
            ("PolicyPollingInterval", text("often")),
            ("EnableCloudGateway", text("perhaps")),
            ("LogLevel", text("loud")),
            ("CheckServerCrl", text("sometimes")),
            ("HeartbeatInterval", text("")),
            ("NetworkProbe", text("https://a b/")),
            ("MethodPreference", text("password")),
        ] {
            let found = found(&[(name, value)]);
            assert_eq!(found.unreadable, [name]);
            let default = ClientSettings { version: found.version.clone(), ..ClientSettings::default() };
            assert_eq!(ClientSettings { unreadable: Vec::new(), ..found }, default, "{name}");
        }
        let long = found(&[("PolicyPollingInterval", CimValue::UInt32(u32::MAX))]);
        assert_eq!(long.polling(), Duration::from_hours(24));
        let empty = found(&[("NetworkProbe", text("")), ("MethodPreference", text(""))]);
        assert!(empty.unreadable.is_empty());
    }

    #[test]
    fn unknown_settings_are_named_and_bounded() {
        let mut properties = vec![("Future;\nSetting".to_owned(), CimValue::UInt32(1))];
        properties.extend((0..100).map(|n| (format!("{n}{}", "x".repeat(100)), CimValue::UInt32(1))));
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let found = found(&properties);
        assert_eq!((found.ignored[0].as_str(), found.ignored.len()), ("FutureSetting", NAMES));
        assert!(found.ignored.iter().all(|name| name.len() <= NAME_CHARS));
    }

    #[test]
    fn what_is_applied_is_reported_under_the_names_of_the_policy() {
        let settings = found(&[
            ("EnableCloudGateway", CimValue::Boolean(true)),
            ("NetworkProbe", text("https://probe.example.org/")),
            ("MethodPreference", text("entra-device")),
        ]);
        let applied = settings.applied(Permission::ForbiddenHere, CrlCheck::Hard);
        let expected = [
            ("PolicyPollingInterval", "60"),
            ("EnableCloudGateway", "FALSE"),
            ("AllowFirstUse", "TRUE"),
            ("LogLevel", "info"),
            ("CheckServerCrl", "TRUE"),
            ("HeartbeatInterval", "10080"),
            ("EnableUserPolicy", "TRUE"),
            ("NetworkProbe", "https://probe.example.org/"),
            ("MethodPreference", "entra-device"),
        ];
        let applied: Vec<_> = applied.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(applied, expected);
    }
}
