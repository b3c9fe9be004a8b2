//! Handshakes between our own two ends, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use runtime::config::private_file;
use runtime::listen::{AcceptOptions, Admission, TlsConnection, Welcome, bind, serve_tls};
use runtime::tls::{
    CertificateByAlpn, CertificateFiles, ChainError, ChainTrust, ClientCertificates, ClientTls,
    OwnCertificate, Reloaded, ServerCertificate, ServerTls, Tickets, peer_thumbprint_sha256, roots_from_der,
    thumbprint_sha256,
};
use runtime::{Clock, Drain};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

const SEPTEMBER_2026: i64 = 1_790_000_000_000_000;
const HTTP: &[u8] = b"http/1.1";
const TUNNEL: &[u8] = b"roamgate-tunnel/1";

/// A certification authority for one test.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (OwnCertificate, String, String) {
        let mut params = params(name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (own(&certificate, &key), certificate.pem(), key.serialize_pem())
    }

    fn server(&self, name: &str) -> OwnCertificate {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth).0
    }

    fn client(&self, name: &str) -> OwnCertificate {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth).0
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

fn own(certificate: &rcgen::Certificate, key: &KeyPair) -> OwnCertificate {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    OwnCertificate::from_der(vec![certificate.der().clone()], key).unwrap()
}

fn self_signed(name: &str) -> OwnCertificate {
    let key = KeyPair::generate().unwrap();
    own(&params(name).self_signed(&key).unwrap(), &key)
}

fn clock() -> Clock {
    Clock::manual(SEPTEMBER_2026)
}

fn shown(certificate: OwnCertificate) -> Arc<ServerCertificate> {
    Arc::new(ServerCertificate::new(certificate))
}

fn dialer(authority: &Authority) -> ClientTls {
    ClientTls::with_roots(clock(), roots_from_der([authority.certificate.clone()]).unwrap())
}

type Ends = (server::TlsStream<DuplexStream>, client::TlsStream<DuplexStream>);

/// Makes the handshake, and sends a byte each way: in TLS 1.3 the client learns only afterwards that its
/// certificate was refused, and gets its tickets.
async fn connect(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> std::io::Result<Ends> {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("gateway.example").unwrap();
    let accept = async {
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(far).await?;
        stream.write_all(b"s").await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let dial = async {
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await?;
        stream.read_u8().await?;
        stream.write_all(b"c").await?;
        Ok(stream)
    };
    tokio::try_join!(accept, dial)
}

#[tokio::test]
async fn a_device_may_show_any_certificate_or_none() {
    let authority = Authority::new("public");
    let server = ServerTls::new(clock(), shown(authority.server("gateway.example")))
        .client_certificates(ClientCertificates::ProveKeyOnly)
        .build()
        .unwrap();

    let (accepted, _) = connect(&server, &dialer(&authority).build().unwrap()).await.unwrap();
    assert_eq!(peer_thumbprint_sha256(accepted.get_ref().1), None);
    assert_eq!(accepted.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));

    let device = self_signed("device");
    let client = dialer(&authority).certificate(&device).build().unwrap();
    let (accepted, _) = connect(&server, &client).await.unwrap();
    let expected = thumbprint_sha256(&device.chain()[0]);
    assert_eq!(peer_thumbprint_sha256(accepted.get_ref().1), Some(expected));
}

#[tokio::test]
async fn a_certificate_whose_key_the_device_does_not_hold_is_refused() {
    let authority = Authority::new("public");
    let server = ServerTls::new(clock(), shown(authority.server("gateway.example")))
        .client_certificates(ClientCertificates::ProveKeyOnly)
        .build()
        .unwrap();
    let (victim, thief) = (self_signed("victim"), self_signed("thief"));
    let forged = rustls::sign::CertifiedKey::new(victim.chain().to_vec(), thief.certified().key.clone());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = ClientConfig::builder_with_details(runtime::tls::provider(), Arc::new(clock()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots_from_der([authority.certificate.clone()]).unwrap())
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(forged.clone())));
        assert!(connect(&server, &Arc::new(client)).await.is_err(), "{version:?}");
    }
}

