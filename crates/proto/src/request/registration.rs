//! Registration: a device makes itself and its keys known (section 5).

use crate::id::ClientId;
use crate::limits;
use crate::message::header::Property;
use crate::message::signature::{HashAlgorithm, RsaPublicKey, Signature, SignatureError, SigningKey, sign};
use crate::request::{BodyError, expect_root, parse_root, words};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;
use crate::text::{self, hex};
use crate::time::Timestamp;

const ROOT: &str = "ClientRegistrationRequest";
const RESPONSE_ROOT: &str = "ClientRegistrationResponse";

words! {
    /// What is asked, and which of the two a response answers.
    RegistrationType {
        /// Make me known.
        Registration = "Registration",
        /// Am I known now; and: I am alive.
        Confirmation = "Confirmation",
    }
}

words! {
    /// Where a client's certificate comes from [sdk-meta].
    KeyType {
        /// Made by the client itself.
        SelfSigned = "1",
        /// Issued by the organisation.
        Pki = "2",
    }
}

words! {
    /// `Status` of a response [sdk-meta], and what the SDK does then [observed].
    RegistrationStatus {
        /// Known: the client takes the id.
        Registered = "0",
        /// Not yet: the client asks again by confirmations.
        Pending = "1",
        /// Refused: the client gives up.
        Reset = "2",
        /// Refused: the client gives up.
        Error = "3",
        /// Refused: the client gives up.
        CertificateReset = "4",
    }
}

words! {
    /// `ApprovalStatus` of a response. Separate from the status: a registered client may
    /// wait for its approval.
    ApprovalStatus {
        /// Not approved, or held [clients].
        Unknown = "-1",
        /// Waits for an operator [sdk-meta].
        Pending = "0",
        /// Approved.
        Approved = "1",
        /// Does not apply [sdk-meta].
        NotApplicable = "2",
        /// Approved by Entra identity [docs].
        ApprovedByEntra = "3",
    }
}

/// A certificate that a client registers. What it says about itself is not believed; it is
/// the wrapping of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// Where it comes from, by the client's word.
    pub key_type: KeyType,
}

/// The program that registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Such as `CCMSetup.exe` [observed].
    pub identity: String,
    /// Such as `5.00.8325.0000` [observed].
    pub version: String,
    /// 0 full client, 1 OSD media, 2 device, 8 proxy for others [sdk-meta].
    pub agent_type: u32,
}

/// What only a first registration carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationDetails {
    /// Policy secrets are encrypted to this one.
    pub encryption: ClientCertificate,
    /// Messages and this request are signed with this one's key.
    pub signing: ClientCertificate,
    /// Names and flags, by the client's word.
    pub properties: Vec<Property>,
    /// A text of the SDK's that proposes an id and signs it; nobody needs it [observed].
    pub hint: Option<String>,
}

impl RegistrationDetails {
    /// A discovery property, by name without case.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|p| p.name.eq_ignore_ascii_case(name)).map(|p| p.value.as_str())
    }

    /// `Netbios Name` [observed].
    pub fn netbios_name(&self) -> Option<&str> {
        self.property("Netbios Name")
    }

    /// `FQ Name` [observed].
    pub fn fqdn(&self) -> Option<&str> {
        self.property("FQ Name")
    }

    /// `HardwareID1`, such as `2:0123456789ABCDEF` [observed: `sdk/31`].
    pub fn hardware_id(&self) -> Option<&str> {
        self.property("HardwareID1")
    }
}

/// What is asked, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationKind {
    /// A first registration, or a repeated one.
    Registration(Box<RegistrationDetails>),
    /// A question of a known client: no certificates, the registered key verifies it.
    Confirmation,
}

/// The signed part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationData {
    /// The hash of the signature.
    pub hash_algorithm: HashAlgorithm,
    /// The id of a confirmation; in a registration a wish, mostly absent.
    pub client_id: Option<ClientId>,
    /// When the client says it asks.
    pub time: Timestamp,
    /// The program that asks.
    pub agent: Agent,
    /// What is asked.
    pub kind: RegistrationKind,
}

