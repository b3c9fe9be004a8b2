//! Site settings: what all hosts of a site share and an operator can change.
//!
//! One table gives name, form, default and meaning; a setting that is not in it does not exist. A
//! value that weakens security says so in its list entry and in the audit (R71).

use std::time::Duration;

use proto::identity::{Method, TokenBinding};
use proto::pki::{CrlPolicy, RevocationSettings};
use proto::snapshot::{Change, GatewaySettings};
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::db::setting::SettingRow;
use crate::db::{self, DbError};
use crate::{Site, client_settings, snapshot};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number in these bounds, of the unit.
    Number { least: u32, most: u32, unit: &'static str },
    /// All of these words in some order, separated by commas.
    Order(&'static [&'static str]),
}

/// One row of the table.
struct Spec {
    name: &'static str,
    form: Form,
    default: &'static str,
    /// Whether this value weakens security against the default.
    weakens: fn(&str) -> bool,
    /// Whether a change makes a new version of the client settings policy.
    for_clients: bool,
    doc: &'static str,
}

fn never(_: &str) -> bool {
    false
}

fn off(value: &str) -> bool {
    value == "off"
}

fn on(value: &str) -> bool {
    value == "on"
}

/// The order of preference of methods, unless an operator says otherwise.
const METHODS: &[&str] = &["certificate", "entra-device", "entra-user", "site-token"];

const SWITCH: Form = Form::Word(&["on", "off"]);

