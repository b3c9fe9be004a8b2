//! Facts about site and management points, by `GET …/.sms_aut?VERB` (section 7.1).

use crate::id::ClientId;
use crate::limits;
use crate::message::header::Property;
use crate::request::location::{Capability, read_capabilities, write_capabilities};
use crate::request::policy_query::percent_decode;
use crate::request::{BodyError, parse_root};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::hex;
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

/// Most bytes of the trusted root key: a public key blob or a certificate.
const ROOT_KEY_BYTES: usize = limits::CERTIFICATE_BYTES;

/// Which list of management points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MpListKind {
    /// `MPLIST`: all, in the old form.
    Plain,
    /// `MPLIST1`: for the intranet; names the site [talk].
    Intranet,
    /// `MPLIST2`: for the internet.
    Internet,
}

/// Which form of the key information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyInformationKind {
    /// `MPKEYINFORMATION`.
    Plain,
    /// `MPKEYINFORMATIONEX`.
    Extended,
    /// `MPKEYINFORMATIONMEDIA`.
    Media,
}

/// What stands behind `.sms_aut?`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SiteFactQuery {
    /// A list of management points, of a site where one is named.
    MpList {
        /// Which list.
        kind: MpListKind,
        /// Site code as asked for.
        site: Option<String>,
    },
    /// `MPCERT`.
    MpCertificate,
    /// `MPCERT2`.
    MpCertificates,
    /// `MPKEYINFORMATION…`.
    MpKeyInformation(KeyInformationKind),
    /// `SITESIGNCERT`.
    SiteSigningCertificate,
    /// `MPTRK` or `SMSTRC`.
    TrustedRootKey,
    /// `MPLOCATION…`: for boot media; the rest of the query as it stands.
    MpLocation(String),
    /// `GETCLIENTAFFINITY&GUID:…`.
    ClientAffinity(ClientId),
}

/// A query that asks for nothing we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown site fact {0:?}")]
pub struct UnknownSiteFact(pub String);

impl SiteFactQuery {
    /// Reads a query. Verbs have no case; a site that clients name stands behind `&` [observed].
    pub fn parse(query: &str) -> Result<Self, UnknownSiteFact> {
        let unknown = || UnknownSiteFact(query.chars().take(80).collect());
        let decoded = percent_decode(query).map_err(|_| unknown())?;
        let (verb, argument) = match decoded.split_once('&') {
            Some((verb, argument)) => (verb, Some(argument).filter(|argument| !argument.is_empty())),
            None => (decoded.as_str(), None),
        };
        let verb = verb.to_ascii_uppercase();
        let list = |kind| {
            // The code is looked up and written back nowhere, but it need not be long either.
            let fits = |site: &str| site.len() <= 8 && site.bytes().all(|byte| byte.is_ascii_alphanumeric());
            match argument {
                Some(site) if !fits(site) => Err(unknown()),
                site => Ok(Self::MpList { kind, site: site.map(str::to_owned) }),
            }
        };
        match verb.as_str() {
            "MPLIST" => list(MpListKind::Plain),
            "MPLIST1" => list(MpListKind::Intranet),
            "MPLIST2" => list(MpListKind::Internet),
            "MPCERT" => Ok(Self::MpCertificate),
            "MPCERT2" => Ok(Self::MpCertificates),
            "MPKEYINFORMATION" => Ok(Self::MpKeyInformation(KeyInformationKind::Plain)),
            "MPKEYINFORMATIONEX" => Ok(Self::MpKeyInformation(KeyInformationKind::Extended)),
            "MPKEYINFORMATIONMEDIA" => Ok(Self::MpKeyInformation(KeyInformationKind::Media)),
            "SITESIGNCERT" => Ok(Self::SiteSigningCertificate),
            "MPTRK" | "SMSTRC" => Ok(Self::TrustedRootKey),
            "GETCLIENTAFFINITY" => {
                argument.and_then(|id| id.parse().ok()).map(Self::ClientAffinity).ok_or_else(unknown)
            }
            verb if verb.starts_with("MPLOCATION") => {
                Ok(Self::MpLocation(argument.unwrap_or_default().to_owned()))
            }
            _ => Err(unknown()),
        }
    }
}

impl std::fmt::Display for SiteFactQuery {
    /// The query as a client sends it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MpList { kind, site } => {
                f.write_str(match kind {
                    MpListKind::Plain => "MPLIST",
                    MpListKind::Intranet => "MPLIST1",
                    MpListKind::Internet => "MPLIST2",
                })?;
                site.as_ref().map_or(Ok(()), |site| write!(f, "&{site}"))
            }
            Self::MpCertificate => f.write_str("MPCERT"),
            Self::MpCertificates => f.write_str("MPCERT2"),
            Self::MpKeyInformation(kind) => f.write_str(match kind {
                KeyInformationKind::Plain => "MPKEYINFORMATION",
                KeyInformationKind::Extended => "MPKEYINFORMATIONEX",
                KeyInformationKind::Media => "MPKEYINFORMATIONMEDIA",
            }),
            Self::SiteSigningCertificate => f.write_str("SITESIGNCERT"),
            Self::TrustedRootKey => f.write_str("MPTRK"),
            Self::MpLocation(rest) => write!(f, "MPLOCATION&{rest}"),
            Self::ClientAffinity(id) => write!(f, "GETCLIENTAFFINITY&{id}"),
        }
    }
}

