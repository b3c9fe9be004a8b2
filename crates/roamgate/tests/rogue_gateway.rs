//! A gateway that somebody has taken over: it has the link key of a real one, the connection point
//! believes it to be that gateway, and it tries what a gateway must not be able to do (R39, R40, R41,
//! R44, R45). Everything behind it is the real thing; only the gateway is the connection point's test one.

#[path = "support/face.rs"]
mod face;
#[allow(dead_code, reason = "each story uses a part")]
#[path = "../../connector/tests/it/pki.rs"]
mod pki;
#[allow(dead_code, reason = "each story uses a part")]
#[path = "../../connector/tests/it/gateway.rs"]
mod tunnel_gateway;
#[allow(dead_code, reason = "each story uses a part")]
#[path = "support/whole.rs"]
mod whole;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use client::address::GatewayAddress;
use client::device::RequestError;
use client::failure::CallError;
use client::identity::{Identity, KeyMaterial};
use client::state::{Approval, Der, MemoryStore, Setup, State};
use client::trust::{Disbelief, Pin};
use client::{Device, DeviceOptions};
use face::{Face, Headers, ok, value};
use proto::bundle::LinkIdentity;
use proto::client_certificate::{self, ProofOf};
use proto::http_signature::{self, AnswerToSign, Answered, RequestToSign};
use proto::id::{ClientId, Guid, RequestId, RoleId, Thumbprint};
use proto::identity::FORGED_IDENTITY_HEADERS;
use proto::link::{AnswerHead, RequestHead, RoleTrust};
use proto::message::header::ReplyCompression;
use proto::message::signature::{HashAlgorithm, RsaPublicKey};
use proto::message::{MessageEndpoint, OutgoingRequest, SigningIdentity, envelope};
use proto::reason::{self, Reason};
use proto::request::registration::{
    Agent, ClientCertificate, ClientRegistrationRequest, KeyType, RegistrationData, RegistrationDetails,
    RegistrationKind,
};
use proto::request::report::{DeviceFacts, ProductFacts};
use proto::time::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use runtime::{Clock, Drain};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use site::{ApprovalRule, By, CcmSubject, DeviceFilter, NewBulkToken, NewGateway, NewRole, RoleMode};
use tunnel_gateway::{Gateway, Shape};
use whole::Whole;

const NOW: Timestamp = Timestamp::from_seconds(1_795_259_730);
const MESSAGES: &str = "/ccm_system_tokenauth/request";
const FACTS: &str = "/SMS_MP_TokenAuth/.sms_aut?MPCERT";
/// Where everybody may send messages who is inside.
const INSIDE: &str = "/ccm_system/request";

/// A site whose network rule approves everybody on this host, and the rogue gateway.
struct Scene {
    whole: Whole,
    role: RoleId,
    management_point: SocketAddr,
    rogue: Gateway,
    link: LinkIdentity,
    drain: Drain,
}

