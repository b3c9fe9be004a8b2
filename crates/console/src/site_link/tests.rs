//! The site link over real TLS, with a connection point that is played by the test.

use std::time::Duration;

use proto::id::{Guid, RequestId};
use proto::link::{Down, EndpointCounters, Event, GatewayState, RoleTrust, Up};
use proto::pki::{TrustList, TrustedCa};
use proto::snapshot::{Publication, Snapshot};
use proto::time::Timestamp;
use proto::trust::SiteRoot;
use runtime::tls::OwnCertificate;
use rustls::pki_types::ServerName;
use site::{By, NewBulkToken, NewGateway, NewRole, NewTenant, RoleMode, WantedKeys};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::testing::{Host, PATIENCE, link_certificate, self_signed};

const ASK: &str =
    "GET /link HTTP/1.1\r\nhost: site\r\nconnection: Upgrade\r\nupgrade: roamgate-link/1\r\n\r\n";

/// The test's connection point.
struct Fake {
    io: TlsStream<TcpStream>,
}

impl Fake {
    /// Dials, asks, and answers the head of the response.
    async fn ask(host: &Host, certificate: Option<&OwnCertificate>, request: &str) -> (String, Self) {
        let tcp = TcpStream::connect(host.link).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut io = TlsConnector::from(host.tls(certificate)).connect(name, tcp).await.unwrap();
        io.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, io.read_u8()).await.unwrap().unwrap());
        }
        (String::from_utf8(head).unwrap(), Self { io })
    }

    async fn link(host: &Host, certificate: &OwnCertificate, version: u64) -> Self {
        let (head, mut fake) = Self::ask(host, Some(certificate), ASK).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        fake.send(&Up::Hello { program: "test 1".into(), version }).await;
        fake
    }

    async fn send(&mut self, message: &Up) {
        let text = serde_json::to_vec(message).unwrap();
        let mut frame = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(text);
        self.io.write_all(&frame).await.unwrap();
    }

    /// The next frame; `None` at the end of the link.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let length = self.io.read_u32().await.ok()?;
            let mut text = vec![0; usize::try_from(length).unwrap()];
            self.io.read_exact(&mut text).await.ok()?;
            Some(text)
        };
        timeout(PATIENCE, read).await.expect("something comes or the link ends")
    }

    /// The next message, signs of life passed over; `None` at the end of the link.
    async fn message(&mut self) -> Option<Down> {
        loop {
            let frame = self.frame().await?;
            if !frame.is_empty() {
                return Some(serde_json::from_slice(&frame).unwrap());
            }
        }
    }

    async fn publication(&mut self, host: &Host) -> (u64, bool, Publication) {
        let root = SiteRoot::new(host.site.root_certificate()).unwrap();
        match self.message().await {
            Some(Down::Publication { version, whole, signed }) => {
                (version, whole, signed.open(&root, host.site.now()).unwrap())
            }
            other => panic!("a publication, not {other:?}"),
        }
    }

    /// Takes what follows a hello: three lists and a whole snapshot.
    async fn snapshot(&mut self, host: &Host) -> Snapshot {
        assert!(matches!(self.message().await, Some(Down::Withdrawn { .. })));
        assert!(matches!(self.message().await, Some(Down::Roles { .. })));
        assert!(matches!(self.message().await, Some(Down::Gateways { .. })));
        match self.publication(host).await {
            (version, true, Publication::Snapshot(snapshot)) if snapshot.version == version => *snapshot,
            other => panic!("a whole snapshot, not {other:?}"),
        }
    }
}

async fn block_a_token(host: &Host) -> Guid {
    let token = host.site.create_bulk_token(&By::site(), NewBulkToken::default()).await.unwrap().token.id;
    host.site.block_bulk_token(&By::site(), token).await.unwrap();
    token
}

