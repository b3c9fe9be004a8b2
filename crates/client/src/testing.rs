//! A site for tests: its keys, its signatures, and a management point and gateway on loopback
//! that answer as the wire says.

mod management_point;
pub(crate) mod pki;

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use proto::http_signature::{self, AnswerToSign, Answered};
use proto::id::{ClientId, Guid, Thumbprint};
use proto::message::signature::{RsaSigningKey, SigningKey as _};
use proto::policy_signature::{LIFETIME, PolicyManifest, PolicyResource, SignedPolicy};
use proto::request::condition::Condition;
use proto::request::policy::{
    AssignedPolicy, AssignmentsReplyType, PolicyAssignment, PolicyFlags, PolicyLocation, ReplyAssignments,
    ResourceType,
};
use proto::request::policy_body::{CimProperty, CimValue, PolicyBody, PolicyInstance};
use proto::request::policy_query::{PolicyEdition, PolicyQuery};
use proto::text::write::XmlWriter;
use proto::time::Timestamp;
use proto::trust::Purpose;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

pub(crate) use management_point::{FakeSite, Fault, Seen, Taken, pin_of};

/// Writes the log of this thread into a folder, until dropped. A second subscriber, which takes nothing,
/// stays for good: while there is only one, a line that another thread comes to first is switched off for
/// all of them.
pub(crate) fn log_to(
    folder: &std::path::Path,
    level: runtime::telemetry::Level,
    clock: &runtime::Clock,
) -> (tracing::subscriber::DefaultGuard, runtime::telemetry::LogHandle) {
    static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
    let console = runtime::telemetry::Console::Off;
    let config = crate::log::config(Some(folder.to_owned()), level, console, clock.clone());
    let (subscriber, handle) = runtime::telemetry::start(config).unwrap();
    (tracing::subscriber::set_default(subscriber), handle)
}

/// The id that the fake site gives.
pub(crate) fn fixture_client_id() -> ClientId {
    "GUID:3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap()
}

/// A policy with its body.
#[derive(Clone)]
pub(crate) struct PolicyFixture {
    pub(crate) query: PolicyQuery,
    pub(crate) version: String,
    pub(crate) flags: PolicyFlags,
    /// What is hashed: the body as served, or what is encrypted.
    pub(crate) bytes: Vec<u8>,
}

impl PolicyFixture {
    /// Client settings that name a gateway.
    pub(crate) fn settings(version: &str, gateways: &str) -> Self {
        let properties = vec![
            CimProperty { name: "SiteSettingsKey".into(), value: CimValue::UInt32(1) },
            CimProperty { name: "PolicyPollingInterval".into(), value: CimValue::UInt32(30) },
            CimProperty { name: "CloudGatewayList".into(), value: CimValue::String(gateways.into()) },
        ];
        Self::new("{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}", version, "CCM_ClientAgentConfig", properties)
    }

    /// Client settings of one's own choice.
    pub(crate) fn client_settings(version: &str, settings: &[(&str, CimValue)]) -> Self {
        let property =
            |(name, value): &(&str, CimValue)| CimProperty { name: (*name).into(), value: value.clone() };
        let properties = settings.iter().map(property).collect();
        Self::new("{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}", version, "CCM_ClientAgentConfig", properties)
    }

    /// A policy that this client does nothing with.
    pub(crate) fn public(version: &str) -> Self {
        Self::new("{00000000-1b2c-4d3e-8f90-a1b2c3d4e5f6}", version, "CCM_Other", Vec::new())
    }

    /// The same for one device only.
    pub(crate) fn secret() -> Self {
        let flags = PolicyFlags::SECRET.with(PolicyFlags::REQUIRES_AUTH);
        let value = CimValue::String("canary".into());
        let property = CimProperty { name: "Password".into(), value };
        Self {
            flags,
            ..Self::new("{11111111-1b2c-4d3e-8f90-a1b2c3d4e5f6}", "1.00", "CCM_Secret", vec![property])
        }
    }

