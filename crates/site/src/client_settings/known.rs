//! Every client setting that there is, named as the property that carries it to the client.

use proto::identity::Method;
use serde::Serialize;

use crate::method::{self, Preference};
use crate::setting::Settings;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `yes` or `no`; `on`, `true` and `1` are read, too.
    Switch,
    /// A whole number in these bounds, of the unit.
    Number { least: u32, most: u32, unit: &'static str },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Methods by name, the preferred one first, separated by commas; or `standard`.
    Methods,
    /// An address that begins with `http://` or `https://`; or `none`.
    Address,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) default: &'static str,
    /// The site setting that gives its default, where there is one.
    pub(crate) site_setting: Option<&'static str>,
    pub(crate) meaning: &'static str,
}

/// Longest address of a probe.
const ADDRESS_CHARS: usize = 255;
/// What stands for an order of methods that nobody changed.
pub(crate) const STANDARD: &str = "standard";
/// What stands for no address.
pub(crate) const NONE: &str = "none";

/// Every setting, in the order in which bodies hold them.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        name: "PolicyPollingInterval",
        form: Form::Number { least: 3, most: 1440, unit: "minutes" },
        default: "60",
        site_setting: Some("policy_polling_interval"),
        meaning: "how often the client asks for policy",
    },
    Known {
        name: "EnableCloudGateway",
        form: Form::Switch,
        default: "yes",
        site_setting: Some("enable_cmg"),
        meaning: "whether the client may use gateways (\"Enable clients to use a cloud management gateway\")",
    },
    Known {
        name: "AllowFirstUse",
        form: Form::Switch,
        default: "yes",
        site_setting: Some("allow_first_use"),
        meaning: "whether a client without a pinned root may take it on first use, over a certificate that its system trusts",
    },
    Known {
        name: "LogLevel",
        form: Form::Word(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        site_setting: Some("client_log_level"),
        meaning: "how much the client writes to its logs",
    },
    Known {
        name: "CheckServerCrl",
        form: Form::Switch,
        default: "yes",
        site_setting: Some("clients_check_crl"),
        meaning: "whether the client checks revocation of gateways and site systems; no weakens it",
    },
    Known {
        name: "HeartbeatInterval",
        form: Form::Number { least: 15, most: 43_200, unit: "minutes" },
        default: "10080",
        site_setting: None,
        meaning: "how often the client reports that it is alive",
    },
    Known {
        name: "EnableUserPolicy",
        form: Form::Switch,
        default: "yes",
        site_setting: None,
        meaning: "whether the client asks for policy of its users",
    },
    Known {
        name: "NetworkProbe",
        form: Form::Address,
        default: NONE,
        site_setting: None,
        meaning: "an address inside whose signed answer shows the client that it is on the intranet",
    },
    Known {
        name: "MethodPreference",
        form: Form::Methods,
        default: STANDARD,
        site_setting: Some("method_preference"),
        meaning: "which method the device is to prove itself with, if it can: certificate, entra-device, entra-user, site-token; the others follow in this order",
    },
];

/// A client setting as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownClientSetting {
    /// Its name, which is the property that carries it.
    pub name: &'static str,
    /// What may be written.
    pub takes: String,
    /// The value where nobody says another.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Every client setting with its bounds and meaning.
pub fn known_client_settings() -> Vec<KnownClientSetting> {
    let view = |known: &Known| KnownClientSetting {
        name: known.name,
        takes: known.form.describe(),
        default: known.default,
        meaning: known.meaning,
    };
    KNOWN.iter().map(view).collect()
}

/// Names of all client settings: properties of the policy, and of the instance in which our client
/// reports what it applied.
pub fn client_setting_names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// The row of a name, in any case.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

impl Known {
    /// Its value by the site settings, where one of them is about it.
    pub(crate) fn by_site(&self, settings: &Settings) -> Option<String> {
        let switch = |on: bool| Some(if on { "yes" } else { "no" }.to_owned());
        match self.site_setting? {
            "policy_polling_interval" => Some((settings.policy_polling_interval.as_secs() / 60).to_string()),
            "enable_cmg" => switch(settings.enable_cmg),
            "allow_first_use" => switch(settings.allow_first_use),
            "client_log_level" => Some(settings.client_log_level.clone()),
            "clients_check_crl" => switch(settings.clients_check_crl),
            "method_preference" => Some(order(&settings.method_preference)),
            _ => None,
        }
    }

    /// A value as the site setting writes it.
    pub(crate) fn for_site(&self, value: &str) -> String {
        match (self.form, value) {
            (Form::Switch, "yes") => "on".to_owned(),
            (Form::Switch, _) => "off".to_owned(),
            // The site setting names every method.
            (Form::Methods, named) => {
                let order = Preference::new(&methods(named).unwrap_or_default(), String::new()).order;
                names(&order)
            }
            (_, other) => other.to_owned(),
        }
    }
}

