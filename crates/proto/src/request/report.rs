//! Reports: heartbeat, inventory and state messages (section 8).

use crate::id::{ClientId, Guid};
use crate::limits;
use crate::request::state_message::StateMessage;
use crate::request::{BodyError, expect_root, parse_root};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;
use crate::time::Timestamp;

const ROOT: &str = "Report";
/// `ReportContent` of inventory and heartbeat [observed].
pub const INVENTORY_CONTENT: &str = "Inventory Data";
/// `ReportContent` of state messages [observed].
pub const STATE_CONTENT: &str = "State Message Data";

/// `InventoryActionID`: which inventory a report is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InventoryAction {
    /// `{…0001}`.
    Hardware,
    /// `{…0002}`.
    Software,
    /// `{…0003}`: the heartbeat.
    Discovery,
    /// Another one.
    Other(Guid),
}

impl InventoryAction {
    /// The id.
    pub const fn id(self) -> Guid {
        let number: u128 = match self {
            Self::Hardware => 1,
            Self::Software => 2,
            Self::Discovery => 3,
            Self::Other(guid) => return guid,
        };
        Guid::from_bytes(number.to_be_bytes())
    }

    /// The description that goes with it [observed].
    pub const fn description(self) -> &'static str {
        match self {
            Self::Hardware => "Hardware",
            Self::Software => "Software",
            Self::Discovery => "Discovery",
            Self::Other(_) => "",
        }
    }

    fn of(id: Guid) -> Self {
        let known = [Self::Hardware, Self::Software, Self::Discovery];
        known.into_iter().find(|action| action.id() == id).unwrap_or(Self::Other(id))
    }
}

/// Who reports what. All of it by the client's word; the id must equal the header's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportHeader {
    /// Who.
    pub client_id: ClientId,
    /// 1 when the client is installed; one public client says 0 [observed].
    pub client_installed: Option<u32>,
    /// 0 legacy, 1 client, 2 mobile [sdk-meta].
    pub client_type: Option<u32>,
    /// Such as `5.00.8325.0000`.
    pub client_version: String,
    /// Name.
    pub netbios_name: String,
    /// Windows code page.
    pub code_page: Option<u32>,
    /// Windows locale.
    pub locale_id: Option<u32>,
    /// 5 on state messages, else empty [observed].
    pub priority: Option<u32>,
    /// [`INVENTORY_CONTENT`] or [`STATE_CONTENT`].
    pub content: String,
    /// `Full` or `Delta`.
    pub report_type: String,
    /// CIM time, as written.
    pub date: String,
    /// `1.0` [observed].
    pub version: String,
    /// `1.1` [observed].
    pub format: String,
    /// Which inventory; absent in state messages [observed].
    pub action: Option<InventoryAction>,
}

/// One object of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportInstance {
    /// `New` [observed]; a delta report will have others, unseen.
    pub content: String,
    /// Such as `\\PC1\root\ccm`.
    pub namespace: String,
    /// The object's class.
    pub class: String,
    /// The same, in all samples.
    pub parent_class: String,
    /// Its values in order; a name may repeat (addresses do) [observed].
    pub properties: Vec<(String, String)>,
}

impl ReportInstance {
    /// The first value of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of this name; CIM names have no case.
    pub fn values<'i>(&'i self, name: &'i str) -> impl Iterator<Item = &'i str> {
        self.properties
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who and what.
    pub header: ReportHeader,
    /// Objects of an inventory.
    pub instances: Vec<ReportInstance>,
    /// State messages.
    pub state_messages: Vec<StateMessage>,
}

impl Report {
    /// Reads a report. Elements of its body that are neither objects nor state messages are
    /// passed over.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Self::from_element(&parse_root(xml, ROOT)?)
    }

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, ROOT)?;
        let body = root.child("ReportBody").map_or(&[][..], Element::children);
        let (mut instances, mut state_messages) = (Vec::new(), Vec::new());
        for element in body {
            match element.name() {
                "Instance" => instances.push(instance(element)?),
                StateMessage::NAME if state_messages.len() < limits::STATE_MESSAGES => {
                    state_messages.push(StateMessage::from_element(element)?);
                }
                StateMessage::NAME => {
                    return Err(FieldError::TooMany {
                        what: "state messages",
                        limit: limits::STATE_MESSAGES,
                    }
                    .into());
                }
                _ => {}
            }
        }
        Ok(Self { header: header(root)?, instances, state_messages })
    }

    /// Writes the report, to be sent as the only body of its message.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(ROOT);
        self.header.write(&mut xml);
        xml.start("ReportBody");
        for instance in &self.instances {
            xml.start("Instance")
                .attribute("Content", &instance.content)
                .attribute("Namespace", &instance.namespace)
                .attribute("Class", &instance.class)
                .attribute("ParentClass", &instance.parent_class)
                .start(&instance.class);
            for (name, value) in &instance.properties {
                xml.leaf(name, value);
            }
            xml.end().end();
        }
        for state in &self.state_messages {
            state.write(&mut xml);
        }
        xml.finish()
    }

    /// The first object of a class.
    pub fn instance(&self, class: &str) -> Option<&ReportInstance> {
        self.instances.iter().find(|instance| instance.class.eq_ignore_ascii_case(class))
    }
}

