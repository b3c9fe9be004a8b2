//! Client settings: the policy that governs the client itself.

use std::time::Duration;

use proto::identity::Method;
use proto::request::policy_body::{CimValue, PolicyBody};
use serde::{Deserialize, Serialize};

use crate::address::GatewayAddress;
use crate::credential::preference::read_preference;
use crate::credential::revocation::CrlCheck;
use crate::location::GATEWAYS;

/// The class of the client's settings [observed].
const CLASS: &str = "CCM_ClientAgentConfig";
/// Minutes between two policy polls unless policy says otherwise [docs].
const POLLING_MINUTES: u32 = 60;
/// Longest time between two polls that policy may set, in minutes: a day.
const POLLING_MINUTES_MAX: u32 = 24 * 60;

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Methods that the site prefers for this device, the most wanted first (`MethodPreference`, [ours]);
    /// empty: the usual order.
    #[serde(default)]
    pub method_preference: Vec<Method>,
    /// "Clients check the CRL for site systems" (`CheckServerCrl`, [ours]): a truth, or `hard`.
    #[serde(default)]
    pub revocation_check: Option<CrlCheck>,
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
            method_preference: Vec::new(),
            revocation_check: None,
        }
    }
}

impl ClientSettings {
    /// Reads the settings of a policy body that has some. What a value cannot be keeps its default.
    pub(crate) fn find(body: &PolicyBody, version: &str) -> Option<Self> {
        let instance = body.instances().find(|instance| instance.class.eq_ignore_ascii_case(CLASS))?;
        let number = |name: &str| instance.property(name).and_then(as_number);
        let default = Self::default();
        let polling = number("PolicyPollingInterval").and_then(|minutes| u32::try_from(minutes).ok());
        let text = |name: &str| instance.property(name).and_then(CimValue::as_str);
        let list = text("CloudGatewayList").unwrap_or_default();
        Some(Self {
            version: Some(version.to_owned()),
            key: number("SiteSettingsKey"),
            polling_minutes: polling
                .filter(|m| *m > 0)
                .unwrap_or(default.polling_minutes)
                .min(POLLING_MINUTES_MAX),
            gateway_allowed: number("EnableCloudGateway")
                .map_or(default.gateway_allowed, |allowed| allowed != 0),
            gateways: list.split(';').filter_map(|text| text.trim().parse().ok()).take(GATEWAYS).collect(),
            method_preference: read_preference(text("MethodPreference").unwrap_or_default()),
            revocation_check: instance.property("CheckServerCrl").and_then(as_check),
        })
    }

    /// Time between two policy polls.
    pub fn polling(&self) -> Duration {
        Duration::from_secs(u64::from(self.polling_minutes) * 60)
    }
}

/// Off or on; or the word, where it says more.
fn as_check(value: &CimValue) -> Option<CrlCheck> {
    let truth = value.as_bool().map(|on| if on { CrlCheck::Soft } else { CrlCheck::Off });
    truth.or_else(|| value.as_str().and_then(CrlCheck::read))
}

/// A number, or the truth of a boolean, or a number written as text.
fn as_number(value: &CimValue) -> Option<u64> {
    let text = || value.as_str().and_then(|text| text.trim().parse().ok());
    value.as_u64().or_else(|| value.as_bool().map(u64::from)).or_else(text)
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

    #[test]
    fn settings_are_read_in_the_forms_that_occur() {
        let list = "gw1/CCM_Proxy_MutualAuth/7; gw2:8443/CCM_Proxy_MutualAuth/8;nonsense;";
        let found = ClientSettings::find(
            &body(&[
                ("SiteSettingsKey", CimValue::UInt32(1)),
                ("PolicyPollingInterval", CimValue::UInt32(5)),
                ("EnableCloudGateway", CimValue::Boolean(false)),
                ("CloudGatewayList", CimValue::String(list.to_owned())),
            ]),
            "3.00",
        );
        let found = found.unwrap();
        assert_eq!((found.version.as_deref(), found.key), (Some("3.00"), Some(1)));
        assert_eq!((found.polling(), found.gateway_allowed), (Duration::from_mins(5), false));
        assert_eq!(found.gateways.len(), 2);
    }

    #[test]
    fn settings_about_proofs_are_read_in_the_forms_that_occur() {
        let read = |value| {
            let properties = [
                ("CheckServerCrl", value),
                ("MethodPreference", CimValue::String("site-token, certificate".into())),
            ];
            ClientSettings::find(&body(&properties), "1").unwrap()
        };
        for (value, expected) in [
            (CimValue::Boolean(true), Some(CrlCheck::Soft)),
            (CimValue::Boolean(false), Some(CrlCheck::Off)),
            (CimValue::String("hard".into()), Some(CrlCheck::Hard)),
            (CimValue::String("no".into()), Some(CrlCheck::Off)),
            (CimValue::String("perhaps".into()), None),
        ] {
            let found = read(value);
            assert_eq!(found.revocation_check, expected);
            assert_eq!(found.method_preference, [Method::SiteToken, Method::Certificate]);
        }
        let standard = body(&[("MethodPreference", CimValue::String("standard".into()))]);
        assert!(ClientSettings::find(&standard, "1").unwrap().method_preference.is_empty());
    }

    #[test]
    fn what_is_missing_or_wrong_keeps_its_default() {
        assert_eq!(ClientSettings::find(&PolicyBody { rules: Vec::new(), ..body(&[]) }, "1"), None);
        for interval in [CimValue::UInt32(0), CimValue::String("often".to_owned())] {
            let found = ClientSettings::find(&body(&[("PolicyPollingInterval", interval)]), "1").unwrap();
            assert_eq!(found.polling_minutes, POLLING_MINUTES);
            assert!(found.gateway_allowed);
        }
        let long = ClientSettings::find(&body(&[("PolicyPollingInterval", CimValue::UInt32(u32::MAX))]), "1")
            .unwrap();
        assert_eq!(long.polling(), Duration::from_hours(24));
    }
}
