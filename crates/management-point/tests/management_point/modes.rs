//! HTTP, enhanced HTTP and HTTPS: what is served, to whom, and how that changes.

use std::time::Duration;

use management_point::{Config, ManagementPoint, Options};
use proto::message::MessageEndpoint;
use proto::reason::Reason;
use proto::request::location::ClientLocationInfo;
use proto::request::location::management_point::{
    EnumerateMpLocationReply, EnumerateMpLocationRequest, MpRequestType,
};
use proto::request::location::site::SiteInfoReply;
use proto::request::site_facts::MpList;
use proto::trust::{Purpose, SiteRoot};
use runtime::config::private_file;
use site::{RoleChange, RoleMode};
use tempfile::TempDir;

use crate::support::message::plain;
use crate::support::pki::{Leaf, Pki, Wish};
use crate::support::{
    Ask, Bench, TestDevice, TlsClient, devices, location, operator, registration_body, until,
};

/// Site facts: what is open in every mode.
fn facts() -> Ask {
    Ask::get("/SMS_MP/.sms_aut?MPLIST1")
}

/// A registration, signed as our client signs.
fn registration(bench: &Bench, device: &TestDevice) -> Ask {
    let body = registration_body(device, "PC1", bench.now(), None);
    let ask = Ask::message("/ccm_system/request", plain(bench, MessageEndpoint::ClientRegistration, &body));
    ask.signed(device, None, bench.now())
}

async fn set_mode(bench: &Bench, role: &site::Role, mode: RoleMode) {
    let change = RoleChange { mode: Some(mode), ..RoleChange::default() };
    bench.site.set_role(&operator(), role.id, change).await.unwrap();
}

