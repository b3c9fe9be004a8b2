//! Sites: what one is like, and which one is the client's.

use crate::limits;
use crate::request::location::{
    Capability, ClientLocationInfo, SCHEMA_VERSION, read_capabilities, write_capabilities,
};
use crate::request::{BodyError, expect_root, parse_root};
use crate::text::field::{Fields as _, at_most};
use crate::text::hex;
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

/// What is the site of this code like [observed: `sdk/10`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteInformationRequest {
    /// The code as asked for; need not be one of ours.
    pub site_code: String,
}

impl SiteInformationRequest {
    /// Root element.
    pub const ROOT: &str = "SiteInformationRequest";

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, Self::ROOT)?;
        Ok(Self { site_code: root.required_child("SiteCode")?.required_attribute("Name")?.to_owned() })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        xml.start("SiteCode").attribute("Name", &self.site_code);
        xml.finish()
    }
}

/// Which site is mine [observed: name only].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedSiteRequest {
    /// Where the client is.
    pub location: Option<ClientLocationInfo>,
}

impl AssignedSiteRequest {
    /// Root element.
    pub const ROOT: &str = "AssignedSiteRequest";

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, Self::ROOT)?;
        let location = root.child("ClientLocationInfo").map(ClientLocationInfo::from_element);
        Ok(Self { location: location.transpose()? })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        if let Some(location) = &self.location {
            location.write(&mut xml);
        }
        xml.finish()
    }
}

/// Settings that a client obeys before it has any policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOperationalSettings {
    /// The site's version, such as `5.00.9128.1000`.
    pub version: String,
    /// Security mode flags (section 11): 0 mixed mode, 31 native.
    pub security_mode_mask: u32,
    /// 480 in the accepted sample [observed].
    pub security_mode_mask_ex: u32,
    /// Port of the management points' HTTP.
    pub http_port: u16,
    /// Port of the management points' HTTPS.
    pub https_port: u16,
    /// Store to take client certificates from; empty for the default.
    pub certificate_store: String,
    /// Which certificate to take; empty for any.
    pub certificate_selection_criteria: String,
    /// Whether to take the first of several.
    pub certificate_select_first: bool,
    /// Site signing certificate, DER.
    pub site_signing_certificate: Vec<u8>,
}

/// What a site is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteInfo {
    /// The site it belongs to; ours, harmless.
    pub master_site: String,
    /// Its code.
    pub site_code: String,
    /// Its management point.
    pub default_mp: String,
    /// Its version, such as `5.00.9128.1000`.
    pub version: String,
    /// The build in it, such as `9128`.
    pub build_number: String,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Settings; absent in an assigned-site reply.
    pub settings: Option<ClientOperationalSettings>,
}

impl SiteInfo {
    fn from_element(site: &Element<'_>) -> Result<Self, BodyError> {
        let settings = site.child("ClientOperationalSettings").map(ClientOperationalSettings::from_element);
        Ok(Self {
            master_site: site.text_or_empty("MasterSite")?,
            site_code: site.required_text("SiteCode")?.to_owned(),
            default_mp: site.text_or_empty("DefaultMP")?,
            version: site.text_or_empty("Version")?,
            build_number: site.text_or_empty("BuildNumber")?,
            capabilities: read_capabilities(site)?,
            settings: settings.transpose()?,
        })
    }

    fn write(&self, xml: &mut XmlWriter) {
        xml.start("Site")
            .leaf("MasterSite", &self.master_site)
            .leaf("SiteCode", &self.site_code)
            .leaf("DefaultMP", &self.default_mp)
            .leaf("Version", &self.version)
            .leaf("BuildNumber", &self.build_number);
        write_capabilities(xml, &self.capabilities);
        if let Some(settings) = &self.settings {
            settings.write(xml);
        }
        xml.end();
    }
}

impl ClientOperationalSettings {
    fn from_element(settings: &Element<'_>) -> Result<Self, BodyError> {
        let security = settings.required_child("SecurityConfiguration")?;
        let certificate = security.child("SiteSigningCert").map_or("", |c| c.text().trim());
        let site_signing_certificate = hex::decode(certificate, limits::CERTIFICATE_BYTES)
            .map_err(|source| BodyError::Hex { what: "SiteSigningCert", source })?;
        Ok(Self {
            version: settings.text_or_empty("Version")?,
            security_mode_mask: security.parsed_text("SecurityModeMask")?,
            security_mode_mask_ex: security.parsed_given_text("SecurityModeMaskEx")?.unwrap_or_default(),
            http_port: security.parsed_text("HTTPPort")?,
            https_port: security.parsed_text("HTTPSPort")?,
            certificate_store: security.text_or_empty("CertificateStoreName")?,
            certificate_selection_criteria: security.text_or_empty("CertificateSelectionCriteria")?,
            certificate_select_first: security.given_text("CertificateSelectFirstFlag")? == Some("1"),
            site_signing_certificate,
        })
    }