/// Every setting. [`Settings::apply`] has an arm for each; a test holds the two together.
const SPECS: &[Spec] = &[
    Spec {
        name: "token_binding",
        form: Form::Word(&["required", "off"]),
        default: "required",
        weakens: off,
        for_clients: false,
        doc: "whether a CCM or self-prove token counts only with its key; off is for load tools that cannot show certificates",
    },
    Spec {
        name: "require_signed_requests",
        form: SWITCH,
        default: "off",
        weakens: never,
        for_clients: false,
        doc: "whether clients that do not sign every request (third-party ones) are refused",
    },
    Spec {
        name: "header_time_window",
        form: Form::Number { least: 60, most: 86_400, unit: "seconds" },
        default: "3600",
        weakens: |value| value.parse().is_ok_and(|seconds: u32| seconds > 3600),
        for_clients: false,
        doc: "how far the time in signed identity headers of third-party clients may be off; signed requests have clock_skew_limit",
    },
    Spec {
        name: "policy_polling_interval",
        form: Form::Number { least: 3, most: 1440, unit: "minutes" },
        default: "60",
        weakens: never,
        for_clients: true,
        doc: "how often a client asks for policy",
    },
    Spec {
        name: "enable_cmg",
        form: SWITCH,
        default: "on",
        weakens: never,
        for_clients: true,
        doc: "whether clients may use the gateway (client setting \"Enable clients to use a cloud management gateway\")",
    },
    Spec {
        name: "online_window",
        form: Form::Number { least: 0, most: 10_080, unit: "minutes" },
        default: "0",
        weakens: never,
        for_clients: false,
        doc: "how long after its last authenticated request a device counts as online; 0 means two policy polls",
    },
    Spec {
        name: "self_prove_lifetime",
        form: Form::Number { least: 1, most: 90, unit: "days" },
        default: "90",
        weakens: never,
        for_clients: false,
        doc: "life of the token that a device gets at registration and renews by itself",
    },
    Spec {
        name: "recovery_window",
        form: Form::Number { least: 0, most: 3650, unit: "days" },
        default: "180",
        weakens: |value| value.parse().is_ok_and(|days: u32| days > 365),
        for_clients: false,
        doc: "how long after its token's end a device may come back by its key alone",
    },
    Spec {
        name: "allow_first_use",
        form: SWITCH,
        default: "on",
        weakens: on,
        for_clients: true,
        doc: "whether a client without a pinned root may take it on first use, over a gateway certificate that its system trusts",
    },
    Spec {
        name: "client_crl_check",
        form: SWITCH,
        default: "on",
        weakens: off,
        for_clients: false,
        doc: "whether revocation of client certificates is checked, for every certificate of their chains",
    },
    Spec {
        name: "crl_policy",
        form: Form::Word(&["hard", "soft"]),
        default: "hard",
        weakens: |value| value == "soft",
        for_clients: false,
        doc: "whether an issuer's clients are refused while its revocation list is missing or stale (hard), or go on (soft)",
    },
    Spec {
        name: "crl_grace",
        form: Form::Number { least: 0, most: 1440, unit: "minutes" },
        default: "0",
        weakens: |value| value != "0",
        for_clients: false,
        doc: "how long after the next one was due a revocation list still counts, under the hard policy",
    },
    Spec {
        name: "clients_check_crl",
        form: SWITCH,
        default: "on",
        weakens: off,
        for_clients: true,
        doc: "whether clients check the revocation list of the gateway's server certificate",
    },
    Spec {
        name: "clock_skew_limit",
        form: Form::Number { least: 5, most: 1440, unit: "minutes" },
        default: "60",
        weakens: |value| value.parse().is_ok_and(|minutes: u32| minutes > 60),
        for_clients: false,
        doc: "how far a device's clock may be off before its signed requests are refused; beyond five minutes it is told the site's time",
    },
    Spec {
        name: "method_preference",
        form: Form::Order(METHODS),
        default: "certificate,entra-device,entra-user,site-token",
        weakens: |value| !value.starts_with("certificate"),
        for_clients: true,
        doc: "which of the ways that a device has proved carries it, the preferred one first",
    },
    Spec {
        name: "entra_user_devices",
        form: Form::Number { least: 1, most: 100_000, unit: "devices" },
        default: "20",
        weakens: |value| value.parse().is_ok_and(|devices: u32| devices > 20),
        for_clients: false,
        doc: "how many new keys a day one user of a tenant may bring by tokens that name no device; further ones are held, and an alarm tells",
    },
    Spec {
        name: "registration_burst",
        form: Form::Number { least: 1, most: 1_000_000, unit: "devices" },
        default: "6000",
        weakens: |value| value.parse().is_ok_and(|devices: u32| devices > 6000),
        for_clients: false,
        doc: "how many new devices may register at once with one bulk registration token, by one tenant or certificate authority, or from one address without any; further ones wait for registration_rate. A roll-out of 5,000 passes. By one certificate, or one device or user of a tenant, it is 100 and one a minute at most",
    },
    Spec {
        name: "registration_rate",
        form: Form::Number { least: 1, most: 1_000_000, unit: "devices a minute" },
        default: "600",
        weakens: |value| value.parse().is_ok_and(|devices: u32| devices > 600),
        for_clients: false,
        doc: "how many new devices a minute may register so after registration_burst; whoever comes sooner is told when to come again (RG-3404), and known devices never wait",
    },
    Spec {
        name: "registration_usual",
        form: Form::Number { least: 1, most: 1_000_000, unit: "devices an hour" },
        default: "1000",
        weakens: |value| value.parse().is_ok_and(|devices: u32| devices > 1000),
        for_clients: false,
        doc: "how many new devices so in an hour are no reason to look; more raise an alarm for a day. By one certificate, or one device or user of a tenant, it is 20 at most",
    },
    Spec {
        name: "log_level",
        form: Form::Word(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        weakens: never,
        for_clients: false,
        doc: "how much server roles write to their logs",
    },
    Spec {
        name: "client_log_level",
        form: Form::Word(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        weakens: never,
        for_clients: true,
        doc: "how much clients write to their logs",
    },
];

/// The settings in force, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own that an operator names")]
pub struct Settings {
    /// Whether a token counts without its key.
    pub token_binding: TokenBinding,
    /// Whether requests without a signature are refused.
    pub require_signed_requests: bool,
    /// How far the time in identity headers of third-party clients may be off.
    pub header_time_window: Duration,
    /// How often a client asks for policy.
    pub policy_polling_interval: Duration,
    /// Whether clients may use the gateway.
    pub enable_cmg: bool,
    /// How long a device counts as online after its last request.
    pub online_window: Duration,
    /// Life of a self-prove token.
    pub self_prove_lifetime: Duration,
    /// How long after its token's end a device may come back by its key.
    pub recovery_window: Duration,
    /// Whether a client may take the site root on first use.
    pub allow_first_use: bool,
    /// How revocation of client certificates is judged.
    pub revocation: RevocationSettings,
    /// Whether clients check the revocation list of the gateway's certificate.
    pub clients_check_crl: bool,
    /// How far a device's clock may be off.
    pub clock_skew_limit: Duration,
    /// Which of the ways that a device has proved carries it, the preferred one first.
    pub method_preference: Vec<Method>,
    /// New keys a day that a user of a tenant may bring by tokens that name no device.
    pub entra_user_devices: u32,
    /// New devices that may come at once by one bulk token, tenant or authority, or from one address.
    pub registration_burst: u32,
    /// New devices a minute that may come so after a burst.
    pub registration_rate: u32,
    /// New devices an hour that may come so without an alarm.
    pub registration_usual: u32,
    /// Log level of server roles.
    pub log_level: String,
    /// Log level of clients.
    pub client_log_level: String,
}

/// A setting as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingView {
    /// Its name.
    pub name: &'static str,
    /// The value in force.
    pub value: String,
    /// The value without an operator's doing.
    pub default: &'static str,
    /// What may be written: words, or bounds with the unit.
    pub form: String,
    /// What it does.
    pub doc: &'static str,
    /// Whether the value in force weakens security: an alarm.
    pub weakens: bool,
    /// Since when, where it was set.
    pub changed_at: Option<Timestamp>,
    /// By whom, where it was set.
    pub changed_by: Option<String>,
}

/// A setting was not set.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// No such setting.
    #[error("there is no setting {0:?}; `roamgate settings list` shows all")]
    Unknown(String),
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
    /// The database failed.
    #[error("setting not changed")]
    Database(#[from] DbError),
}

impl Form {
    fn takes(self, value: &str) -> bool {
        match self {
            Self::Word(words) => words.contains(&value),
            Self::Number { least, most, .. } => {
                let plain = value.bytes().all(|b| b.is_ascii_digit());
                plain && value.parse().is_ok_and(|number: u32| (least..=most).contains(&number))
            }
            Self::Order(words) => {
                let given: Vec<_> = value.split(',').collect();
                given.len() == words.len() && words.iter().all(|word| given.contains(word))
            }
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Word(words) => words.join(" or "),
            Self::Number { least, most, unit } => format!("{least} to {most} {unit}"),
            Self::Order(words) => format!("{} in any order", words.join(",")),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let mut settings = Self {
            token_binding: TokenBinding::Required,
            require_signed_requests: false,
            header_time_window: Duration::ZERO,
            policy_polling_interval: Duration::ZERO,
            enable_cmg: true,
            online_window: Duration::ZERO,
            self_prove_lifetime: Duration::ZERO,
            recovery_window: Duration::ZERO,
            allow_first_use: true,
            revocation: RevocationSettings::default(),
            clients_check_crl: true,
            clock_skew_limit: Duration::ZERO,
            method_preference: Vec::new(),
            entra_user_devices: 0,
            registration_burst: 0,
            registration_rate: 0,
            registration_usual: 0,
            log_level: String::new(),
            client_log_level: String::new(),
        };
        for spec in SPECS {
            settings.apply(spec.name, spec.default);
        }
        settings
    }
}

impl Settings {
    /// The defaults with the stored values over them. A stored value that this program does not
    /// know or take leaves the default, which is never the weaker one.
    pub(crate) fn from_rows(rows: &[SettingRow]) -> Self {
        let mut settings = Self::default();
        for row in rows {
            if SPECS.iter().any(|spec| spec.name == row.name && spec.form.takes(&row.value)) {
                settings.apply(&row.name, &row.value);
            }
        }
        if settings.online_window.is_zero() {
            settings.online_window = settings.policy_polling_interval * 2;
        }
        settings
    }

    /// What of them gateways obey.
    pub fn for_gateways(&self) -> GatewaySettings {
        GatewaySettings { token_binding: self.token_binding, revocation: self.revocation }
    }

    /// Takes one value that [`Form::takes`] has let pass.
    fn apply(&mut self, name: &str, value: &str) {
        let number = || value.parse::<u64>().unwrap_or_default();
        let count = || value.parse::<u32>().unwrap_or_default();
        match name {
            "token_binding" => {
                self.token_binding = if value == "off" { TokenBinding::Off } else { TokenBinding::Required };
            }
            "require_signed_requests" => self.require_signed_requests = value == "on",
            "header_time_window" => self.header_time_window = Duration::from_secs(number()),
            "policy_polling_interval" => self.policy_polling_interval = Duration::from_secs(number() * 60),
            "enable_cmg" => self.enable_cmg = value == "on",
            "online_window" => self.online_window = Duration::from_secs(number() * 60),
            "self_prove_lifetime" => self.self_prove_lifetime = Duration::from_secs(number() * 86_400),
            "recovery_window" => self.recovery_window = Duration::from_secs(number() * 86_400),
            "allow_first_use" => self.allow_first_use = value == "on",
            "client_crl_check" => self.revocation.check = value == "on",
            "crl_policy" => {
                self.revocation.policy = if value == "soft" { CrlPolicy::Soft } else { CrlPolicy::Hard };
            }
            "crl_grace" => {
                self.revocation.grace_seconds = u32::try_from(number() * 60).unwrap_or_default();
            }
            "clients_check_crl" => self.clients_check_crl = value == "on",
            "clock_skew_limit" => self.clock_skew_limit = Duration::from_secs(number() * 60),
            "method_preference" => {
                self.method_preference = value.split(',').filter_map(crate::method::parse).collect();
            }
            "entra_user_devices" => self.entra_user_devices = count(),
            "registration_burst" => self.registration_burst = count(),
            "registration_rate" => self.registration_rate = count(),
            "registration_usual" => self.registration_usual = count(),
            "log_level" => value.clone_into(&mut self.log_level),
            "client_log_level" => value.clone_into(&mut self.client_log_level),
            _ => {}
        }
    }
}

impl Site {
    /// Every setting with its value, default and meaning.
    pub async fn list_settings(&self) -> Result<Vec<SettingView>, DbError> {
        let rows = self.db().read(db::setting::list).await?;
        let view = |spec: &Spec| {
            let row = rows.iter().find(|row| row.name == spec.name);
            let value = row.map_or(spec.default, |row| row.value.as_str());
            SettingView {
                name: spec.name,
                value: value.to_owned(),
                default: spec.default,
                form: spec.form.describe(),
                doc: spec.doc,
                weakens: (spec.weakens)(value),
                changed_at: row.map(|row| row.changed_at),
                changed_by: row.map(|row| row.changed_by.clone()),
            }
        };
        Ok(SPECS.iter().map(view).collect())
    }

    /// Sets a setting. What gateways obey is published, what clients obey becomes a new version
    /// of their settings policy, all in the same transaction.
    pub async fn set_setting(&self, by: &By, name: &str, value: &str) -> Result<(), SettingError> {
        let spec = SPECS.iter().find(|spec| spec.name == name);
        let spec = spec.ok_or_else(|| SettingError::Unknown(name.chars().take(80).collect()))?;
        if !spec.form.takes(value) {
            let value = value.chars().take(80).collect();
            return Err(SettingError::Value { name: spec.name, form: spec.form.describe(), value });
        }
        let settings = {
            let _refresh = self.inner.refresh.lock().await;
            let scribe = self.scribe(by);
            let site = self.facts().code;
            let row = SettingRow {
                name: spec.name.to_owned(),
                value: value.to_owned(),
                changed_at: scribe.now,
                changed_by: by.actor.to_string(),
            };
            let write = self.db().write(move |tx| {
                let rows = db::setting::list(tx)?;
                let old = rows
                    .iter()
                    .find(|old| old.name == row.name)
                    .map_or(spec.default, |old| old.value.as_str());
                let detail = json!({ "from": old, "to": row.value, "weakens": (spec.weakens)(&row.value) });
                let before = Settings::from_rows(&rows).for_gateways();
                db::setting::put(tx, &row)?;
                let settings = Settings::from_rows(&db::setting::list(tx)?);
                if settings.for_gateways() != before {
                    snapshot::publish(tx, scribe.now, &Change::SetSettings(settings.for_gateways()))?;
                }
                if spec.for_clients {
                    client_settings::refresh(tx, site, scribe.now)?;
                }
                scribe.note(tx, "setting.set", &row.name, &detail)?;
                Ok::<_, DbError>(settings)
            });
            let settings = write.await?;
            self.put_settings(settings.clone());
            settings
        };
        tracing::info!(setting = spec.name, log_level = %settings.log_level, "setting changed");
        self.publish_committed().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: &str) -> SettingRow {
        let changed_at = Timestamp::default();
        SettingRow { name: name.into(), value: value.into(), changed_at, changed_by: String::new() }
    }

    #[test]
    fn every_setting_of_the_table_reaches_the_settings() {
        for spec in SPECS {
            assert!(spec.form.takes(spec.default), "{}", spec.name);
            let other = match spec.form {
                Form::Word(words) => (*words.iter().find(|word| **word != spec.default).unwrap()).to_owned(),
                Form::Number { least, most, .. } => {
                    if spec.default == most.to_string() {
                        least.to_string()
                    } else {
                        most.to_string()
                    }
                }
                Form::Order(words) => words.iter().rev().copied().collect::<Vec<_>>().join(","),
            };
            let changed = Settings::from_rows(&[row(spec.name, &other)]);
            assert_ne!(changed, Settings::from_rows(&[]), "{} = {other} changes nothing", spec.name);
        }
    }

    #[test]
    fn no_default_but_first_use_weakens_and_a_stored_value_that_does_not_fit_is_not_taken() {
        let weak: Vec<_> =
            SPECS.iter().filter(|spec| (spec.weakens)(spec.default)).map(|spec| spec.name).collect();
        assert_eq!(weak, ["allow_first_use"]);
        let settings =
            Settings::from_rows(&[row("token_binding", "perhaps"), row("header_time_window", "1")]);
        assert_eq!(settings.token_binding, TokenBinding::Required);
        assert_eq!(settings.header_time_window, Duration::from_hours(1));
        for wrong in ["", "59", "86401", "+60", "60 ", "-1", "1e3"] {
            assert!(!Form::Number { least: 60, most: 86_400, unit: "seconds" }.takes(wrong), "{wrong}");
        }
        for wrong in ["", "certificate", "certificate,certificate,entra-user,site-token", "a,b,c,d"] {
            assert!(!Form::Order(METHODS).takes(wrong), "{wrong}");
        }
        assert_eq!(Settings::default().method_preference, Method::PREFERENCE);
    }

    #[test]
    fn a_device_counts_as_online_for_two_policy_polls_unless_said_otherwise() {
        let polls = Settings::from_rows(&[row("policy_polling_interval", "10")]);
        assert_eq!(polls.online_window, Duration::from_mins(20));
        assert_eq!(Settings::from_rows(&[row("online_window", "5")]).online_window, Duration::from_mins(5));
    }
}
