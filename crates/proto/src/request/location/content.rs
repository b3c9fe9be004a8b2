//! Content: where a package lies.

use crate::limits;
use crate::request::location::{
    Capability, ClientLocationInfo, SCHEMA_VERSION, read_capabilities, read_site_code, write_capabilities,
    write_site_code,
};
use crate::request::{BodyError, expect_root, parse_root};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentItem {
    /// A package [observed].
    Package {
        /// Such as `RG100001`.
        id: String,
        /// Its version.
        version: String,
        /// 0 [observed].
        deployment_flags: u32,
    },
    /// The client's own package [sdk-meta].
    ClientPackage {
        /// Its id; may be empty.
        id: String,
        /// Its version; may be empty.
        version: String,
    },
}

/// Where is this content [observed: `sdk/14`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentLocationRequest {
    /// 1 when the client knows boundary groups [docs].
    pub bgr_version: u32,
    /// The client's site.
    pub assigned_site: String,
    /// Where the client is.
    pub location: ClientLocationInfo,
    /// What it looks for.
    pub item: ContentItem,
}

impl ContentLocationRequest {
    /// Root element.
    pub const ROOT: &str = "ContentLocationRequest";

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, Self::ROOT)?;
        let item = if let Some(package) = root.child("ClientPackage") {
            ContentItem::ClientPackage {
                id: package.attribute_or_empty("PackageID")?,
                version: package.attribute_or_empty("Version")?,
            }
        } else {
            let package = root.required_child("Package")?;
            ContentItem::Package {
                id: package.required_attribute("ID")?.to_owned(),
                version: package.attribute_or_empty("Version")?,
                deployment_flags: package.parsed_given_attribute("DeploymentFlags")?.unwrap_or_default(),
            }
        };
        Ok(Self {
            bgr_version: root.parsed_given_attribute("BGRVersion")?.unwrap_or_default(),
            assigned_site: read_site_code(root, "AssignedSite")?,
            location: ClientLocationInfo::of(root)?,
            item,
        })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT)
            .attribute("SchemaVersion", SCHEMA_VERSION)
            .attribute("BGRVersion", self.bgr_version);
        write_site_code(&mut xml, "AssignedSite", &self.assigned_site);
        self.location.write(&mut xml);
        match &self.item {
            ContentItem::Package { id, version, deployment_flags } => xml
                .start("Package")
                .attribute("ID", id)
                .attribute("Version", version)
                .attribute("DeploymentFlags", deployment_flags),
            ContentItem::ClientPackage { id, version } => {
                xml.start("ClientPackage").attribute("PackageID", id).attribute("Version", version)
            }
        };
        xml.finish()
    }
}

/// A hash of the content; 32780 is SHA-256 [docs].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHash {
    /// CALG number.
    pub algorithm: u32,
    /// The hash in hex.
    pub hash: String,
    /// 4 [docs].
    pub preference: u32,
}

impl ContentHash {
    /// CALG of SHA-256.
    pub const SHA256: u32 = 32780;
}

/// Boundary groups of the client, in answers to `BGRVersion="1"` [docs].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundaryGroups {
    /// When they were looked up, as written.
    pub retrieved: String,
    /// Id and GUID of each.
    pub groups: Vec<(String, String)>,
}

/// One place that has the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRecord {
    /// Address of the content.
    pub url: String,
    /// Address of its signature; empty for none.
    pub signature_url: String,
    /// Directory site.
    pub ad_site: String,
    /// Networks it is for.
    pub subnets: Vec<String>,
    /// Build, such as `9128`.
    pub version: String,
    /// What the distribution point can do.
    pub capabilities: Vec<Capability>,
    /// Its name.
    pub server: String,
    /// `SERVER` [docs].
    pub dp_type: String,
    /// `LOCAL` [docs].
    pub locality: String,
}

/// A site with its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSite {
    /// Its code.
    pub site_code: String,
    /// The site it belongs to.
    pub master_site_code: String,
    /// `LOCAL` [observed].
    pub locality: String,
    /// Port of HTTP.
    pub http_port: u16,
    /// Port of HTTPS.
    pub https_port: u16,
    /// The places.
    pub records: Vec<ContentRecord>,
}

