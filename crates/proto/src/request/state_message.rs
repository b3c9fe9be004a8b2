//! State messages: where a client stands in some topic (section 8.4). They come unsigned,
//! so they are kept as somebody's word and change nothing.

use crate::limits;
use crate::text::field::{FieldError, Fields as _, at_most, short};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

/// Topics that we use, of the many in section 11.
pub mod topic {
    /// Heartbeat of state messages.
    pub const HEARTBEAT: u32 = 701;
    /// Deployment of the client itself.
    pub const CLIENT_DEPLOYMENT: u32 = 800;
    /// Health of the client.
    pub const CLIENT_HEALTH: u32 = 1300;
}

/// One state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateMessage {
    /// CIM time, as written.
    pub message_time: String,
    /// Counts up with each message of the client.
    pub serial_number: u32,
    /// The state, such as 400 (installed) in topic 800.
    pub state_id: u32,
    /// 0 [observed].
    pub criticality: u32,
    /// The topic, such as 800.
    pub topic_type: u32,
    /// What the topic is about; mostly empty.
    pub topic_id: String,
    /// What kind of id that is.
    pub topic_id_type: u32,
    /// Further values.
    pub parameters: Vec<String>,
}

impl StateMessage {
    pub(crate) const NAME: &str = "StateMessage";

    pub(crate) fn from_element(element: &Element<'_>) -> Result<Self, FieldError> {
        let state = element.required_child("State")?;
        let topic = element.required_child("Topic")?;
        let parameters = element.child("UserParameters").map_or(&[][..], Element::children);
        let parameters =
            parameters.iter().map(|parameter| short("Param", parameter.text()).map(str::to_owned));
        Ok(Self {
            message_time: element.attribute_or_empty("MessageTime")?,
            serial_number: element.parsed_given_attribute("SerialNumber")?.unwrap_or_default(),
            state_id: state.parsed_attribute("ID")?,
            criticality: state.parsed_given_attribute("Criticality")?.unwrap_or_default(),
            topic_type: topic.parsed_attribute("Type")?,
            topic_id: topic.attribute_or_empty("ID")?,
            topic_id_type: topic.parsed_given_attribute("IDType")?.unwrap_or_default(),
            parameters: at_most(
                "user parameters",
                limits::DISCOVERY_PROPERTIES,
                parameters.collect::<Result<_, _>>()?,
            )?,
        })
    }

    pub(crate) fn write(&self, xml: &mut XmlWriter) {
        xml.start(Self::NAME)
            .attribute("MessageTime", &self.message_time)
            .attribute("SerialNumber", self.serial_number)
            .start("State")
            .attribute("Criticality", self.criticality)
            .attribute("ID", self.state_id)
            .end()
            .start("Topic")
            .attribute("ID", &self.topic_id)
            .attribute("IDType", self.topic_id_type)
            .attribute("Type", self.topic_type)
            .end()
            .start("UserParameters")
            .attribute("Count", self.parameters.len())
            .attribute("Flags", 0);
        for parameter in &self.parameters {
            xml.leaf("Param", parameter);
        }
        xml.end().end();
    }
}