#[tokio::test]
async fn a_hello_brings_everything_and_each_change_follows_at_once() {
    let host = Host::start().await;
    let by = By::site();
    let role = NewRole {
        name: "MP".into(),
        internal_url: "http://mp:80".into(),
        mode: RoleMode::Http,
        gateway_traffic: true,
    };
    host.site.add_role(&by, role).await.unwrap();
    let certificate = link_certificate(&host.add_connector("CP").await.link);
    let (_, mut fake) = Fake::ask(&host, Some(&certificate), ASK).await;
    assert_eq!(fake.frame().await.unwrap(), b"", "signs of life do not wait for the hello");
    fake.send(&Up::Hello { program: "test 1".into(), version: 0 }).await;
    let mut snapshot = fake.snapshot(&host).await;
    assert_eq!(snapshot, *host.site.current_snapshot());

    let token = block_a_token(&host).await;
    let (version, whole, Publication::Delta(delta)) = fake.publication(&host).await else {
        panic!("a delta")
    };
    assert!(!whole && delta.from == snapshot.version && delta.to == version);
    let before = snapshot.version;
    snapshot.apply_delta(delta).unwrap();
    assert!(snapshot.blocked_bulk_tokens.contains(&token));

    let new = NewGateway { name: "GW".into(), host: "gw".into(), address: "gw:443".into() };
    let gateway = host.site.add_gateway(&by, new).await.unwrap().gateway;
    let Some(Down::Gateways { gateways }) = fake.message().await else { panic!("the gateways") };
    assert_eq!((gateways.len(), gateways[0].gateway, gateways[0].host.as_str()), (1, gateway, "gw"));

    // A gateway that fell behind gets what leads it on; one that has nothing gets all.
    fake.send(&Up::NeedSnapshot { have: before }).await;
    assert!(
        matches!(fake.publication(&host).await, (_, false, Publication::Delta(delta)) if delta.from == before)
    );
    fake.send(&Up::NeedSnapshot { have: 0 }).await;
    assert!(matches!(fake.publication(&host).await, (_, true, Publication::Snapshot(_))));
    fake.send(&Up::NeedSnapshot { have: snapshot.version }).await;
    assert!(
        matches!(fake.publication(&host).await, (_, true, Publication::Snapshot(_))),
        "a current one is sent whole"
    );

    host.site.remove_gateway(&by, gateway).await.unwrap();
    let Some(Down::Withdrawn { thumbprints }) = fake.message().await else { panic!("what is withdrawn") };
    assert_eq!(thumbprints.len(), 1);
}

#[tokio::test]
async fn a_connection_point_that_comes_back_gets_only_what_it_missed() {
    let host = Host::start().await;
    let certificate = link_certificate(&host.add_connector("CP").await.link);
    let mut fake = Fake::link(&host, &certificate, 0).await;
    let version = fake.snapshot(&host).await.version;
    drop(fake);
    block_a_token(&host).await;
    let mut fake = Fake::link(&host, &certificate, version).await;
    for _ in 0..3 {
        fake.message().await.unwrap();
    }
    assert!(
        matches!(fake.publication(&host).await, (_, false, Publication::Delta(delta)) if delta.from == version)
    );
}