impl RegistrationData {
    /// `Registration` or `Confirmation`.
    pub fn registration_type(&self) -> RegistrationType {
        match self.kind {
            RegistrationKind::Registration(_) => RegistrationType::Registration,
            RegistrationKind::Confirmation => RegistrationType::Confirmation,
        }
    }

    fn from_element(data: &Element<'_>) -> Result<Self, BodyError> {
        let algorithm = data.required_attribute("HashAlgorithm")?;
        let kind = match data.parsed_attribute("RequestType")? {
            RegistrationType::Registration => RegistrationKind::Registration(Box::new(details(data)?)),
            RegistrationType::Confirmation => RegistrationKind::Confirmation,
        };
        let agent = data.required_child("AgentInformation")?;
        Ok(Self {
            hash_algorithm: algorithm.parse().map_err(BodyError::Signature)?,
            client_id: data.parsed_given_attribute("SMSID")?,
            time: time(data)?,
            agent: Agent {
                identity: agent.attribute_or_empty("AgentIdentity")?,
                version: agent.attribute_or_empty("AgentVersion")?,
                agent_type: agent.parsed_attribute("AgentType")?,
            },
            kind,
        })
    }

    fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start("Data")
            .attribute("HashAlgorithm", self.hash_algorithm.oid())
            .attribute("SMSID", self.client_id.map_or_else(String::new, |id| id.to_string()))
            .attribute("RequestType", self.registration_type())
            .attribute("TimeStamp", self.time.iso8601())
            .start("AgentInformation")
            .attribute("AgentIdentity", &self.agent.identity)
            .attribute("AgentVersion", &self.agent.version)
            .attribute("AgentType", self.agent.agent_type)
            .end();
        if let RegistrationKind::Registration(details) = &self.kind {
            xml.start("Certificates");
            for (name, certificate) in [("Encryption", &details.encryption), ("Signing", &details.signing)] {
                xml.start(name)
                    .attribute("Encoding", "HexBinary")
                    .attribute("KeyType", certificate.key_type)
                    .text(hex::encode(&certificate.der))
                    .end();
            }
            xml.end().start("DiscoveryProperties");
            for property in &details.properties {
                xml.start("Property")
                    .attribute("Name", &property.name)
                    .attribute("Value", &property.value)
                    .end();
            }
            xml.end().optional_leaf("RegistrationHint", details.hint.as_ref());
        }
        xml.finish()
    }
}

/// A whole request, with the very characters that its signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRegistrationRequest {
    /// What is asked.
    pub data: RegistrationData,
    /// Whose key signed, where another than the one in the request: confirmations name
    /// themselves, proxies name the proxy [observed].
    pub signer: Option<ClientId>,
    /// The signature over the text of `Data`.
    pub signature: Signature,
    signed_text: String,
}

impl ClientRegistrationRequest {
    /// Reads a request.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Self::from_element(xml, &parse_root(xml, ROOT)?)
    }

    /// Reads a request from its root element; `xml` is the text that the element was read from.
    pub(crate) fn from_element(xml: &str, root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, ROOT)?;
        if root.children_named("Data").count() > 1 {
            // It would be open which one is signed.
            return Err(FieldError::TooMany { what: "Data", limit: 1 }.into());
        }
        let data = root.required_child("Data")?;
        let signature = root.required_child("Signature")?;
        let value = signature.required_text("SignatureValue")?;
        Ok(Self {
            data: RegistrationData::from_element(data)?,
            signer: signature.parsed_given_attribute("SMSID")?,
            signature: Signature::from_hex(value).map_err(BodyError::Signature)?,
            // Cut from the text as received: one client has line breaks in it [observed: `public-b/01`].
            signed_text: xml.get(data.span()).ok_or_else(|| FieldError::missing(root, "Data"))?.to_owned(),
        })
    }

    /// Makes and signs a request. A confirmation names its own id as the signer.
    pub fn sign(data: RegistrationData, key: &dyn SigningKey) -> Self {
        let signed_text = data.to_xml();
        let signature = sign(key, &text::encode_utf16le(&signed_text));
        let signer = match data.kind {
            RegistrationKind::Registration(_) => None,
            RegistrationKind::Confirmation => data.client_id,
        };
        Self { data, signer, signature, signed_text }
    }

    /// Checks the signature. For a registration with the key of its own `Signing`
    /// certificate (which shows that the sender holds it), for a confirmation with the key
    /// registered under its id.
    pub fn verify(&self, key: &RsaPublicKey) -> Result<(), SignatureError> {
        key.verify(&text::encode_utf16le(&self.signed_text), &self.signature)
    }

    /// Writes the request. What was read is written with the characters that were signed.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(ROOT)
            .verbatim(&self.signed_text)
            .start("Signature")
            .optional_attribute("SMSID", self.signer)
            .leaf("SignatureValue", self.signature.to_hex());
        xml.finish()
    }
}

