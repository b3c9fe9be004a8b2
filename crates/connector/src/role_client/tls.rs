//! TLS to a role. All connections between the same two ends are opened by one configuration, so that a new one takes
//! up a session of one before it: no signature at the role, and a few hundred bytes in place of its chain.

use std::sync::Arc;

use proto::trust::{Purpose, SiteRoot};
use runtime::Clock;
use runtime::tls::OwnCertificate;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::UnixTime;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use crate::peer::{DialError, Peer, PeerStream, Trust, Withdrawn, dial_tls};
use crate::role::{Issuer, RoleTls};

/// Bytes taken at once from a connection with TLS: a record, and what has come of the next.
const READ_AHEAD: usize = 32 * 1024;
/// Sessions of one role that wait to be taken up. TLS 1.3 takes each up once and gives two with each connection.
const SESSIONS: usize = 8;

/// Opens connections to one role, with one certificate of ours or none.
#[derive(Debug)]
pub(super) struct Dialler {
    config: Arc<ClientConfig>,
    /// Who must be there. The configuration asks a judge of its own, but not where a session is taken up.
    judge: Peer,
}

/// What became of a dial.
pub(super) enum Dialled {
    /// A connection to whom was meant.
    Trusted(Box<PeerStream>),
    /// A session was taken up whose certificate does not count any more. The role may have another by now.
    OfOldSession,
}

