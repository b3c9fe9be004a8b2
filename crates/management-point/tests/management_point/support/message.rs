//! Messages of the tests, written as our client writes them.

use proto::id::ClientId;
use proto::message::header::Property;
use proto::message::signature::HashAlgorithm;
use proto::message::{MessageEndpoint, OutgoingRequest, ReplyCompression};
use proto::request::policy::{AssignmentsRequestType, Machine, RequestAssignments, ResourceType};
use proto::request::registration::{
    Agent, ClientCertificate, ClientRegistrationRequest, KeyType, RegistrationData, RegistrationDetails,
    RegistrationKind,
};
use proto::request::report::{DeviceFacts, ProductFacts};
use proto::time::Timestamp;

use super::Bench;
use super::device::{TestDevice, fresh_id};

fn outgoing(endpoint: MessageEndpoint, now: Timestamp, body: &str) -> OutgoingRequest<'_> {
    OutgoingRequest {
        message_id: fresh_id(),
        now,
        source_host: "PC1",
        source_id: None,
        endpoint,
        target_host: "mp",
        body,
        compress: true,
        reply_compression: ReplyCompression::Zlib,
        properties: Vec::new(),
    }
}

/// A message without a signature of its own.
pub(crate) fn plain(bench: &Bench, endpoint: MessageEndpoint, body: &str) -> Vec<u8> {
    outgoing(endpoint, bench.now(), body).write()
}

impl TestDevice {
    /// A message signed by this device under this id.
    pub(crate) fn message(
        &self,
        bench: &Bench,
        id: ClientId,
        endpoint: MessageEndpoint,
        body: &str,
    ) -> Vec<u8> {
        outgoing(endpoint, bench.now(), body).write_signed(&self.identity(id))
    }

    /// The question for its policy.
    pub(crate) fn asks_for_policy(&self, bench: &Bench, id: ClientId) -> Vec<u8> {
        self.message(bench, id, MessageEndpoint::PolicyManager, &request_assignments(id, None))
    }
}

/// Data of a registration in this device's name.
pub(crate) fn registration_body(
    device: &TestDevice,
    name: &str,
    time: Timestamp,
    proposed: Option<ClientId>,
) -> String {
    registration_with(device, KeyType::SelfSigned, &[("Netbios Name", name)], time, proposed)
}

/// The same with these properties, and with this word for where its certificate comes from.
pub(crate) fn registration_with(
    device: &TestDevice,
    key_type: KeyType,
    properties: &[(&str, &str)],
    time: Timestamp,
    proposed: Option<ClientId>,
) -> String {
    registration_by(agent(), device, key_type, properties, time, proposed)
}

fn registration_by(
    agent: Agent,
    device: &TestDevice,
    key_type: KeyType,
    properties: &[(&str, &str)],
    time: Timestamp,
    proposed: Option<ClientId>,
) -> String {
    let certificate = ClientCertificate { der: device.certificate.clone(), key_type };
    let property = |(name, value): &(&str, &str)| Property { name: (*name).into(), value: (*value).into() };
    let details = RegistrationDetails {
        encryption: certificate.clone(),
        signing: certificate,
        properties: properties.iter().chain([&("FQ Name", "pc1.example.org")]).map(property).collect(),
        hint: None,
    };
    let data = RegistrationData {
        hash_algorithm: HashAlgorithm::Sha256WithRsa,
        client_id: proposed,
        time,
        agent,
        kind: RegistrationKind::Registration(Box::new(details)),
    };
    ClientRegistrationRequest::sign(data, &device.key).to_xml()
}

/// A registration by another client than ours, which signs no requests.
pub(crate) fn registration_of_another_client(
    device: &TestDevice,
    key_type: KeyType,
    properties: &[(&str, &str)],
    time: Timestamp,
) -> String {
    let agent = Agent { identity: "CCM".into(), ..agent() };
    registration_by(agent, device, key_type, properties, time, None)
}

/// A confirmation in the name of this id, signed by this device.
pub(crate) fn confirmation_body(device: &TestDevice, id: ClientId, time: Timestamp) -> String {
    let data = RegistrationData {
        hash_algorithm: HashAlgorithm::Sha256WithRsa,
        client_id: Some(id),
        time,
        agent: agent(),
        kind: RegistrationKind::Confirmation,
    };
    ClientRegistrationRequest::sign(data, &device.key).to_xml()
}

fn agent() -> Agent {
    Agent { identity: "roamgate-client".into(), version: "5.00.0001.0000".into(), agent_type: 0 }
}

/// `RequestAssignments`, for changes since a cookie where one is given.
pub(crate) fn request_assignments(id: ClientId, cookie: Option<&str>) -> String {
    let request_type =
        if cookie.is_some() { AssignmentsRequestType::OnUpdate } else { AssignmentsRequestType::Always };
    let machine = Machine {
        client_id: id,
        fqdn: "pc1.example.org".into(),
        netbios_name: "PC1".into(),
        sid: String::new(),
    };
    RequestAssignments {
        acknowledge: false,
        request_type,
        machine,
        user: None,
        policy_source: "SMS:RG1".into(),
        resource: ResourceType::Machine,
        server_cookie: cookie.map(str::to_owned),
        validation: None,
    }
    .to_xml()
}

/// The same for the user of the device.
pub(crate) fn user_assignments(id: ClientId) -> String {
    let mut asked = RequestAssignments::parse(&request_assignments(id, None)).unwrap();
    asked.resource = ResourceType::User;
    asked.to_xml()
}

/// A location request that anybody may send.
pub(crate) fn location(bench: &Bench) -> Vec<u8> {
    let body =
        r#"<SiteInformationRequest SchemaVersion="1.00"><SiteCode Name="RG1" /></SiteInformationRequest>"#;
    plain(bench, MessageEndpoint::LocationManager, body)
}

/// Facts of a device that reports.
pub(crate) fn facts(id: ClientId, now: Timestamp) -> DeviceFacts {
    DeviceFacts {
        client_id: id,
        client_id_since: now,
        client_version: "5.00.0001.0000".into(),
        netbios_name: "PC1".into(),
        fqdn: "pc1.example.org".into(),
        domain: "EXAMPLE".into(),
        ad_site: String::new(),
        authority: "SMS:RG1".into(),
        platform: "Linux".into(),
        product: ProductFacts::default(),
        subnets: vec!["192.0.2.0".into()],
        addresses: vec!["192.0.2.1".into()],
        mac_address: String::new(),
        locale_id: 1033,
        os_branch: String::new(),
    }
}

/// A heartbeat's document, with the serial of the policy that was applied.
pub(crate) fn heartbeat(id: ClientId, now: Timestamp, serial: u64) -> String {
    let facts = facts(id, now);
    let mut report = facts.heartbeat(now);
    report.instances.push(facts.instance("Roamgate_Client", &[("PolicySerial", &serial.to_string())]));
    report.to_xml()
}