/// One management point of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMp {
    /// Name, in upper case in real answers [talk].
    pub name: String,
    /// Full name.
    pub fqdn: String,
    /// Its site, in [`MpListKind::Intranet`] answers.
    pub site_code: Option<String>,
    /// Build, such as `9128`.
    pub version: String,
    /// `SSLState` and more.
    pub capabilities: Vec<Capability>,
}

/// `MPList`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpList {
    /// The management points.
    pub management_points: Vec<ListedMp>,
}

impl MpList {
    const ROOT: &str = "MPList";

    /// Reads a list.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let list = root.children_named("MP").map(|mp| {
            Ok(ListedMp {
                name: mp.required_attribute("Name")?.to_owned(),
                fqdn: mp.attribute_or_empty("FQDN")?,
                site_code: mp.given_attribute("SiteCode")?.map(str::to_owned),
                version: mp.text_or_empty("Version")?,
                capabilities: read_capabilities(mp)?,
            })
        });
        let list = list.collect::<Result<_, FieldError>>()?;
        Ok(Self { management_points: at_most("management points", limits::LOCATION_ENTRIES, list)? })
    }

    /// Writes the list.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT);
        for mp in &self.management_points {
            xml.start("MP")
                .attribute("Name", &mp.name)
                .attribute("FQDN", &mp.fqdn)
                .optional_attribute("SiteCode", mp.site_code.as_ref())
                .leaf("Version", &mp.version);
            write_capabilities(&mut xml, &mp.capabilities);
            xml.end();
        }
        xml.finish()
    }
}

/// `MPCertificate`: the management point's certificate, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpCertificate(pub Vec<u8>);

impl MpCertificate {
    const ROOT: &str = "MPCertificate";

    /// Reads the document.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Ok(Self(hex_child(&parse_root(xml, Self::ROOT)?, "Certificate")?))
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).leaf("Certificate", hex::encode(&self.0));
        xml.finish()
    }
}

/// `MPCertificates`: both certificates, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpCertificates {
    /// Signs.
    pub signing: Vec<u8>,
    /// Is encrypted to.
    pub encryption: Vec<u8>,
}

impl MpCertificates {
    const ROOT: &str = "MPCertificates";

    /// Reads the document.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        Ok(Self { signing: hex_child(&root, "Certificate1")?, encryption: hex_child(&root, "Certificate2")? })
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT)
            .leaf("Certificate1", hex::encode(&self.signing))
            .leaf("Certificate2", hex::encode(&self.encryption));
        xml.finish()
    }
}

/// `MPKEYINFORMATION`. `UnknownMachines` is for boot media and is neither read nor written [ours].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpKeyInformation {
    /// Short name of the management point.
    pub machine_name: String,
    /// Full name.
    pub fqdn: String,
    /// Its site.
    pub site_code: String,
    /// Site that clients belong to.
    pub assignment_site_code: String,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The trusted root key.
    pub trusted_root_key: Vec<u8>,
}

impl MpKeyInformation {
    const ROOT: &str = "MPKEYINFORMATION";

    /// Reads the document.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        Ok(Self {
            machine_name: root.text_or_empty("MACHINENAME")?,
            fqdn: root.text_or_empty("FQDN")?,
            site_code: root.text_or_empty("SITECODE")?,
            assignment_site_code: root.text_or_empty("AssignmentSiteCode")?,
            certificate: hex_child(&root, "MPCERTIFICATE")?,
            trusted_root_key: hex_child(&root, "TRUSTEDROOTKEY")?,
        })
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT)
            .leaf("MACHINENAME", &self.machine_name)
            .leaf("FQDN", &self.fqdn)
            .leaf("SITECODE", &self.site_code)
            .leaf("AssignmentSiteCode", &self.assignment_site_code)
            .start("MPCERTIFICATE")
            .attribute("Signature", "")
            .text(hex::encode(&self.certificate))
            .end()
            .leaf("TRUSTEDROOTKEY", hex::encode(&self.trusted_root_key));
        xml.finish()
    }
}

/// `X509Data`: the site signing certificate, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSigningCertificate(pub Vec<u8>);

impl SiteSigningCertificate {
    const ROOT: &str = "X509Data";

    /// Reads the document.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Ok(Self(hex_child(&parse_root(xml, Self::ROOT)?, "X509Certificate")?))
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT)
            .start("X509Certificate")
            .attribute("EncodingType", "HexBinary")
            .text(hex::encode(&self.0));
        xml.finish()
    }
}

/// `KEYDATA`: the trusted root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRootKey(pub Vec<u8>);

