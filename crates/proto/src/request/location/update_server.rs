//! Update servers (WSUS).

use crate::limits;
use crate::request::location::{
    ClientLocationInfo, SCHEMA_VERSION, read_site_code, site_records, write_site_code,
};
use crate::request::{BodyError, expect_root, parse_root};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

/// Which update server is mine [observed: `sdk/22`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsusLocationRequest {
    /// The client's site.
    pub assigned_site: String,
    /// Content id, a GUID in braces.
    pub content_id: String,
    /// Version of the content.
    pub content_version: String,
    /// Where the client is.
    pub location: ClientLocationInfo,
}

impl WsusLocationRequest {
    /// Root element.
    pub const ROOT: &str = "WSUSLocationRequest";

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, Self::ROOT)?;
        let content = root.required_child("Content")?;
        Ok(Self {
            assigned_site: read_site_code(root, "AssignedSite")?,
            content_id: content.attribute_or_empty("ID")?,
            content_version: content.attribute_or_empty("Version")?,
            location: ClientLocationInfo::of(root)?,
        })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION);
        write_site_code(&mut xml, "AssignedSite", &self.assigned_site);
        xml.start("Content")
            .attribute("ID", &self.content_id)
            .attribute("Version", &self.content_version)
            .end();
        self.location.write(&mut xml);
        xml.finish()
    }
}

/// One update server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsusRecord {
    /// Its address, with scheme and port.
    pub url: String,
    /// Its name.
    pub server_name: String,
    /// A number that grows with its catalogue.
    pub version: String,
}

/// Answer to [`WsusLocationRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsusLocationReply {
    /// The site.
    pub site_code: String,
    /// Its update servers; none where updates are not managed.
    pub records: Vec<WsusRecord>,
}

impl WsusLocationReply {
    const ROOT: &str = "WSUSLocationReply";

    /// Reads a reply; of several sites, the first.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, Self::ROOT)?;
        let (site, records) = site_records(&root);
        let records = records.iter().map(|record| {
            Ok(WsusRecord {
                url: record.required_attribute("WSUSURL")?.to_owned(),
                server_name: record.attribute_or_empty("ServerName")?,
                version: record.attribute_or_empty("Version")?,
            })
        });
        let records = records.collect::<Result<_, FieldError>>()?;
        Ok(Self {
            site_code: site.map_or_else(|| Ok(String::new()), |site| read_site_code(site, "MPSite"))?,
            records: at_most("update servers", limits::LOCATION_ENTRIES, records)?,
        })
    }

    /// Writes the reply.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(Self::ROOT).attribute("SchemaVersion", SCHEMA_VERSION).start("Sites").start("Site");
        write_site_code(&mut xml, "MPSite", &self.site_code);
        xml.start("LocationRecords");
        for record in &self.records {
            xml.start("LocationRecord")
                .attribute("WSUSURL", &record.url)
                .attribute("ServerName", &record.server_name)
                .attribute("Version", &record.version)
                .end();
        }
        xml.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_servers_come_back() {
        let record = WsusRecord {
            url: "http://wsus1.example.org:8530".to_owned(),
            server_name: "wsus1.example.org".to_owned(),
            version: "38".to_owned(),
        };
        for records in [Vec::new(), vec![record]] {
            let reply = WsusLocationReply { site_code: "RG1".to_owned(), records };
            assert_eq!(WsusLocationReply::parse(&reply.to_xml()), Ok(reply));
        }
    }
}
