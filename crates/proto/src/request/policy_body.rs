//! Policy bodies: what a device does with the policy it was assigned (section 6.3).

use crate::id::Guid;
use crate::limits;
use crate::request::condition::Condition;
use crate::request::policy::ResourceType;
use crate::request::policy_query::PolicyId;
use crate::request::{BodyError, expect_root, parse_root};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;
use crate::text::{self, hex};
use crate::zlib;

const ROOT: &str = "Policy";
const WRAPPER_ROOT: &str = "PolicyXML";
const DECLARATION: &str = r#"<?xml version="1.0"?>"#;
/// Bit of a CIM type that makes it an array.
const ARRAY: u32 = 0x2000;

/// The value of a property, by its CIM type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CimValue {
    /// 8 [observed].
    String(String),
    /// 19 [observed].
    UInt32(u32),
    /// 21.
    UInt64(u64),
    /// 3.
    SInt32(i32),
    /// 11.
    Boolean(bool),
    /// 101: `20260131104559.000000+000`.
    DateTime(String),
    /// 8 with the array bit.
    Strings(Vec<String>),
    /// Any other type, its values as written.
    Other {
        /// The type's number.
        cim_type: u32,
        /// The values.
        values: Vec<String>,
    },
}

impl CimValue {
    /// The number of its type.
    pub const fn cim_type(&self) -> u32 {
        match self {
            Self::SInt32(_) => 3,
            Self::String(_) => 8,
            Self::Boolean(_) => 11,
            Self::UInt32(_) => 19,
            Self::UInt64(_) => 21,
            Self::DateTime(_) => 101,
            Self::Strings(_) => ARRAY | 8,
            Self::Other { cim_type, .. } => *cim_type,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::DateTime(text) => Some(text),
            _ => None,
        }
    }

    /// The number of an unsigned integer.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::UInt32(number) => Some(u64::from(*number)),
            Self::UInt64(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth of a boolean.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    fn from_element(property: &Element<'_>) -> Result<Self, FieldError> {
        let cim_type: u32 = property.parsed_attribute("type")?;
        let values: Vec<String> =
            property.children_named("value").map(|value| value.text().to_owned()).collect();
        let values = at_most("values", limits::POLICY_ENTRIES, values)?;
        let single = values.first().map(String::as_str).unwrap_or_default().trim();
        let invalid = || FieldError::invalid("value", single);
        Ok(match cim_type {
            3 => Self::SInt32(single.parse().map_err(|_| invalid())?),
            8 => Self::String(values.into_iter().next().unwrap_or_default()),
            11 if single == "1" || single.eq_ignore_ascii_case("true") => Self::Boolean(true),
            11 if single == "0" || single.eq_ignore_ascii_case("false") => Self::Boolean(false),
            11 => return Err(invalid()),
            19 => Self::UInt32(single.parse().map_err(|_| invalid())?),
            21 => Self::UInt64(single.parse().map_err(|_| invalid())?),
            101 => Self::DateTime(single.to_owned()),
            array if array == ARRAY | 8 => Self::Strings(values),
            _ => Self::Other { cim_type, values },
        })
    }

    fn write(&self, xml: &mut XmlWriter) {
        let mut value = |text: &str| {
            xml.start("value").cdata(text).end();
        };
        match self {
            Self::String(text) | Self::DateTime(text) => value(text),
            Self::UInt32(number) => value(&number.to_string()),
            Self::UInt64(number) => value(&number.to_string()),
            Self::SInt32(number) => value(&number.to_string()),
            Self::Boolean(truth) => value(if *truth { "TRUE" } else { "FALSE" }),
            Self::Strings(values) | Self::Other { values, .. } => values.iter().for_each(|text| value(text)),
        }
    }
}

/// A named value of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CimProperty {
    /// The name.
    pub name: String,
    /// The value.
    pub value: CimValue,
}

/// One object that the policy sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInstance {
    /// Its class, such as `CCM_ClientAgentConfig` [observed].
    pub class: String,
    /// Its properties.
    pub properties: Vec<CimProperty>,
}

impl PolicyInstance {
    /// A property's value. CIM names have no case.
    pub fn property(&self, name: &str) -> Option<&CimValue> {
        self.properties.iter().find(|p| p.name.eq_ignore_ascii_case(name)).map(|p| &p.value)
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAction {
    /// `WMI-XML` [observed].
    pub action_type: String,
    /// The objects.
    pub instances: Vec<PolicyInstance>,
}

/// A rule: when its condition holds, its actions are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The rule's id.
    pub id: PolicyId,
    /// When.
    pub condition: Option<Condition>,
    /// What.
    pub actions: Vec<PolicyAction>,
}

/// A policy body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyBody {
    /// The id that was assigned.
    pub id: PolicyId,
    /// Such as `1.00`.
    pub version: String,
    /// Device or user.
    pub policy_type: ResourceType,
    /// `SMS:` and the site code.
    pub source: String,
    /// The rules.
    pub rules: Vec<PolicyRule>,
}