#[tokio::test]
async fn a_resumed_session_keeps_the_device_certificate_also_on_another_shard() {
    let authority = Authority::new("public");
    let tickets = Tickets::new().unwrap();
    let certificate = shown(authority.server("gateway.example"));
    let shard = || {
        ServerTls::new(clock(), certificate.clone())
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .tickets(tickets.clone())
            .build()
            .unwrap()
    };
    assert_eq!(shard().send_tls13_tickets, 1, "one is enough, and each costs");
    let device = self_signed("device");
    let client = dialer(&authority).certificate(&device).build().unwrap();
    let (first, _) = connect(&shard(), &client).await.unwrap();
    assert_eq!(first.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    let (second, _) = connect(&shard(), &client).await.unwrap();
    let connection = second.get_ref().1;
    assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(peer_thumbprint_sha256(connection), Some(thumbprint_sha256(&device.chain()[0])));
}

#[tokio::test]
async fn nothing_is_resumed_without_tickets_or_by_a_dialer_that_does_not_want_it() {
    let authority = Authority::new("public");
    let certificate = shown(authority.server("gateway.example"));
    let without = ServerTls::new(clock(), certificate.clone()).build().unwrap();
    let with = ServerTls::new(clock(), certificate).tickets(Tickets::new().unwrap()).build().unwrap();
    let wants = dialer(&authority).build().unwrap();
    let declines = dialer(&authority).without_resumption().build().unwrap();
    for (server, client) in [(&without, &wants), (&with, &declines)] {
        for _ in 0..2 {
            let (accepted, _) = connect(server, client).await.unwrap();
            assert_eq!(accepted.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn a_link_needs_a_good_chain_at_every_connection() {
    let (public, links, other) = (Authority::new("public"), Authority::new("links"), Authority::new("other"));
    let trust = Arc::new(ChainTrust::new([&links.certificate]).unwrap());
    let moving = clock();
    let server = ServerTls::new(moving.clone(), shown(public.server("gateway.example")))
        .client_certificates(ClientCertificates::RequireChain(Arc::clone(&trust)))
        .tickets(Tickets::new().unwrap())
        .build()
        .unwrap();

    let good = dialer(&public).certificate(&links.client("connection point 7")).build().unwrap();
    for _ in 0..2 {
        let (accepted, _) = connect(&server, &good).await.unwrap();
        let connection = accepted.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full), "never resumed");
        let chain = connection.peer_certificates().unwrap();
        let name = trust.judge(chain, moving.unix_time().unwrap()).unwrap();
        assert_eq!(name.common_name(), Some("connection point 7"));
    }

    let strangers = [
        other.client("connection point 7"),
        links.server("connection point 7"),
        self_signed("connection point 7"),
    ];
    for stranger in strangers {
        let client = dialer(&public).certificate(&stranger).build().unwrap();
        assert!(connect(&server, &client).await.is_err());
    }
    assert!(connect(&server, &dialer(&public).build().unwrap()).await.is_err(), "none shown");

    moving.advance(Duration::from_hours(365 * 24));
    assert!(connect(&server, &good).await.is_err(), "expired by the injected clock");
}

#[test]
fn a_chain_is_judged_the_same_outside_of_a_handshake() {
    let (links, other) = (Authority::new("links"), Authority::new("other"));
    let trust = ChainTrust::new([&links.certificate]).unwrap();
    let now = clock().unix_time().unwrap();
    let certificate = links.client("connection point 7").chain()[0].clone();
    assert_eq!(
        trust.judge(std::slice::from_ref(&certificate), now).unwrap().dns_names(),
        ["connection point 7"]
    );

    let judge = |chain: &[CertificateDer<'_>]| trust.judge(chain, now).unwrap_err();
    assert!(matches!(judge(&[]), ChainError::Missing));
    assert!(matches!(judge(other.client("x").chain()), ChainError::NotTrusted(_)));
    assert!(matches!(judge(&[CertificateDer::from(vec![0])]), ChainError::NotTrusted(_)));
    assert!(matches!(judge(&vec![certificate; 17]), ChainError::TooLong));
    let nobody = ChainTrust::new([]).unwrap();
    assert!(nobody.judge(links.client("x").chain(), now).is_err());
}

#[tokio::test]
async fn the_protocol_asked_for_decides_the_certificate() {
    let (public, site) = (Authority::new("public"), Authority::new("site"));
    let certificates = CertificateByAlpn::new(shown(public.server("gateway.example")))
        .with(TUNNEL, shown(site.server("gateway.example")));
    let server = ServerTls::new(clock(), Arc::new(certificates)).alpn([TUNNEL, HTTP]).build().unwrap();

    for (authority, offer) in [(&public, Some(HTTP)), (&public, None), (&site, Some(TUNNEL))] {
        let client = dialer(authority).alpn(offer).build().unwrap();
        let (accepted, _) = connect(&server, &client).await.unwrap();
        assert_eq!(accepted.get_ref().1.alpn_protocol(), offer);
    }
    assert!(connect(&server, &dialer(&site).alpn([HTTP]).build().unwrap()).await.is_err());
    assert!(connect(&server, &dialer(&public).alpn([b"h2"]).build().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_reload_reaches_new_connections_and_leaves_the_old_ones_alone() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let files =
        CertificateFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    let store = |authority: &Authority| {
        let (_, certificate, key) = authority.issue("gateway.example", ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(&files.certificate, certificate).unwrap();
        private_file::write(&files.key, key).unwrap();
    };
    store(&old);
    let certificate = Arc::new(ServerCertificate::from_files(files.clone()).unwrap());
    let server = ServerTls::new(clock(), certificate.clone()).build().unwrap();
    let (mut accepted, mut dialed) = connect(&server, &dialer(&old).build().unwrap()).await.unwrap();
    assert_eq!(certificate.reload().unwrap(), Reloaded::Unchanged);

    std::fs::write(&files.certificate, "half writ").unwrap();
    assert!(certificate.reload().is_err());
    connect(&server, &dialer(&old).build().unwrap()).await.expect("the old one stays in use");

    store(&new);
    assert_eq!(certificate.reload().unwrap(), Reloaded::Changed);
    connect(&server, &dialer(&new).build().unwrap()).await.unwrap();
    assert!(connect(&server, &dialer(&old).build().unwrap()).await.is_err());

    accepted.write_all(b"still").await.unwrap();
    let mut buffer = [0; 5];
    dialed.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"still");
}

#[tokio::test]
async fn a_server_is_known_by_name_and_by_the_injected_time() {
    let authority = Authority::new("public");
    let serve = |name| ServerTls::new(clock(), shown(authority.server(name))).build().unwrap();
    let client = dialer(&authority).build().unwrap();
    assert!(connect(&serve("other.example"), &client).await.is_err());

    let roots = roots_from_der([authority.certificate.clone()]).unwrap();
    let late = ClientTls::with_roots(Clock::manual(SEPTEMBER_2026 + 31_536_000_000_000), roots);
    assert!(connect(&serve("gateway.example"), &late.build().unwrap()).await.is_err());
    connect(&serve("gateway.example"), &client).await.unwrap();
}

#[tokio::test]
async fn an_unfinished_handshake_gives_its_place_back() {
    let authority = Authority::new("public");
    let config = ServerTls::new(clock(), shown(authority.server("gateway.example"))).build().unwrap();
    let listener = TcpListener::from_std(bind(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let options = AcceptOptions { handshake_timeout: Duration::from_millis(300), ..AcceptOptions::new(1) };
    let drain = Drain::new();
    let greet = |mut stream: TlsConnection, _peer| async move {
        let _ = stream.write_all(b"hello").await;
        let _ = stream.shutdown().await;
    };
    drain.spawn(serve_tls(listener, config, options, drain.clone(), greet));

    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "closed without a word");

    let client = TlsConnector::from(dialer(&authority).build().unwrap());
    let name = ServerName::try_from("gateway.example").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = client.connect(name, stream).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

/// Counts what it is asked.
#[derive(Default)]
struct Counting {
    connected: AtomicUsize,
    greeted: AtomicUsize,
    shook_hands: AtomicUsize,
}

impl Counting {
    fn counts(&self) -> [usize; 3] {
        [&self.connected, &self.greeted, &self.shook_hands].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Admission for Counting {
    type Pass = ();

    fn connected(&self, _: std::net::IpAddr) -> Option<()> {
        self.connected.fetch_add(1, Ordering::SeqCst);
        Some(())
    }

    fn greeted(&self, (): &mut (), hello: &rustls::server::ClientHello<'_>) -> Welcome {
        self.greeted.fetch_add(1, Ordering::SeqCst);
        let speaks_http = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == HTTP));
        if speaks_http { Welcome::InTurn } else { Welcome::Refused }
    }

    fn shook_hands(&self, (): &mut (), tls: &rustls::ServerConnection) -> bool {
        self.shook_hands.fetch_add(1, Ordering::SeqCst);
        tls.alpn_protocol() == Some(HTTP)
    }
}

#[tokio::test]
async fn a_peer_is_asked_about_when_it_has_done_its_own_part_and_not_before() {
    let authority = Authority::new("public");
    let config = ServerTls::new(clock(), shown(authority.server("gateway.example"))).alpn([HTTP]);
    let listener = TcpListener::from_std(bind(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let admission = Arc::new(Counting::default());
    let options = AcceptOptions::new(10).admit(Arc::clone(&admission));
    let counts = Arc::clone(options.cap.counts());
    let drain = Drain::new();
    let greet = |mut stream: TlsConnection, _peer| async move {
        let _ = stream.write_all(b"hello").await;
        let _ = stream.shutdown().await;
    };
    drain.spawn(serve_tls(listener, config.build().unwrap(), options, drain.clone(), greet));

    // A connection that says nothing, and one that says half of it, are not worth a question.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let dial = async |alpn: Option<&[u8]>| {
        let client = TlsConnector::from(dialer(&authority).alpn(alpn).build().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = client.connect(ServerName::try_from("gateway.example").unwrap(), stream).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map(|_| text)
    };
    assert!(dial(None).await.is_err(), "not let on after its ClientHello");
    assert_eq!(admission.counts(), [3, 1, 0]);
    assert_eq!((counts.not_admitted.get(), counts.handshakes_full.get()), (1, 0));
    assert_eq!(dial(Some(HTTP)).await.unwrap(), "hello");
    assert_eq!(admission.counts(), [4, 2, 1]);
}
