//! Questions to `MP_LocationManager`: which site, which management points, where content
//! and update servers are (section 7.2). Unsigned, so they never change anything.

pub mod content;
pub mod management_point;
pub mod site;
pub mod update_server;

use crate::limits;
use crate::message::header::Property;
use crate::request::{BodyError, words};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

pub use content::{ContentLocationReply, ContentLocationRequest};
pub use management_point::{
    EnumerateMpLocationReply, EnumerateMpLocationRequest, LocalMpLocationReply, LocalMpLocationRequest,
};
pub use site::{AssignedSiteReply, AssignedSiteRequest, SiteInfoReply, SiteInformationRequest};
pub use update_server::{WsusLocationReply, WsusLocationRequest};

/// `SchemaVersion` of all these documents [observed].
pub(crate) const SCHEMA_VERSION: &str = "1.00";

/// One of the six questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocationRequest {
    /// About a site.
    SiteInformation(SiteInformationRequest),
    /// Which site is mine.
    AssignedSite(AssignedSiteRequest),
    /// Where is this content.
    Content(ContentLocationRequest),
    /// Which management points are there.
    EnumerateMp(EnumerateMpLocationRequest),
    /// Which management point is near.
    LocalMp(LocalMpLocationRequest),
    /// Which update server is mine.
    Wsus(WsusLocationRequest),
}

impl LocationRequest {
    /// Reads a question of any kind.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Self::from_element(&Element::parse(xml).map_err(BodyError::Xml)?)
    }

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        Ok(match root.name() {
            SiteInformationRequest::ROOT => {
                Self::SiteInformation(SiteInformationRequest::from_element(root)?)
            }
            AssignedSiteRequest::ROOT => Self::AssignedSite(AssignedSiteRequest::from_element(root)?),
            ContentLocationRequest::ROOT => Self::Content(ContentLocationRequest::from_element(root)?),
            EnumerateMpLocationRequest::ROOT => {
                Self::EnumerateMp(EnumerateMpLocationRequest::from_element(root)?)
            }
            LocalMpLocationRequest::ROOT => Self::LocalMp(LocalMpLocationRequest::from_element(root)?),
            WsusLocationRequest::ROOT => Self::Wsus(WsusLocationRequest::from_element(root)?),
            other => {
                let found = other.chars().take(80).collect();
                return Err(BodyError::Root { expected: "a location request", found });
            }
        })
    }

    /// Writes the question.
    pub fn to_xml(&self) -> String {
        match self {
            Self::SiteInformation(request) => request.to_xml(),
            Self::AssignedSite(request) => request.to_xml(),
            Self::Content(request) => request.to_xml(),
            Self::EnumerateMp(request) => request.to_xml(),
            Self::LocalMp(request) => request.to_xml(),
            Self::Wsus(request) => request.to_xml(),
        }
    }
}

words! {
    /// What kind of content a client looks for.
    LocationType {
        /// A package or application [observed].
        Package = "SMSPackage",
        /// An update [sdk-meta].
        Update = "SMSUpdate",
        /// An update server [sdk-meta].
        Wsus = "SMSWSUS",
    }
}

/// One address of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address.
    pub address: String,
    /// Its network.
    pub subnet: String,
}

/// Where a client is, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientLocationInfo {
    /// What it looks for.
    pub location_type: Option<LocationType>,
    /// The many flags, such as `AllowHTTP` or `OnInternet`, 0 or 1 [observed]. Unknown ones are kept.
    pub flags: Vec<Property>,
    /// Directory site.
    pub ad_site: Option<String>,
    /// Directory forest.
    pub forest: Option<String>,
    /// Directory domain.
    pub domain: Option<String>,
    /// Addresses.
    pub addresses: Vec<ClientAddress>,
}

