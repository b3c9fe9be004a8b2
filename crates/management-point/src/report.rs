//! Heartbeat, hardware and software inventory: signed documents of approved devices.

use proto::id::Thumbprint;
use proto::message::{Header, MessageEndpoint, PlainMessage};
use proto::reason::Reason;
use proto::request::report::{InventoryAction, Report};
use serde_json::{Value, json};
use site::{Device, NewReport, ReportEffect, Stored};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::audit::wrong_device;
use crate::context::Context;
use crate::log::{MP_DDR, MP_HINV, MP_SINV};
use crate::request::Request;

/// Values of one name that go to the device's record; a device has few addresses.
const VALUES: usize = 32;
/// Longest value that goes there, in characters.
const VALUE_CHARS: usize = 255;
/// What our client says of itself in its heartbeat.
const OUR_CLIENT: &str = "Roamgate_Client";
/// Facts of a heartbeat: class, property, name in the device's record.
const FACTS: &[(&str, &str, &str)] = &[
    ("CCM_ComputerSystem", "Domain", "domain"),
    ("CCM_ExtNetworkAdapterConfiguration", "FQDN", "fqdn"),
    ("CCM_ADSiteInfo", "ADSiteName", "ad_site"),
    ("CCM_DiscoveryData", "PlatformID", "platform"),
    ("CCM_OperatingSystem", "OSBranch", "os_branch"),
    ("CCM_Client", "ClientVersion", "client_version"),
    ("Win32_ComputerSystemProduct", "Name", "product"),
    ("Win32_ComputerSystemProduct", "IdentifyingNumber", "serial_number"),
    ("Win32_NetworkAdapterConfiguration", "MACAddress", "mac_address"),
    ("SMS_Authority", "Name", "authority"),
    (OUR_CLIENT, "PolicyVersion", "policy_version"),
    (OUR_CLIENT, "Method", "method"),
    (OUR_CLIENT, "MethodReason", "method_reason"),
    (OUR_CLIENT, "Locality", "locality"),
    (OUR_CLIENT, "ClockOffsetSeconds", site::CLOCK_OFFSET_FACT),
    (OUR_CLIENT, "SiteRootTrust", "site_root_trust"),
];
/// The same for what may have several values.
const LISTS: &[(&str, &str, &str)] = &[
    ("CCM_NetworkAdapterConfiguration", "IPSubnet", "subnets"),
    ("Win32_NetworkAdapterConfiguration", "IPAddress", "addresses"),
];

/// Takes a report.
pub(crate) async fn answer(
    context: &Context,
    request: &Request,
    message: &PlainMessage,
    payload_hash: [u8; 32],
    endpoint: MessageEndpoint,
    device: &Device,
    body: &Report,
) -> Result<Answer, Refusal> {
    if body.header.client_id != device.id {
        let detail = format!("{} reports as {}", device.id, body.header.client_id);
        return Err(wrong_device(context, device.id, request.peer, detail).await);
    }
    let kind = kind(endpoint, body).ok_or_else(|| {
        let detail = format!("a report of {:?} at {endpoint}", body.header.action);
        Refusal::new(Reason::BodyOfAnotherEndpoint, detail).of(device.id)
    })?;
    let effect = match kind {
        Kind::Heartbeat => {
            ReportEffect::Heartbeat { data: facts(body).to_string(), policy_serial: applied(body) }
        }
        Kind::Hardware | Kind::Software => ReportEffect::None,
    };
    let new = NewReport {
        client: Some(device.id),
        endpoint: endpoint.name().to_owned(),
        payload_hash: Thumbprint::from_bytes(payload_hash),
        kind: kind.name().to_owned(),
        sent_at: message.header.sent_at(),
        request: request.id,
        header: header_facts(&message.header, body).to_string(),
        document: message.report_text().unwrap_or_default().into_bytes(),
        message: None,
        effect,
    };
    let size = new.document.len();
    let stored = context.site.store_report(new).await;
    let stored = stored.map_err(|error| crate::site_error::database(&error).of(device.id))?;
    log(kind, device, body, size, stored);
    // A repeated one has been taken already: the sender only did not hear of it.
    Ok(Answer::taken())
}

/// Which report it is; the endpoint and the report itself must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Heartbeat,
    Hardware,
    Software,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Hardware => "hardware",
            Self::Software => "software",
        }
    }
}

