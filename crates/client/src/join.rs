//! How the device is joined, read from its own account of it: the output of `dsregcmd /status`.
//!
//! Read as Windows prints it: sections in boxes, `name : value` lines, spaces as they come. Lines that
//! are not known are passed over, because each release of Windows prints others; what is missing is
//! never guessed at.

use std::fmt;

use proto::combination::Join;
use proto::id::Guid;
use serde::{Deserialize, Serialize};

/// Longest output that is read, in bytes. A long one has some 8,000.
pub const OUTPUT_BYTES: usize = 256 * 1024;
/// Longest value that is kept, in characters.
const VALUE_CHARS: usize = 400;

/// What `dsregcmd /status` says, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinStatus {
    /// `AzureAdJoined`.
    pub entra: bool,
    /// `DomainJoined`.
    pub domain: bool,
    /// `DomainName`.
    pub domain_name: Option<String>,
    /// `WorkplaceJoined`, of the user who ran it: a registered device, which is not a joined one.
    pub registered_only: bool,
    /// `DeviceId`.
    pub device: Option<Guid>,
    /// `Thumbprint` of the workplace-join certificate.
    pub thumbprint: Option<String>,
    /// End of `DeviceCertificateValidity`, as printed.
    pub certificate_ends: Option<String>,
    /// `DeviceAuthStatus`.
    pub authentication: Option<String>,
    /// `KeySignTest`.
    pub key_test: Option<String>,
    /// `TenantId`.
    pub tenant: Option<Guid>,
    /// `TenantName`.
    pub tenant_name: Option<String>,
    /// `AccessTokenUrl`.
    pub token_url: Option<String>,
    /// `AzureAdPrt`.
    pub primary_token: Option<bool>,
    /// `Error Phase` of the last attempt to join.
    pub error_phase: Option<String>,
    /// `Client ErrorCode`.
    pub client_error: Option<String>,
    /// `Server ErrorCode`.
    pub server_error: Option<String>,
    /// `Server Message`.
    pub server_message: Option<String>,
}

/// A text that is not what `dsregcmd /status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinStatusError {
    /// Longer than [`OUTPUT_BYTES`].
    #[error("the output is longer than {OUTPUT_BYTES} bytes")]
    TooLong,
    /// Neither `AzureAdJoined` nor `DomainJoined` stands in it.
    #[error("this is not what `dsregcmd /status` prints: AzureAdJoined and DomainJoined are not in it")]
    Unknown,
}