impl Form {
    /// The one spelling of a value; `None`: it is not taken.
    pub(crate) fn read(self, text: &str) -> Option<String> {
        let text = text.trim();
        match self {
            Self::Switch => switch(text).map(|on| if on { "yes" } else { "no" }.to_owned()),
            Self::Number { least, most, .. } => {
                let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let number: u32 = text.parse().ok().filter(|_| plain)?;
                (least..=most).contains(&number).then(|| number.to_string())
            }
            Self::Word(words) => {
                words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| (*word).to_owned())
            }
            Self::Methods if text.eq_ignore_ascii_case(STANDARD) => Some(STANDARD.to_owned()),
            Self::Methods => Some(order(&methods(text)?)),
            Self::Address if text.eq_ignore_ascii_case(NONE) => Some(NONE.to_owned()),
            Self::Address => {
                let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
                let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
                (plain && !host.is_empty() && !host.starts_with('/') && text.len() <= ADDRESS_CHARS)
                    .then(|| text.to_owned())
            }
        }
    }

    /// What may be written.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Switch => "yes or no".to_owned(),
            Self::Number { least, most, unit } => format!("{least} to {most} {unit}"),
            Self::Word(words) => words.join(" or "),
            Self::Methods => {
                let names: Vec<_> = Method::PREFERENCE.iter().map(|method| method.name()).collect();
                format!("{STANDARD}, or the preferred of {}, separated by commas", names.join(", "))
            }
            Self::Address => format!("{NONE}, or an address such as https://probe.example.org/"),
        }
    }

    /// Whether two spellings mean the same, such as what was sent and what a client reports.
    pub(crate) fn same(self, one: &str, other: &str) -> bool {
        self.meant(one) == self.meant(other)
    }

    /// A value as a client reports it, in our spelling. What is empty on the wire has a word here.
    pub(crate) fn meant(self, text: &str) -> String {
        match self {
            Self::Methods if text.trim().is_empty() => STANDARD.to_owned(),
            Self::Address if text.trim().is_empty() => NONE.to_owned(),
            _ => self.read(text).unwrap_or_else(|| text.trim().to_owned()),
        }
    }
}

/// An order of methods in its one spelling.
fn order(first: &[Method]) -> String {
    let whole = Preference::new(first, String::new());
    if whole.from.is_none() { STANDARD.to_owned() } else { names(first) }
}

fn names(list: &[Method]) -> String {
    list.iter().map(|method| method.name()).collect::<Vec<_>>().join(",")
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" | "1" => Some(true),
        "no" | "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// Methods by name, each once; `None` when one is unknown, named twice, or none is.
pub(crate) fn methods(text: &str) -> Option<Vec<Method>> {
    let mut list = Vec::new();
    for word in text.split(',') {
        let method = method::parse(&word.trim().to_ascii_lowercase())?;
        if list.contains(&method) {
            return None;
        }
        list.push(method);
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_taken_and_is_what_the_site_settings_say() {
        let settings = Settings::default();
        for known in KNOWN {
            assert_eq!(known.form.read(known.default).as_deref(), Some(known.default), "{}", known.name);
            assert_eq!(known.by_site(&settings).is_some(), known.site_setting.is_some(), "{}", known.name);
            if let Some(value) = known.by_site(&settings) {
                assert_eq!(value, known.default, "{}", known.name);
            }
        }
    }

    #[test]
    fn values_have_one_spelling() {
        let read = |name: &str, value: &str| find(name).unwrap().form.read(value);
        for yes in ["yes", "YES", "on", "TRUE", "1", " yes "] {
            assert_eq!(read("enablecloudgateway", yes).as_deref(), Some("yes"), "{yes}");
        }
        for wrong in ["", "2", "maybe", "yes\nno"] {
            assert_eq!(read("EnableCloudGateway", wrong), None, "{wrong}");
        }
        for wrong in ["", "2", "1441", "+60", "1e2", "60 minutes"] {
            assert_eq!(read("PolicyPollingInterval", wrong), None, "{wrong}");
        }
        assert_eq!(read("PolicyPollingInterval", "060").as_deref(), Some("60"));
        assert_eq!(
            read("MethodPreference", "Site-Token, certificate").as_deref(),
            Some("site-token,certificate")
        );
        for wrong in ["", "site-token,site-token", "password", "site-token,"] {
            assert_eq!(read("MethodPreference", wrong), None, "{wrong}");
        }
        for wrong in ["ftp://a", "https://", "https:///x", "https://a b", "https://a\"", "probe"] {
            assert_eq!(read("NetworkProbe", wrong), None, "{wrong}");
        }
        assert!(find("LogLevel").unwrap().form.same("info", "INFO"));
        assert!(find("EnableCloudGateway").unwrap().form.same("yes", "TRUE"));
        assert!(find("NetworkProbe").unwrap().form.same("none", ""));
        assert!(!find("MethodPreference").unwrap().form.same("site-token", ""));
    }
}