fn details(data: &Element<'_>) -> Result<RegistrationDetails, BodyError> {
    let certificates = data.required_child("Certificates")?;
    Ok(RegistrationDetails {
        encryption: certificate(certificates, "Encryption")?,
        signing: certificate(certificates, "Signing")?,
        properties: discovery_properties(data)?,
        hint: hint(data)?,
    })
}

fn certificate(certificates: &Element<'_>, name: &'static str) -> Result<ClientCertificate, BodyError> {
    let element = certificates.required_child(name)?;
    let encoding = element.required_attribute("Encoding")?;
    if !encoding.eq_ignore_ascii_case("HexBinary") {
        return Err(FieldError::invalid("Encoding", encoding).into());
    }
    let der = hex::decode(element.text().trim(), limits::CERTIFICATE_BYTES)
        .map_err(|source| BodyError::Hex { what: name, source })?;
    Ok(ClientCertificate { der, key_type: element.parsed_attribute("KeyType")? })
}

fn discovery_properties(data: &Element<'_>) -> Result<Vec<Property>, FieldError> {
    let Some(element) = data.child("DiscoveryProperties") else { return Ok(Vec::new()) };
    let mut list: Vec<Property> = Vec::new();
    for child in element.children_named("Property").take(limits::DISCOVERY_PROPERTIES + 1) {
        let name = child.required_attribute("Name")?;
        let value = child.attribute_or_empty("Value")?;
        for text in [name, &value] {
            if text.chars().count() > limits::DISCOVERY_VALUE_CHARS {
                return Err(FieldError::TooLong { what: "Property", limit: limits::DISCOVERY_VALUE_CHARS });
            }
        }
        list.push(Property { name: name.to_owned(), value });
    }
    at_most("discovery properties", limits::DISCOVERY_PROPERTIES, list)
}

fn hint(data: &Element<'_>) -> Result<Option<String>, FieldError> {
    let Some(element) = data.child("RegistrationHint") else { return Ok(None) };
    if element.text().chars().count() > limits::REGISTRATION_HINT_CHARS {
        return Err(FieldError::TooLong { what: "RegistrationHint", limit: limits::REGISTRATION_HINT_CHARS });
    }
    Ok(Some(element.text().to_owned()))
}

fn time(element: &Element<'_>) -> Result<Timestamp, FieldError> {
    let text = element.required_attribute("TimeStamp")?;
    Timestamp::parse_iso8601(text).map_err(|_| FieldError::invalid("TimeStamp", text))
}

/// The answer to either request.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientRegistrationResponse {
    /// Which request it answers.
    pub response_type: RegistrationType,
    /// When it was made.
    pub time: Timestamp,
    /// Known or not.
    pub status: RegistrationStatus,
    /// The client's id; in every response, also while pending, because public clients take
    /// it from there [clients].
    pub client_id: ClientId,
    /// Trusted or not.
    pub approval: ApprovalStatus,
    /// The self-prove token, on a confirmation with status 0 (section 10.4).
    pub pre_auth_token: Option<String>,
    /// Whether, and where, the device may use gateways; with every answer, so that first contact
    /// works before any policy ([ours]: two attributes that other clients pass over).
    pub cloud_gateway: Option<CloudGateway>,
}