#[tokio::test]
async fn reports_reach_the_site_and_the_operator() {
    let host = Host::start().await;
    let bundle = host.add_connector("CP").await;
    let new = NewGateway { name: "GW".into(), host: "gw".into(), address: "gw:443".into() };
    let gateway = host.site.add_gateway(&By::site(), new).await.unwrap().gateway;
    let mut fake = Fake::link(&host, &link_certificate(&bundle.link), 0).await;
    let version = fake.snapshot(&host).await.version;

    fake.send(&Up::Gateway(GatewayState { gateway, tunnels: 2, shards: 2, version, problem: None })).await;
    let row = EndpointCounters {
        name: "/CCM_PROXY_SERVERAUTH/1/CCM_STS\r\n".into(),
        requests: 1,
        request_bytes: 2,
        responses: 1,
        response_bytes: 3,
        elapsed_micros: 4000,
        failed: 0,
        with_token: 1,
        concurrent_max: 1,
    };
    let ahead = host.site.now().plus(Duration::from_hours(24));
    fake.send(&Up::Counters {
        gateway: Some(gateway),
        from: Timestamp::default(),
        to: ahead,
        endpoints: vec![row],
    })
    .await;
    let request: RequestId = "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap();
    let event = Event {
        at: ahead,
        request,
        hop: "gateway".into(),
        target: "GET /CCM_STS".into(),
        status: 403,
        reason: Some("RG-1206".into()),
        detail: "\u{1b}[2J".repeat(1000),
        device: None,
        elapsed_ms: 3,
    };
    fake.send(&Up::Events { events: vec![event] }).await;
    // An answer to this shows that everything before it was taken.
    fake.send(&Up::NeedSnapshot { have: 0 }).await;
    fake.publication(&host).await;

    let anna = host.anna();
    let shown = anna.get("/gateways/GW").await;
    assert_eq!((&shown["state"], &shown["tunnels"]), (&"connected".into(), &2.into()), "{shown}");
    assert_eq!(shown["version"], shown["site_version"]);
    assert!(shown["last_ack_at"].is_string());
    let from = &shown["connection_points"][0];
    assert_eq!((&from["name"], &from["tunnels"], &from["shards"]), (&"CP".into(), &2.into(), &2.into()));
    assert!(from["since"].is_string() && from["since"] == from["reported_at"], "{shown}");
    let connector = anna.get("/connection-points").await[0].clone();
    assert_eq!((&connector["connected"], &connector["program"]), (&true.into(), &"test 1".into()));
    assert_eq!(connector["tunnels"], serde_json::json!({ "GW": 2 }));
    let to = &connector["gateways"][0];
    assert_eq!((&to["name"], &to["tunnels"], &to["version"]), (&"GW".into(), &2.into(), &version.into()));
    let trace = anna.get(&format!("/requests/{request}")).await["events"][0].clone();
    assert_eq!((&trace["reason"], &trace["status"]), (&"RG-1206".into(), &403.into()));
    assert_eq!(trace["detail"].as_str().unwrap().len(), 300, "bounded, and without control characters");
    let counters = host.site.list_counters(Timestamp::default());
    assert_eq!(
        (counters.len(), counters[0].endpoints[0].name.as_str()),
        (1, "/CCM_PROXY_SERVERAUTH/1/CCM_STS")
    );
    assert!(counters[0].to <= host.site.now(), "nothing is reported from the future");

    drop(fake);
    let gone = async {
        while host.links.is_up(bundle.connector) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    let shown = anna.get("/gateways/GW").await;
    assert_eq!(shown["state"], "unknown", "who is gone says nothing about now");
    assert_eq!(shown["connection_points"], serde_json::json!([]));
    assert_eq!(anna.get("/connection-points").await[0]["tunnels"], serde_json::json!({}));
}

#[tokio::test]
async fn a_gateways_wish_for_keys_reaches_the_fetcher_if_the_tenant_is_onboarded() {
    let host = Host::start().await;
    let tenant = Guid::from_bytes([4; 16]);
    let new = NewTenant {
        tenant,
        name: "Contoso".into(),
        issuers: Vec::new(),
        audiences: Vec::new(),
        client_app_id: "app".into(),
        resource: "https://ConfigMgrService".into(),
        authority: "https://login.example/common".into(),
        graph_url: String::new(),
        discovery_app_id: String::new(),
        secret: None,
        secret_expires_at: None,
        ca_pem: None,
        discovery: false,
    };
    host.site.add_tenant(&By::site(), new).await.unwrap();
    // Being onboarded is a reason to fetch of its own.
    host.site.take_wanted_keys();
    host.clock.advance(Duration::from_mins(1));
    assert_eq!(host.site.take_wanted_keys(), WantedKeys::Nothing);
    let mut fake = Fake::link(&host, &link_certificate(&host.add_connector("CP").await.link), 0).await;
    fake.snapshot(&host).await;
    for (wanted, expected) in
        [(Guid::from_bytes([5; 16]), WantedKeys::Nothing), (tenant, WantedKeys::Fetch(tenant))]
    {
        fake.send(&Up::WantKeys { tenant: wanted }).await;
        // An answer to this shows that the wish was taken.
        fake.send(&Up::NeedSnapshot { have: 0 }).await;
        fake.publication(&host).await;
        assert_eq!(host.site.take_wanted_keys(), expected);
    }
}

#[tokio::test]
async fn a_role_in_https_mode_comes_with_the_authorities_it_is_judged_by_and_their_changes() {
    let host = Host::start().await;
    let role = NewRole {
        name: "MP".into(),
        internal_url: "https://mp.example".into(),
        mode: RoleMode::Https,
        gateway_traffic: true,
    };
    host.site.add_role(&By::site(), role).await.unwrap();
    let mut fake = Fake::link(&host, &link_certificate(&host.add_connector("CP").await.link), 0).await;
    assert!(matches!(fake.message().await, Some(Down::Withdrawn { .. })));
    let Some(Down::Roles { roles }) = fake.message().await else { panic!("the roles") };
    assert_eq!(roles[0].trust, RoleTrust::Pki { list: TrustList::default() });
    assert!(matches!(fake.message().await, Some(Down::Gateways { .. })));
    fake.publication(&host).await;
    let authority = TrustedCa { der: authority("Contoso Root"), root: true };
    host.site.add_trust(&By::site(), vec![authority.clone()]).await.unwrap();
    let list = loop {
        match fake.message().await {
            Some(Down::Roles { roles }) => break roles[0].trust.clone(),
            Some(Down::Publication { .. }) => {}
            other => panic!("roles and a publication, not {other:?}"),
        }
    };
    assert_eq!(list, RoleTrust::Pki { list: TrustList { authorities: vec![authority] } });
}

/// The certificate of somebody's authority, DER.
fn authority(name: &str) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[tokio::test]
async fn a_withdrawn_connection_point_is_cut_off_at_once_and_stays_out() {
    let host = Host::start().await;
    let bundle = host.add_connector("CP").await;
    let other = host.add_connector("CP2").await;
    let certificate = link_certificate(&bundle.link);
    let mut fake = Fake::link(&host, &certificate, 0).await;
    fake.snapshot(&host).await;
    let mut second = Fake::link(&host, &link_certificate(&other.link), 0).await;
    second.snapshot(&host).await;

    host.site.remove_connector(&By::site(), bundle.connector).await.unwrap();
    let ended = async { while fake.message().await.is_some() {} };
    timeout(Duration::from_secs(5), ended).await.expect("the link ends within five seconds");
    let (head, _) = Fake::ask(&host, Some(&certificate), ASK).await;
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("RG-1401"), "{head}");
    // The others hear of it and go on.
    let Some(Down::Withdrawn { thumbprints }) = second.message().await else { panic!("what is withdrawn") };
    assert_eq!(thumbprints.len(), 1);
}