impl JoinStatus {
    /// Reads the bytes of the output: UTF-8, or UTF-16 as PowerShell writes when it redirects.
    pub fn read(bytes: &[u8]) -> Result<Self, JoinStatusError> {
        if bytes.len() > OUTPUT_BYTES {
            return Err(JoinStatusError::TooLong);
        }
        let utf16 = |decode: fn([u8; 2]) -> u16, bytes: &[u8]| {
            let units: Vec<u16> =
                bytes.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(decode).collect();
            String::from_utf16_lossy(&units)
        };
        let text = match bytes {
            [0xFF, 0xFE, rest @ ..] => utf16(u16::from_le_bytes, rest),
            [0xFE, 0xFF, rest @ ..] => utf16(u16::from_be_bytes, rest),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        Self::parse(&text)
    }

    /// Reads the output.
    pub fn parse(text: &str) -> Result<Self, JoinStatusError> {
        let mut status = Self::default();
        let (mut entra, mut domain) = (None, None);
        for line in text.lines() {
            let Some((name, value)) = line.split_once(" :") else { continue };
            let name: String = name.chars().filter(|c| !c.is_whitespace()).collect();
            let value: String = value.trim().chars().filter(|c| !c.is_control()).take(VALUE_CHARS).collect();
            let given = || Some(value.clone()).filter(|value| !value.is_empty());
            // The first of each counts: later sections repeat some names for users and providers.
            match name.as_str() {
                "AzureAdJoined" => entra = entra.or(Some(yes(&value))),
                "DomainJoined" => domain = domain.or(Some(yes(&value))),
                "DomainName" => status.domain_name = status.domain_name.take().or_else(given),
                "WorkplaceJoined" => status.registered_only |= yes(&value),
                "DeviceId" => status.device = status.device.or_else(|| value.parse().ok()),
                "Thumbprint" => status.thumbprint = status.thumbprint.take().or_else(given),
                "DeviceCertificateValidity" => {
                    let end = value.split_once("--").map(|(_, end)| end.trim_matches([' ', ']']).to_owned());
                    status.certificate_ends = status.certificate_ends.take().or(end);
                }
                "DeviceAuthStatus" => status.authentication = status.authentication.take().or_else(given),
                "KeySignTest" => status.key_test = status.key_test.take().or_else(given),
                "TenantId" => status.tenant = status.tenant.or_else(|| value.parse().ok()),
                "TenantName" => status.tenant_name = status.tenant_name.take().or_else(given),
                "AccessTokenUrl" => status.token_url = status.token_url.take().or_else(given),
                "AzureAdPrt" => status.primary_token = status.primary_token.or(Some(yes(&value))),
                "ErrorPhase" => status.error_phase = status.error_phase.take().or_else(given),
                "ClientErrorCode" => status.client_error = status.client_error.take().or_else(given),
                "ServerErrorCode" => status.server_error = status.server_error.take().or_else(given),
                "ServerMessage" => status.server_message = status.server_message.take().or_else(given),
                _ => {}
            }
        }
        if entra.is_none() && domain.is_none() {
            return Err(JoinStatusError::Unknown);
        }
        status.entra = entra.unwrap_or(false);
        status.domain = domain.unwrap_or(false);
        Ok(status)
    }

    /// What the device is joined to.
    pub fn join(&self) -> Join {
        match (self.entra, self.domain) {
            (true, true) => Join::Hybrid,
            (true, false) => Join::Entra,
            (false, true) => Join::Domain,
            (false, false) => Join::Workgroup,
        }
    }

    fn object_missing(&self) -> bool {
        let message = self.server_message.as_deref().unwrap_or_default().to_ascii_lowercase();
        message.contains("device object by the given id") && message.contains("not found")
    }

    fn key_is_bad(&self) -> bool {
        self.key_test.as_deref().is_some_and(|test| test.to_ascii_uppercase().starts_with("FAIL"))
    }

    /// What is found, and what follows from it. `has_key` is whether the workplace-join certificate
    /// and its key are there and fit; `None` when nobody looked.
    pub fn finding(&self, has_key: Option<bool>) -> Finding {
        let failed = |text: &Option<String>| {
            text.as_deref().is_some_and(|text| text.to_ascii_uppercase().starts_with("FAILED"))
        };
        if !self.entra {
            return match () {
                () if self.object_missing() => Finding::ObjectMissing,
                () if self.domain && self.client_error.is_some() => Finding::HybridPending,
                () if self.domain => Finding::DomainOnly,
                () if self.registered_only => Finding::RegisteredOnly,
                () => Finding::NotJoined,
            };
        }
        if failed(&self.authentication) {
            return Finding::DeviceDisabled;
        }
        if self.thumbprint.is_none() || has_key == Some(false) {
            return Finding::NoWorkplaceCertificate;
        }
        if self.key_is_bad() {
            return Finding::KeyUnusable;
        }
        if self.domain { Finding::Hybrid } else { Finding::Entra }
    }
}

fn yes(value: &str) -> bool {
    value.eq_ignore_ascii_case("YES")
}

/// What a device's join state comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Joined to Entra ID, and able to prove it.
    Entra,
    /// Joined to both, and able to prove it.
    Hybrid,
    /// In a domain only, and nothing was ever tried beyond it.
    DomainOnly,
    /// In a domain; joining Entra ID was tried and failed.
    HybridPending,
    /// In a domain; the tenant does not know the device: "The device object by the given ID is not
    /// found".
    ObjectMissing,
    /// Joined, but the tenant disabled or deleted the device.
    DeviceDisabled,
    /// Joined, but the workplace-join certificate is not there.
    NoWorkplaceCertificate,
    /// Joined, but the certificate's key does not sign.
    KeyUnusable,
    /// Registered by a user (workplace joined), not joined.
    RegisteredOnly,
    /// Joined to nothing.
    NotJoined,
}

