//! Management points: all of a site, and the near ones.

use crate::limits;
use crate::request::location::{
    Capability, ClientLocationInfo, SCHEMA_VERSION, read_capabilities, read_site_code, site_records,
    write_capabilities, write_site_code,
};
use crate::request::{BodyError, expect_root, parse_root, words};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

words! {
    /// Which management points are asked for.
    MpRequestType {
        /// Those of the client's site [observed].
        Assigned = "Assigned",
        /// Proxy management points [sdk-meta].
        Proxy = "Proxy",
        /// Near ones [sdk-meta].
        Local = "Local",
        /// Those for the internet [sdk-meta].
        Internet = "Internet",
    }
}

/// Which management points are there [observed: `sdk/21`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumerateMpLocationRequest {
    /// Which.
    pub request_type: MpRequestType,
    /// Where the client is.
    pub location: ClientLocationInfo,
    /// Of which site.
    pub site_code: String,
}

impl EnumerateMpLocationRequest {
    /// Root element.
    pub const ROOT: &str = "EnumerateMPLocationRequest";

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, Self::ROOT)?;
        let site =
            root.child("SiteCode").map_or_else(|| Ok(String::new()), |site| site.attribute_or_empty("Name"));
        Ok(Self {
            request_type: root.parsed_attribute("RequestType")?,
            location: ClientLocationInfo::of(root)?,
            site_code: site?,
        })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT)
            .attribute("SchemaVersion", SCHEMA_VERSION)
            .attribute("RequestType", self.request_type);
        self.location.write(&mut xml);
        xml.start("SiteCode").attribute("Name", &self.site_code);
        xml.finish()
    }
}

/// Which management point is near [observed: `sdk/23`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMpLocationRequest {
    /// The client's site.
    pub assigned_site: String,
    /// Where the client is.
    pub location: ClientLocationInfo,
}

impl LocalMpLocationRequest {
    /// Root element.
    pub const ROOT: &str = "LocalMPLocationRequest";

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, Self::ROOT)?;
        Ok(Self {
            assigned_site: read_site_code(root, "AssignedSite")?,
            location: ClientLocationInfo::of(root)?,
        })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        write_site_code(&mut xml, "AssignedSite", &self.assigned_site);
        self.location.write(&mut xml);
        xml.finish()
    }
}

/// One management point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpRecord {
    /// Name on the internet; empty for none [observed].
    pub internet_name: String,
    /// Name inside.
    pub intranet_name: String,
    /// Build, such as `9128`.
    pub version: String,
    /// What it can do.
    pub capabilities: Vec<Capability>,
}

impl MpRecord {
    fn read_all(records: &[Element<'_>]) -> Result<Vec<Self>, FieldError> {
        let value = |record: &Element<'_>, name: &str| {
            record.child(name).map_or_else(|| Ok(String::new()), |name| name.attribute_or_empty("Value"))
        };
        let records = records.iter().map(|record| {
            Ok(Self {
                internet_name: value(record, "InternetName")?,
                intranet_name: value(record, "IntranetName")?,
                version: record.text_or_empty("Version")?,
                capabilities: read_capabilities(record)?,
            })
        });
        at_most("management points", limits::LOCATION_ENTRIES, records.collect::<Result<_, FieldError>>()?)
    }

    fn write_all(records: &[Self], xml: &mut XmlWriter) {
        xml.start("LocationRecords");
        for record in records {
            xml.start("LocationRecord");
            for (name, value) in
                [("InternetName", &record.internet_name), ("IntranetName", &record.intranet_name)]
            {
                xml.start(name).attribute("Value", value).end();
            }
            xml.start("Windows").attribute("Trust", 1).end().leaf("Version", &record.version);
            write_capabilities(xml, &record.capabilities);
            xml.end();
        }
        xml.end();
    }
}

/// Answer to [`EnumerateMpLocationRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumerateMpLocationReply {
    /// The site.
    pub site_code: String,
    /// Its management points.
    pub records: Vec<MpRecord>,
}

impl EnumerateMpLocationReply {
    const ROOT: &str = "EnumerateMPLocationReply";

    /// Reads a reply.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let records = root.child("LocationRecords").map_or(&[][..], Element::children);
        Ok(Self { site_code: read_site_code(&root, "MPSite")?, records: MpRecord::read_all(records)? })
    }

    /// Writes the reply.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        write_site_code(&mut xml, "MPSite", &self.site_code);
        MpRecord::write_all(&self.records, &mut xml);
        xml.finish()
    }
}

/// Answer to [`LocalMpLocationRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMpLocationReply {
    /// The site.
    pub site_code: String,
    /// Near management points; none where boundaries are not used.
    pub records: Vec<MpRecord>,
}

impl LocalMpLocationReply {
    const ROOT: &str = "LocalMPLocationReply";

    /// Reads a reply; of several sites, the first.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let (site, records) = site_records(&root);
        let site_code = site.map_or_else(|| Ok(String::new()), |site| read_site_code(site, "MPSite"))?;
        Ok(Self { site_code, records: MpRecord::read_all(records)? })
    }

    /// Writes the reply.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION).start("Sites").start("Site");
        write_site_code(&mut xml, "MPSite", &self.site_code);
        MpRecord::write_all(&self.records, &mut xml);
        xml.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn management_points_come_back() {
        let record = MpRecord {
            internet_name: String::new(),
            intranet_name: "mp1.example.org".to_owned(),
            version: "9128".to_owned(),
            capabilities: vec![Capability::ssl_state(31)],
        };
        for records in [Vec::new(), vec![record.clone(), record]] {
            let all = EnumerateMpLocationReply { site_code: "RG1".to_owned(), records: records.clone() };
            assert_eq!(EnumerateMpLocationReply::parse(&all.to_xml()), Ok(all));
            let near = LocalMpLocationReply { site_code: "RG1".to_owned(), records };
            assert_eq!(LocalMpLocationReply::parse(&near.to_xml()), Ok(near));
        }
    }

    #[test]
    fn ssl_state_is_read_from_the_capabilities() {
        use crate::request::location::ssl_state;
        assert_eq!(ssl_state(&[Capability::ssl_state(31)]), Some(31));
        assert_eq!(ssl_state(&[]), None);
    }
}