#[tokio::test]
async fn only_a_connection_point_of_this_site_is_linked() {
    let host = Host::start().await;
    let elsewhere = Host::start().await;
    let new = NewGateway { name: "GW".into(), host: "gw".into(), address: "gw:443".into() };
    let gateway = link_certificate(&host.site.add_gateway(&By::site(), new).await.unwrap().link);
    let foreign = link_certificate(&elsewhere.add_connector("CP").await.link);
    let (device, _) = self_signed("device");
    for stranger in [None, Some(&device), Some(&gateway), Some(&foreign)] {
        let (head, _) = Fake::ask(&host, stranger, ASK).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    let certificate = link_certificate(&host.add_connector("CP").await.link);
    for (request, status) in [
        ("GET /link HTTP/1.1\r\nhost: site\r\n\r\n", "426"),
        ("GET /link HTTP/1.1\r\nhost: site\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", "426"),
        ("GET /api/v1/site HTTP/1.1\r\nhost: site\r\n\r\n", "404"),
        ("POST /link HTTP/1.1\r\nhost: site\r\ncontent-length: 0\r\n\r\n", "404"),
    ] {
        let (head, _) = Fake::ask(&host, Some(&certificate), request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
    }
}

#[tokio::test]
async fn a_newer_link_takes_the_older_ones_place() {
    let host = Host::start().await;
    let bundle = host.add_connector("CP").await;
    let certificate = link_certificate(&bundle.link);
    let mut first = Fake::link(&host, &certificate, 0).await;
    first.snapshot(&host).await;
    let mut second = Fake::link(&host, &certificate, 0).await;
    second.snapshot(&host).await;
    while first.message().await.is_some() {}
    assert!(host.links.is_up(bundle.connector));
    block_a_token(&host).await;
    second.publication(&host).await;
}

#[tokio::test]
async fn who_breaks_the_protocol_is_left() {
    let host = Host::start().await;
    let certificate = link_certificate(&host.add_connector("CP").await.link);
    let too_long = u32::try_from(proto::limits::LINK_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
    let before_hello = serde_json::to_vec(&Up::NeedSnapshot { have: 0 }).unwrap();
    let mut early = u32::try_from(before_hello.len()).unwrap().to_be_bytes().to_vec();
    early.extend(before_hello);
    for wrong in [&too_long[..], b"\0\0\0\x02{}", &early] {
        let (_, mut fake) = Fake::ask(&host, Some(&certificate), ASK).await;
        fake.io.write_all(wrong).await.unwrap();
        assert!(fake.message().await.is_none(), "{wrong:?}");
    }
    let mut fake = Fake::link(&host, &certificate, 0).await;
    fake.snapshot(&host).await;
    fake.send(&Up::Hello { program: "again".into(), version: 0 }).await;
    assert!(fake.message().await.is_none(), "a second hello");
}

#[tokio::test]
async fn a_drain_ends_every_link() {
    let host = Host::start().await;
    let certificate = link_certificate(&host.add_connector("CP").await.link);
    let mut fake = Fake::link(&host, &certificate, 0).await;
    fake.snapshot(&host).await;
    host.drain.begin(PATIENCE);
    assert!(fake.message().await.is_none());
    assert_eq!(host.drain.finish().await, runtime::drain::Finished::Clean);
}