impl Dialler {
    pub(super) fn new(
        tls: &RoleTls,
        own: Option<&OwnCertificate>,
        root: &Arc<SiteRoot>,
        clock: &Clock,
    ) -> Result<Self, rustls::Error> {
        let peer = || Peer {
            trust: match &tls.issuer {
                Issuer::Site => Trust::Site { root: Arc::clone(root), purpose: Purpose::RoleTls },
                Issuer::Pki(store) => Trust::Pki(Arc::clone(store)),
            },
            name: tls.name.clone(),
            withdrawn: Withdrawn::default(),
            clock: clock.clone(),
        };
        let config = peer().tls(own, &[&TLS13, &TLS12], Some(b"http/1.1"))?;
        let mut config = Arc::unwrap_or_clone(config);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self { config: Arc::new(config), judge: peer() })
    }

    /// A connection. Whoever is there was judged for this very connection, also where it takes up a session.
    pub(super) async fn dial(&self, address: &str) -> Result<Dialled, DialError> {
        let stream = self.dial_anew(address).await?;
        let is_trusted = self.is_trusted(stream.get_ref().1);
        Ok(if is_trusted { Dialled::Trusted(stream) } else { Dialled::OfOldSession })
    }

    /// The same by a dialler that has no sessions yet.
    pub(super) async fn dial_anew(&self, address: &str) -> Result<Box<PeerStream>, DialError> {
        dial_tls(address, self.judge.name.clone(), Arc::clone(&self.config), READ_AHEAD).await.map(Box::new)
    }

    fn is_trusted(&self, tls: &ClientConnection) -> bool {
        if tls.handshake_kind() != Some(HandshakeKind::Resumed) {
            return true;
        }
        let Some([leaf, others @ ..]) = tls.peer_certificates() else { return false };
        // It goes by a clock of its own.
        let judged = self.judge.verify_server_cert(leaf, others, &self.judge.name, &[], UnixTime::now());
        judged.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use proto::id::RoleId;
    use proto::link::{RoleTarget, RoleTrust};
    use proto::pki::{TrustList, TrustedCa};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    use runtime::tls::{ServerCertificate, ServerTls, Tickets};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::{Party, RoleClient, RoleIo};
    use super::*;
    use crate::role::{Role, Roles};
    use crate::role_certificate::{Files, RoleCertificates};

    /// An hour before the year 2027, in which the role's first certificate ends.
    const NOW: i64 = 1_798_758_000_000_000;
    const HOUR: Duration = Duration::from_hours(1);

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        der: Vec<u8>,
    }

    fn params(name: &str, ends: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(ends, 1, 1);
        params
    }

    impl Authority {
        fn new() -> Self {
            let mut root = params("Ours", 2040);
            root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            let key = KeyPair::generate().unwrap();
            let der = root.self_signed(&key).unwrap().der().to_vec();
            Self { issuer: Issuer::new(root, key), der }
        }

        fn issue(&self, ends: i32) -> OwnCertificate {
            let mut leaf = params("localhost", ends);
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            let key = KeyPair::generate().unwrap();
            let certificate = leaf.signed_by(&key, &self.issuer).unwrap();
            OwnCertificate::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
        }

        fn role(&self, address: SocketAddr) -> Arc<Role> {
            let authority = TrustedCa { der: self.der.clone(), root: true };
            let target = RoleTarget {
                role: RoleId::FIRST,
                internal_url: format!("https://localhost:{}", address.port()),
                trust: RoleTrust::Pki { list: TrustList { authorities: vec![authority] } },
                client_certificate: false,
            };
            Arc::clone(Roles::new(&[target]).0.find(RoleId::FIRST).unwrap())
        }
    }

    /// Says one word on each connection, behind its tickets.
    async fn greet(listener: TcpListener, acceptor: TlsAcceptor) {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                // Whoever took up a session that does not count any more is gone by now.
                let _ = tls.write_all(b"!").await;
            }
        }
    }

    /// How a new connection was made, and whose certificate it stands on.
    async fn opened(client: &RoleClient, role: &Role) -> (HandshakeKind, Vec<u8>) {
        let mut io = client.open(role, None, &Party::new(role, None)).await.unwrap();
        assert_eq!(io.read_u8().await.unwrap(), b'!');
        let RoleIo::Tls(stream) = io else { panic!("a role behind TLS") };
        let tls = stream.get_ref().1;
        (tls.handshake_kind().unwrap(), tls.peer_certificates().unwrap()[0].to_vec())
    }

    #[tokio::test]
    async fn a_session_is_taken_up_while_its_certificate_counts_and_then_the_renewed_one_is_believed() {
        let (clock, authority) = (Clock::manual(NOW), Authority::new());
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let role = authority.role(listener.local_addr().unwrap());
        let certificate = Arc::new(ServerCertificate::new(authority.issue(2027)));
        let shown = Arc::clone(&certificate);
        let tls = ServerTls::new(clock.clone(), shown).alpn([b"http/1.1"]).tickets(Tickets::new().unwrap());
        let served = tokio::spawn(greet(listener, tls.build().unwrap().into()));
        let root = Arc::new(SiteRoot::new(authority.der.clone()).unwrap());
        let certificates = Arc::new(RoleCertificates::new(Files::new(Vec::new(), Vec::new())));
        let client = RoleClient::new(root, certificates, clock.clone());

        let (kind, first) = opened(&client, &role).await;
        assert_eq!(kind, HandshakeKind::Full);
        certificate.replace(authority.issue(2028));
        assert_eq!(opened(&client, &role).await, (HandshakeKind::Resumed, first.clone()));
        // Its tickets live for hours, and it does not.
        clock.advance(2 * HOUR);
        let (kind, renewed) = opened(&client, &role).await;
        assert!(kind == HandshakeKind::Full && renewed != first);
        assert_eq!(opened(&client, &role).await, (HandshakeKind::Resumed, renewed));
        served.abort();
    }

    #[tokio::test]
    async fn the_dialler_of_a_role_is_forgotten_when_nothing_goes_on_there() {
        let (clock, authority) = (Clock::manual(NOW), Authority::new());
        let role = authority.role(SocketAddr::from(([127, 0, 0, 1], 1)));
        let root = Arc::new(SiteRoot::new(authority.der.clone()).unwrap());
        let certificates = Arc::new(RoleCertificates::new(Files::new(Vec::new(), Vec::new())));
        let client = RoleClient::new(root, certificates, clock);
        let party = Party::new(&role, None);
        assert!(client.open(&role, None, &party).await.is_err(), "nobody is there");
        let used = tokio::time::Instant::now();
        client.lock().prune(used);
        assert!(client.lock().dialler(&party, used).is_some());
        client.lock().prune(used + HOUR);
        assert!(client.lock().dialler(&party, used).is_none());
    }
}
