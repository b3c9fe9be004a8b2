//! Each mode with each way of proving oneself, from inside and through a gateway: what the management
//! point does is what the table says, with the table's reason.

use management_point::Config;
use proto::client_certificate::ProofOf;
use proto::combination::{Mode, Scenario, Way, judge, judge_newcomer};
use proto::endpoint::{Caller, ENDPOINTS};
use proto::id::{ClientId, Guid};
use proto::identity::Method;
use proto::link::PEER_CERTIFICATE_HEADER;
use proto::message::MessageEndpoint;
use proto::reason::{REQUEST_ID_HEADER, Reason};
use proto::request::registration::{ApprovalStatus, ClientRegistrationResponse};
use runtime::config::private_file;
use site::{Role, RoleChange, RoleMode};
use tempfile::TempDir;

use crate::matrix::{let_in, question};
use crate::modes::pem;
use crate::support::message::plain;
use crate::support::pki::{Leaf, Pki, Wish};
use crate::support::tenant::Tenant;
use crate::support::{
    Answer, Ask, Bench, NOW, TestDevice, TlsClient, devices, fresh_id, heartbeat, operator,
    registration_body, until, user_assignments,
};

const USER: Guid = Guid::from_bytes([0x51; 16]);
const ENTRA_DEVICE: Guid = Guid::from_bytes([0xd1; 16]);

