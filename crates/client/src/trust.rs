//! Which site a device believes: the pinned root, how it came to be trusted, and the judgement
//! of what is signed under it.

use std::path::Path;

use proto::http_signature::{self, Answered, SignatureError};
use proto::id::Thumbprint;
use proto::message::signature::RsaPublicKey;
use proto::public_key_blob;
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot, TrustError};
use serde::{Deserialize, Serialize};

use crate::state::{Der, SiteTrust};

/// Largest file that may hold a root or its key, in bytes.
const ROOT_FILE_BYTES: u64 = 64 * 1024;

/// How setup was told to know the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// By the root certificate itself.
    Certificate(Der),
    /// By the SHA-256 of the root certificate: what `bulk-token new` prints.
    Fingerprint(Thumbprint),
    /// By the root's key as a public key blob in hex: `SMSPUBLICROOTKEY` [docs].
    Key(String),
    /// Not at all: the first root is taken that comes over a connection whose certificate the
    /// system's store trusts, and none over any other.
    FirstUse,
}

/// How the root came to be trusted, shown in `status` and reported to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootOrigin {
    /// Setup named it.
    Pinned,
    /// Taken on first use over a connection that the system trusts.
    FirstUse,
}

impl RootOrigin {
    /// The word in reports and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::FirstUse => "first-use",
        }
    }
}

