//! Devices that exist as certificates only, and the requests that they send, made before anything is measured.
//!
//! A site knows a device by its certificate, so one RSA key under many certificates makes many devices. What
//! the site does for one is the same, and making 10,000 keys would take longer than all that is measured.

use std::num::NonZeroUsize;

use bytes::Bytes;
use proto::http_signature::{self, RequestToSign};
use proto::id::{ClientId, Guid, Thumbprint};
use proto::message::header::Property;
use proto::message::signature::{HashAlgorithm, RsaPublicKey, RsaSigningKey};
use proto::message::{
    MessageEndpoint, OutgoingRequest, ReplyCompression, SigningIdentity, SigningKey as _, envelope,
};
use proto::request::policy::{AssignmentsRequestType, Machine, RequestAssignments, ResourceType};
use proto::request::registration::{
    Agent, ClientCertificate, ClientRegistrationRequest, KeyType, RegistrationData, RegistrationDetails,
    RegistrationKind,
};
use proto::time::Timestamp;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::SpeedError;

/// What our client calls itself.
const AGENT: &str = "roamgate-client";
pub(super) const VERSION: &str = "5.00.0001.0000";
const MESSAGES: &str = "/ccm_system/request";

/// The key of all devices of a run.
pub(super) struct Keys {
    pair: KeyPair,
    key: RsaSigningKey,
    public: RsaPublicKey,
}

/// A device: its name and its certificate.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) certificate: Vec<u8>,
}

impl Device {
    fn key(&self) -> Thumbprint {
        Thumbprint::of(&self.certificate)
    }
}

impl Keys {
    pub(super) fn make() -> Result<Self, SpeedError> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(SpeedError::key)?;
        let key = RsaSigningKey::from_pkcs8(&pair.serialize_der()).map_err(SpeedError::key)?;
        let public = key.public_key().map_err(SpeedError::key)?;
        Ok(Self { pair, key, public })
    }

    /// The private key as PKCS#8, for the bare signatures beside which tokens are measured.
    pub(super) fn pkcs8(&self) -> Vec<u8> {
        self.pair.serialize_der()
    }

    /// Devices with these numbers.
    pub(super) fn devices(
        &self,
        kind: &str,
        numbers: std::ops::Range<usize>,
    ) -> Result<Vec<Device>, SpeedError> {
        on_all_cores(&numbers.collect::<Vec<_>>(), |number| {
            let name = format!("{kind}{number}");
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name.clone());
            let certificate = params.self_signed(&self.pair).map_err(SpeedError::key)?;
            Ok(Device { name, certificate: certificate.der().to_vec() })
        })
    }

    /// `GET /CCM_STS` of a device with its self-prove token.
    pub(super) fn token_request(&self, device: &Device, id: ClientId, token: &str) -> Bytes {
        let headers = vec![("Authorization", format!("Bearer {token}"))];
        self.signed("GET", "/CCM_STS", device, Some(id), Some(token), headers, &[])
    }

    /// The registration of a device that nobody knows, over HTTP at a management point inside.
    pub(super) fn registration(&self, device: &Device) -> Bytes {
        let certificate =
            ClientCertificate { der: device.certificate.clone(), key_type: KeyType::SelfSigned };
        let hardware = format!("2:{}", device.key());
        let properties =
            [("Netbios Name", device.name.as_str()), ("FQ Name", &device.name), ("HardwareID1", &hardware)];
        let property = |(name, value): (&str, &str)| Property { name: name.into(), value: value.into() };
        let data = RegistrationData {
            hash_algorithm: HashAlgorithm::Sha256WithRsa,
            client_id: None,
            time: now(),
            agent: Agent { identity: AGENT.to_owned(), version: VERSION.to_owned(), agent_type: 0 },
            kind: RegistrationKind::Registration(Box::new(RegistrationDetails {
                encryption: certificate.clone(),
                signing: certificate,
                properties: properties.into_iter().map(property).collect(),
                hint: None,
            })),
        };
        let xml = ClientRegistrationRequest::sign(data, &self.key).to_xml();
        let body = outgoing(MessageEndpoint::ClientRegistration, &device.name, &xml).write();
        let shown = http_signature::write_certificates([device.certificate.as_slice()]);
        let headers =
            vec![("Content-Type", envelope::CONTENT_TYPE.to_owned()), (http_signature::CERTIFICATE, shown)];
        self.signed("CCM_POST", MESSAGES, device, None, None, headers, &body)
    }

    /// The question of a registered device for all its policy.
    pub(super) fn policy_request(&self, device: &Device, id: ClientId) -> Bytes {
        let machine = Machine {
            client_id: id,
            fqdn: device.name.clone(),
            netbios_name: device.name.clone(),
            sid: String::new(),
        };
        let asked = RequestAssignments {
            acknowledge: false,
            request_type: AssignmentsRequestType::Always,
            machine,
            user: None,
            policy_source: "SMS:RG1".to_owned(),
            resource: ResourceType::Machine,
            server_cookie: None,
            validation: None,
        };
        let xml = asked.to_xml();
        let sender = SigningIdentity {
            client_id: id,
            host: &device.name,
            key: &self.key,
            public_key: &self.public,
            shows_certificate: false,
        };
        let body = outgoing(MessageEndpoint::PolicyManager, &device.name, &xml).write_signed(&sender);
        let headers = vec![("Content-Type", envelope::CONTENT_TYPE.to_owned())];
        self.signed("CCM_POST", MESSAGES, device, Some(id), None, headers, &body)
    }

    /// A whole request as bytes, signed as our client signs.
    #[expect(clippy::too_many_arguments, reason = "each is one part of a request")]
    fn signed(
        &self,
        method: &str,
        target: &str,
        device: &Device,
        client: Option<ClientId>,
        token: Option<&str>,
        mut headers: Vec<(&'static str, String)>,
        body: &[u8],
    ) -> Bytes {
        let message_id = fresh_id();
        let to_sign =
            RequestToSign { method, target, client, message_id, token, client_certificate: &[], body };
        let sign = |base: &[u8]| Ok::<_, std::convert::Infallible>(self.key.sign_pkcs1_sha256(base));
        let Ok(signature) = to_sign.headers(now(), device.key(), sign);
        headers.extend(signature);
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: site\r\n");
        for (name, value) in &headers {
            text.extend([*name, ": ", value.as_str(), "\r\n"]);
        }
        text.extend(["Content-Length: ", body.len().to_string().as_str(), "\r\n\r\n"]);
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes.into()
    }
}

fn outgoing<'a>(endpoint: MessageEndpoint, name: &'a str, body: &'a str) -> OutgoingRequest<'a> {
    OutgoingRequest {
        message_id: fresh_id(),
        now: now(),
        source_host: name,
        source_id: None,
        endpoint,
        target_host: "site",
        body,
        compress: true,
        reply_compression: ReplyCompression::Zlib,
        properties: Vec::new(),
    }
}

/// Makes one thing of each item, on all cores; the results stand in the order of the items.
pub(super) fn on_all_cores<I: Sync, T: Send>(
    items: &[I],
    make: impl Fn(&I) -> Result<T, SpeedError> + Sync,
) -> Result<Vec<T>, SpeedError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = items.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let make = &make;
        let workers: Vec<_> = items
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(make).collect::<Result<Vec<_>, _>>()))
            .collect();
        let mut all = Vec::with_capacity(items.len());
        for worker in workers {
            all.extend(worker.join().map_err(|_| SpeedError::Worker)??);
        }
        Ok(all)
    })
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_micros(runtime::Clock::system().now())
}

fn fresh_id() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}