impl ReportHeader {
    fn write(&self, xml: &mut XmlWriter) {
        xml.start("ReportHeader")
            .start("Identification")
            .start("Machine")
            .optional_leaf("ClientInstalled", self.client_installed)
            .optional_leaf("ClientType", self.client_type)
            .leaf("ClientID", self.client_id)
            .leaf("ClientVersion", &self.client_version)
            .leaf("NetBIOSName", &self.netbios_name)
            .optional_leaf("CodePage", self.code_page)
            .optional_leaf("SystemDefaultLCID", self.locale_id)
            .leaf("Priority", self.priority.map_or_else(String::new, |priority| priority.to_string()))
            .end()
            .end()
            .start("ReportDetails")
            .leaf("ReportContent", &self.content)
            .leaf("ReportType", &self.report_type)
            .leaf("Date", &self.date)
            .leaf("Version", &self.version)
            .leaf("Format", &self.format)
            .end();
        if let Some(action) = self.action {
            xml.start("InventoryAction")
                .attribute("ActionType", "Predefined")
                .leaf("InventoryActionID", action.id().braced())
                .leaf("Description", action.description())
                .leaf("InventoryActionLastUpdateTime", &self.date)
                .end();
        }
        xml.end();
    }
}

fn header(root: &Element<'_>) -> Result<ReportHeader, FieldError> {
    let header = root.required_child("ReportHeader")?;
    let machine = header.required_child("Identification")?.required_child("Machine")?;
    let details = header.required_child("ReportDetails")?;
    let action = match header.child("InventoryAction") {
        Some(action) => Some(InventoryAction::of(action.parsed_text("InventoryActionID")?)),
        None => None,
    };
    Ok(ReportHeader {
        client_id: machine.parsed_text("ClientID")?,
        client_installed: machine.parsed_given_text("ClientInstalled")?,
        client_type: machine.parsed_given_text("ClientType")?,
        client_version: machine.text_or_empty("ClientVersion")?,
        netbios_name: machine.text_or_empty("NetBIOSName")?,
        code_page: machine.parsed_given_text("CodePage")?,
        locale_id: machine.parsed_given_text("SystemDefaultLCID")?,
        priority: machine.parsed_given_text("Priority")?,
        content: details.required_text("ReportContent")?.to_owned(),
        report_type: details.text_or_empty("ReportType")?,
        date: details.text_or_empty("Date")?,
        version: details.text_or_empty("Version")?,
        format: details.text_or_empty("Format")?,
        action,
    })
}

fn instance(element: &Element<'_>) -> Result<ReportInstance, FieldError> {
    let class = element.required_attribute("Class")?;
    // The object is the only child, named as its class; one of another name would be a
    // second reading.
    let object = element.child(class).filter(|_| element.children().len() == 1);
    let object = object.ok_or_else(|| FieldError::invalid("Instance", class))?;
    let mut properties = Vec::with_capacity(object.children().len());
    for property in object.children() {
        let value = property.text();
        if value.len() > limits::INVENTORY_VALUE_CHARS {
            return Err(FieldError::TooLong {
                what: "inventory value",
                limit: limits::INVENTORY_VALUE_CHARS,
            });
        }
        properties.push((property.name().to_owned(), value.to_owned()));
    }
    Ok(ReportInstance {
        content: element.attribute_or_empty("Content")?,
        namespace: element.attribute_or_empty("Namespace")?,
        class: class.to_owned(),
        parent_class: element.attribute_or_empty("ParentClass")?,
        properties: at_most("inventory properties", limits::POLICY_ENTRIES, properties)?,
    })
}