impl Scene {
    async fn start() -> Self {
        let whole = Whole::start(NOW).await;
        let (site, by) = (&whole.site, By::site());
        let everybody_here = ApprovalRule::Network("127.0.0.0/8".parse().unwrap());
        site.set_approval_rules(&by, vec![everybody_here, ApprovalRule::BulkToken]).await.unwrap();
        // The management point of the other stories approves everything; this one asks the rules.
        let config = management_point::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            role: Some("MP2".to_owned()),
            ..management_point::Config::default()
        };
        let options = management_point::Options::default();
        let clock = Clock::manual(NOW.micros());
        let bound = management_point::ManagementPoint::bind(config, site.clone(), clock, options).unwrap();
        let (management_point, drain) = (bound.address(), Drain::new());
        let https = bound.tls_address().unwrap().port();
        tokio::spawn(bound.run(drain.clone()));
        let role = NewRole {
            name: "MP2".to_owned(),
            internal_url: format!("https://localhost:{https}"),
            mode: RoleMode::Ehttp,
            gateway_traffic: true,
        };
        let role = site.add_role(&by, role).await.unwrap().id;
        // Its port must be known before its bundle is written.
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        drop(held);
        let host = format!("localhost:{}", address.port());
        let new = NewGateway { name: "GW2".to_owned(), host, address: address.to_string() };
        let link = site.add_gateway(&by, new).await.unwrap().link;
        let rogue = Gateway::start(address, &link, Shape::single()).await;
        rogue.until("a tunnel to the rogue gateway", |(_, up)| up > 0).await;
        Self { whole, role, management_point, rogue, link, drain }
    }

    /// A request as a gateway sends it into a tunnel.
    fn head<'a>(&self, method: &'a str, target: &'a str, headers: Headers, body: &[u8]) -> RequestHead<'a> {
        RequestHead {
            request: RequestId::new(Guid::from_bytes([7; 16])),
            method: method.into(),
            role: self.role,
            target: target.into(),
            external: "".into(),
            certificate: None,
            headers: headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            body_length: (!body.is_empty()).then_some(body.len() as u64),
        }
    }

    async fn ask(&self, head: &RequestHead<'_>, body: &[u8]) -> (AnswerHead<'static>, Vec<u8>) {
        let (answer, body) = self.rogue.ask(head, body).await.answer();
        (answer, body.to_vec())
    }

    /// Sends what must be refused, whatever the refusal is; gives its code.
    async fn refused(&self, what: &str, head: &RequestHead<'_>, body: &[u8]) -> Option<Reason> {
        let (answer, _) = self.ask(head, body).await;
        let reason = reason_of(&answer);
        assert!(reason.is_some(), "{what}: {answer:?}");
        assert!(answer.status == 200 || (400..500).contains(&answer.status), "{what}: {answer:?}");
        reason
    }

    /// What a device needs to know of this site.
    fn setup(&self, ca: Option<String>) -> Setup {
        Setup {
            name: "pc1".into(),
            hardware_id: "2:00FF".into(),
            site_code: Some("RG1".parse().unwrap()),
            inside: Vec::new(),
            gateways: Vec::new(),
            always_internet: false,
            ca,
            pin: Pin::Certificate(Der(self.whole.site.root_certificate())),
        }
    }

    async fn devices(&self) -> usize {
        self.whole.site.list_devices(DeviceFilter::default()).await.unwrap().len()
    }

    async fn stop(self) {
        self.rogue.kill().await;
        self.drain.begin(Duration::from_secs(5));
        self.drain.finish().await;
        self.whole.stop().await;
    }
}

fn device(setup: Setup, key: KeyMaterial) -> Device {
    let options = DeviceOptions {
        state: State::new(setup),
        key,
        store: Arc::new(MemoryStore::default()),
        clock: Clock::manual(NOW.micros()),
        system_roots: false,
    };
    Device::new(options).unwrap()
}

fn reason_of(answer: &AnswerHead<'_>) -> Option<Reason> {
    let (_, code) = answer.headers.iter().find(|(name, _)| name == reason::HEADER)?;
    Some(code.parse().unwrap())
}

/// A device that was registered and approved inside, and whose traffic now passes the rogue gateway.
struct Enrolled {
    identity: Identity,
    public_key: RsaPublicKey,
    id: ClientId,
    token: String,
}

impl Enrolled {
    async fn new(scene: &Scene) -> Self {
        let key = KeyMaterial::generate(NOW).unwrap();
        let mut setup = scene.setup(None);
        setup.inside = vec![format!("http://{}", scene.management_point).parse().unwrap()];
        let registration = device(setup, key.clone()).register().await.unwrap();
        assert_eq!(
            registration.approval,
            Approval::Approved,
            "straight at the management point the rule counts"
        );
        let identity = Identity::new(key).unwrap();
        let public_key = RsaPublicKey::from_certificate(identity.certificate()).unwrap();
        let id = registration.client_id;
        let subject = CcmSubject::Device { device: id, key: identity.thumbprint() };
        let token = scene.whole.site.issue_ccm_token(subject).await.unwrap().text;
        Self { identity, public_key, id, token }
    }

    /// The headers with which our client sends this.
    fn sign(&self, method: &str, target: &str, message_id: Guid, body: &[u8]) -> Headers {
        let to_sign = RequestToSign {
            method,
            target,
            client: Some(self.id),
            message_id,
            token: Some(&self.token),
            client_certificate: &[],
            body,
        };
        let sign = |base: &[u8]| Ok::<_, Infallible>(self.identity.sign(base));
        let Ok(headers) = to_sign.headers(NOW, self.identity.thumbprint(), sign);
        let mut headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        headers.push(("authorization".to_owned(), format!("Bearer {}", self.token)));
        headers.push(("content-type".to_owned(), envelope::CONTENT_TYPE.to_owned()));
        headers
    }