impl PolicyBody {
    /// A body with one rule that always applies, the shape of every recorded policy.
    pub fn of_instances(id: PolicyId, version: &str, source: &str, instances: Vec<PolicyInstance>) -> Self {
        let action = PolicyAction { action_type: "WMI-XML".to_owned(), instances };
        let rule = PolicyRule {
            id: PolicyId::Guid(Guid::from_bytes(1_u128.to_be_bytes())),
            condition: Some(Condition::always()),
            actions: vec![action],
        };
        Self {
            id,
            version: version.to_owned(),
            policy_type: ResourceType::Machine,
            source: source.to_owned(),
            rules: vec![rule],
        }
    }

    /// All instances of all rules whatever their conditions.
    pub fn instances(&self) -> impl Iterator<Item = &PolicyInstance> {
        self.rules.iter().flat_map(|rule| &rule.actions).flat_map(|action| &action.instances)
    }

    /// Reads a body as it came, plain or compressed; inflates to at most `limit` bytes.
    /// Encrypted bodies are opened first, by [`crate::cms::open`].
    pub fn parse(bytes: &[u8], limit: usize) -> Result<Self, BodyError> {
        let xml = text::decode_with_bom(bytes).map_err(BodyError::Text)?;
        let root = Element::parse(&xml).map_err(BodyError::Xml)?;
        if root.name() != WRAPPER_ROOT {
            return Self::from_element(&root);
        }
        let method = root.required_attribute("Compression")?;
        if !method.eq_ignore_ascii_case("zlib") {
            return Err(FieldError::invalid("Compression", method).into());
        }
        let stored = hex::decode(root.text().trim(), limits::INFLATED_BYTES)
            .map_err(|source| BodyError::Hex { what: WRAPPER_ROOT, source })?;
        let plain = zlib::inflate(&stored, limit.min(limits::INFLATED_BYTES)).map_err(BodyError::Inflate)?;
        // The SDK takes it with and without a BOM inside [observed].
        let plain = plain.strip_prefix(&text::BOM).unwrap_or(&plain);
        let xml = text::decode_utf16le(plain).map_err(BodyError::Text)?;
        Self::from_element(&parse_root(&xml, ROOT)?)
    }

    fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, ROOT)?;
        let rules = root.children_named("PolicyRule").map(rule).collect::<Result<_, _>>()?;
        Ok(Self {
            id: root.parsed_attribute("PolicyID")?,
            version: root.required_attribute("PolicyVersion")?.to_owned(),
            policy_type: root.parsed_attribute("PolicyType")?,
            source: root.attribute_or_empty("PolicySource")?,
            rules: at_most("policy rules", limits::POLICY_ENTRIES, rules)?,
        })
    }

    /// The body's XML.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::with_declaration(DECLARATION);
        xml.start(ROOT)
            .attribute("PolicyType", self.policy_type)
            .attribute("SchemaVersion", "1.00")
            .attribute("PolicyID", &self.id)
            .attribute("PolicyVersion", &self.version)
            .attribute("PolicySource", &self.source);
        for rule in &self.rules {
            rule.write(&mut xml);
        }
        xml.finish()
    }

    /// The body as it is served, and as it is encrypted: BOM and UTF-16LE [observed].
    pub fn to_bytes(&self) -> Vec<u8> {
        text::encode_with_bom(&self.to_xml())
    }

    /// The body compressed (flag 64): the hex of a zlib stream in a wrapper. A BOM stands
    /// inside as well, because one client tells the encoding by it [clients].
    pub fn to_compressed_bytes(&self) -> Vec<u8> {
        let mut xml = XmlWriter::new();
        xml.start(WRAPPER_ROOT)
            .attribute("Compression", "zlib")
            .attribute("Version", 1)
            .cdata(&hex::encode(&zlib::deflate(&self.to_bytes())));
        text::encode_with_bom(&xml.finish())
    }
}

impl PolicyRule {
    fn write(&self, xml: &mut XmlWriter) {
        xml.start("PolicyRule").attribute("PolicyRuleID", &self.id);
        if let Some(condition) = &self.condition {
            condition.write(xml);
        }
        for action in &self.actions {
            xml.start("PolicyAction").attribute("PolicyActionType", &action.action_type);
            for instance in &action.instances {
                xml.start("instance").attribute("class", &instance.class);
                for property in &instance.properties {
                    xml.start("property")
                        .attribute("name", &property.name)
                        .attribute("type", property.value.cim_type());
                    property.value.write(xml);
                    xml.end();
                }
                xml.end();
            }
            xml.end();
        }
        xml.end();
    }
}