/// What our client knows of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The id that the site gave.
    pub client_id: ClientId,
    /// When it was given.
    pub client_id_since: Timestamp,
    /// The client's version, in four parts.
    pub client_version: String,
    /// Short name.
    pub netbios_name: String,
    /// Full name.
    pub fqdn: String,
    /// Domain or workgroup; may be empty.
    pub domain: String,
    /// Directory site; may be empty.
    pub ad_site: String,
    /// `SMS:` and the site code.
    pub authority: String,
    /// `PlatformID`, such as `Microsoft Windows NT Workstation 10.0`.
    pub platform: String,
    /// Hardware name, UUID, version, serial number; each may be empty.
    pub product: ProductFacts,
    /// Networks of the device.
    pub subnets: Vec<String>,
    /// Addresses of the device.
    pub addresses: Vec<String>,
    /// Address of its network card; may be empty.
    pub mac_address: String,
    /// Windows locale, or 1033.
    pub locale_id: u32,
    /// Branch of the operating system; may be empty.
    pub os_branch: String,
}

/// `Win32_ComputerSystemProduct`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProductFacts {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// Version.
    pub version: String,
    /// Serial number.
    pub identifying_number: String,
}

impl DeviceFacts {
    /// The heartbeat: every class that the SDK insists on, and `CCM_OperatingSystem` (section 8.3).
    pub fn heartbeat(&self, now: Timestamp) -> Report {
        let one = |class: &str, values: &[(&str, &str)]| self.instance(class, values);
        let id = self.client_id.to_string();
        let list = |name: &'static str, values: &[String]| -> Vec<(&'static str, String)> {
            values.iter().map(|value| (name, value.clone())).collect()
        };
        let subnets = list("IPSubnet", &self.subnets);
        let mut adapter = list("IPAddress", &self.addresses);
        adapter.push(("Index", "1".to_owned()));
        adapter.push(("MACAddress", self.mac_address.clone()));
        let many = |class: &str, values: &[(&'static str, String)]| {
            let values: Vec<(&str, &str)> =
                values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.instance(class, &values)
        };
        let instances = vec![
            one("CCM_ComputerSystem", &[("Domain", &self.domain)]),
            one(
                "CCM_Client",
                &[
                    ("ClientId", &id),
                    ("ClientIdChangeDate", &self.client_id_since.us()),
                    ("ClientVersion", &self.client_version),
                    ("PreviousClientId", "Unknown"),
                ],
            ),
            one("SMS_Authority", &[("Name", &self.authority)]),
            one("CCM_ADSiteInfo", &[("ADSiteName", &self.ad_site)]),
            one("CCM_ExtNetworkAdapterConfiguration", &[("FQDN", &self.fqdn)]),
            one(
                "Win32_ComputerSystemProduct",
                &[
                    ("IdentifyingNumber", &self.product.identifying_number),
                    ("Name", &self.product.name),
                    ("UUID", &self.product.uuid),
                    ("Version", &self.product.version),
                ],
            ),
            one("CCM_DiscoveryData", &[("PlatformID", &self.platform)]),
            many("CCM_NetworkAdapterConfiguration", &subnets),
            many("Win32_NetworkAdapterConfiguration", &adapter),
            one("CCM_OperatingSystem", &[("OSBranch", &self.os_branch)]),
        ];
        Report {
            header: self.header(now, Some(InventoryAction::Discovery)),
            instances,
            state_messages: Vec::new(),
        }
    }

    /// Hardware inventory of the objects given.
    pub fn hardware_inventory(&self, now: Timestamp, instances: Vec<ReportInstance>) -> Report {
        Report {
            header: self.header(now, Some(InventoryAction::Hardware)),
            instances,
            state_messages: Vec::new(),
        }
    }

    /// A report of one state.
    pub fn state_report(&self, now: Timestamp, state: StateMessage) -> Report {
        Report { header: self.header(now, None), instances: Vec::new(), state_messages: vec![state] }
    }