fn kind(endpoint: MessageEndpoint, body: &Report) -> Option<Kind> {
    match (endpoint, body.header.action?) {
        (MessageEndpoint::Discovery, InventoryAction::Discovery) => Some(Kind::Heartbeat),
        (MessageEndpoint::HardwareInventory, InventoryAction::Hardware) => Some(Kind::Hardware),
        (MessageEndpoint::SoftwareInventory, InventoryAction::Software) => Some(Kind::Software),
        _ => None,
    }
}

fn log(kind: Kind, device: &Device, body: &Report, size: usize, stored: Stored) {
    let component = match kind {
        Kind::Heartbeat => MP_DDR,
        Kind::Hardware => MP_HINV,
        Kind::Software => MP_SINV,
    };
    let (instances, new) = (body.instances.len(), stored == Stored::New);
    info!(component, device = %device.id, kind = kind.name(), instances, size, new, "report taken");
}

/// What of a message's header is kept beside its document.
pub(crate) fn header_facts(header: &Header, body: &Report) -> Value {
    json!({
        "source_host": bounded(&header.source_host),
        "sent_time": bounded(&header.sent_time),
        "message_id": header.id,
        "report_type": bounded(&body.header.report_type),
        "date": bounded(&body.header.date),
        "client_version": bounded(&body.header.client_version),
    })
}

/// What of a heartbeat goes to the device's record. Classes that are missing are left out.
fn facts(body: &Report) -> Value {
    let mut facts = serde_json::Map::new();
    for (class, property, name) in FACTS {
        if let Some(value) = body.instance(class).and_then(|instance| instance.value(property)) {
            facts.insert((*name).to_owned(), bounded(value).into());
        }
    }
    for (class, property, name) in LISTS {
        if let Some(instance) = body.instance(class) {
            let values: Vec<Value> =
                instance.values(property).take(VALUES).map(|v| bounded(v).into()).collect();
            facts.insert((*name).to_owned(), values.into());
        }
    }
    if let Some(instance) = body.instance(OUR_CLIENT) {
        // Client settings as the device says it applied them, under the names that they have there.
        let told = |name: &str| Some((name.to_owned(), Value::from(bounded(instance.value(name)?))));
        let settings: serde_json::Map<_, _> = site::client_setting_names().filter_map(told).collect();
        if !settings.is_empty() {
            facts.insert("settings".to_owned(), Value::Object(settings));
        }
    }
    Value::Object(facts)
}

/// The serial of the policy that our client says it applied.
fn applied(body: &Report) -> Option<u64> {
    body.instance(OUR_CLIENT)?.value("PolicySerial")?.trim().parse().ok()
}

/// A value as data: one bounded line (R28).
pub(crate) fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(VALUE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::{ClientId, Guid};
    use proto::request::report::{DeviceFacts, ProductFacts};
    use proto::time::Timestamp;

    fn heartbeat() -> Report {
        let facts = DeviceFacts {
            client_id: ClientId::new(Guid::nil()),
            client_id_since: Timestamp::from_seconds(0),
            client_version: "5.00.0001.0000".into(),
            netbios_name: "PC1".into(),
            fqdn: "pc1.example.org".into(),
            domain: "EXAMPLE".into(),
            ad_site: String::new(),
            authority: "SMS:RG1".into(),
            platform: "Linux".into(),
            product: ProductFacts::default(),
            subnets: vec!["192.0.2.0".into(), "198.51.100.0".into()],
            addresses: vec!["192.0.2.1".into()],
            mac_address: "00:00:5E:00:53:01".into(),
            locale_id: 1033,
            os_branch: String::new(),
        };
        let mut report = facts.heartbeat(Timestamp::from_seconds(1));
        let values = [("PolicySerial", "17"), ("Locality", "in\r\nternet")];
        report.instances.push(facts.instance(OUR_CLIENT, &values));
        report
    }

    #[test]
    fn facts_of_a_heartbeat_reach_the_record_as_bounded_data() {
        let facts = facts(&heartbeat());
        assert_eq!(facts["domain"], "EXAMPLE");
        assert_eq!(facts["subnets"], json!(["192.0.2.0", "198.51.100.0"]));
        assert_eq!(facts["locality"], "internet");
        assert_eq!(applied(&heartbeat()), Some(17));
        assert_eq!(bounded(&"x".repeat(1000)).len(), VALUE_CHARS);
    }

    #[test]
    fn a_report_is_taken_only_where_it_belongs() {
        let report = heartbeat();
        assert_eq!(kind(MessageEndpoint::Discovery, &report), Some(Kind::Heartbeat));
        assert_eq!(kind(MessageEndpoint::HardwareInventory, &report), None);
        assert_eq!(kind(MessageEndpoint::SoftwareInventory, &report), None);
    }
}