    /// A heartbeat, no two alike.
    fn heartbeat(&self, number: u64) -> Vec<u8> {
        let facts = DeviceFacts {
            client_id: self.id,
            client_id_since: NOW,
            client_version: "5.00.0001.0000".into(),
            netbios_name: "PC1".into(),
            fqdn: "pc1.example.org".into(),
            domain: "EXAMPLE".into(),
            ad_site: String::new(),
            authority: "SMS:RG1".into(),
            platform: "Linux".into(),
            product: ProductFacts::default(),
            subnets: Vec::new(),
            addresses: Vec::new(),
            mac_address: String::new(),
            locale_id: 1033,
            os_branch: String::new(),
        };
        let mut report = facts.heartbeat(NOW);
        report.instances.push(facts.instance("Roamgate_Client", &[("PolicySerial", &number.to_string())]));
        let xml = report.to_xml();
        let message = outgoing(MessageEndpoint::Discovery, Some(self.id), &xml);
        message.write_signed(&SigningIdentity {
            client_id: self.id,
            host: "PC1",
            key: self.identity.key(),
            public_key: &self.public_key,
            shows_certificate: true,
        })
    }
}

fn outgoing(endpoint: MessageEndpoint, source_id: Option<ClientId>, xml: &str) -> OutgoingRequest<'_> {
    OutgoingRequest {
        message_id: fresh_id(),
        now: NOW,
        source_host: "PC1",
        source_id,
        endpoint,
        target_host: "mp",
        body: xml,
        compress: true,
        reply_compression: ReplyCompression::Zlib,
        properties: Vec::new(),
    }
}

fn fresh_id() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}

/// A device that nobody knows.
fn stranger() -> Identity {
    Identity::new(KeyMaterial::generate(NOW).unwrap()).unwrap()
}

/// A registration that nobody but the new device itself has signed.
fn registration(identity: &Identity) -> Vec<u8> {
    let certificate =
        ClientCertificate { der: identity.certificate().to_vec(), key_type: KeyType::SelfSigned };
    let details = RegistrationDetails {
        encryption: certificate.clone(),
        signing: certificate,
        properties: vec![proto::message::header::Property {
            name: "Netbios Name".into(),
            value: "ROGUE".into(),
        }],
        hint: None,
    };
    let data = RegistrationData {
        hash_algorithm: HashAlgorithm::Sha256WithRsa,
        client_id: None,
        time: NOW,
        agent: Agent { identity: "rogue".into(), version: "5.00.0001.0000".into(), agent_type: 0 },
        kind: RegistrationKind::Registration(Box::new(details)),
    };
    let xml = ClientRegistrationRequest::sign(data, identity.key()).to_xml();
    outgoing(MessageEndpoint::ClientRegistration, None, &xml).write()
}

fn without(mut headers: Headers, dropped: &[&str]) -> Headers {
    headers.retain(|(name, _)| !dropped.contains(&name.as_str()));
    headers
}

