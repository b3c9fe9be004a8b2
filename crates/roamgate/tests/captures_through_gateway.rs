//! The recorded requests of the client whose key we have, through gateway and connection point:
//! TLS with that client's certificate, a CCM token bound to it, the bytes as recorded.
//!
//! Origin of the recordings: fixtures/wire/README.md.

#[path = "support/whole.rs"]
mod whole;

use std::path::PathBuf;
use std::sync::Arc;

use proto::id::{ClientId, Thumbprint};
use proto::message::ReplyMessage;
use proto::time::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use site::{By, CcmSubject, NewBulkToken, NewRegistration, SeenVia};
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
    let mut roots = rustls::RootCertStore::empty();
    let root =
        CertificateDer::from_pem_slice(whole.gateway_certificate_pem.as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let certificate = CertificateDer::from_pem_slice(&fixture("keys/sdk-client-test-cert.pem")).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(&fixture("keys/sdk-client-test-key.pem")).expect("PEM");
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
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
    let method = reqwest::Method::from_bytes(recorded.method.as_bytes()).expect("a method");
    let mut request = client.request(method, format!("{base}{path}")).bearer_auth(token);
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
