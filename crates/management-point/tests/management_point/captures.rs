//! Every recorded request gets an answer that follows the protocol reference, sections 1.3, 2.2
//! and 12, in framing and meaning. One site a folder, its clock at the moment of the recording.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::http_signature::read_certificates;
use proto::id::{ClientId, Guid};
use proto::limits;
use proto::message::body::RequestBody;
use proto::message::envelope::{BOUNDARY, CONTENT_TYPE};
use proto::message::{Envelope, Header, ReplyCompression, RequestMessage};
use proto::policy_signature::{PolicyManifest, PolicyResource, SignedPolicy};
use proto::reason::Reason;
use proto::request::policy::{AssignmentsReplyType, ReplyAssignments};
use proto::request::registration::{
    ApprovalStatus, ClientRegistrationRequest, ClientRegistrationResponse, RegistrationKind,
    RegistrationStatus,
};
use proto::text::xml::Element;
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot, verify_rsa};
use proto::zlib;
use site::{NewPolicy, NewRegistration, PolicyProtection, SeenVia};

use crate::support::{Answer, Bench, send_raw};

const PUBLIC: &str = "{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}";
const COMPRESSED: &str = "{77777777-0a1b-4c2d-9e3f-112233445566}";
const SECRET: &str = "{c1d2e3f4-0a1b-4c2d-9e3f-112233445566}";

fn wire(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire").join(name)
}

fn read(name: &str) -> Vec<u8> {
    let path = wire(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands behind the head of a recorded request or reply.
fn body_of(recorded: &[u8]) -> &[u8] {
    let end = recorded.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    &recorded[end + 4..]
}

/// The bytes of a PEM file.
fn pem(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(wire(name)).unwrap();
    let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    read_certificates(&base64).unwrap().remove(0)
}

/// Every request of a folder, in order.
pub(crate) fn requests(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = fs::read_dir(wire(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".request.http"))
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&format!("{folder}/{name}")))).collect()
}

/// The secret of the recordings, as it was encrypted: the SDK's key is given.
fn secret_plaintext() -> Vec<u8> {
    let envelope = read("sdk/06-GET-policy-body-secret.reply.http");
    let (certificate, key) = (pem("keys/sdk-client-test-cert.pem"), pem("keys/sdk-client-test-key.pem"));
    proto::cms::open(&certificate, &key, body_of(&envelope)).unwrap()
}

/// A site that knows the folder's device and the policies of the recordings.
pub(crate) async fn seeded(folder: &str) -> (Bench, ClientId) {
    let bench = Bench::start().await;
    let reply = read(&format!("{folder}/01-registration.reply.http"));
    let reply = proto::message::ReplyMessage::parse(CONTENT_TYPE, body_of(&reply)).unwrap();
    let id = ClientRegistrationResponse::parse(&reply.body).unwrap().client_id;
    let request = read(&format!("{folder}/01-registration.request.http"));
    let RequestBody::Registration(body) =
        parse(&request).inflate(limits::INFLATED_BYTES).unwrap().body().unwrap()
    else {
        panic!("{folder}/01 is a registration")
    };
    bench.site.seed_device(id, registration(&body)).await.unwrap();
    let served = |name: &str| body_of(&read(name)).to_vec();
    for (policy, protection, bytes) in [
        (PUBLIC, PolicyProtection::Public, served("sdk/03-GET-policy-body-public.reply.http")),
        (COMPRESSED, PolicyProtection::Compressed, served("sdk/04-GET-policy-body-compressed.reply.http")),
        (SECRET, PolicyProtection::Secret, secret_plaintext()),
    ] {
        let new = NewPolicy {
            id: None,
            category: "ClientAgentConfig".into(),
            protection,
            rules: String::new(),
            collection: None,
        };
        bench.site.seed_policy(policy, "1.00", bytes, new).await.unwrap();
    }
    (bench, id)
}