/// Who trusts the site, and shows this certificate.
fn under_site(bench: &Bench, shows: Option<&Leaf>) -> TlsClient {
    TlsClient::new(&bench.clock, &bench.site.root_certificate(), shows)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Writes a role certificate where the configuration names it.
fn write_files(folder: &TempDir, leaf: &Leaf) {
    let chain: String = leaf.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    private_file::write(folder.path().join("role.key"), pem("PRIVATE KEY", &leaf.pkcs8)).unwrap();
    std::fs::write(folder.path().join("role.pem"), chain).unwrap();
}

/// A management point in HTTPS mode with a PKI certificate.
async fn https_bench(pki: &Pki, folder: &TempDir) -> Bench {
    let now = proto::time::Timestamp::from_seconds(crate::support::NOW);
    write_files(folder, &pki.issue(&Wish::server(1, now)));
    let file = |name: &str| Some(folder.path().join(name));
    let bench = Bench::configured(&[], |config| Config {
        certificate: file("role.pem"),
        key: file("role.key"),
        ..config
    })
    .await;
    bench.add_role(RoleMode::Https).await;
    let client = TlsClient::new(&bench.clock, &pki.root(), None);
    until(async || client.server_certificate(bench.tls_address).await.ok()).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn enhanced_http_serves_https_with_a_certificate_of_the_site_and_http_besides() {
    let bench = Bench::start().await;
    bench.add_role(RoleMode::Ehttp).await;
    let client = under_site(&bench, None);
    let certificate = until(async || client.server_certificate(bench.tls_address).await.ok()).await;
    let root = SiteRoot::new(bench.site.root_certificate()).unwrap();
    let stream = client.connect(bench.tls_address).await.unwrap();
    let chain: Vec<_> =
        stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.to_vec()).collect();
    assert_eq!(chain[0], certificate);
    assert_eq!(root.verify(&chain, Purpose::RoleTls, bench.now()), Ok(()));

    assert_eq!(bench.send(facts()).await.status, 200);
    assert_eq!(bench.send_tls(facts(), &client).await.status, 200);
    // A device inside goes on by plain HTTP with signed messages, or takes HTTPS.
    let [first, second, _] = devices();
    assert_eq!(bench.send(registration(&bench, first)).await.reason(), None);
    assert_eq!(bench.send_tls(registration(&bench, second), &client).await.reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_speaks_https_to_it_with_a_certificate_and_without() {
    let bench = Bench::start().await;
    bench.add_role(RoleMode::Ehttp).await;
    let pki = Pki::new("Stranger", bench.now());
    let leaf = pki.issue(&Wish::client("pc1.example.org", 7, bench.now()));
    until(async || under_site(&bench, None).server_certificate(bench.tls_address).await.ok()).await;
    let url = format!("https://localhost:{}/SMS_MP/.sms_aut?SITESIGNCERT", bench.tls_address.port());
    for shows in [None, Some(&leaf)] {
        // Of whatever origin a certificate is: the handshake proves its key, and judges nothing.
        let tls = under_site(&bench, shows);
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls.config().clone())
            .build()
            .unwrap();
        for _ in 0..2 {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.text().await.unwrap().contains("X509Certificate"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_mode_counts_without_a_restart() {
    let bench = Bench::start().await;
    let role = bench.add_role(RoleMode::Ehttp).await;
    let client = under_site(&bench, None);
    until(async || client.server_certificate(bench.tls_address).await.ok()).await;
    let [device, ..] = devices();

    // To plain HTTP: no handshake succeeds, and a gateway's requests are refused.
    set_mode(&bench, &role, RoleMode::Http).await;
    until(async || client.server_certificate(bench.tls_address).await.err()).await;
    assert_eq!(bench.send(registration(&bench, device)).await.reason(), None);
    let id = proto::id::Guid::nil().to_string();
    let through_gateway = bench.send(facts().header("roamgate-request-id", &id)).await;
    assert_eq!((through_gateway.status, through_gateway.reason()), (403, Some(Reason::RoleInHttpMode)));

    // To HTTPS without files: a certificate of the site never stands in for the PKI's.
    set_mode(&bench, &role, RoleMode::Https).await;
    until(async || {
        let answer = bench.send(registration(&bench, device)).await;
        (answer.reason() == Some(Reason::MethodNotForMode)).then_some(())
    })
    .await;
    assert!(client.server_certificate(bench.tls_address).await.is_err());

    // And back.
    set_mode(&bench, &role, RoleMode::Ehttp).await;
    until(async || client.server_certificate(bench.tls_address).await.ok()).await;
    assert_eq!(bench.send(registration(&bench, device)).await.reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_open_obeys_a_new_mode() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::start().await;
    let role = bench.add_role(RoleMode::Ehttp).await;
    let client = under_site(&bench, None);
    let mut stream = until(async || client.connect(bench.tls_address).await.ok()).await;
    let mut ask = async || {
        stream.write_all(b"GET /SMS_MP/.sms_aut?MPLIST1 HTTP/1.1\r\nHost: mp\r\n\r\n").await.unwrap();
        let mut piece = vec![0; 64 * 1024];
        let length = stream.read(&mut piece).await.unwrap();
        String::from_utf8_lossy(&piece[..length]).into_owned()
    };
    assert!(ask().await.starts_with("HTTP/1.1 200"));
    set_mode(&bench, &role, RoleMode::Http).await;
    let refused = until(async || Some(ask().await).filter(|answer| answer.starts_with("HTTP/1.1 403"))).await;
    assert!(refused.contains("RG-3109"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_certificate_is_renewed_after_two_thirds_of_its_life() {
    let bench = Bench::start().await;
    bench.add_role(RoleMode::Ehttp).await;
    let client = under_site(&bench, None);
    let first = until(async || client.server_certificate(bench.tls_address).await.ok()).await;
    bench.clock.advance(Duration::from_hours(24 * 250));
    let second = until(async || {
        let shown = client.server_certificate(bench.tls_address).await.unwrap();
        (shown != first).then_some(shown)
    })
    .await;
    // The old one would be over by now; the new one is not.
    bench.clock.advance(Duration::from_hours(24 * 120));
    assert_eq!(client.server_certificate(bench.tls_address).await.unwrap(), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn https_mode_answers_plain_http_with_public_facts_only() {
    let (pki, folder) = (pki(), tempfile::tempdir().unwrap());
    let bench = https_bench(&pki, &folder).await;
    let [device, ..] = devices();
    assert_eq!(bench.send(facts()).await.status, 200);
    let refused = |answer: crate::support::Answer| (answer.status, answer.reason());
    let closed = (403, Some(Reason::MethodNotForMode));
    assert_eq!(refused(bench.send(registration(&bench, device)).await), closed);
    assert_eq!(refused(bench.send(Ask::message("/ccm_system/request", location(&bench))).await), closed);
    assert_eq!(refused(bench.send(Ask::get("/SMS_MP/.sms_pol?SRC10000.1_00")).await), closed);
    assert_eq!(refused(bench.send(Ask::get("/CCM_STS")).await), closed);
    let client = TlsClient::new(&bench.clock, &pki.root(), None);
    let ask = Ask::message("/ccm_system/request", location(&bench));
    assert_eq!(bench.send_tls(ask, &client).await.reason(), None);
    // Being inside is not enough there: who registers brings a bulk token, or better.
    assert_eq!(refused(bench.send_tls(registration(&bench, device), &client).await), closed);
    let bulk = bench.bulk_token().await.text;
    let ask = Ask::get("/CCM_STS").bearer(&bulk).signed(device, None, bench.now());
    let grant: serde_json::Value = serde_json::from_slice(&bench.send_tls(ask, &client).await.body).unwrap();
    let body = registration_body(device, "PC1", bench.now(), None);
    let message = plain(&bench, MessageEndpoint::ClientRegistration, &body);
    let ask = Ask::message("/ccm_system_tokenauth/request", message);
    let ask = ask.bearer(grant["access_token"].as_str().unwrap()).signed(device, None, bench.now());
    assert_eq!(bench.send_tls(ask, &client).await.reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_file_is_shown_without_a_restart() {
    let (pki, folder) = (pki(), tempfile::tempdir().unwrap());
    let bench = https_bench(&pki, &folder).await;
    let client = TlsClient::new(&bench.clock, &pki.root(), None);
    let first = client.server_certificate(bench.tls_address).await.unwrap();
    // Files that do not belong together, as they are for a moment while both are exchanged.
    std::fs::write(folder.path().join("role.pem"), "not a certificate").unwrap();
    let second = pki.issue(&Wish::server(2, bench.now()));
    write_files(&folder, &second);
    until(async || {
        // No handshake fails meanwhile: the old one is shown until the new one can be.
        let shown = client.server_certificate(bench.tls_address).await.unwrap();
        assert!(shown == first || shown == second.chain[0]);
        (shown == second.chain[0]).then_some(())
    })
    .await;
}

fn pki() -> Pki {
    Pki::new("Example", proto::time::Timestamp::from_seconds(crate::support::NOW))
}

/// What the lists say of this management point: name and `SSLState` of the assigned one, the same of
/// `MPLIST1`, and the port of HTTPS.
async fn told(bench: &Bench, send: impl AsyncFn(Ask) -> crate::support::Answer) -> (String, String, u16) {
    let location = ClientLocationInfo::of_our_client(None, false);
    let request_type = MpRequestType::Assigned;
    let body = EnumerateMpLocationRequest { request_type, location, site_code: "RG1".into() }.to_xml();
    let ask = Ask::message("/ccm_system/request", plain(bench, MessageEndpoint::LocationManager, &body));
    let reply = EnumerateMpLocationReply::parse(&send(ask).await.reply()).unwrap();
    let [record] = reply.records.as_slice() else { panic!("{reply:?}") };
    let state = record.capabilities[0].value.clone().unwrap();
    let list = MpList::parse(&send(facts()).await.text()).unwrap();
    let listed = &list.management_points[0];
    assert_eq!(listed.fqdn, record.intranet_name);
    assert_eq!(listed.capabilities[0].value.as_deref(), Some(state.as_str()));
    let ask = Ask::message("/ccm_system/request", crate::support::location(bench));
    let reply = SiteInfoReply::parse(&send(ask).await.reply()).unwrap();
    (record.intranet_name.clone(), state, reply.sites[0].settings.as_ref().unwrap().https_port)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_how_clients_inside_reach_it() {
    let bench = Bench::start().await;
    let role = bench.add_role(RoleMode::Ehttp).await;
    let change = RoleChange {
        internal_url: Some(format!("https://localhost:{}", bench.tls_address.port())),
        ..RoleChange::default()
    };
    bench.site.set_role(&operator(), role.id, change).await.unwrap();
    let http = bench.address.to_string();
    let port = bench.tls_address.port();
    let expected = (http.clone(), "0".to_owned(), port);
    until(async || (told(&bench, async |ask| bench.send(ask).await).await == expected).then_some(())).await;
    set_mode(&bench, &role, RoleMode::Http).await;
    let expected = (http, "0".to_owned(), 443);
    until(async || (told(&bench, async |ask| bench.send(ask).await).await == expected).then_some(())).await;

    let (pki, folder) = (self::pki(), tempfile::tempdir().unwrap());
    let bench = https_bench(&pki, &folder).await;
    let client = TlsClient::new(&bench.clock, &pki.root(), None);
    let told = told(&bench, async |ask| bench.send_tls(ask, &client).await).await;
    assert_eq!(told, ("localhost".to_owned(), "7".to_owned(), 443), "as its internal URL says");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_its_role_among_several() {
    let bench = Bench::start().await;
    let here =
        Config { listen: "127.0.0.1:0".parse().unwrap(), role: Some("mp2".into()), ..Config::default() };
    let bound =
        ManagementPoint::bind(here, bench.site.clone(), bench.clock.clone(), Options::default()).unwrap();
    let (by_name, drain) = (bound.tls_address().unwrap(), runtime::Drain::new());
    let serving = drain.clone();
    tokio::spawn(async move { bound.run(serving).await.unwrap() });
    let add = async |name: &str, mode, internal_url: String| {
        let new = site::NewRole { internal_url, ..crate::support::new_role(name, mode, true) };
        bench.site.add_role(&operator(), new).await.unwrap();
    };
    add("mp1", RoleMode::Http, format!("http://{}", bench.address)).await;
    add("mp2", RoleMode::Ehttp, "https://localhost:1".into()).await;
    let client = under_site(&bench, None);
    // One by its name; the other by the address in its role's internal URL.
    until(async || client.server_certificate(by_name).await.ok()).await;
    until(async || client.server_certificate(bench.tls_address).await.err()).await;
    drain.begin(Duration::ZERO);
}
