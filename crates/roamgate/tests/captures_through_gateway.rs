//! The recorded requests of the client whose key we have, through gateway and connection point, the bytes
//! as recorded: by TLS with that client's own certificate and a CCM token bound to it, and, without any
//! token, by TLS with a PKI certificate that openssl made.
//!
//! Origin of the recordings: fixtures/wire/README.md.

#[path = "support/openssl_pki.rs"]
#[allow(dead_code, reason = "each test uses a part")]
mod openssl_pki;
#[allow(dead_code, reason = "each test uses a part")]
#[path = "support/whole.rs"]
mod whole;

use std::path::PathBuf;
use std::sync::Arc;

use openssl_pki::{Issued, Pki};
use proto::id::{ClientId, Thumbprint};
use proto::message::ReplyMessage;
use proto::time::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use site::{By, CcmSubject, Credentials, NewBulkToken, NewRegistration, PkiCredential, SeenVia};
use whole::Whole;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A recorded request, taken apart.
struct Recorded {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn recorded(name: &str) -> Recorded {
    let bytes = fixture(name);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let mut lines = head.lines();
    let mut first = lines.next().expect("a request line").split(' ');
    let method = first.next().expect("a method").to_owned();
    let target = first.next().expect("a target").to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !["host", "connection", "content-length"].contains(&name.to_lowercase().as_str()))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Recorded { method, target, headers, body: bytes[end + 4..].to_vec() }
}

/// The recorded client's TLS: its own certificate, and trust in the gateway's.
fn client(whole: &Whole) -> reqwest::Client {
    let certificate = CertificateDer::from_pem_slice(&fixture("keys/sdk-client-test-cert.pem")).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(&fixture("keys/sdk-client-test-key.pem")).expect("PEM");
    client_with(whole, vec![certificate], key)
}

/// The same with a certificate of a PKI.
fn client_of_pki(whole: &Whole, issued: &Issued) -> reqwest::Client {
    let key = PrivateKeyDer::from_pem_file(&issued.key).expect("PEM");
    client_with(whole, chain(issued), key)
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    let chain = CertificateDer::pem_file_iter(&issued.certificate).expect("PEM");
    chain.collect::<Result<_, _>>().expect("certificates")
}

fn client_with(
    whole: &Whole,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    let root =
        CertificateDer::from_pem_slice(whole.gateway_certificate_pem.as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a client certificate");
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).build().expect("a client")
}

struct Answer {
    status: u16,
    reason: Option<String>,
    content_type: String,
    body: Vec<u8>,
}

async fn send(client: &reqwest::Client, base: &str, recorded: &Recorded, path: &str, token: &str) -> Answer {
    send_with(client, base, recorded, path, Some(token)).await
}