/// A device's permission for gateways as a registration brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudGateway {
    /// The client setting "enable clients to use a cloud management gateway", as it results for
    /// this device.
    pub allowed: bool,
    /// `host[:port]/CCM_Proxy_MutualAuth/<role id>` of each.
    pub addresses: Vec<String>,
}

impl ClientRegistrationResponse {
    /// Reads a response.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, RESPONSE_ROOT)?;
        let token = root.attribute("PreAuthToken").filter(|token| !token.is_empty());
        if token.is_some_and(|token| token.len() > limits::TOKEN_BYTES) {
            return Err(FieldError::TooLong { what: "PreAuthToken", limit: limits::TOKEN_BYTES }.into());
        }
        Ok(Self {
            response_type: root.parsed_attribute("ResponseType")?,
            time: time(&root)?,
            status: root.parsed_attribute("Status")?,
            client_id: root.parsed_attribute("SMSID")?,
            approval: root.parsed_attribute("ApprovalStatus")?,
            pre_auth_token: token.map(str::to_owned),
            cloud_gateway: cloud_gateway(&root)?,
        })
    }

    /// Writes the response. `SMSID="GUID:…` stands there literally: some clients search for
    /// these characters [clients].
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(RESPONSE_ROOT)
            .attribute("ResponseType", self.response_type)
            .attribute("TimeStamp", self.time.iso8601())
            .attribute("Status", self.status)
            .attribute("SMSID", self.client_id)
            .attribute("ApprovalStatus", self.approval)
            .optional_attribute("PreAuthToken", self.pre_auth_token.as_ref());
        if let Some(gateway) = &self.cloud_gateway {
            xml.attribute(CLOUD_GATEWAY, u8::from(gateway.allowed))
                .attribute(CLOUD_GATEWAY_LIST, gateway.addresses.join(";"));
        }
        xml.finish()
    }
}

const CLOUD_GATEWAY: &str = "EnableCloudGateway";
const CLOUD_GATEWAY_LIST: &str = "CloudGatewayList";

fn cloud_gateway(root: &Element<'_>) -> Result<Option<CloudGateway>, FieldError> {
    let allowed = match root.attribute(CLOUD_GATEWAY) {
        None => return Ok(None),
        Some("1") => true,
        Some("0") => false,
        Some(other) => return Err(FieldError::invalid(CLOUD_GATEWAY, other)),
    };
    let list = root.attribute(CLOUD_GATEWAY_LIST).unwrap_or_default();
    if list.len() > limits::CLOUD_GATEWAY_LIST_BYTES {
        let limit = limits::CLOUD_GATEWAY_LIST_BYTES;
        return Err(FieldError::TooLong { what: CLOUD_GATEWAY_LIST, limit });
    }
    let addresses = list.split(';').filter(|address| !address.is_empty()).map(str::to_owned).collect();
    Ok(Some(CloudGateway { allowed, addresses }))
}