/// Answer to [`ContentLocationRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentLocationReply {
    /// Boundary groups, where asked for.
    pub boundary_groups: Option<BoundaryGroups>,
    /// `PackageFlags`.
    pub package_flags: u32,
    /// Hashes of the content.
    pub hashes: Vec<ContentHash>,
    /// Sites; none when the content is nowhere.
    pub sites: Vec<ContentSite>,
}

impl ContentLocationReply {
    const ROOT: &str = "ContentLocationReply";

    /// Reads a reply.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let info = root.child("ContentInfo");
        let hashes = info.and_then(|info| info.child("ContentHashValues")).map_or(&[][..], Element::children);
        let sites = root.child("Sites").map_or(&[][..], Element::children);
        let hashes = hashes.iter().map(hash).collect::<Result<_, _>>()?;
        let sites = sites.iter().map(site).collect::<Result<_, _>>()?;
        Ok(Self {
            boundary_groups: root.child("BoundaryGroups").map(boundary_groups).transpose()?,
            package_flags: info
                .map_or(Ok(None), |info| info.parsed_given_attribute("PackageFlags"))?
                .unwrap_or_default(),
            hashes: at_most("content hashes", limits::LOCATION_ENTRIES, hashes)?,
            sites: at_most("sites", limits::LOCATION_ENTRIES, sites)?,
        })
    }

    /// Writes the reply. `IISPreferedPort` is spelled so on the wire [docs].
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        if let Some(groups) = &self.boundary_groups {
            xml.start("BoundaryGroups").attribute("BoundaryGroupListRetrieveTime", &groups.retrieved);
            for (id, guid) in &groups.groups {
                xml.start("BoundaryGroup").attribute("GroupID", id).attribute("GroupGUID", guid).end();
            }
            xml.end();
        }
        xml.start("ContentInfo").attribute("PackageFlags", self.package_flags).start("ContentHashValues");
        for hash in &self.hashes {
            xml.start("Hash")
                .attribute("Algorithm", hash.algorithm)
                .attribute("HashString", &hash.hash)
                .attribute("HashPreference", hash.preference)
                .end();
        }
        xml.end().end().start("Sites");
        for site in &self.sites {
            site.write(&mut xml);
        }
        xml.end().empty("RelatedContentIDs");
        xml.finish()
    }
}

impl ContentSite {
    fn write(&self, xml: &mut XmlWriter) {
        xml.start("Site")
            .start("MPSite")
            .attribute("SiteCode", &self.site_code)
            .attribute("MasterSiteCode", &self.master_site_code)
            .attribute("SiteLocality", &self.locality)
            .attribute("IISPreferedPort", self.http_port)
            .attribute("IISSSLPreferedPort", self.https_port)
            .end()
            .start("LocationRecords");
        for record in &self.records {
            record.write(xml);
        }
        xml.end().end();
    }
}

impl ContentRecord {
    fn write(&self, xml: &mut XmlWriter) {
        xml.start("LocationRecord")
            .start("URL")
            .attribute("Name", &self.url)
            .attribute("Signature", &self.signature_url)
            .attribute("Capability", 0)
            .end()
            .start("ADSite")
            .attribute("Name", &self.ad_site)
            .end()
            .start("IPSubnets");
        for subnet in &self.subnets {
            xml.start("IPSubnet").attribute("Address", subnet).end();
        }
        xml.end().start("Metric").attribute("Value", "").end().leaf("Version", &self.version);
        write_capabilities(xml, &self.capabilities);
        xml.leaf("ServerRemoteName", &self.server)
            .leaf("DPType", &self.dp_type)
            .start("Windows")
            .attribute("Trust", 1)
            .end()
            .leaf("Locality", &self.locality)
            .end();
    }
}

fn boundary_groups(element: &Element<'_>) -> Result<BoundaryGroups, FieldError> {
    let groups = element
        .children_named("BoundaryGroup")
        .map(|group| Ok((group.attribute_or_empty("GroupID")?, group.attribute_or_empty("GroupGUID")?)));
    let groups = groups.collect::<Result<_, FieldError>>()?;
    Ok(BoundaryGroups {
        retrieved: element.attribute_or_empty("BoundaryGroupListRetrieveTime")?,
        groups: at_most("boundary groups", limits::LOCATION_ENTRIES, groups)?,
    })
}