async fn send_with(
    client: &reqwest::Client,
    base: &str,
    recorded: &Recorded,
    path: &str,
    token: Option<&str>,
) -> Answer {
    let method = reqwest::Method::from_bytes(recorded.method.as_bytes()).expect("a method");
    let mut request = client.request(method, format!("{base}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    for (name, value) in &recorded.headers {
        request = request.header(name, value);
    }
    let answer = request.body(recorded.body.clone()).send().await.expect("an answer");
    let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().expect("text").to_owned());
    assert!(header("roamgate-request-id").is_some(), "{path}");
    Answer {
        status: answer.status().as_u16(),
        reason: header("roamgate-reason"),
        content_type: header("content-type").unwrap_or_default(),
        body: answer.bytes().await.expect("a body").to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_clients_requests_are_served_through_the_gateway() {
    // The moment of the recording; everything on this side lives in it.
    let now = Timestamp::parse_iso8601("2026-11-21T11:16:02Z").expect("a time");
    let whole = Whole::start(now).await;
    let certificate =
        CertificateDer::from_pem_slice(&fixture("keys/sdk-client-test-cert.pem")).expect("PEM").to_vec();
    let thumbprint = Thumbprint::of(&certificate);
    let client = client(&whole);
    let base = whole.outside();

    // Registration with the token that CCM_STS gives against a bulk token.
    let bulk =
        whole.site.create_bulk_token(&By::site(), NewBulkToken::default()).await.expect("a bulk token");
    let subject = CcmSubject::Stranger { bulk_token: bulk.token.id, key: thumbprint };
    let pre_auth = whole.site.issue_ccm_token(subject).await.expect("a token").text;
    let device: ClientId = "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB".parse().expect("a client id");
    whole
        .site
        .seed_device(
            device,
            NewRegistration {
                signing_certificate: certificate.clone(),
                encryption_certificate: certificate,
                name: "SDKBOX".to_owned(),
                fqdn: "sdkbox.test.local".to_owned(),
                hardware_id: None,
                client_version: "5.00.8325.0000".to_owned(),
                signs_requests: false,
                join: None,
                credentials: site::Credentials::default(),
                refused: Vec::new(),
                method_reason: "recorded client".to_owned(),
                via: SeenVia::Gateway,
            },
        )
        .await
        .expect("a seeded device");
    for name in ["sdk/01-registration", "sdk/28-registration-uncompressed"] {
        let request = recorded(&format!("{name}.request.http"));
        let answer = send(&client, &base, &request, "/ccm_system_tokenauth/request", &pre_auth).await;
        assert_eq!((answer.status, &answer.reason), (200, &None), "{name}");
        let reply = ReplyMessage::parse(&answer.content_type, &answer.body).expect("a reply");
        assert!(
            reply.body.contains(&format!("SMSID=\"{device}\"")),
            "the same key, the same id: {}",
            reply.body
        );
        assert!(reply.body.contains("Status=\"0\""), "{}", reply.body);
    }

    // Everything else with a device's token.
    let subject = CcmSubject::Device { device, key: thumbprint };
    let token = whole.site.issue_ccm_token(subject).await.expect("a token").text;
    let mut served = 0;
    for (name, root) in [
        ("sdk/02-policy-assignments", Some("ReplyAssignments")),
        ("sdk/08-ddr", None),
        ("sdk/09-hardware-inventory", None),
        ("sdk/10-location-SiteInformationRequest", Some("SiteInfoReply")),
        ("sdk/14-location-ContentLocationRequest", Some("ContentLocationReply")),
        ("sdk/15-status-message", None),
        ("sdk/16-state-message", None),
        ("sdk/21-location-EnumerateMPLocationRequest", Some("EnumerateMPLocationReply")),
        ("sdk/22-location-WSUSLocationRequest", Some("WSUSLocationReply")),
        ("sdk/23-location-LocalMPLocationRequest", Some("LocalMPLocationReply")),
        ("sdk/25-software-inventory", None),
    ] {
        let request = recorded(&format!("{name}.request.http"));
        let answer = send(&client, &base, &request, "/ccm_system_tokenauth/request", &token).await;
        assert_eq!((answer.status, &answer.reason), (200, &None), "{name}");
        match root {
            Some(root) => {
                let reply = ReplyMessage::parse(&answer.content_type, &answer.body).expect("a reply");
                assert!(reply.body.starts_with(&format!("<{root}")), "{name}: {}", reply.body);
            }
            None => assert!(answer.body.is_empty(), "{name}: an asynchronous message has an empty answer"),
        }
        served += 1;
    }
    for name in ["sdk/11-GET-sms_aut-MPLIST1_RG1", "sdk/17-GET-sms_aut-MPCERT", "sdk/20-GET-sms_aut-MPTRK"] {
        let request = recorded(&format!("{name}.request.http"));
        let path = request.target.replace("/SMS_MP/", "/SMS_MP_TokenAuth/");
        let answer = send(&client, &base, &request, &path, &token).await;
        assert_eq!((answer.status, &answer.reason), (200, &None), "{name}");
        assert!(answer.body.starts_with(b"<"), "{name}");
        served += 1;
    }
    // A client certificate alone, and the token without it.
    let request = recorded("sdk/02-policy-assignments.request.http");
    let answer = send(&client, &base, &request, "/ccm_system/request", &token).await;
    assert_eq!(
        (answer.status, answer.reason.as_deref()),
        (403, Some("RG-1205")),
        "ccm_system is for certificates"
    );
    let upload = recorded("sdk/32-upload-request.request.http");
    let answer = send(&client, &base, &upload, "/ccm_system_tokenauth/request", &token).await;
    assert!((400..500).contains(&answer.status) && answer.reason.is_some(), "uploads are not served");
    println!("{served} recorded requests served through the gateway");
    whole.stop().await;
}

/// What of two answers to the same request must be alike: not signatures, keys and moments.
fn shape(answer: &Answer) -> String {
    let body = match ReplyMessage::parse(&answer.content_type, &answer.body) {
        Ok(reply) => format!("message {}", root(&reply.body)),
        Err(_) if answer.body.is_empty() => "nothing".to_owned(),
        Err(_) => format!("body {}", root(&String::from_utf8_lossy(&answer.body))),
    };
    format!(
        "{} {:?} {} {body}",
        answer.status,
        answer.reason,
        answer.content_type.split(';').next().unwrap_or_default()
    )
}

/// The name of the first element, or the first word.
fn root(text: &str) -> String {
    let text = text.trim_start_matches(['\u{feff}', '<', ' ']);
    text.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// Must show: an unmodified third-party sequence through the MutualAuth door with a client certificate of a
/// PKI. Each request is sent inside first, then through the gateway with its path as recorded: the same
/// answer both times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_sequence_works_by_a_certificate_of_a_pki_as_it_does_inside() {
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        println!("SKIPPED: openssl is not installed; ./test.sh installs it");
        return;
    }
    let now = Timestamp::parse_iso8601("2026-11-21T11:16:02Z").expect("a time");
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(&folder.path().join("pki"), "Contoso");
    let issued = pki.client("sdkbox.test.local", 0x2001);
    let other = pki.client("other.test.local", 0x2002);
    // Two sites, so that a message that is sent twice is new to each.
    let (inside, outside) = (Whole::start(now).await, Whole::start(now).await);
    let own =
        CertificateDer::from_pem_slice(&fixture("keys/sdk-client-test-cert.pem")).expect("PEM").to_vec();
    let device: ClientId = "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB".parse().expect("a client id");
    let shown: Vec<Vec<u8>> = chain(&issued).iter().map(|der| der.as_ref().to_vec()).collect();
    for whole in [&inside, &outside] {
        let by = By::site();
        let authorities = std::fs::read(pki.authorities()).expect("PEM");
        let authorities = site::read_authorities(&authorities, None).expect("authorities");
        whole.site.add_trust(&by, authorities).await.expect("trust");
        for list in pki.lists(1, &[]) {
            let pem = std::fs::read(list).expect("a list");
            whole.site.put_crl(&by, &pem).await.expect("a list");
        }
        let pki = PkiCredential {
            thumbprint: Thumbprint::of(&shown[0]),
            subject: "CN=sdkbox.test.local".to_owned(),
            not_after: Timestamp::parse_iso8601("2036-01-01T00:00:00Z").expect("a time"),
            chain: shown.clone(),
        };
        let registration = NewRegistration {
            signing_certificate: own.clone(),
            encryption_certificate: own.clone(),
            name: "SDKBOX".to_owned(),
            fqdn: "sdkbox.test.local".to_owned(),
            hardware_id: None,
            client_version: "5.00.8325.0000".to_owned(),
            signs_requests: false,
            join: None,
            credentials: Credentials { pki: Some(pki), ..Credentials::default() },
            refused: Vec::new(),
            method_reason: "recorded client".to_owned(),
            via: SeenVia::Gateway,
        };
        whole.site.seed_device(device, registration).await.expect("a seeded device");
    }
    outside.wait_for_newest_version().await;

    // Another certificate of the same PKI is not this device's. (Asked first: the recorded registration says
    // nothing of a certificate, and the device counts as its registered key's from then on.)
    let request = recorded("sdk/02-policy-assignments.request.http");
    let stranger = client_of_pki(&outside, &other);
    let answer =
        send_with(&stranger, &outside.outside_by_certificate(), &request, &request.target, None).await;
    assert_eq!(answer.reason.as_deref(), Some("RG-3110"), "{}", shape(&answer));

    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    let by_certificate = client_of_pki(&outside, &issued);
    let mut names: Vec<String> =
        std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire/sdk"))
            .expect("the recordings")
            .filter_map(|entry| {
                entry.ok()?.file_name().to_str()?.strip_suffix(".request.http").map(str::to_owned)
            })
            .collect();
    names.sort();
    let (mut served, mut differing) = (0, Vec::new());
    for name in &names {
        let request = recorded(&format!("sdk/{name}.request.http"));
        let straight =
            send_with(&plain, &format!("http://{}", inside.inside), &request, &request.target, None).await;
        let through =
            send_with(&by_certificate, &outside.outside_by_certificate(), &request, &request.target, None)
                .await;
        let (straight, through) = (shape(&straight), shape(&through));
        println!("{name}: inside {straight}; by MutualAuth {through}");
        served += u32::from(through.starts_with("200"));
        if straight != through {
            differing.push(format!("{name}: inside {straight}; by MutualAuth {through}"));
        }
    }
    println!(
        "{served} of {} recorded requests served by MutualAuth with a certificate of openssl's",
        names.len()
    );
    for (name, why) in CLOSED_OUTSIDE {
        println!("otherwise outside: {name}: {why}");
        assert!(differing.iter().any(|line| line.starts_with(name) && line.contains("RG-1001")), "{name}");
    }
    let explained = |line: &str| CLOSED_OUTSIDE.iter().any(|(name, _)| line.starts_with(name));
    let unexplained: Vec<_> = differing.iter().filter(|line| !explained(line)).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert_eq!(served, 22);

    inside.stop().await;
    outside.stop().await;
}

/// Requests that are answered otherwise outside, and why. The gateway says no to all of them by itself.
const CLOSED_OUTSIDE: &[(&str, &str)] = &[
    ("26-POST-sms_fsp", "no role serves it; the gateway knows its endpoints and asks nobody"),
    ("27-PROPFIND-package", "the same: content is not served"),
    ("29-registration-windowsauth-path", "proof by the Windows domain is for inside alone"),
    ("30-registration-altauth-path", "registration without any proof is for inside alone"),
];
