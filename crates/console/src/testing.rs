//! A site in a temporary folder, served as in a process of its own, for the tests of this crate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::bundle::{ConnectorBundle, LinkIdentity};
use proto::id::{ClientId, Guid, RequestId, Thumbprint};
use reqwest::{Client, Method, Response};
use runtime::telemetry::{ComponentSpec, Format, LogConfig};
use runtime::tls::{ClientTls, OwnCertificate, roots_from_der};
use runtime::{Clock, Drain};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use site::db::DbOptions;
use site::{
    By, Evidence, InitConfig, NewConnector, NewRegistration, NewReport, Registration, ReportEffect, SeenVia,
    Site,
};

use crate::{COMPONENTS, Links, OperatorApi, OperatorApiConfig, SiteLink, SiteLinkConfig};

const SEPTEMBER_2026: i64 = 1_790_000_000_000_000;
/// Longest wait of a test for something that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running site host.
pub(crate) struct Host {
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) key: String,
    pub(crate) api: SocketAddr,
    pub(crate) link: SocketAddr,
    pub(crate) links: Links,
    pub(crate) drain: Drain,
    _folder: tempfile::TempDir,
}

impl Host {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(SEPTEMBER_2026);
        let key_file = folder.path().join("operator.key");
        let config = InitConfig {
            database: folder.path().join("site.db"),
            key_file: folder.path().join("site.key"),
            code: "RG1".parse().unwrap(),
            name: "Test".into(),
            hierarchy: None,
            intranet: vec!["127.0.0.0/8".parse().unwrap()],
            operator: "anna".into(),
            operator_key_file: key_file.clone(),
            options: DbOptions::default(),
            lab: false,
        };
        let site = Site::init(config, clock.clone()).await.unwrap();
        let key = std::fs::read_to_string(key_file).unwrap().trim().to_owned();

        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let drain = Drain::new();
        let config = SiteLinkConfig { listen: loopback, ..SiteLinkConfig::default() };
        let link = SiteLink::bind(config, site.clone(), clock.clone()).await.unwrap();
        let config = OperatorApiConfig { listen: loopback, ..OperatorApiConfig::default() };
        let default = ComponentSpec { component: "roamgate", file: "roamgate.log", format: Format::Simple };
        let logs = LogConfig { components: COMPONENTS.to_vec(), ..LogConfig::new(default, clock.clone()) };
        let (_, logs) = runtime::telemetry::start(logs).unwrap();
        let api = OperatorApi::bind(config, site.clone(), logs, clock.clone(), link.links()).await.unwrap();
        let (api_address, link_address, links) = (api.address(), link.address(), link.links());
        drain.spawn(api.run(drain.clone()));
        drain.spawn(link.run(drain.clone()));
        Self { site, clock, key, api: api_address, link: link_address, links, drain, _folder: folder }
    }

    /// How this host is dialled by whoever trusts its site.
    pub(crate) fn tls(&self, certificate: Option<&OwnCertificate>) -> Arc<rustls::ClientConfig> {
        let roots = roots_from_der([CertificateDer::from(self.site.root_certificate())]).unwrap();
        let mut tls = ClientTls::with_roots(self.clock.clone(), roots);
        if let Some(certificate) = certificate {
            tls = tls.certificate(certificate);
        }
        tls.build().unwrap()
    }

    /// A client of the operator API, with a key or without.
    pub(crate) fn caller(&self, key: Option<&str>, certificate: Option<&OwnCertificate>) -> Caller {
        let client = Client::builder()
            .tls_backend_preconfigured((*self.tls(certificate)).clone())
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let base = format!("https://localhost:{}/api/v1", self.api.port());
        Caller { client, base, key: key.map(str::to_owned) }
    }

    /// The first operator.
    pub(crate) fn anna(&self) -> Caller {
        self.caller(Some(&self.key), None)
    }

    /// Adds a connection point and answers its bundle.
    pub(crate) async fn add_connector(&self, name: &str) -> ConnectorBundle {
        let new = NewConnector { name: name.into(), site_links: self.links.addresses() };
        self.site.add_connector(&By::site(), new).await.unwrap()
    }

    /// Registers a device from inside the named network.
    pub(crate) async fn register(&self, name: &str) -> Registration {
        let (_, certificate) = self_signed(name);
        let new = NewRegistration {
            signing_certificate: certificate.clone(),
            encryption_certificate: certificate,
            name: name.into(),
            fqdn: format!("{name}.example.org"),
            hardware_id: None,
            client_version: "0.1.0".into(),
            signs_requests: true,
            join: None,
            credentials: site::Credentials::default(),
            refused: Vec::new(),
            method_reason: "no certificate of a PKI".into(),
            via: SeenVia::Intranet,
        };
        let inside = std::net::IpAddr::from([127, 0, 0, 1]);
        self.site.register_client(Some(inside), new, Evidence::Network { source: inside }).await.unwrap()
    }

    /// Stores a device's heartbeat, which names the version of its settings.
    pub(crate) async fn heartbeat(&self, device: ClientId, version: &str) {
        let report = NewReport {
            client: Some(device),
            endpoint: "MP_DdrEndpoint".into(),
            payload_hash: Thumbprint::of(version.as_bytes()),
            kind: "heartbeat".into(),
            sent_at: None,
            request: RequestId::new(Guid::nil()),
            header: "{}".into(),
            document: b"<Report/>".to_vec(),
            message: None,
            effect: ReportEffect::Heartbeat {
                data: serde_json::json!({ "policy_version": version }).to_string(),
                policy_serial: Some(1),
            },
        };
        self.site.store_report(report).await.unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.drain.begin(Duration::ZERO);
    }
}

/// Somebody who calls the operator API.
pub(crate) struct Caller {
    client: Client,
    base: String,
    key: Option<String>,
}

impl Caller {
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<String>) -> Response {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.unwrap()
    }

    /// Status and JSON of an answer.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self.send(method, path, body.map(|body| body.to_string())).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }
}

/// A certificate such as devices make, and its DER.
pub(crate) fn self_signed(name: &str) -> (OwnCertificate, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let der = certificate.der().clone();
    let own = OwnCertificate::from_der(vec![der.clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    (own.unwrap(), der.to_vec())
}

/// The certificate of a bundle.
pub(crate) fn link_certificate(link: &LinkIdentity) -> OwnCertificate {
    OwnCertificate::from_pem(link.certificate_pem.as_bytes(), link.key_pem.as_bytes()).unwrap()
}
