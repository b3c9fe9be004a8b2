//! Settings that an administrator of the device makes by hand. On Windows they are registry values; here they
//! are a file `settings.json` in the state folder, with the same names:
//!
//! ```json
//! { "CMGFQDNs": "gw.example.org", "DisAllowCMG": 0, "ClientAlwaysOnInternet": 0 }
//! ```
//!
//! The client writes into it, too: `DisAllowCMG` shows what the site says, and `CMGFQDNs` is replaced by the
//! gateways of the site once the site has named them [docs]. A value that is not the one the client wrote
//! last is by hand, and counts until the site says otherwise.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use proto::id::RoleId;
use runtime::config::private_file;
use serde_json::{Map, Value};

use crate::address::{AddressError, GatewayAddress};
use crate::location::GATEWAYS;

/// Name of the file in a state folder.
pub const FILE: &str = "settings.json";
/// Largest file that is read, in bytes.
const FILE_BYTES: u64 = 64 * 1024;
/// Gateway to try when none is known [docs].
pub const CMG_FQDNS: &str = "CMGFQDNs";
/// 1: the gateway is forbidden [docs].
pub const DISALLOW_CMG: &str = "DisAllowCMG";
/// 1: always on the internet [docs].
pub const ALWAYS_ON_INTERNET: &str = "ClientAlwaysOnInternet";
/// Every name.
pub const NAMES: [&str; 3] = [CMG_FQDNS, DISALLOW_CMG, ALWAYS_ON_INTERNET];