fn registration(request: &ClientRegistrationRequest) -> NewRegistration {
    let RegistrationKind::Registration(details) = &request.data.kind else { panic!("a confirmation") };
    NewRegistration {
        signing_certificate: details.signing.der.clone(),
        encryption_certificate: details.encryption.der.clone(),
        name: details.netbios_name().unwrap_or("PC").to_owned(),
        fqdn: details.fqdn().unwrap_or_default().to_owned(),
        hardware_id: details.hardware_id().map(str::to_owned),
        client_version: request.data.agent.version.clone(),
        signs_requests: false,
        join: None,
        credentials: site::Credentials::default(),
        refused: Vec::new(),
        method_reason: "recorded".into(),
        via: SeenVia::Intranet,
    }
}

/// The message in a recorded request.
pub(crate) fn parse(request: &[u8]) -> RequestMessage {
    RequestMessage::parse(CONTENT_TYPE, body_of(request)).unwrap()
}

/// Replays a folder; returns how many requests it holds.
async fn replay(folder: &str) -> (Bench, ClientId, usize) {
    let (bench, id) = seeded(folder).await;
    let requests = requests(folder);
    for (name, request) in &requests {
        let answer = send_raw(bench.address, request).await;
        assert!(answer.header("roamgate-request-id").is_some(), "{folder}/{name}");
        check(&bench, id, folder, name, request, &answer);
    }
    println!("{folder}: {} requests", requests.len());
    (bench, id, requests.len())
}

/// What the request's name says about the answer.
fn check(bench: &Bench, id: ClientId, folder: &str, name: &str, request: &[u8], answer: &Answer) {
    let which = format!("{folder}/{name}");
    let kind = name.trim_end_matches(".request.http").split_once('-').unwrap().1;
    match kind {
        "policy-assignments-bad-signature" => is_refused_message(&which, answer),
        "policy-assignments" => check_assignments(bench, id, &which, request, answer),
        "GET-policy-body-secret-no-identity" | "GET-policy-body-secret-wrong-key" => is_page(&which, answer),
        "GET-policy-body-secret" => check_envelope(folder, &which, answer),
        kind if kind.starts_with("GET-policy-body-") => {
            let recorded = read(&format!("{folder}/{}", name.replace("request", "reply")));
            assert_eq!((answer.status, answer.reason()), (200, None), "{which}");
            assert_eq!(answer.header("Content-Type"), Some("text/xml"), "{which}");
            assert_eq!(answer.body, body_of(&recorded), "{which}");
        }
        kind if kind.starts_with("GET-sms_aut-") => check_site_fact(kind, &which, answer),
        "ddr" | "hardware-inventory" | "software-inventory" | "status-message" | "state-message" => {
            assert_eq!((answer.status, answer.reason(), answer.body.len()), (200, None, 0), "{which}");
            assert_eq!(answer.header("Content-Type"), None, "{which}");
        }
        "POST-sms_fsp" | "PROPFIND-package" | "upload-request" => is_not_served(&which, answer),
        kind if kind.starts_with("location-") => check_location(kind, &which, request, answer),
        // Registrations and confirmations of all kinds.
        _ => check_registration(id, &which, request, answer),
    }
}

