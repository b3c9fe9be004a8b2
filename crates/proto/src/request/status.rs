//! Status messages: an event in a client's life (section 8.5).

use crate::limits;
use crate::message::header::Property;
use crate::request::{BodyError, expect_root, parse_root};
use crate::text::field::{FieldError, Fields as _, at_most, short};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

const ROOT: &str = "Status";

/// `Status` [observed: `sdk/15`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusMessage {
    /// Windows code page, such as 1252.
    pub code_page: Option<u32>,
    /// Windows locale, such as 1033.
    pub locale_id: Option<u32>,
    /// What happened to what.
    pub properties: Vec<Property>,
    /// Such as `SMS_Severity` = `Informational`.
    pub qualifiers: Vec<Property>,
    /// The event's class, such as `CCM_CcmHttp_Status`.
    pub event_type: String,
}

impl StatusMessage {
    /// Reads a status message.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Self::from_element(&parse_root(xml, ROOT)?)
    }

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, ROOT)?;
        Ok(Self {
            code_page: root.parsed_given_attribute("CodePage")?,
            locale_id: root.parsed_given_attribute("LocaleID")?,
            properties: list(root, "Properties", "Property")?,
            qualifiers: list(root, "Qualifiers", "Qualifier")?,
            event_type: root.required_text("Type")?.to_owned(),
        })
    }

    /// Writes the status message.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(ROOT)
            .attribute("SchemaVersion", "1.00")
            .optional_attribute("CodePage", self.code_page)
            .optional_attribute("LocaleID", self.locale_id);
        for (list_name, name, list) in
            [("Properties", "Property", &self.properties), ("Qualifiers", "Qualifier", &self.qualifiers)]
        {
            xml.start(list_name);
            for entry in list {
                xml.start(name).attribute("Name", &entry.name).text(&entry.value).end();
            }
            xml.end();
        }
        xml.leaf("Type", &self.event_type);
        xml.finish()
    }

    /// A qualifier's value, by name without case.
    pub fn qualifier(&self, name: &str) -> Option<&str> {
        self.qualifiers.iter().find(|q| q.name.eq_ignore_ascii_case(name)).map(|q| q.value.as_str())
    }
}

fn list(
    root: &Element<'_>,
    list_name: &'static str,
    name: &'static str,
) -> Result<Vec<Property>, FieldError> {
    let Some(element) = root.child(list_name) else { return Ok(Vec::new()) };
    let entries = element.children_named(name).map(|entry| {
        let value = short(name, entry.text())?.to_owned();
        Ok(Property { name: entry.required_attribute("Name")?.to_owned(), value })
    });
    at_most(list_name, limits::DISCOVERY_PROPERTIES, entries.collect::<Result<_, FieldError>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_message_comes_back_and_is_bounded() {
        let property = |i: usize| Property { name: format!("P{i}"), value: "a <b>".to_owned() };
        let status = |count| StatusMessage {
            code_page: Some(1252),
            locale_id: None,
            properties: (0..count).map(property).collect(),
            qualifiers: vec![property(0)],
            event_type: "CCM_CcmHttp_Status".to_owned(),
        };
        let largest = status(limits::DISCOVERY_PROPERTIES);
        assert_eq!(largest.qualifier("p0"), Some("a <b>"));
        assert_eq!(StatusMessage::parse(&largest.to_xml()), Ok(largest));
        assert!(StatusMessage::parse(&status(limits::DISCOVERY_PROPERTIES + 1).to_xml()).is_err());
        assert!(StatusMessage::parse("<Status/>").is_err());
    }
}