/// A `--site-root`, `SMSROOTKEYPATH` or `SMSPUBLICROOTKEY` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read.
    #[error("the site root file {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Neither certificate nor key.
    #[error("{0} holds neither a certificate nor a public key blob")]
    Content(String),
    /// Not `sha256:` and 64 hex digits.
    #[error("a fingerprint is sha256: and 64 hex digits, as `roamgate bulk-token new` prints it")]
    Fingerprint,
    /// Not the hex of a public key blob.
    #[error("the trusted root key is not the hex of a public key blob")]
    Key(#[source] public_key_blob::BlobError),
    /// A certificate that is no root.
    #[error("the certificate cannot be a site root")]
    Certificate(#[source] TrustError),
}

impl Pin {
    /// Reads `--site-root`: `sha256:…`, or the name of a file.
    pub fn from_option(text: &str) -> Result<Self, PinError> {
        if let Some((prefix, hex)) = text.split_once(':')
            && prefix.eq_ignore_ascii_case("sha256")
        {
            // Printed by some tools with colons between the bytes.
            let hex: String = hex.chars().filter(|c| *c != ':').collect();
            return hex.parse().map(Self::Fingerprint).map_err(|_| PinError::Fingerprint);
        }
        Self::from_file(Path::new(text))
    }

    /// Reads a file: a certificate in PEM or DER, or a public key blob in hex, alone or as
    /// `SMSPublicRootKey=…` in the file of that kind which the field copies about.
    pub fn from_file(path: &Path) -> Result<Self, PinError> {
        let failed = |source| PinError::Read { path: path.display().to_string(), source };
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > ROOT_FILE_BYTES {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, PinError> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        // A certificate's first two bytes; a key in hex begins with the character 0, which is 30, too.
        if bytes.starts_with(&[0x30, 0x82]) {
            return Self::from_certificate(bytes.to_vec());
        }
        let text = String::from_utf8_lossy(bytes);
        if text.contains("-----BEGIN") {
            let der =
                CertificateDer::from_pem_slice(bytes).map_err(|_| PinError::Content(name.to_owned()))?;
            return Self::from_certificate(der.to_vec());
        }
        let key = text
            .lines()
            .map(str::trim)
            .find_map(|line| match line.split_once('=') {
                Some((name, key)) => name.trim().eq_ignore_ascii_case("SMSPublicRootKey").then(|| key.trim()),
                None => (!line.is_empty()).then_some(line),
            })
            .ok_or_else(|| PinError::Content(name.to_owned()))?;
        Self::from_key(key)
    }

    /// Reads `SMSPUBLICROOTKEY`: the hex of the root's key.
    pub fn from_key(hex: &str) -> Result<Self, PinError> {
        let key = public_key_blob::parse_hex(hex).map_err(PinError::Key)?;
        Ok(Self::Key(public_key_blob::build_hex(&key)))
    }

    fn from_certificate(der: Vec<u8>) -> Result<Self, PinError> {
        SiteRoot::new(der.clone()).map_err(PinError::Certificate)?;
        Ok(Self::Certificate(Der(der)))
    }
}

/// Who vouched for the connection over which something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Nobody: no TLS.
    Plain,
    /// A root that setup was given by `--ca-file`.
    NamedRoot,
    /// The system's own store.
    SystemRoot,
    /// The pinned site itself: a role's certificate of enhanced HTTP.
    Site,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// No signature at all.
    #[error("the answer is not signed by the site")]
    Unsigned,
    /// Signed by a key whose certificate neither came along nor is known.
    #[error("the answer is signed by a key that this device does not know")]
    UnknownKey,
    /// The signature is not good.
    #[error("the answer's signature is not good")]
    Signature(#[source] SignatureError),
    /// The certificate is not the site's.
    #[error("the answer is signed by somebody who does not speak for the pinned site")]
    Certificate(#[source] TrustError),
    /// The root that came is not the pinned one.
    #[error("the answer comes from another site: its root has the fingerprint sha256:{0}")]
    OtherRoot(Thumbprint),
    /// A root is needed and none came.
    #[error("the answer does not show the site's root")]
    RootMissing,
    /// No pin, and nothing vouches for whoever sent the root.
    #[error("the site's root is not known, and the connection does not vouch for it")]
    NoPin,
}

/// Judges a root that was offered, when none is known yet.
pub fn judge_root(
    pin: &Pin,
    offered: Option<&[u8]>,
    channel: Channel,
) -> Result<(SiteRoot, RootOrigin), Disbelief> {
    if let Pin::Certificate(der) = pin {
        let root = SiteRoot::new(der.0.clone()).map_err(Disbelief::Certificate)?;
        return Ok((root, RootOrigin::Pinned));
    }
    let offered = offered.ok_or(Disbelief::RootMissing)?;
    let fingerprint = Thumbprint::of(offered);
    let origin = match pin {
        Pin::Certificate(_) => RootOrigin::Pinned,
        Pin::Fingerprint(pinned) if *pinned == fingerprint => RootOrigin::Pinned,
        Pin::Key(pinned) if has_key(offered, pinned) => RootOrigin::Pinned,
        Pin::Fingerprint(_) | Pin::Key(_) => return Err(Disbelief::OtherRoot(fingerprint)),
        Pin::FirstUse if channel == Channel::SystemRoot => RootOrigin::FirstUse,
        Pin::FirstUse => return Err(Disbelief::NoPin),
    };
    let root = SiteRoot::new(offered.to_vec()).map_err(Disbelief::Certificate)?;
    Ok((root, origin))
}

fn has_key(certificate: &[u8], blob: &str) -> bool {
    RsaPublicKey::from_certificate(certificate).is_ok_and(|key| public_key_blob::build_hex(&key) == blob)
}

/// What a signed answer taught the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new.
    Nothing,
    /// The site's certificates, to be kept.
    Trust(SiteTrust),
}

/// An answer about to be judged.
pub(crate) struct AnswerToJudge<'a, H> {
    pub(crate) status: u16,
    pub(crate) answers: Answered<'a>,
    pub(crate) header: H,
    pub(crate) body: &'a [u8],
    pub(crate) channel: Channel,
}

/// When a signed answer says that it was made. To be asked for verified answers only: the time stands
/// among the parameters that the signature covers.
pub(crate) fn answer_created<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Timestamp> {
    let parameters = header("signature-input")?;
    let (_, rest) = parameters.split_once(";created=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok().map(Timestamp::from_seconds)
}

/// Whether the device has to ask for the site's certificates with its next request.
pub(crate) fn wants_chain(trust: &SiteTrust) -> bool {
    trust.root.is_none() || trust.message_chain.is_empty()
}

/// Judges an answer: is it the site's, to this very request?
pub(crate) fn judge_answer<'a, H: Fn(&str) -> Option<&'a str> + Copy>(
    trust: &SiteTrust,
    pin: &Pin,
    answer: &AnswerToJudge<'a, H>,
    now: Timestamp,
) -> Result<Learned, Disbelief> {
    let key = http_signature::answer_key(answer.header).ok_or(Disbelief::Unsigned)?;
    let known = trust.message_chain.first().is_some_and(|leaf| Thumbprint::of(&leaf.0) == key);
    let (chain, learned) = match (&trust.root, known) {
        (Some(root), true) => {
            let root = SiteRoot::new(root.0.clone()).map_err(Disbelief::Certificate)?;
            let chain: Vec<_> = trust.message_chain.iter().map(|der| der.0.clone()).collect();
            root.verify(&chain, Purpose::Message, now).map_err(Disbelief::Certificate)?;
            (chain, Learned::Nothing)
        }
        (root, _) => {
            let shown = (answer.header)(http_signature::CERTIFICATE).ok_or(Disbelief::UnknownKey)?;
            let mut chain = http_signature::read_certificates(shown).map_err(Disbelief::Signature)?;
            let offered = (chain.len() > 2).then(|| chain.pop()).flatten();
            let (root, origin) = if let Some(root) = root {
                (SiteRoot::new(root.0.clone()).map_err(Disbelief::Certificate)?, trust.origin)
            } else {
                let (root, origin) = judge_root(pin, offered.as_deref(), answer.channel)?;
                (root, Some(origin))
            };
            root.verify(&chain, Purpose::Message, now).map_err(Disbelief::Certificate)?;
            let learned = SiteTrust {
                root: Some(Der(root.der().to_vec())),
                origin,
                message_chain: chain.iter().cloned().map(Der).collect(),
            };
            (chain, Learned::Trust(learned))
        }
    };
    let leaf = chain.first().ok_or(Disbelief::UnknownKey)?;
    http_signature::verify_answer(leaf, answer.status, answer.answers, answer.header, answer.body)
        .map_err(Disbelief::Signature)?;
    Ok(learned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SiteKeys;
    use Channel::{NamedRoot, Plain, SystemRoot};
    use proto::id::Guid;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    #[test]
    fn a_root_is_taken_by_its_pin_or_over_a_trusted_connection_only() {
        let (site, other) = (SiteKeys::new(), SiteKeys::new());
        let (ours, theirs) = (site.root(), other.root());
        let key = public_key_blob::build_hex(&RsaPublicKey::from_certificate(ours).unwrap());
        let pins =
            [Pin::Certificate(Der(ours.to_vec())), Pin::Fingerprint(Thumbprint::of(ours)), Pin::Key(key)];
        for pin in &pins {
            for channel in [Plain, NamedRoot, SystemRoot] {
                let (root, origin) = judge_root(pin, Some(ours), channel).unwrap();
                assert_eq!((root.der(), origin), (ours, RootOrigin::Pinned));
                // The pinned certificate itself needs no other; the rest refuse a foreign one.
                match judge_root(pin, Some(theirs), channel) {
                    Ok((root, _)) => assert!(matches!(pin, Pin::Certificate(_)) && root.der() == ours),
                    Err(error) => assert_eq!(error, Disbelief::OtherRoot(Thumbprint::of(theirs))),
                }
            }
        }
        let first = |channel| judge_root(&Pin::FirstUse, Some(ours), channel).map(|(_, origin)| origin);
        assert_eq!(first(SystemRoot), Ok(RootOrigin::FirstUse));
        assert_eq!(first(NamedRoot), Err(Disbelief::NoPin));
        assert_eq!(first(Plain), Err(Disbelief::NoPin));
        assert_eq!(judge_root(&pins[1], None, SystemRoot).map(|_| ()), Err(Disbelief::RootMissing));
    }

    #[test]
    fn pins_are_read_in_every_form_that_is_handed_out() {
        let site = SiteKeys::new();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Pin::from_option(path.to_str().unwrap())
        };
        let certificate = Pin::Certificate(Der(site.root().to_vec()));
        assert_eq!(write("root.der", site.root()).unwrap(), certificate);
        assert_eq!(write("root.pem", site.root_pem().as_bytes()).unwrap(), certificate);
        let hex = public_key_blob::build_hex(&RsaPublicKey::from_certificate(site.root()).unwrap());
        for text in [format!("{hex}\n"), format!("[x]\r\nOther=1\r\nSMSPublicRootKey={hex}\r\n")] {
            // A section's name is no key.
            match write("key", text.replace("[x]\r\n", "").as_bytes()) {
                Ok(pin) => assert_eq!(pin, Pin::Key(hex.clone())),
                Err(error) => panic!("{error}"),
            }
        }
        let print = Thumbprint::of(site.root());
        let spaced: Vec<_> =
            print.to_string().as_bytes().chunks(2).map(|b| String::from_utf8_lossy(b).into_owned()).collect();
        for text in [format!("sha256:{print}"), format!("SHA256:{}", spaced.join(":"))] {
            assert_eq!(Pin::from_option(&text).unwrap(), Pin::Fingerprint(print));
        }
        assert!(matches!(Pin::from_option("sha256:00"), Err(PinError::Fingerprint)));
        assert!(matches!(Pin::from_option("/no/such/file"), Err(PinError::Read { .. })));
        assert!(matches!(write("empty", b""), Err(PinError::Content(_))));
        assert!(matches!(write("text", b"hello"), Err(PinError::Key(_))));
        assert!(matches!(write("der", &[0x30, 0x82, 0]), Err(PinError::Certificate(_))));
    }

    #[test]
    fn an_answer_is_believed_only_from_the_pinned_site_and_to_its_own_message() {
        let (site, other) = (SiteKeys::new(), SiteKeys::new());
        let pin = Pin::Fingerprint(Thumbprint::of(site.root()));
        let message_id: Guid = "3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap();
        let message = Answered { message_id, signature: "roamgate=:AQ==:" };
        let unknown = SiteTrust::default();
        let judge = |headers: &[(String, String)], trust: &SiteTrust, answers: Answered<'_>, body: &[u8]| {
            let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            let answer = AnswerToJudge { status: 200, answers, header, body, channel: Channel::Plain };
            judge_answer(trust, &pin, &answer, NOW)
        };
        let good = site.sign_answer(200, message, None, b"body", true, NOW);
        let Ok(Learned::Trust(trust)) = judge(&good, &unknown, message, b"body") else {
            panic!("not believed")
        };
        assert_eq!(trust.root, Some(Der(site.root().to_vec())));
        assert_eq!(trust.origin, Some(RootOrigin::Pinned));

        let short = site.sign_answer(200, message, None, b"body", false, NOW);
        assert_eq!(judge(&short, &trust, message, b"body"), Ok(Learned::Nothing));
        assert_eq!(judge(&short, &unknown, message, b"body"), Err(Disbelief::UnknownKey));
        assert_eq!(judge(&[], &trust, message, b"body"), Err(Disbelief::Unsigned));
        assert!(matches!(judge(&short, &trust, message, b"else"), Err(Disbelief::Signature(_))));
        let other_id = Answered { message_id: Guid::nil(), ..message };
        // What the site answered to somebody else who used the same id.
        let other_request = Answered { signature: "roamgate=:Ag==:", ..message };
        for swapped in [other_id, other_request] {
            assert!(matches!(judge(&short, &trust, swapped, b"body"), Err(Disbelief::Signature(_))));
        }

        let foreign = other.sign_answer(200, message, None, b"body", true, NOW);
        assert!(matches!(judge(&foreign, &unknown, message, b"body"), Err(Disbelief::OtherRoot(_))));
        assert!(matches!(judge(&foreign, &trust, message, b"body"), Err(Disbelief::Certificate(_))));
        // The right root beside a chain that does not lead to it.
        let mut mixed = foreign;
        for (name, value) in &mut mixed {
            if name == http_signature::CERTIFICATE {
                let chain: Vec<_> = [other.message_certificate(), other.intermediate(), site.root()].to_vec();
                *value = http_signature::write_certificates(chain);
            }
        }
        assert!(matches!(judge(&mixed, &unknown, message, b"body"), Err(Disbelief::Certificate(_))));
    }
}