fn with(headers: &[(String, String)], name: &str, value: &str) -> Headers {
    let mut headers = without(headers.to_vec(), &[name]);
    headers.push((name.to_owned(), value.to_owned()));
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_request_passes_once_and_only_as_it_was_signed() {
    let scene = Scene::start().await;
    let (device, other) = (Enrolled::new(&scene).await, Enrolled::new(&scene).await);
    let reports = async || scene.whole.site.list_reports(Some(device.id), 100).await.unwrap().len();

    // As it came: taken, and answered by the site. Again, as recorded: nothing.
    let body = device.heartbeat(1);
    let recorded =
        scene.head("CCM_POST", MESSAGES, device.sign("CCM_POST", MESSAGES, fresh_id(), &body), &body);
    let (answer, _) = scene.ask(&recorded, &body).await;
    assert_eq!((answer.status, reason_of(&answer)), (200, None));
    assert_eq!(reports().await, 1);
    assert_eq!(scene.refused("replayed", &recorded, &body).await, Some(Reason::MessageRepeated));

    // Another body, path, method, sender, id or token under the same signature, or none of ours at all.
    let body = device.heartbeat(2);
    let other_body = device.heartbeat(3);
    let signed = device.sign("CCM_POST", MESSAGES, fresh_id(), &body);
    let post = |headers: Headers, body: &[u8]| scene.head("CCM_POST", MESSAGES, headers, body);
    let other_token = format!("Bearer {}", other.token);
    let unsigned = without(signed.clone(), http_signature::HEADERS);
    for (what, head, body) in [
        ("another body", post(signed.clone(), &other_body), &other_body),
        ("another path", scene.head("CCM_POST", INSIDE, signed.clone(), &body), &body),
        (
            "another id",
            post(with(&signed, http_signature::MESSAGE_ID, &fresh_id().to_string()), &body),
            &body,
        ),
        (
            "another sender",
            post(with(&signed, http_signature::CLIENT_ID, &other.id.to_string()), &body),
            &body,
        ),
        ("another token", post(with(&signed, "authorization", &other_token), &body), &body),
        ("no token", post(without(signed.clone(), &["authorization"]), &body), &body),
        ("no signature", post(unsigned.clone(), &body), &body),
        (
            "nothing but the message",
            scene.head("CCM_POST", INSIDE, without(unsigned, &["authorization"]), &body),
            &body,
        ),
    ] {
        scene.refused(what, &head, body).await;
        assert_eq!(reports().await, 1, "{what}");
    }
    let signed = device.sign("GET", FACTS, fresh_id(), b"");
    scene
        .refused(
            "another query",
            &scene.head("GET", &FACTS.replace("MPCERT", "MPLIST"), signed.clone(), b""),
            b"",
        )
        .await;
    scene.refused("another method", &scene.head("HEAD", FACTS, signed.clone(), b""), b"").await;
    // Nothing of that has used anything up.
    let (answer, _) = scene.ask(&scene.head("GET", FACTS, signed, b""), b"").await;
    assert_eq!((answer.status, reason_of(&answer)), (200, None));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_published_paths_is_reached_and_nobody_is_approved_for_the_connection_points_address() {
    let scene = Scene::start().await;
    let body = registration(&stranger());
    let plain = vec![("content-type".to_owned(), envelope::CONTENT_TYPE.to_owned())];

    let inside = format!("http://{}{INSIDE}", scene.management_point);
    let host = format!("//{}{INSIDE}", scene.management_point);
    for target in [
        "/ccm_system_windowsauth/request",
        "/ccm_system_altauth/request",
        "/CCM_SYSTEM_WINDOWSAUTH/REQUEST",
        "/ccm_system/../ccm_system_windowsauth/request",
        "/ccm_system%5Fwindowsauth/request",
        "/ccm_system/request/",
        "/api/v1/devices",
        "/link",
        "/",
        "",
        "http://169.254.169.254/latest/meta-data",
        &inside,
        &host,
    ] {
        let head = scene.head("CCM_POST", target, plain.clone(), &body);
        assert_eq!(scene.refused(target, &head, &body).await, Some(Reason::NotPublished), "{target}");
    }
    let elsewhere =
        RequestHead { role: RoleId::new(9), ..scene.head("CCM_POST", INSIDE, plain.clone(), &body) };
    assert_eq!(scene.refused("no role", &elsewhere, &body).await, Some(Reason::NotPublished));
    assert_eq!(scene.devices().await, 0);

    // The path is published for certificates; what comes by it shows none that anybody could verify.
    let claims = FORGED_IDENTITY_HEADERS.iter().copied().chain([reason::REQUEST_ID_HEADER, "host"]);
    for claim in [None].into_iter().chain(claims.map(Some)) {
        let mut headers = plain.clone();
        headers.extend(claim.map(|name| (name.to_owned(), "127.0.0.1".to_owned())));
        let what = claim.unwrap_or("no claim");
        let head = scene.head("CCM_POST", INSIDE, headers, &body);
        assert_eq!(scene.refused(what, &head, &body).await, Some(Reason::InsideTokenNotAccepted), "{what}");
    }
    assert_eq!(scene.devices().await, 0);
    // The rule itself is in force: straight at the management point it approves.
    Enrolled::new(&scene).await;
    scene.stop().await;
}

/// The headers that prove this certificate of a PKI.
fn prove(certificate: &LinkIdentity, of: ProofOf) -> Vec<http_signature::Header> {
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der()).unwrap();
    let sign = |_, message: &[u8]| key.sign(&SystemRandom::new(), message).map(|s| s.as_ref().to_vec());
    of.headers(&[leaf(certificate)], sign).unwrap()
}

fn leaf(certificate: &LinkIdentity) -> Vec<u8> {
    CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proved_certificate_is_neither_replaced_nor_dropped_nor_added_on_the_way() {
    let scene = Scene::start().await;
    let (site, by) = (&scene.whole.site, By::site());
    let organisation = pki::Organisation::new("Example");
    let RoleTrust::Pki { list } = organisation.trust() else { panic!("an organisation is a PKI") };
    site.add_trust(&by, list.authorities).await.unwrap();
    site.set_setting(&by, "client_crl_check", "off").await.unwrap();
    site.set_approval_rules(&by, vec![ApprovalRule::Pki]).await.unwrap();
    let issue = |name| organisation.issue(name, ExtendedKeyUsagePurpose::ClientAuth);
    let (devices, rogues) = (issue("pc1.example.org"), issue("gw2.example.org"));

    let device = stranger();
    let body = registration(&device);
    let message_id = fresh_id();
    let of = ProofOf {
        hierarchy: site.facts().hierarchy,
        device_key: device.thumbprint(),
        message_id,
        created: NOW,
    };
    // The gateway sees everything that its own proof must be over.
    let (own, forged) = (prove(&devices, of), prove(&rogues, of));
    let signed_over = |proof: &[http_signature::Header]| {
        let to_sign = RequestToSign {
            method: "CCM_POST",
            target: INSIDE,
            client: None,
            message_id,
            token: None,
            client_certificate: proof,
            body: &body,
        };
        let Ok(mut headers) =
            to_sign.headers(NOW, device.thumbprint(), |base: &[u8]| Ok::<_, Infallible>(device.sign(base)));
        headers
            .push((http_signature::CERTIFICATE, http_signature::write_certificates([device.certificate()])));
        headers.push(("content-type", envelope::CONTENT_TYPE.to_owned()));
        headers
    };
    let send =
        |signed: &[http_signature::Header], proof: &[http_signature::Header], opened_by: &LinkIdentity| {
            let headers = signed.iter().chain(proof).map(|(name, value)| ((*name).to_owned(), value.clone()));
            RequestHead {
                certificate: Some(Thumbprint::of(&leaf(opened_by))),
                ..scene.head("CCM_POST", INSIDE, headers.collect(), &body)
            }
        };
    let (with_own, with_none) = (signed_over(&own), signed_over(&[]));
    let its_digest = |headers: &[http_signature::Header]| {
        let mut headers = headers.to_vec();
        headers.retain(|(name, _)| *name != http_signature::CLIENT_CERTIFICATE_DIGEST);
        let all = signed_over(&forged);
        headers
            .extend(all.into_iter().filter(|(name, _)| *name == http_signature::CLIENT_CERTIFICATE_DIGEST));
        headers
    };
    let halves = [own[0].clone(), forged[1].clone()];
    for (what, head) in [
        ("replaced", send(&with_own, &forged, &rogues)),
        ("replaced, with its digest", send(&its_digest(&with_own), &forged, &rogues)),
        ("half replaced", send(&with_own, &halves, &rogues)),
        ("dropped", send(&with_own, &[], &devices)),
        ("half dropped", send(&with_own, &own[..1], &devices)),
        ("added", send(&with_none, &forged, &rogues)),
    ] {
        scene.refused(what, &head, &body).await;
        assert_eq!(scene.devices().await, 0, "{what}");
    }
    assert_eq!(own.iter().map(|(name, _)| *name).collect::<Vec<_>>(), client_certificate::HEADERS);
    // Nothing of that has used anything up: as the device sent it, it is approved by its certificate.
    let (answer, _) = scene.ask(&send(&with_own, &own, &devices), &body).await;
    assert_eq!((answer.status, reason_of(&answer)), (200, None));
    let registered = site.find_device_by_key(device.thumbprint()).await.unwrap().unwrap();
    assert_eq!(registered.pki.unwrap().thumbprint, Thumbprint::of(&leaf(&devices)));
    assert_eq!(registered.approval_by, "pki");
    scene.stop().await;
}

/// Has a fresh device register here; `answer` makes the gateway's answer to its first request.
async fn register(
    face: &mut Face,
    scene: &Scene,
    answer: impl AsyncFnOnce(Headers) -> Vec<u8>,
) -> (Device, RequestError) {
    let mut setup = scene.setup(Some(face.certificate_pem.clone()));
    let authority = format!("localhost:{}", face.address.port());
    setup.gateways = vec![GatewayAddress::new(&authority, scene.role).unwrap()];
    let mut device = device(setup, KeyMaterial::generate(NOW).unwrap());
    let bulk = scene.whole.site.create_bulk_token(&By::site(), NewBulkToken::default()).await.unwrap();
    device.use_bulk_token(bulk.text.into());
    let (outcome, ()) = tokio::join!(device.register(), async {
        let (headers, reply) = face.requests.recv().await.unwrap();
        reply.send(answer(headers).await).unwrap();
    });
    (device, outcome.unwrap_err())
}

fn grant() -> Vec<u8> {
    br#"{"token_type":"CCM","access_token":"a.b.c","expires_in":28800}"#.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_answers_by_itself_or_in_anothers_place_is_not_believed() {
    let scene = Scene::start().await;
    let mut face = Face::start(Clock::manual(NOW.micros())).await;
    let not_believed = |what: &str, device: &Device, error: &RequestError| {
        let RequestError::Call(CallError::NotBelieved { source, .. }) = error else {
            panic!("{what}: {error:?}");
        };
        assert!(device.state().registration.is_none() && device.state().ccm.is_none(), "{what}");
        assert_eq!(device.state().trust.message_chain, Vec::new(), "{what}");
        source.clone()
    };

    let (device, error) = register(&mut face, &scene, async |_| ok([], &grant())).await;
    assert_eq!(not_believed("unsigned", &device, &error), Disbelief::Unsigned);

    // Signed with the one certificate of the site that the gateway has: it is for links.
    let leaf = CertificateDer::from_pem_slice(scene.link.certificate_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(scene.link.key_pem.as_bytes()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der()).unwrap();
    let (device, error) = register(&mut face, &scene, async |headers| {
        let answers = Answered {
            message_id: value(&headers, http_signature::MESSAGE_ID).unwrap().parse().unwrap(),
            signature: value(&headers, http_signature::SIGNATURE).unwrap(),
        };
        let (body, sign) =
            (grant(), |base: &[u8]| key.sign(&SystemRandom::new(), base).map(|s| s.as_ref().to_vec()));
        let answer = AnswerToSign { status: 200, answers, reason: None, body: &body };
        let mut signed = answer.headers(NOW, Thumbprint::of(&leaf), sign).unwrap();
        let chain = CertificateDer::pem_slice_iter(scene.link.certificate_pem.as_bytes());
        let chain: Vec<_> = chain
            .map(|der| der.unwrap().to_vec())
            .take(2)
            .chain([scene.whole.site.root_certificate()])
            .collect();
        let chain = http_signature::write_certificates(chain.iter().map(Vec::as_slice));
        signed.push((http_signature::CERTIFICATE, chain));
        ok(signed.iter().map(|(name, value)| (*name, value.as_str())), &body)
    })
    .await;
    assert!(matches!(not_believed("link key", &device, &error), Disbelief::Certificate(_)));

    // Signed by the site, to what an accomplice asked under the id of the device's own request.
    let accomplice = Enrolled::new(&scene).await;
    let (device, error) = register(&mut face, &scene, async |headers| {
        let message_id = value(&headers, http_signature::MESSAGE_ID).unwrap().parse().unwrap();
        let mut asked = accomplice.sign("GET", FACTS, message_id, b"");
        asked.push((http_signature::WANT.to_owned(), "chain".to_owned()));
        let (answer, body) = scene.ask(&scene.head("GET", FACTS, asked.clone(), b""), b"").await;
        assert_eq!((answer.status, reason_of(&answer)), (200, None));
        let answers = Answered { message_id, signature: value(&asked, http_signature::SIGNATURE).unwrap() };
        let chain = scene.whole.site.message_chain();
        let verdict = http_signature::verify_answer(
            &chain[0],
            200,
            answers,
            |name| answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value),
            &body,
        );
        assert_eq!(verdict, Ok(()), "to the accomplice it is a good answer");
        ok(answer.headers.iter().map(|(name, value)| (&**name, &**value)), &body)
    })
    .await;
    assert!(matches!(not_believed("swapped", &device, &error), Disbelief::Signature(_)));
    scene.stop().await;
}