fn rule(element: &Element<'_>) -> Result<PolicyRule, FieldError> {
    let actions = element.children_named("PolicyAction").map(action).collect::<Result<_, _>>()?;
    Ok(PolicyRule {
        id: element.parsed_attribute("PolicyRuleID")?,
        condition: Condition::of(element)?,
        actions: at_most("policy actions", limits::POLICY_ENTRIES, actions)?,
    })
}

fn action(element: &Element<'_>) -> Result<PolicyAction, FieldError> {
    let instances = element.children_named("instance").map(instance).collect::<Result<_, _>>()?;
    Ok(PolicyAction {
        action_type: element.required_attribute("PolicyActionType")?.to_owned(),
        instances: at_most("policy instances", limits::POLICY_ENTRIES, instances)?,
    })
}

fn instance(element: &Element<'_>) -> Result<PolicyInstance, FieldError> {
    let properties = element.children_named("property").map(|property| {
        let name = property.required_attribute("name")?.to_owned();
        Ok(CimProperty { name, value: CimValue::from_element(property)? })
    });
    Ok(PolicyInstance {
        class: element.required_attribute("class")?.to_owned(),
        properties: at_most(
            "properties",
            limits::POLICY_ENTRIES,
            properties.collect::<Result<_, FieldError>>()?,
        )?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zlib::InflateError;

    fn body() -> PolicyBody {
        let values = [
            CimValue::String("a]]>b <c>\n".to_owned()),
            CimValue::UInt32(u32::MAX),
            CimValue::UInt64(u64::MAX),
            CimValue::SInt32(-1),
            CimValue::Boolean(true),
            CimValue::DateTime("20260131104559.000000+000".to_owned()),
            CimValue::Strings(vec!["a".to_owned(), String::new(), " c ".to_owned()]),
            CimValue::Other { cim_type: 2, values: vec!["7".to_owned()] },
        ];
        let properties =
            values.into_iter().enumerate().map(|(i, value)| CimProperty { name: format!("P{i}"), value });
        let instance = PolicyInstance { class: "CCM_Example".to_owned(), properties: properties.collect() };
        PolicyBody::of_instances("SRC10000".parse().unwrap(), "1.00", "SMS:RG1", vec![instance])
    }

    #[test]
    fn a_body_comes_back_plain_and_compressed() {
        let plain = body().to_bytes();
        assert!(plain.starts_with(b"\xFF\xFE<\0?\0x\0"));
        assert_eq!(PolicyBody::parse(&plain, usize::MAX), Ok(body()));
        let compressed = body().to_compressed_bytes();
        assert_eq!(PolicyBody::parse(&compressed, plain.len()), Ok(body()));
        let limit = plain.len() - 1;
        assert_eq!(
            PolicyBody::parse(&compressed, limit),
            Err(BodyError::Inflate(InflateError::TooLarge { limit }))
        );
        let read = PolicyBody::parse(&plain, 0).unwrap();
        assert_eq!(
            read.instances().next().unwrap().property("p1").and_then(CimValue::as_u64),
            Some(u64::from(u32::MAX))
        );
    }

    #[test]
    fn values_that_are_not_of_their_type_are_refused() {
        let with = |cim_type: u32, value: &str| {
            let xml = format!(
                "<Policy PolicyID='A' PolicyVersion='1' PolicyType='Machine'>\
                 <PolicyRule PolicyRuleID='{{00000000-0000-0000-0000-000000000001}}'>\
                 <PolicyAction PolicyActionType='WMI-XML'><instance class='C'>\
                 <property name='n' type='{cim_type}'><value>{value}</value>\
                 </property></instance></PolicyAction></PolicyRule></Policy>"
            );
            PolicyBody::parse(&text::encode_with_bom(&xml), usize::MAX)
        };
        assert!(with(19, " 7 ").is_ok() && with(11, "0").is_ok());
        for (cim_type, value) in [(19, "-1"), (19, ""), (19, "4294967296"), (11, "2"), (3, "x"), (21, "1.0")]
        {
            assert!(matches!(with(cim_type, value), Err(BodyError::Field(_))), "{cim_type} {value}");
        }
    }

    #[test]
    fn another_document_is_no_policy() {
        let parse = |xml: &str| PolicyBody::parse(&text::encode_with_bom(xml), usize::MAX);
        assert!(matches!(parse("<HTML/>"), Err(BodyError::Root { .. })));
        assert!(matches!(parse("<PolicyXML Compression='gzip'>00</PolicyXML>"), Err(BodyError::Field(_))));
        assert!(matches!(parse("<PolicyXML Compression='zlib'>0</PolicyXML>"), Err(BodyError::Hex { .. })));
        let nested = format!(
            "<PolicyXML Compression='zlib'>{}</PolicyXML>",
            hex::encode(&zlib::deflate(&text::encode_with_bom("<PolicyXML/>")))
        );
        assert!(matches!(parse(&nested), Err(BodyError::Root { .. })));
        assert!(matches!(PolicyBody::parse(b"<HTML>", 9), Err(BodyError::Text(_))));
    }
}