    fn new(id: &str, version: &str, class: &str, properties: Vec<CimProperty>) -> Self {
        let id = id.parse().unwrap();
        let instance = PolicyInstance { class: class.into(), properties };
        let body = PolicyBody::of_instances(Clone::clone(&id), version, "SMS:RG1", vec![instance]);
        let bytes = body.to_bytes();
        let edition = PolicyEdition::Sha256(*Thumbprint::of(&bytes).as_bytes());
        let query = PolicyQuery { id, edition };
        Self { query, version: version.into(), flags: PolicyFlags::default(), bytes }
    }

    fn assigned(&self) -> AssignedPolicy {
        AssignedPolicy {
            id: self.query.id.clone(),
            version: self.version.clone(),
            policy_type: ResourceType::Machine,
            category: None,
            flags: self.flags,
            priority: Some(25),
            location: PolicyLocation::new("http", &self.query),
        }
    }
}

/// The keys of a site, in the shape of the real ones: an RSA root, an intermediate, a P-256 key
/// for answers, an RSA key for policy.
pub(crate) struct SiteKeys {
    root: rcgen::Certificate,
    intermediate: rcgen::Certificate,
    message: rcgen::Certificate,
    message_key: EcdsaKeyPair,
    signing: rcgen::Certificate,
    signing_key: RsaSigningKey,
}

impl SiteKeys {
    pub(crate) fn new() -> Self {
        let root_key = rsa_key();
        let root_params = authority("SMS Issuing");
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let intermediate_key = KeyPair::generate().unwrap();
        let intermediate_params = authority("Roles");
        let intermediate = intermediate_params.signed_by(&intermediate_key, &root_issuer).unwrap();
        let issuer = Issuer::new(intermediate_params, intermediate_key);
        let message_key = KeyPair::generate().unwrap();
        let message = leaf(Purpose::Message).signed_by(&message_key, &issuer).unwrap();
        let signing_pair = rsa_key();
        let signing = leaf(Purpose::SiteSigning).signed_by(&signing_pair, &issuer).unwrap();
        Self {
            root,
            intermediate,
            message,
            message_key: EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &message_key.serialize_der(),
            )
            .unwrap(),
            signing,
            signing_key: RsaSigningKey::from_pkcs8(&signing_pair.serialize_der()).unwrap(),
        }
    }

    /// One site for all tests that need no second: making its keys takes time.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<SiteKeys> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    pub(crate) fn root(&self) -> &[u8] {
        self.root.der()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn intermediate(&self) -> &[u8] {
        self.intermediate.der()
    }

    pub(crate) fn message_certificate(&self) -> &[u8] {
        self.message.der()
    }

    /// The headers of a signed answer.
    pub(crate) fn sign_answer(
        &self,
        status: u16,
        answers: Answered<'_>,
        reason: Option<&str>,
        body: &[u8],
        with_chain: bool,
        now: Timestamp,
    ) -> Vec<(String, String)> {
        let answer = AnswerToSign { status, answers, reason, body };
        let sign =
            |bytes: &[u8]| self.message_key.sign(&SystemRandom::new(), bytes).map(|s| s.as_ref().to_vec());
        let headers = answer.headers(now, Thumbprint::of(self.message.der()), sign).unwrap();
        let mut headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(reason) = reason {
            headers.push((proto::reason::HEADER.to_owned(), reason.to_owned()));
        }
        if with_chain {
            let chain = [self.message_certificate(), self.intermediate(), self.root()];
            headers.push((http_signature::CERTIFICATE.to_owned(), http_signature::write_certificates(chain)));
        }
        headers
    }

    /// A signed list of policy.
    pub(crate) fn assignments(
        &self,
        device: ClientId,
        serial: u64,
        policies: &[&PolicyFixture],
        now: Timestamp,
    ) -> String {
        self.assignments_of(device, PolicyResource::Machine, serial, policies, now)
    }

    /// The same, as the policy of this one.
    pub(crate) fn assignments_of(
        &self,
        device: ClientId,
        resource: PolicyResource,
        serial: u64,
        policies: &[&PolicyFixture],
        now: Timestamp,
    ) -> String {
        let reply = reply(device, policies);
        let manifest = PolicyManifest {
            device,
            resource,
            serial,
            issued: now,
            expires: now.plus(LIFETIME),
            policies: policies.iter().map(|policy| signed(policy)).collect(),
        };
        let signature = self.signing_key.sign_pkcs1_sha256(&manifest.bytes());
        with_signature(&reply, &manifest, &signature, [self.signing.der(), self.intermediate()])
    }

    /// The same in the name of the key for answers.
    pub(crate) fn assignments_signed_as_message(
        &self,
        device: ClientId,
        serial: u64,
        now: Timestamp,
    ) -> String {
        let expires = now.plus(LIFETIME);
        let resource = PolicyResource::Machine;
        let manifest =
            PolicyManifest { device, resource, serial, issued: now, expires, policies: Vec::new() };
        with_signature(
            &reply(device, &[]),
            &manifest,
            &[1; 256],
            [self.message_certificate(), self.intermediate()],
        )
    }
}