fn hash(element: &Element<'_>) -> Result<ContentHash, FieldError> {
    Ok(ContentHash {
        algorithm: element.parsed_attribute("Algorithm")?,
        hash: element.attribute_or_empty("HashString")?,
        preference: element.parsed_given_attribute("HashPreference")?.unwrap_or_default(),
    })
}

fn site(element: &Element<'_>) -> Result<ContentSite, FieldError> {
    let site = element.required_child("MPSite")?;
    let records = element.child("LocationRecords").map_or(&[][..], Element::children);
    let records = records.iter().map(record).collect::<Result<_, _>>()?;
    Ok(ContentSite {
        site_code: site.attribute_or_empty("SiteCode")?,
        master_site_code: site.attribute_or_empty("MasterSiteCode")?,
        locality: site.attribute_or_empty("SiteLocality")?,
        http_port: site.parsed_given_attribute("IISPreferedPort")?.unwrap_or(80),
        https_port: site.parsed_given_attribute("IISSSLPreferedPort")?.unwrap_or(443),
        records: at_most("content locations", limits::LOCATION_ENTRIES, records)?,
    })
}

fn record(element: &Element<'_>) -> Result<ContentRecord, FieldError> {
    let url = element.required_child("URL")?;
    let subnets = element.child("IPSubnets").map_or(&[][..], Element::children);
    let subnets =
        subnets.iter().map(|subnet| subnet.attribute_or_empty("Address")).collect::<Result<_, _>>()?;
    Ok(ContentRecord {
        url: url.required_attribute("Name")?.to_owned(),
        signature_url: url.attribute_or_empty("Signature")?,
        ad_site: element
            .child("ADSite")
            .map_or_else(|| Ok(String::new()), |site| site.attribute_or_empty("Name"))?,
        subnets: at_most("subnets", limits::LOCATION_ENTRIES, subnets)?,
        version: element.text_or_empty("Version")?,
        capabilities: read_capabilities(element)?,
        server: element.text_or_empty("ServerRemoteName")?,
        dp_type: element.text_or_empty("DPType")?,
        locality: element.text_or_empty("Locality")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::location::{LocationRequest, LocationType};

    #[test]
    fn questions_for_packages_and_for_the_client_come_back() {
        for item in [
            ContentItem::Package { id: "RG100001".to_owned(), version: "1".to_owned(), deployment_flags: 4 },
            ContentItem::ClientPackage { id: String::new(), version: "2".to_owned() },
        ] {
            let request = LocationRequest::Content(ContentLocationRequest {
                bgr_version: 1,
                assigned_site: "RG1".to_owned(),
                location: ClientLocationInfo::of_our_client(Some(LocationType::Package), true),
                item,
            });
            let read = LocationRequest::parse(&request.to_xml()).unwrap();
            assert_eq!(read, request);
            let LocationRequest::Content(content) = read else { panic!("another kind") };
            assert!(content.location.flag("useinternetdp") && !content.location.flag("AllowHTTP"));
        }
    }

    #[test]
    fn places_come_back() {
        let record = ContentRecord {
            url: "http://dp1.example.org/SMS_DP_SMSPKG$/RG100001".to_owned(),
            signature_url: String::new(),
            ad_site: "Default-First-Site-Name".to_owned(),
            subnets: vec!["192.0.2.0".to_owned(), String::new()],
            version: "9128".to_owned(),
            capabilities: vec![Capability::ssl_state(0)],
            server: "dp1.example.org".to_owned(),
            dp_type: "SERVER".to_owned(),
            locality: "LOCAL".to_owned(),
        };
        let site = ContentSite {
            site_code: "RG1".to_owned(),
            master_site_code: "RG1".to_owned(),
            locality: "LOCAL".to_owned(),
            http_port: 80,
            https_port: 443,
            records: vec![record],
        };
        let full = ContentLocationReply {
            boundary_groups: Some(BoundaryGroups {
                retrieved: "2026-01-31".to_owned(),
                groups: vec![("1".to_owned(), "a".to_owned())],
            }),
            package_flags: 1,
            hashes: vec![ContentHash {
                algorithm: ContentHash::SHA256,
                hash: "00FF".to_owned(),
                preference: 4,
            }],
            sites: vec![site],
        };
        for reply in [ContentLocationReply::default(), full] {
            assert_eq!(ContentLocationReply::parse(&reply.to_xml()), Ok(reply));
        }
    }
}