impl Finding {
    /// Every one, for tests and documentation.
    pub const ALL: [Self; 10] = [
        Self::Entra,
        Self::Hybrid,
        Self::DomainOnly,
        Self::HybridPending,
        Self::ObjectMissing,
        Self::DeviceDisabled,
        Self::NoWorkplaceCertificate,
        Self::KeyUnusable,
        Self::RegisteredOnly,
        Self::NotJoined,
    ];

    /// Whether a token of the tenant may be asked for. Without a workplace-join certificate no request
    /// leaves the device: it could only fail, and it would tell a stranger about the tenant.
    pub const fn may_ask_for_tokens(self) -> bool {
        matches!(self, Self::Entra | Self::Hybrid)
    }

    /// Whether something is wrong that a person should put right. A device that is meant to be as it is
    /// has no problem.
    pub const fn is_problem(self) -> bool {
        matches!(
            self,
            Self::HybridPending
                | Self::ObjectMissing
                | Self::DeviceDisabled
                | Self::NoWorkplaceCertificate
                | Self::KeyUnusable
        )
    }

    /// The state in words.
    pub const fn state(self) -> &'static str {
        match self {
            Self::Entra => "joined to Entra ID",
            Self::Hybrid => "joined to Entra ID and to a domain (hybrid)",
            Self::DomainOnly => "in a domain, not joined to Entra ID",
            Self::HybridPending => "in a domain; the hybrid join has not come to its end",
            Self::ObjectMissing => "in a domain; the tenant has no object for this device",
            Self::DeviceDisabled => "joined to Entra ID, but disabled or deleted in the tenant",
            Self::NoWorkplaceCertificate => "joined to Entra ID, without its workplace-join certificate",
            Self::KeyUnusable => "joined to Entra ID, but the key of its certificate does not sign",
            Self::RegisteredOnly => "registered by a user (workplace joined), not joined",
            Self::NotJoined => "joined to nothing (workgroup)",
        }
    }

    /// What it comes from.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Entra | Self::Hybrid => "everything is as it should be",
            Self::DomainOnly => "nobody set up a hybrid join, or this device has not tried it yet",
            Self::HybridPending => "the last attempt to join failed; its codes stand above",
            Self::ObjectMissing => {
                "\"The device object by the given ID is not found\": the directory's object of this device was \
                 not synchronised to the tenant, mostly because its organisational unit is outside the sync scope"
            }
            Self::DeviceDisabled => "somebody disabled or deleted the device in the tenant",
            Self::NoWorkplaceCertificate => {
                "the certificate was removed, belongs to an earlier installation, or the account that runs the \
                 client cannot read it; no token request leaves the device"
            }
            Self::KeyUnusable => "the key was lost, mostly by a new system board or a cleared TPM",
            Self::RegisteredOnly => "a user added a work account; that proves the user, not the device",
            Self::NotJoined => "the device was never joined",
        }
    }

    /// What a person does about it.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Entra | Self::Hybrid => "Nothing.",
            Self::DomainOnly => {
                "Nothing, if the device is to use a certificate or a site token. Else set up the hybrid join \
                 (service connection point) and let the device sign in once inside."
            }
            Self::HybridPending => {
                "Check that the device reaches a domain controller and the tenant, and that the service \
                 connection point exists; then run `dsregcmd /join` as SYSTEM or sign in anew."
            }
            Self::ObjectMissing => {
                "Put the organisational unit of the device into the sync scope, run a sync, then `dsregcmd /join` \
                 as SYSTEM. `roamgate tenant devices` names units that are outside the scope."
            }
            Self::DeviceDisabled => {
                "Enable the device in the tenant; if it was deleted, `dsregcmd /leave`, then join it anew."
            }
            Self::NoWorkplaceCertificate | Self::KeyUnusable => {
                "`dsregcmd /leave` and join anew (a hybrid device joins by itself at the next sign-in); run the \
                 client with an account that reads the machine's certificates."
            }
            Self::RegisteredOnly | Self::NotJoined => {
                "Nothing, if the device is to use a certificate or a site token. Else join it to Entra ID."
            }
        }
    }

    /// What happens without anybody doing anything.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::Entra | Self::Hybrid => {
                "The client asks for a device token, then for a user token, at its next registration refresh."
            }
            _ => "The client goes on with a certificate or its site token, and looks again at each refresh.",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixtures are in the form that Windows 10 and 11 print; names and ids are made up.
    fn fixture(name: &str) -> JoinStatus {
        let path = format!("{}/../../fixtures/dsregcmd/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        JoinStatus::read(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
    }

    #[test]
    fn each_state_is_told_from_the_others() {
        for (name, join, finding) in [
            ("entra-joined", Join::Entra, Finding::Entra),
            ("hybrid-joined", Join::Hybrid, Finding::Hybrid),
            ("domain-only", Join::Domain, Finding::DomainOnly),
            ("hybrid-pending", Join::Domain, Finding::HybridPending),
            ("device-object-missing", Join::Domain, Finding::ObjectMissing),
            ("device-disabled", Join::Hybrid, Finding::DeviceDisabled),
            ("no-workplace-certificate", Join::Entra, Finding::NoWorkplaceCertificate),
            ("key-unusable", Join::Entra, Finding::KeyUnusable),
            ("workplace-registered", Join::Workgroup, Finding::RegisteredOnly),
            ("not-joined", Join::Workgroup, Finding::NotJoined),
        ] {
            let status = fixture(name);
            assert_eq!((status.join(), status.finding(None)), (join, finding), "{name}");
            assert_eq!(finding.may_ask_for_tokens(), matches!(finding, Finding::Entra | Finding::Hybrid));
        }
    }

    #[test]
    fn what_is_needed_for_tokens_is_read() {
        let status = fixture("hybrid-joined");
        assert_eq!(status.device.unwrap().to_string(), "8d2b4ff9-0172-4998-9851-b5324303385f");
        assert_eq!(status.tenant.unwrap().to_string(), "9aaf466a-3f40-4468-b3cd-f0010f21f05a");
        assert_eq!(status.tenant_name.as_deref(), Some("Contoso"));
        assert_eq!(status.domain_name.as_deref(), Some("CONTOSO"));
        assert!(status.token_url.unwrap().starts_with("https://login.microsoftonline.com/"));
        assert_eq!(status.certificate_ends.as_deref(), Some("2035-02-03 09:41:07.000 UTC"));
        assert_eq!(status.primary_token, Some(true));
    }

    #[test]
    fn a_missing_object_is_told_with_the_fields_words() {
        let status = fixture("device-object-missing");
        assert!(status.server_message.as_deref().unwrap().contains("is not found"));
        assert_eq!(status.error_phase.as_deref(), Some("join"));
        assert!(status.finding(None).fix().contains("sync scope"));
    }

    #[test]
    fn a_joined_device_without_its_certificate_asks_for_no_token() {
        let finding = fixture("entra-joined").finding(Some(false));
        assert_eq!(finding, Finding::NoWorkplaceCertificate);
        assert!(!finding.may_ask_for_tokens() && finding.is_problem());
    }

    #[test]
    fn output_that_powershell_redirected_is_read_and_other_texts_are_not() {
        let text = "\u{FEFF}  AzureAdJoined : YES\r\n  DomainJoined : NO\r\n  Thumbprint : AB\r\n";
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(JoinStatus::read(&utf16).unwrap().finding(None), Finding::Entra);
        for wrong in [&b""[..], b"hello : world", b"\xFF\xFE", &[0xFF; 100]] {
            assert_eq!(JoinStatus::read(wrong), Err(JoinStatusError::Unknown));
        }
        assert_eq!(JoinStatus::read(&vec![b' '; OUTPUT_BYTES + 1]), Err(JoinStatusError::TooLong));
    }

    #[test]
    fn every_finding_has_its_four_sentences() {
        for finding in Finding::ALL {
            for text in [finding.state(), finding.cause(), finding.fix(), finding.next_step()] {
                assert!(!text.is_empty(), "{finding:?}");
            }
        }
    }
}