    /// A new object in this device's namespace.
    pub fn instance(&self, class: &str, values: &[(&str, &str)]) -> ReportInstance {
        ReportInstance {
            content: "New".to_owned(),
            namespace: format!("\\\\{}\\root\\ccm", self.netbios_name),
            class: class.to_owned(),
            parent_class: class.to_owned(),
            properties: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn header(&self, now: Timestamp, action: Option<InventoryAction>) -> ReportHeader {
        let is_state = action.is_none();
        ReportHeader {
            client_id: self.client_id,
            client_installed: Some(1),
            client_type: Some(1),
            client_version: self.client_version.clone(),
            netbios_name: self.netbios_name.clone(),
            code_page: Some(437),
            locale_id: Some(self.locale_id),
            priority: is_state.then_some(5),
            content: if is_state { STATE_CONTENT } else { INVENTORY_CONTENT }.to_owned(),
            report_type: "Full".to_owned(),
            date: now.cim(),
            version: "1.0".to_owned(),
            format: "1.1".to_owned(),
            action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> DeviceFacts {
        DeviceFacts {
            client_id: "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB".parse().unwrap(),
            client_id_since: Timestamp::from_seconds(1_769_858_160),
            client_version: "5.00.9128.1000".to_owned(),
            netbios_name: "PC1".to_owned(),
            fqdn: "pc1.example.org".to_owned(),
            domain: String::new(),
            ad_site: String::new(),
            authority: "SMS:RG1".to_owned(),
            platform: "Linux <6> & more".to_owned(),
            product: ProductFacts::default(),
            subnets: vec!["192.0.2.0".to_owned(), "198.51.100.0".to_owned()],
            addresses: vec!["192.0.2.10".to_owned(), "2001:db8::1".to_owned()],
            mac_address: "02:00:00:00:00:01".to_owned(),
            locale_id: 1033,
            os_branch: String::new(),
        }
    }

    #[test]
    fn a_heartbeat_has_every_class_and_comes_back() {
        let report = facts().heartbeat(Timestamp::from_seconds(1_769_858_200));
        let read = Report::parse(&report.to_xml()).unwrap();
        assert_eq!(read, report);
        assert_eq!(read.header.action, Some(InventoryAction::Discovery));
        for class in [
            "CCM_ComputerSystem",
            "CCM_Client",
            "SMS_Authority",
            "CCM_ADSiteInfo",
            "CCM_ExtNetworkAdapterConfiguration",
            "Win32_ComputerSystemProduct",
            "CCM_DiscoveryData",
            "CCM_NetworkAdapterConfiguration",
            "Win32_NetworkAdapterConfiguration",
            "CCM_OperatingSystem",
        ] {
            assert!(read.instance(class).is_some(), "{class}");
        }
        let client = read.instance("ccm_client").unwrap();
        assert_eq!(client.value("ClientIdChangeDate"), Some("01/31/2026 11:16:00"));
        let adapter = read.instance("Win32_NetworkAdapterConfiguration").unwrap();
        assert_eq!(adapter.values("IPAddress").collect::<Vec<_>>(), ["192.0.2.10", "2001:db8::1"]);
    }

    #[test]
    fn states_and_inventory_come_back() {
        let now = Timestamp::from_seconds(1_769_858_200);
        let state = StateMessage {
            message_time: now.cim(),
            serial_number: 7,
            state_id: 400,
            criticality: 0,
            topic_type: crate::request::state_message::topic::CLIENT_DEPLOYMENT,
            topic_id: String::new(),
            topic_id_type: 0,
            parameters: vec!["a".to_owned(), "<b>".to_owned()],
        };
        let report = facts().state_report(now, state);
        assert_eq!(Report::parse(&report.to_xml()), Ok(report));
        let bios = facts().instance("Win32_BIOS", &[("SerialNumber", " SN 1 ")]);
        let report = facts().hardware_inventory(now, vec![bios]);
        assert_eq!(Report::parse(&report.to_xml()), Ok(report));
    }

    #[test]
    fn an_object_of_another_class_than_it_says_is_refused() {
        let xml = facts().heartbeat(Timestamp::from_seconds(0)).to_xml();
        assert!(Report::parse(&xml.replacen("Class=\"CCM_Client\"", "Class=\"Other\"", 1)).is_err());
        assert!(Report::parse(&xml.replacen("<CCM_Client>", "<X/><CCM_Client>", 1)).is_err());
        assert!(Report::parse(&xml.replacen("GUID:", "PC", 1)).is_err());
        assert!(Report::parse("<Report/>").is_err());
    }

    #[test]
    fn state_messages_are_counted() {
        let state = "<StateMessage><State ID='1'/><Topic Type='1'/></StateMessage>";
        let header = facts().heartbeat(Timestamp::from_seconds(0)).to_xml();
        let header = header.split_once("<ReportBody>").unwrap().0.to_owned();
        let with = |count| format!("{header}<ReportBody>{}</ReportBody></Report>", state.repeat(count));
        assert!(Report::parse(&with(limits::STATE_MESSAGES)).is_ok());
        assert!(Report::parse(&with(limits::STATE_MESSAGES + 1)).is_err());
    }
}