fn reply(device: ClientId, policies: &[&PolicyFixture]) -> String {
    let assignment = |policy: &&PolicyFixture| PolicyAssignment {
        id: Guid::from_bytes([3; 16]),
        action: None,
        condition: Some(Condition::always()),
        policies: vec![policy.assigned()],
    };
    let reply = ReplyAssignments {
        reply_type: AssignmentsReplyType::Full,
        client_id: device,
        policy_source: "SMS:RG1".into(),
        resource: ResourceType::Machine,
        server_cookie: "2026-01-31 11:16:00.526".into(),
        assignments: policies.iter().map(assignment).collect(),
    };
    reply.to_xml()
}

fn signed(policy: &PolicyFixture) -> SignedPolicy {
    let assigned = policy.assigned();
    SignedPolicy {
        id: assigned.id.to_string(),
        version: assigned.version,
        hash: assigned.location.hash.unwrap_or_default(),
    }
}

fn with_signature(reply: &str, manifest: &PolicyManifest, signature: &[u8], chain: [&[u8]; 2]) -> String {
    let mut xml = XmlWriter::new();
    xml.start("RoamgateSignature")
        .attribute("Resource", manifest.resource)
        .attribute("Serial", manifest.serial)
        .attribute("Issued", manifest.issued.iso8601())
        .attribute("Expires", manifest.expires.iso8601())
        .attribute("KeyId", Thumbprint::of(chain[0]))
        .attribute("Chain", http_signature::write_certificates(chain))
        .text(http_signature::write_certificates([signature]));
    let end = "</ReplyAssignments>";
    format!("{}{}{end}", reply.strip_suffix(end).unwrap(), xml.finish())
}

fn rsa_key() -> KeyPair {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_ref()), &rcgen::PKCS_RSA_SHA256)
        .unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(purpose: Purpose) -> CertificateParams {
    let mut params = params("Role");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(purpose.oid().to_vec())];
    params
}

/// A certificate of any PKI for a gateway on `localhost`, with a distribution point.
pub(crate) fn gateway_with_list(pki: &pki::Pki, address: &str) -> runtime::tls::OwnCertificate {
    let leaf = pki::Leaf { crl: Some(address.to_owned()), ..pki::Leaf::server("localhost") };
    pki.issue(&leaf).own()
}

/// A certificate authority and a server certificate for `localhost`, as a gateway has them.
pub(crate) fn gateway_certificate() -> (String, runtime::tls::OwnCertificate) {
    let key = KeyPair::generate().unwrap();
    let params = authority("Gateway CA");
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    server.not_before = rcgen::date_time_ymd(2026, 1, 1);
    server.not_after = rcgen::date_time_ymd(2036, 1, 1);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&server_key, &issuer).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
    let own = runtime::tls::OwnCertificate::from_der(vec![certificate.der().clone()], private).unwrap();
    (ca.pem(), own)
}