/// Framing of a reply (sections 2.2 and 3.2). Returns its body.
fn reply_to(which: &str, request: &[u8], answer: &Answer) -> String {
    assert_eq!((answer.status, answer.reason()), (200, None), "{which}");
    assert_eq!(
        answer.header("Content-Type"),
        Some(r#"multipart/mixed; boundary="aAbBcCdDv1234567890VxXyYzZ""#)
    );
    let start = format!("--{BOUNDARY}\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n").into_bytes();
    assert!(answer.body.starts_with(&start), "{which}");
    assert_eq!(
        answer.body[start.len()..start.len() + 2],
        [0xFF, 0xFE],
        "{which}: the header begins with a BOM"
    );
    assert!(answer.body.ends_with(format!("\r\n--{BOUNDARY}--").as_bytes()), "{which}");
    let middle = format!("\r\n--{BOUNDARY}\r\ncontent-type: application/octet-stream\r\n\r\n").into_bytes();
    assert!(answer.body.windows(middle.len()).any(|window| window == middle), "{which}");

    let asked = parse(request).header().clone();
    let envelope = Envelope::parse(CONTENT_TYPE, &answer.body).unwrap();
    let header = Header::parse(&envelope.header).unwrap();
    let payload = envelope.payload.unwrap();
    let wants_zlib = asked.reply_compression == Some(ReplyCompression::Zlib);
    assert_eq!(header.is_compressed(), wants_zlib, "{which}");
    // `inflate` takes exactly one stream, with nothing behind it.
    let plain = if wants_zlib { zlib::inflate(payload, 1 << 20).unwrap() } else { payload.to_vec() };
    assert!(plain.ends_with(&[b'>', 0, 0, 0]), "{which}: one NUL character ends it");
    assert_eq!(plain[..2], [b'<', 0], "{which}: a body has no BOM");
    assert_eq!(header.body.unwrap().length, plain.len() - 2, "{which}");
    assert_eq!(header.correlation_id, Some(asked.id.unwrap_or(Guid::nil())), "{which}");
    assert_eq!(header.target_endpoint, "SccmMessaging", "{which}");
    answer.reply()
}

fn check_registration(id: ClientId, which: &str, request: &[u8], answer: &Answer) {
    let xml = reply_to(which, request, answer);
    assert!(xml.contains(&format!("SMSID=\"{id}\"")), "{which}: {xml}");
    let response = ClientRegistrationResponse::parse(&xml).unwrap();
    assert_eq!(
        (response.status, response.approval),
        (RegistrationStatus::Registered, ApprovalStatus::Approved)
    );
    let confirms = which.contains("confirmation");
    assert_eq!(response.pre_auth_token.is_some(), confirms, "{which}: only a confirmation gives a token");
}

fn check_assignments(bench: &Bench, id: ClientId, which: &str, request: &[u8], answer: &Answer) {
    let xml = reply_to(which, request, answer);
    let reply = ReplyAssignments::parse(&xml).unwrap();
    assert_eq!((reply.client_id, reply.reply_type), (id, AssignmentsReplyType::Full), "{which}");
    let policies: Vec<_> = reply.assignments.iter().flat_map(|assignment| &assignment.policies).collect();
    for (policy, hash) in [(PUBLIC, "F4345B62"), (COMPRESSED, "D324D0DD"), (SECRET, "CA270479")] {
        let found = policies.iter().find(|assigned| assigned.id.to_string() == policy).unwrap();
        assert!(found.location.hash.as_ref().unwrap().starts_with(&format!("SHA256:{hash}")), "{which}");
        let location = format!("<![CDATA[http://<mp>/SMS_MP/.sms_pol?{policy}.SHA256:{hash}");
        assert!(xml.contains(&location), "{which}: {location}");
    }
    check_signature(bench, id, &xml, &reply);
}

/// The site's signature over the whole list is good, for this device, and the last element.
fn check_signature(bench: &Bench, id: ClientId, xml: &str, reply: &ReplyAssignments) {
    let root = Element::parse(xml).unwrap();
    let signature = root.children().last().unwrap();
    assert_eq!(signature.name(), "RoamgateSignature");
    let value = |name: &str| signature.attribute(name).unwrap();
    let time = |name: &str| Timestamp::parse_iso8601(value(name)).unwrap();
    let manifest = PolicyManifest {
        device: id,
        resource: PolicyResource::Machine,
        serial: value("Serial").parse().unwrap(),
        issued: time("Issued"),
        expires: time("Expires"),
        policies: reply
            .assignments
            .iter()
            .flat_map(|assignment| &assignment.policies)
            .map(|policy| SignedPolicy {
                id: policy.id.to_string(),
                version: policy.version.clone(),
                hash: policy.location.hash.clone().unwrap(),
            })
            .collect(),
    };
    let chain = read_certificates(value("Chain")).unwrap();
    let root = SiteRoot::new(bench.site.root_certificate()).unwrap();
    root.verify(&chain, Purpose::SiteSigning, bench.now()).unwrap();
    let bytes = read_certificates(signature.text()).unwrap().remove(0);
    verify_rsa(&chain[0], &manifest.bytes(), &bytes).unwrap();
    assert_eq!(value("Resource"), "machine");
    let other = PolicyManifest { serial: manifest.serial + 1, ..manifest };
    assert!(verify_rsa(&chain[0], &other.bytes(), &bytes).is_err());
}

fn check_location(kind: &str, which: &str, request: &[u8], answer: &Answer) {
    let xml = reply_to(which, request, answer);
    let root = Element::parse(&xml).unwrap();
    let asked = kind.trim_start_matches("location-");
    let expected = match asked {
        "SiteInformationRequest" => "SiteInfoReply".to_owned(),
        other => other.replace("Request", "Reply"),
    };
    assert_eq!(root.name(), expected, "{which}");
    let site_code = match asked {
        "SiteInformationRequest" => {
            root.descendant(&["Sites", "Site", "SiteCode"]).unwrap().text().to_owned()
        }
        "EnumerateMPLocationRequest" => {
            root.child("MPSite").unwrap().attribute("SiteCode").unwrap().to_owned()
        }
        _ => root.descendant(&["Sites", "Site", "MPSite"]).unwrap().attribute("SiteCode").unwrap().to_owned(),
    };
    assert_eq!(site_code, "RG1", "{which}");
}

fn check_site_fact(kind: &str, which: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/xml")), "{which}");
    let text = answer.text();
    let root = Element::parse(&text).unwrap();
    let verb = kind.trim_start_matches("GET-sms_aut-");
    let (expected, inside) = match verb {
        "MPCERT" => ("MPCertificate", Some("Certificate")),
        "MPCERT2" => ("MPCertificates", Some("Certificate2")),
        "MPKEYINFORMATIONEX" => ("MPKEYINFORMATION", Some("TRUSTEDROOTKEY")),
        "MPTRK" => ("KEYDATA", Some("TRUSTEDROOTKEY")),
        "GETCLIENTAFFINITY" => ("MachineAffinity", None),
        list if list.starts_with("MPLIST") => ("MPList", Some("MP")),
        other => panic!("{which}: {other}"),
    };
    assert_eq!(root.name(), expected, "{which}");
    assert!(inside.is_none_or(|child| root.child(child).is_some()), "{which}: {text}");
    if verb.ends_with("TRK") {
        assert!(
            root.child("TRUSTEDROOTKEY")
                .unwrap()
                .text()
                .starts_with("0602000000A40000525341310008000001000100")
        );
    }
}

/// Section 1.3: an empty 200; and our code.
fn is_refused_message(which: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{which}");
    assert_eq!(answer.header("Content-Type"), None, "{which}");
    assert_eq!(
        answer.reason(),
        Some(Reason::MessageRefused),
        "{which}: nothing was proved, so nothing is told"
    );
}

fn is_page(which: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::IdentityRequired)), "{which}");
    assert!(answer.body.starts_with(b"<HTML>"), "{which}");
}