impl TrustedRootKey {
    const ROOT: &str = "KEYDATA";

    /// Reads the document.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Ok(Self(hex_child(&parse_root(xml, Self::ROOT)?, "TRUSTEDROOTKEY")?))
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).start("TRUSTEDROOTKEY").attribute("Signature", "").text(hex::encode(&self.0));
        xml.finish()
    }
}

/// `MachineAffinity`: users of a device, with the kind of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineAffinity {
    /// User as the name, kind as the value.
    pub users: Vec<Property>,
}

impl MachineAffinity {
    const ROOT: &str = "MachineAffinity";

    /// Reads the document.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let users = root.children_named("Affinity").map(|affinity| {
            Ok(Property {
                name: affinity.required_text("User")?.to_owned(),
                value: affinity.text_or_empty("Type")?,
            })
        });
        let users = users.collect::<Result<_, FieldError>>()?;
        Ok(Self { users: at_most("users", limits::LOCATION_ENTRIES, users)? })
    }

    /// Writes the document.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT);
        for user in &self.users {
            xml.start("Affinity").leaf("User", &user.name).leaf("Type", &user.value).end();
        }
        xml.finish()
    }
}

/// A child's text as bytes; the child must be there.
fn hex_child(root: &Element<'_>, name: &'static str) -> Result<Vec<u8>, BodyError> {
    let text = root.required_child(name)?.text().trim();
    hex::decode(text, ROOT_KEY_BYTES).map_err(|source| BodyError::Hex { what: name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_in_any_case_and_written_as_clients_write_them() {
        for query in [
            "MPLIST",
            "MPLIST1&RG1",
            "MPLIST2&RG1",
            "MPLIST&RG1",
            "MPCERT",
            "MPCERT2",
            "MPKEYINFORMATION",
            "MPKEYINFORMATIONEX",
            "MPKEYINFORMATIONMEDIA",
            "SITESIGNCERT",
            "MPTRK",
            "GETCLIENTAFFINITY&GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB",
        ] {
            let read = SiteFactQuery::parse(&query.to_lowercase()).unwrap();
            assert_eq!(read.to_string().to_lowercase(), query.to_lowercase());
            assert_eq!(SiteFactQuery::parse(query).map(|q| q.to_string()).as_deref(), Ok(query));
        }
        assert_eq!(SiteFactQuery::parse("smstrc"), Ok(SiteFactQuery::TrustedRootKey));
        let affinity = "GETCLIENTAFFINITY&GUID%3AC806EBF9-8740-441E-AE7B-8B360ADCAECB";
        assert!(matches!(SiteFactQuery::parse(affinity), Ok(SiteFactQuery::ClientAffinity(_))));
        assert_eq!(SiteFactQuery::parse("MPLOCATION&ir=1"), Ok(SiteFactQuery::MpLocation("ir=1".to_owned())));
    }

    #[test]
    fn other_queries_are_refused() {
        for query in [
            "",
            "MPLIST3",
            "MPLIST&../../x",
            "MPLIST1&TOOLONGASITE",
            "GETCLIENTAFFINITY",
            "GETCLIENTAFFINITY&PC1",
            "%",
            "MPCERT%00",
        ] {
            assert!(SiteFactQuery::parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn documents_come_back() {
        let mp = |site_code: Option<&str>| ListedMp {
            name: "MP1".to_owned(),
            fqdn: "mp1.example.org".to_owned(),
            site_code: site_code.map(str::to_owned),
            version: "9128".to_owned(),
            capabilities: vec![Capability::ssl_state(31)],
        };
        let list = MpList { management_points: vec![mp(None), mp(Some("RG1"))] };
        assert_eq!(MpList::parse(&list.to_xml()), Ok(list));
        let one = MpCertificate(vec![0x30, 1]);
        assert_eq!(MpCertificate::parse(&one.to_xml()), Ok(one));
        let both = MpCertificates { signing: vec![1], encryption: vec![2] };
        assert_eq!(MpCertificates::parse(&both.to_xml()), Ok(both));
        let site = SiteSigningCertificate(vec![3; 9]);
        assert_eq!(SiteSigningCertificate::parse(&site.to_xml()), Ok(site));
        let root = TrustedRootKey(vec![6, 2]);
        assert_eq!(TrustedRootKey::parse(&root.to_xml()), Ok(root));
        let affinity = MachineAffinity {
            users: vec![Property { name: "TEST\\user".to_owned(), value: "1".to_owned() }],
        };
        assert_eq!(MachineAffinity::parse(&affinity.to_xml()), Ok(affinity));
        let information = MpKeyInformation {
            machine_name: "MP1".to_owned(),
            fqdn: "mp1.example.org".to_owned(),
            site_code: "RG1".to_owned(),
            assignment_site_code: "RG1".to_owned(),
            certificate: vec![1, 2],
            trusted_root_key: vec![3, 4],
        };
        assert_eq!(MpKeyInformation::parse(&information.to_xml()), Ok(information));
    }
}