/// A site whose role changes its mode, with one device by certificate and one by everything else.
struct Scene {
    bench: Bench,
    role: Role,
    pki: Pki,
    leaf: Leaf,
    /// By certificate.
    first: (&'static TestDevice, ClientId),
    /// By the rest.
    second: (&'static TestDevice, ClientId),
    tokens: [(Method, String); 3],
    /// A device token of the tenant.
    of_tenant: String,
    _folder: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = proto::time::Timestamp::from_seconds(NOW);
        let pki = Pki::new("Example", now);
        let server = pki.issue(&Wish::server(1, now));
        let chain: String = server.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        std::fs::write(folder.path().join("role.pem"), chain).unwrap();
        private_file::write(folder.path().join("role.key"), pem("PRIVATE KEY", &server.pkcs8)).unwrap();
        let bench = Bench::configured(&[], |config| Config {
            certificate: Some(folder.path().join("role.pem")),
            key: Some(folder.path().join("role.key")),
            ..config
        })
        .await;
        let role = bench.add_role(RoleMode::Ehttp).await;
        bench.trust(&pki).await;
        let tenant = Tenant::new(0xaa);
        tenant.onboard(&bench).await;
        tenant.discover(&bench, &[(USER, None)]).await;
        let leaf = pki.issue(&Wish::client("pc1.example.org", 2, now));
        let [first, second, _] = devices();

        let client = bench.tls(Some(&leaf)).await;
        let registration = |device: &TestDevice| {
            let body = registration_body(device, "PC1", bench.now(), None);
            let message = plain(&bench, MessageEndpoint::ClientRegistration, &body);
            let message_id = fresh_id();
            let of = ProofOf {
                hierarchy: bench.site.facts().hierarchy,
                device_key: device.thumbprint(),
                message_id,
                created: bench.now(),
            };
            let ask = Ask::message("/ccm_system/request", message);
            let ask = leaf.proof(of).iter().fold(ask, |ask, (name, value)| ask.header(name, value));
            ask.signed_as(device, None, bench.now(), message_id)
        };
        let answer = bench.send_tls(registration(first), &client).await;
        let first_id = ClientRegistrationResponse::parse(&answer.reply()).unwrap();
        assert_eq!(first_id.approval, ApprovalStatus::Approved);
        let second_id = second.enroll(&bench).await;
        let own = second.confirm(&bench, second_id).await.pre_auth_token.unwrap();
        let of_tenant = tenant.device_token(ENTRA_DEVICE, now);
        let texts = [
            (Method::SiteToken, own),
            (Method::EntraDevice, of_tenant.clone()),
            (Method::EntraUser, tenant.user_token(USER, None, ENTRA_DEVICE, now)),
        ];
        let client = bench.tls(None).await;
        let mut tokens = Vec::new();
        for (method, text) in texts {
            let ask = Ask::get("/CCM_STS").bearer(&text).signed(second, Some(second_id), bench.now());
            let answer = bench.send_tls(ask, &client).await;
            assert_eq!(answer.status, 200, "{method}: {answer:?}");
            let grant: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            tokens.push((method, grant["access_token"].as_str().unwrap().to_owned()));
        }
        let tokens = tokens.try_into().unwrap();
        let (first, second) = ((first, first_id.client_id), (second, second_id));
        Self { bench, role, pki, leaf, first, second, tokens, of_tenant, _folder: folder }
    }

    async fn set(&self, mode: Mode) {
        let change = RoleChange { mode: Some(mode), ..RoleChange::default() };
        self.bench.site.set_role(&operator(), self.role.id, change).await.unwrap();
        let client = self.client(mode, None);
        until(async || {
            let https = client.server_certificate(self.bench.tls_address).await.is_ok();
            (https == (mode != Mode::Http)).then_some(())
        })
        .await;
    }

    fn client(&self, mode: Mode, shows: Option<&Leaf>) -> TlsClient {
        let root = if mode == Mode::Https { self.pki.root() } else { self.bench.site.root_certificate() };
        TlsClient::new(&self.bench.clock, &root, shows)
    }

    /// Sends as this mode is reached, by this way.
    async fn send(&self, mode: Mode, way: Way, ask: Ask, shows: Option<&Leaf>) -> Answer {
        let ask = match way {
            Way::Intranet => ask,
            Way::Gateway => {
                let ask = ask.header(REQUEST_ID_HEADER, &Guid::nil().to_string());
                match shows {
                    Some(leaf) => ask.header(PEER_CERTIFICATE_HEADER, &leaf.thumbprint().to_string()),
                    None => ask,
                }
            }
        };
        // A connection point shows nothing of the device's to us.
        let shows = shows.filter(|_| way == Way::Intranet);
        match mode {
            Mode::Http => self.bench.send(ask).await,
            Mode::Ehttp | Mode::Https => self.bench.send_tls(ask, &self.client(mode, shows)).await,
        }
    }

    /// A request of this method, for the device or for its user.
    async fn asks(&self, mode: Mode, way: Way, method: Method, scenario: Scenario) -> Option<Reason> {
        let (device, id) = if method == Method::Certificate { self.first } else { self.second };
        let message = match scenario {
            Scenario::Device => {
                let body = heartbeat(id, self.bench.now(), 0);
                device.message(&self.bench, id, MessageEndpoint::Discovery, &body)
            }
            Scenario::User => {
                device.message(&self.bench, id, MessageEndpoint::PolicyManager, &user_assignments(id))
            }
        };
        let token = self.tokens.iter().find(|(of, _)| *of == method).map(|(_, text)| text);
        let ask = match token {
            Some(token) => Ask::message("/ccm_system_tokenauth/request", message).bearer(token),
            None => Ask::message("/ccm_system/request", message),
        };
        let ask = ask.signed_as(device, Some(id), self.bench.now(), fresh_id());
        let shows = (method == Method::Certificate).then_some(&self.leaf);
        self.send(mode, way, ask, shows).await.reason()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_combination_is_answered_as_the_table_says() {
    let scene = Scene::start().await;
    let (mut allowed, mut refused) = (0, 0);
    for mode in [Mode::Ehttp, Mode::Https, Mode::Http] {
        scene.set(mode).await;
        for way in Way::ALL {
            for method in Method::PREFERENCE {
                // Nobody asks for a certificate over plain HTTP: inside, such a device is known by its key.
                let by = match (mode, way, method) {
                    (Mode::Http, Way::Intranet, Method::Certificate) => Method::SiteToken,
                    _ => method,
                };
                for scenario in Scenario::ALL {
                    // A user's request is a device's, too.
                    let device = judge(mode, by, None, way, Scenario::Device);
                    let expected = device.and_then(|()| judge(mode, by, None, way, scenario));
                    let expected = expected.err().map(|refused| refused.reason);
                    let answered = scene.asks(mode, way, method, scenario).await;
                    assert_eq!(answered, expected, "{mode} {way} {method} {scenario}");
                    *(if expected.is_none() { &mut allowed } else { &mut refused }) += 1;
                }
            }
        }
    }
    assert!(allowed > 10 && refused > 10);
    println!("{allowed} combinations allowed, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_without_any_proof_registers_where_the_table_says() {
    let scene = Scene::start().await;
    for mode in [Mode::Ehttp, Mode::Https, Mode::Http] {
        scene.set(mode).await;
        let device = TestDevice::new();
        let body = registration_body(&device, "PC9", scene.bench.now(), None);
        let message = plain(&scene.bench, MessageEndpoint::ClientRegistration, &body);
        let ask = Ask::message("/ccm_system/request", message).signed(&device, None, scene.bench.now());
        let answer = scene.send(mode, Way::Intranet, ask, None).await;
        let expected = judge_newcomer(mode, Way::Intranet).err().map(|refused| refused.reason);
        assert_eq!(answer.reason(), expected, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_tenants_and_users_open_what_the_table_says_and_nothing_else() {
    let scene = Scene::start().await;
    let (bench, mode) = (&scene.bench, Mode::Ehttp);
    let user = &scene.tokens[2].1;
    let mut seen = 0;
    for endpoint in ENDPOINTS {
        for way in Way::ALL {
            for caller in [Caller::Certificate, Caller::Entra, Caller::User] {
                let (device, id) = if caller == Caller::Certificate { scene.first } else { scene.second };
                let ask = match caller {
                    Caller::Entra => question(bench, endpoint).bearer(&scene.of_tenant),
                    Caller::User => question(bench, endpoint).bearer(user),
                    _ => question(bench, endpoint),
                };
                let message_id = fresh_id();
                let by_certificate = caller == Caller::Certificate;
                let ask =
                    if by_certificate { proving(bench, ask, device, &scene.leaf, message_id) } else { ask };
                let ask = ask.signed_as(device, Some(id), bench.now(), message_id);
                let answer = scene.send(mode, way, ask, by_certificate.then_some(&scene.leaf)).await;
                let expected = match way {
                    Way::Intranet => endpoint.open_inside_to(caller),
                    Way::Gateway => endpoint.open_outside_to(caller),
                };
                // Inside, whoever is nobody yet is let in by the table; a tenant's token is no token there.
                let expected = expected && (caller != Caller::Entra || endpoint.name == "CCM_STS");
                assert_eq!(let_in(&answer), expected, "{caller:?} {way} {}: {answer:?}", endpoint.path);
                assert!(expected || matches!(answer.status, 401 | 403), "{caller:?} {}", endpoint.path);
                seen += 1;
            }
        }
    }
    println!("{seen} pairs of class and endpoint");
}

fn proving(bench: &Bench, ask: Ask, device: &TestDevice, leaf: &Leaf, message_id: Guid) -> Ask {
    let proof = ProofOf {
        hierarchy: bench.site.facts().hierarchy,
        device_key: device.thumbprint(),
        message_id,
        created: bench.now(),
    };
    leaf.proof(proof).iter().fold(ask, |ask, (name, value)| ask.header(name, value))
}