fn is_not_served(which: &str, answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{which}: {}", answer.status);
    assert_eq!(answer.reason(), Some(Reason::NotServed), "{which}");
}

fn check_envelope(folder: &str, which: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.reason()), (200, None), "{which}");
    assert_eq!(answer.body[..2], [0x30, 0x82], "{which}: DER with a definite length");
    if !folder.starts_with("sdk") {
        return;
    }
    let (certificate, key) = (pem("keys/sdk-client-test-cert.pem"), pem("keys/sdk-client-test-key.pem"));
    let opened = proto::cms::open(&certificate, &key, &answer.body).unwrap();
    assert_eq!(opened, secret_plaintext(), "{which}");
    assert_eq!(opened[..2], [0xFF, 0xFE], "{which}: the plaintext begins with a BOM");
    open_with_openssl(&answer.body, &opened);
}

/// The same by a program that is not ours, where it is installed: the device's key opens it, another
/// key does not.
fn open_with_openssl(envelope: &[u8], expected: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("sealed"), envelope).unwrap();
    let other = Command::new("openssl").args(["genrsa", "-out"]).arg(path("other.pem")).arg("2048").output();
    if let Err(error) = other {
        println!("SKIPPED: openssl is not installed ({error}); ./test.sh installs it");
        return;
    }
    let open = |key: &Path, opened: &Path| {
        let mut openssl = Command::new("openssl");
        openssl.args(["cms", "-decrypt", "-inform", "DER", "-binary", "-in"]).arg(path("sealed"));
        openssl.arg("-inkey").arg(key).arg("-out").arg(opened).output().unwrap().status.success()
    };
    assert!(open(&wire("keys/sdk-client-test-key.pem"), &path("opened")));
    assert_eq!(fs::read(path("opened")).unwrap(), expected);
    // A wrong key may end in rubbish instead of an error, by chance of its padding.
    let told = open(&path("other.pem"), &path("rubbish"));
    assert!(!told || fs::read(path("rubbish")).unwrap() != expected, "another key opens it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_of_the_vendors_sdk_is_answered() {
    let (bench, id, count) = replay("sdk").await;
    assert_eq!(count, 32);
    let reports = bench.site.list_reports(Some(id), 100).await.unwrap();
    let mut kinds: Vec<_> = reports.iter().map(|report| report.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["hardware", "heartbeat", "software", "status"]);
    let anonymous = bench.site.list_reports(None, 100).await.unwrap();
    assert_eq!(anonymous.len(), 1, "a state message is somebody's word");
    let device = bench.site.find_device(id).await.unwrap().unwrap();
    let heartbeat: serde_json::Value = serde_json::from_str(&device.heartbeat).unwrap();
    assert_eq!(
        (heartbeat["domain"].as_str(), heartbeat["authority"].as_str()),
        (Some("TEST"), Some("SMS:RG1"))
    );

    // The whole day once more changes nothing.
    for (_, request) in requests("sdk") {
        send_raw(bench.address, &request).await;
    }
    assert_eq!(bench.site.list_reports(Some(id), 100).await.unwrap().len(), reports.len());
    assert_eq!(bench.site.list_devices(site::DeviceFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_waited_is_answered() {
    assert_eq!(replay("sdk-pending").await.2, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_inside_tls_is_answered() {
    assert_eq!(replay("sdk-https").await.2, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_public_client_is_answered_and_its_forgeries_refused() {
    assert_eq!(replay("public-a").await.2, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_public_client_is_answered() {
    assert_eq!(replay("public-b").await.2, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_public_client_is_answered_with_its_heartbeat_behind_the_first() {
    let (bench, id, count) = replay("public-c").await;
    assert_eq!(count, 2);
    let reports = bench.site.list_reports(Some(id), 10).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.kind.as_str()).collect::<Vec<_>>(), ["heartbeat"]);
    let stored = bench.site.find_report(reports[0].id).await.unwrap().unwrap();
    assert!(
        String::from_utf8(stored.document).unwrap().contains("<Instance"),
        "the full report, not its header"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn client_notification_is_not_served_and_says_so() {
    let bench = Bench::start().await;
    for (name, request) in requests("bgb-http") {
        is_not_served(&name, &send_raw(bench.address, &request).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_device_recorded_requests_are_refused() {
    // Signed by the SDK's device, at a site that does not know it.
    let bench = Bench::start().await;
    for (name, request) in requests("sdk") {
        let answer = send_raw(bench.address, &request).await;
        let kind = name.trim_end_matches(".request.http").split_once('-').unwrap().1;
        match kind {
            "policy-assignments" | "ddr" | "hardware-inventory" | "software-inventory" | "status-message" => {
                is_refused_message(&name, &answer);
            }
            "GET-policy-body-secret" => is_page(&name, &answer),
            _ => {}
        }
    }
    let devices = bench.site.list_devices(site::DeviceFilter::default()).await.unwrap();
    assert_eq!(devices.len(), 1, "the one key has one record, under an id of the site's choice");
    assert!(bench.site.list_reports(Some(devices[0].id), 10).await.unwrap().is_empty());
}