impl ClientLocationInfo {
    /// Whether a flag is set; absent means not.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag.name.eq_ignore_ascii_case(name) && flag.value.trim() == "1")
    }

    /// What our client says: nothing but whether it is on the internet.
    pub fn of_our_client(location_type: Option<LocationType>, on_internet: bool) -> Self {
        let value = u8::from(on_internet).to_string();
        let name = if location_type.is_some() { "UseInternetDP" } else { "OnInternet" };
        Self { location_type, flags: vec![Property { name: name.to_owned(), value }], ..Self::default() }
    }

    fn of(root: &Element<'_>) -> Result<Self, FieldError> {
        root.child("ClientLocationInfo").map_or_else(|| Ok(Self::default()), Self::from_element)
    }

    fn from_element(element: &Element<'_>) -> Result<Self, FieldError> {
        let name_of = |child: &str| {
            element
                .child(child)
                .map_or(Ok(None), |child| child.given_attribute("Name"))
                .map(|v| v.map(str::to_owned))
        };
        let mut flags = Vec::new();
        for (name, value) in element.attributes().filter(|(name, _)| *name != "LocationType") {
            let value = crate::text::field::short("ClientLocationInfo", value)?.to_owned();
            flags.push(Property { name: name.to_owned(), value });
        }
        let addresses = element.child("IPAddresses").map_or(&[][..], Element::children);
        let addresses = addresses.iter().map(|address| {
            Ok(ClientAddress {
                address: address.attribute_or_empty("Address")?,
                subnet: address.attribute_or_empty("SubnetAddress")?,
            })
        });
        Ok(Self {
            location_type: element.parsed_given_attribute("LocationType")?,
            flags,
            ad_site: name_of("ADSite")?,
            forest: name_of("Forest")?,
            domain: name_of("Domain")?,
            addresses: at_most(
                "addresses",
                limits::LOCATION_ENTRIES,
                addresses.collect::<Result<_, FieldError>>()?,
            )?,
        })
    }

    fn write(&self, xml: &mut XmlWriter) {
        xml.start("ClientLocationInfo").optional_attribute("LocationType", self.location_type);
        for flag in &self.flags {
            xml.attribute(&flag.name, &flag.value);
        }
        // The SDK writes the directory site even when it has none [observed].
        xml.start("ADSite").optional_attribute("Name", self.ad_site.as_ref()).end();
        for (name, value) in [("Forest", &self.forest), ("Domain", &self.domain)] {
            if let Some(value) = value {
                xml.start(name).attribute("Name", value).end();
            }
        }
        xml.start("IPAddresses");
        for address in &self.addresses {
            xml.start("IPAddress")
                .attribute("SubnetAddress", &address.subnet)
                .attribute("Address", &address.address)
                .end();
        }
        xml.end().end();
    }
}

/// What a site system can do: `SSLState`=0 in most replies, `SSL` with a version in one [observed].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Name.
    pub name: String,
    /// `Version` attribute.
    pub version: Option<String>,
    /// `Value` attribute.
    pub value: Option<String>,
}

impl Capability {
    /// `SSLState`: 0 for HTTP, else the flags of section 11.
    pub fn ssl_state(state: u32) -> Self {
        Self { name: "SSLState".to_owned(), version: None, value: Some(state.to_string()) }
    }
}

/// The value of `SSLState` among capabilities.
pub fn ssl_state(capabilities: &[Capability]) -> Option<u32> {
    let state = capabilities.iter().find(|c| c.name.eq_ignore_ascii_case("SSLState"))?;
    state.value.as_deref()?.trim().parse().ok()
}

pub(crate) fn read_capabilities(parent: &Element<'_>) -> Result<Vec<Capability>, FieldError> {
    let Some(element) = parent.child("Capabilities") else { return Ok(Vec::new()) };
    let list = element.children_named("Property").map(|property| {
        Ok(Capability {
            name: property.required_attribute("Name")?.to_owned(),
            version: property.given_attribute("Version")?.map(str::to_owned),
            value: property.given_attribute("Value")?.map(str::to_owned),
        })
    });
    at_most("capabilities", limits::LOCATION_ENTRIES, list.collect::<Result<_, FieldError>>()?)
}

pub(crate) fn write_capabilities(xml: &mut XmlWriter, capabilities: &[Capability]) {
    xml.start("Capabilities").attribute("SchemaVersion", "1.0");
    for capability in capabilities {
        xml.start("Property")
            .attribute("Name", &capability.name)
            .optional_attribute("Version", capability.version.as_ref())
            .optional_attribute("Value", capability.value.as_ref())
            .end();
    }
    xml.end();
}

/// Reads `<name SiteCode="…"/>`, `AssignedSite` or `MPSite`.
fn read_site_code(parent: &Element<'_>, name: &'static str) -> Result<String, FieldError> {
    parent.child(name).map_or_else(|| Ok(String::new()), |site| site.attribute_or_empty("SiteCode"))
}

fn write_site_code(xml: &mut XmlWriter, name: &str, code: &str) {
    xml.start(name).attribute("SiteCode", code).end();
}

/// Reads the records of `Sites/Site`, of the first site.
fn site_records<'e, 't>(root: &'e Element<'t>) -> (Option<&'e Element<'t>>, &'e [Element<'t>]) {
    let site = root.descendant(&["Sites", "Site"]);
    let records = site.and_then(|site| site.child("LocationRecords")).map_or(&[][..], Element::children);
    (site, records)
}