impl std::fmt::Debug for ClientRegistrationResponse {
    /// The token is a secret (R70).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct(RESPONSE_ROOT)
            .field("response_type", &self.response_type)
            .field("status", &self.status)
            .field("client_id", &self.client_id)
            .field("approval", &self.approval)
            .field("pre_auth_token", &self.pre_auth_token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> ClientRegistrationResponse {
        ClientRegistrationResponse {
            response_type: RegistrationType::Confirmation,
            time: Timestamp::from_seconds(1_769_858_160),
            status: RegistrationStatus::Registered,
            client_id: "GUID:1FDB2039-86E2-4527-B100-AE2F4D3E1AAC".parse().unwrap(),
            approval: ApprovalStatus::Unknown,
            pre_auth_token: Some("secret.token".to_owned()),
            cloud_gateway: Some(CloudGateway {
                allowed: true,
                addresses: vec!["gw1/CCM_Proxy_MutualAuth/72057594037927937".into(), "gw2".into()],
            }),
        }
    }

    #[test]
    fn a_response_is_written_for_clients_that_search_for_characters() {
        let xml = response().to_xml();
        assert!(
            xml.contains(
                " Status=\"0\" SMSID=\"GUID:1FDB2039-86E2-4527-B100-AE2F4D3E1AAC\" ApprovalStatus=\"-1\""
            ),
            "{xml}"
        );
        assert_eq!(ClientRegistrationResponse::parse(&xml), Ok(response()));
        let plain = ClientRegistrationResponse { pre_auth_token: None, ..response() };
        assert_eq!(ClientRegistrationResponse::parse(&plain.to_xml()), Ok(plain));
        assert!(!format!("{:?}", response()).contains("secret"));
    }

    #[test]
    fn values_outside_the_protocol_are_refused() {
        let xml = response().to_xml();
        for (from, to) in [
            ("Status=\"0\"", "Status=\"7\""),
            ("GUID:", "PC"),
            ("Confirmation", "Maybe"),
            ("TimeStamp", "Time"),
        ] {
            assert!(ClientRegistrationResponse::parse(&xml.replacen(from, to, 1)).is_err(), "{from}");
        }
        let token =
            |length| ClientRegistrationResponse { pre_auth_token: Some("x".repeat(length)), ..response() };
        assert!(ClientRegistrationResponse::parse(&token(limits::TOKEN_BYTES).to_xml()).is_ok());
        assert!(ClientRegistrationResponse::parse(&token(limits::TOKEN_BYTES + 1).to_xml()).is_err());
    }

    struct NoKey;
    impl SigningKey for NoKey {
        fn sign_pkcs1_sha256(&self, _: &[u8]) -> Vec<u8> {
            vec![1, 2, 3]
        }
    }

    fn request(properties: Vec<Property>) -> ClientRegistrationRequest {
        let certificate = |byte| ClientCertificate { der: vec![byte; 9], key_type: KeyType::SelfSigned };
        let data = RegistrationData {
            hash_algorithm: HashAlgorithm::Sha256WithRsa,
            client_id: None,
            time: Timestamp::from_seconds(1_769_858_160),
            agent: Agent { identity: "a<&>b".to_owned(), version: "5.00".to_owned(), agent_type: 0 },
            kind: RegistrationKind::Registration(Box::new(RegistrationDetails {
                encryption: certificate(1),
                signing: certificate(2),
                properties,
                hint: Some("line 1\nline 2".to_owned()),
            })),
        };
        ClientRegistrationRequest::sign(data, &NoKey)
    }

    #[test]
    fn a_request_comes_back_with_the_text_that_was_signed() {
        let property = Property { name: "Netbios Name".to_owned(), value: "\"PC\" <1>".to_owned() };
        let request = request(vec![property]);
        assert_eq!(ClientRegistrationRequest::parse(&request.to_xml()), Ok(request));
    }

    #[test]
    fn two_data_elements_and_oversized_values_are_refused() {
        let xml = request(Vec::new()).to_xml();
        let twice = xml.replace("<Signature>", "<Data/><Signature>");
        assert!(matches!(
            ClientRegistrationRequest::parse(&twice),
            Err(BodyError::Field(FieldError::TooMany { .. }))
        ));
        let property = |length| vec![Property { name: "x".to_owned(), value: "é".repeat(length) }];
        let parse = |request: ClientRegistrationRequest| ClientRegistrationRequest::parse(&request.to_xml());
        assert!(parse(request(property(limits::DISCOVERY_VALUE_CHARS))).is_ok());
        assert!(parse(request(property(limits::DISCOVERY_VALUE_CHARS + 1))).is_err());
        let many =
            |count| (0..count).map(|i| Property { name: i.to_string(), value: String::new() }).collect();
        assert!(parse(request(many(limits::DISCOVERY_PROPERTIES))).is_ok());
        assert!(parse(request(many(limits::DISCOVERY_PROPERTIES + 1))).is_err());
        let certificate = xml.replace("010101010101010101", &"01".repeat(limits::CERTIFICATE_BYTES + 1));
        assert!(matches!(ClientRegistrationRequest::parse(&certificate), Err(BodyError::Hex { .. })));
        let sha1 = xml.replace("1.2.840.113549.1.1.11", "1.2.840.113549.1.1.5");
        assert!(matches!(ClientRegistrationRequest::parse(&sha1), Err(BodyError::Signature(_))));
    }
}