/// Why the settings are not to be had, or cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LocalSettingsError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Not a JSON object.
    #[error("{} is no JSON object", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        source: serde_json::Error,
    },
    /// It cannot be written.
    #[error("the settings cannot be written")]
    Write(#[source] private_file::PrivateFileError),
    /// No such setting.
    #[error("{0:?} is no setting of this device; there are CMGFQDNs, DisAllowCMG and ClientAlwaysOnInternet")]
    Unknown(String),
    /// Not 0 or 1.
    #[error("{0} is 0 or 1")]
    Value(&'static str),
    /// No address of a gateway.
    #[error("CMGFQDNs does not name a gateway")]
    Gateway(#[source] AddressError),
}

/// The settings of a device. Values of other programs stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalSettings(Map<String, Value>);

impl LocalSettings {
    /// Reads them; a file that is not there has none.
    pub fn read(folder: &Path) -> Result<Self, LocalSettingsError> {
        let path = folder.join(FILE);
        let failed = |source| LocalSettingsError::Read { path: path.clone(), source };
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(failed)?,
        };
        let mut text = String::new();
        file.take(FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        // As Windows' editors save it.
        let text = text.trim_start_matches('\u{feff}');
        let values = serde_json::from_str(text);
        values.map(Self).map_err(|source| LocalSettingsError::Content { path: path.clone(), source })
    }

    /// Writes them, as a whole.
    pub fn write(&self, folder: &Path) -> Result<(), LocalSettingsError> {
        let text = format!("{:#}\n", Value::Object(self.0.clone()));
        private_file::write(folder.join(FILE), text).map_err(LocalSettingsError::Write)
    }

    /// `CMGFQDNs`, unless it is empty.
    pub fn cmg_fqdns(&self) -> Option<&str> {
        self.find(CMG_FQDNS).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    /// `DisAllowCMG`, if it is there and says something.
    pub fn disallow_cmg(&self) -> Option<bool> {
        self.find(DISALLOW_CMG).and_then(truth)
    }

    /// `ClientAlwaysOnInternet`.
    pub fn always_on_internet(&self) -> bool {
        self.find(ALWAYS_ON_INTERNET).and_then(truth).unwrap_or(false)
    }

    /// Sets one by name and text, as a person types it; an empty text removes it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), LocalSettingsError> {
        let known = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        let known = known.ok_or_else(|| LocalSettingsError::Unknown(name.chars().take(64).collect()))?;
        let text = text.trim();
        if text.is_empty() {
            self.0.retain(|name, _| !name.eq_ignore_ascii_case(known));
            return Ok(());
        }
        let value = if known == CMG_FQDNS {
            let (_, wrong) = read_fqdns(text);
            if let Some(wrong) = wrong.into_iter().next() {
                return Err(LocalSettingsError::Gateway(wrong));
            }
            Value::from(text)
        } else {
            let on = truth(&Value::from(text)).ok_or(LocalSettingsError::Value(known))?;
            Value::from(u8::from(on))
        };
        self.put(known, value);
        Ok(())
    }

    /// Writes down what the site says of the gateway; `true`: it was something else before.
    pub(crate) fn set_disallow_cmg(&mut self, disallow: bool) -> bool {
        let changed = self.disallow_cmg() != Some(disallow);
        self.put(DISALLOW_CMG, Value::from(u8::from(disallow)));
        changed
    }

    /// Replaces `CMGFQDNs` by the gateways that the site named; `true`: it was something else before.
    pub(crate) fn set_cmg_fqdns(&mut self, gateways: &[GatewayAddress]) -> bool {
        let addresses: Vec<_> = gateways.iter().map(|gateway| format!("https://{gateway}")).collect();
        let text = addresses.join(";");
        let changed = self.cmg_fqdns() != Some(&text);
        self.put(CMG_FQDNS, Value::from(text));
        changed
    }

    /// Each of ours that is set, as text.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        NAMES.into_iter().filter_map(|name| Some((name, text(self.find(name)?)))).collect()
    }

    /// Names of registry values have no case.
    fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn put(&mut self, name: &str, value: Value) {
        let spelt = self.0.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned();
        self.0.insert(spelt.unwrap_or_else(|| name.to_owned()), value);
    }
}

/// A truth as people write it: a number, a boolean, or either as text.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Number(number) => number.as_u64().map(|number| number != 0),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Some(true),
            "0" | "false" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A gateway of `CMGFQDNs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// With the published role behind it.
    Whole(GatewayAddress),
    /// `host[:port]` only: the gateway is asked which roles it serves.
    Host(String),
}

/// Reads `CMGFQDNs`: plain names, `name:port`, or URLs with or without a path, separated by semicolons, commas
/// or spaces. Gives what is wrong besides.
pub fn read_fqdns(text: &str) -> (Vec<Hint>, Vec<AddressError>) {
    let (mut hints, mut wrong) = (Vec::new(), Vec::new());
    let separator = |c: char| matches!(c, ';' | ',') || c.is_whitespace();
    for word in text.split(separator).filter(|word| !word.is_empty()).take(GATEWAYS) {
        match read_fqdn(word) {
            Ok(hint) if hints.contains(&hint) => {}
            Ok(hint) => hints.push(hint),
            Err(error) => wrong.push(error),
        }
    }
    (hints, wrong)
}

fn read_fqdn(word: &str) -> Result<Hint, AddressError> {
    let whole: Result<GatewayAddress, _> = word.parse();
    match whole {
        Ok(whole) => return Ok(Hint::Whole(whole)),
        Err(error @ AddressError::PlainGateway(_)) => return Err(error),
        Err(_) => {}
    }
    let lower = word.to_ascii_lowercase();
    if lower.starts_with("http://") {
        return Err(AddressError::PlainGateway(word.chars().take(120).collect()));
    }
    let rest = lower.strip_prefix("https://").unwrap_or(&lower);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // The role is still to be asked for; any will do to check the name.
    GatewayAddress::new(authority, RoleId::FIRST).map(|address| Hint::Host(address.authority().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    #[test]
    fn gateways_are_read_in_every_form_that_occurs() {
        let host = |text: &str| Hint::Host(text.to_owned());
        let whole = Hint::Whole("gw/CCM_Proxy_MutualAuth/7".parse().unwrap());
        for (text, expected) in [
            ("gw.example.org", vec![host("gw.example.org")]),
            ("GW.Example.org:8443", vec![host("gw.example.org:8443")]),
            ("https://gw.example.org", vec![host("gw.example.org")]),
            ("https://gw.example.org/", vec![host("gw.example.org")]),
            ("HTTPS://gw.example.org:8443/CCM_Proxy_ServerAuth", vec![host("gw.example.org:8443")]),
            ("https://gw/CCM_Proxy_MutualAuth/7", vec![whole.clone()]),
            ("gw/CCM_Proxy_ServerAuth/7/", vec![whole.clone()]),
            ("[fd00::1]:8443", vec![host("[fd00::1]:8443")]),
            (" a;b, a c ;", vec![host("a"), host("b"), host("c")]),
            ("", vec![]),
        ] {
            assert_eq!(read_fqdns(text), (expected, vec![]), "{text}");
        }
        for wrong in
            ["http://gw.example.org", "http://gw/CCM_Proxy_MutualAuth/7", "https://", "gw:0", "user@gw"]
        {
            let (hints, errors) = read_fqdns(wrong);
            assert!(hints.is_empty() && errors.len() == 1, "{wrong}");
        }
        assert_eq!(read_fqdns("http://a;b").0, [host("b")], "the good ones count");
    }

    #[test]
    fn the_file_is_read_as_people_write_it() {
        let none = LocalSettings::read(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!((none.cmg_fqdns(), none.disallow_cmg(), none.always_on_internet()), (None, None, false));
        for (text, disallow) in [
            (r#"{"DisAllowCMG": 1}"#, Some(true)),
            ("\u{feff}{\"disallowcmg\": \"0\"}", Some(false)),
            (r#"{"DisAllowCMG": true}"#, Some(true)),
            (r#"{"DisAllowCMG": "perhaps"}"#, None),
            (r#"{"DisAllowCMG": null}"#, None),
        ] {
            assert_eq!(
                LocalSettings::read(folder_with(text).path()).unwrap().disallow_cmg(),
                disallow,
                "{text}"
            );
        }
        for text in ["", "[]", "{", "1"] {
            let error = LocalSettings::read(folder_with(text).path()).unwrap_err();
            assert!(matches!(error, LocalSettingsError::Content { .. }), "{text}");
        }
    }

    #[test]
    fn what_the_client_writes_leaves_the_rest_alone() {
        let folder = folder_with(r#"{"Other": [1], "disallowcmg": 0, "CMGFQDNs": "old"}"#);
        let mut settings = LocalSettings::read(folder.path()).unwrap();
        assert!(!settings.set_disallow_cmg(false) && settings.set_disallow_cmg(true));
        let gateways = ["gw/CCM_Proxy_MutualAuth/7".parse().unwrap()];
        assert!(settings.set_cmg_fqdns(&gateways) && !settings.set_cmg_fqdns(&gateways));
        settings.write(folder.path()).unwrap();
        let back = LocalSettings::read(folder.path()).unwrap();
        assert_eq!(back, settings);
        assert_eq!((back.disallow_cmg(), back.0.len()), (Some(true), 3));
        assert_eq!(read_fqdns(back.cmg_fqdns().unwrap()).0, [Hint::Whole(gateways[0].clone())]);
        assert_eq!(back.0["Other"], Value::from(vec![1]));
    }

    #[test]
    fn a_setting_is_typed_by_name_and_taken_back_by_nothing() {
        let mut settings = LocalSettings::default();
        settings.set("cmgfqdns", "https://gw.example.org/").unwrap();
        settings.set("DisAllowCMG", "1").unwrap();
        settings.set("ClientAlwaysOnInternet", "yes").unwrap();
        let shown = settings.shown();
        assert_eq!(shown[0], (CMG_FQDNS, "https://gw.example.org/".to_owned()));
        assert_eq!((settings.disallow_cmg(), settings.always_on_internet()), (Some(true), true));
        settings.set("DISALLOWCMG", "").unwrap();
        assert_eq!(settings.disallow_cmg(), None);
        assert!(matches!(settings.set("DisAllowCMG", "2"), Err(LocalSettingsError::Value(DISALLOW_CMG))));
        assert!(matches!(settings.set("CMGFQDNs", "http://gw"), Err(LocalSettingsError::Gateway(_))));
        assert!(matches!(settings.set("CMG", "x"), Err(LocalSettingsError::Unknown(_))));
    }
}