    fn write(&self, xml: &mut XmlWriter) {
        xml.start("ClientOperationalSettings")
            .leaf("Version", &self.version)
            .start("SecurityConfiguration")
            .leaf("SecurityModeMask", self.security_mode_mask)
            .leaf("SecurityModeMaskEx", self.security_mode_mask_ex)
            .leaf("HTTPPort", self.http_port)
            .leaf("HTTPSPort", self.https_port)
            .leaf("CertificateStoreName", &self.certificate_store)
            .leaf("CertificateSelectionCriteria", &self.certificate_selection_criteria)
            .leaf("CertificateSelectFirstFlag", u8::from(self.certificate_select_first))
            .leaf("SiteSigningCert", hex::encode(&self.site_signing_certificate))
            .end()
            .end();
    }
}

/// Answer to [`SiteInformationRequest`]; no sites for an unknown code [ours].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteInfoReply {
    /// The sites.
    pub sites: Vec<SiteInfo>,
}

impl SiteInfoReply {
    const ROOT: &str = "SiteInfoReply";

    /// Reads a reply.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let sites = root.required_child("Sites")?.children_named("Site").map(SiteInfo::from_element);
        let sites = sites.collect::<Result<_, _>>()?;
        Ok(Self { sites: at_most("sites", limits::LOCATION_ENTRIES, sites)? })
    }

    /// Writes the reply.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION).start("Sites");
        self.sites.iter().for_each(|site| site.write(&mut xml));
        xml.finish()
    }
}

/// Answer to [`AssignedSiteRequest`]. The SDK cannot read any [observed].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedSiteReply {
    /// The site; none when no boundary fits.
    pub site: Option<SiteInfo>,
}

impl AssignedSiteReply {
    const ROOT: &str = "AssignedSiteReply";

    /// Reads a reply.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        Ok(Self { site: root.child("Site").map(SiteInfo::from_element).transpose()? })
    }

    /// Writes the reply, without the settings.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        if let Some(site) = &self.site {
            SiteInfo { settings: None, ..site.clone() }.write(&mut xml);
        }
        xml.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteInfo {
        SiteInfo {
            master_site: "RG1".to_owned(),
            site_code: "RG1".to_owned(),
            default_mp: "mp1.example.org".to_owned(),
            version: "5.00.9128.1000".to_owned(),
            build_number: "9128".to_owned(),
            capabilities: vec![Capability {
                name: "SSL".to_owned(),
                version: Some("1".to_owned()),
                value: None,
            }],
            settings: Some(ClientOperationalSettings {
                version: "5.00.9128.1000".to_owned(),
                security_mode_mask: 0,
                security_mode_mask_ex: 480,
                http_port: 80,
                https_port: 443,
                certificate_store: String::new(),
                certificate_selection_criteria: String::new(),
                certificate_select_first: true,
                site_signing_certificate: vec![0x30, 0x82],
            }),
        }
    }

    #[test]
    fn sites_and_their_settings_come_back() {
        for reply in [SiteInfoReply { sites: Vec::new() }, SiteInfoReply { sites: vec![site(), site()] }] {
            assert_eq!(SiteInfoReply::parse(&reply.to_xml()), Ok(reply));
        }
        let assigned = AssignedSiteReply { site: Some(site()) };
        let read = AssignedSiteReply::parse(&assigned.to_xml()).unwrap();
        assert_eq!(read.site, Some(SiteInfo { settings: None, ..site() }));
        let none = AssignedSiteReply { site: None };
        assert_eq!(AssignedSiteReply::parse(&none.to_xml()), Ok(none));
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        let xml = SiteInfoReply { sites: vec![site()] }.to_xml();
        assert!(SiteInfoReply::parse(&xml.replace(">443<", ">70000<")).is_err());
        assert!(SiteInfoReply::parse(&xml.replace(">3082<", ">308<")).is_err());
    }
}
