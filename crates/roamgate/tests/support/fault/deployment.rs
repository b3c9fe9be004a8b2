//! A site host, a gateway and a connection point as processes of their own, with two roles of this test inside.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use client::identity::KeyMaterial;
use client::state::{MemoryStore, Setup, State};
use client::trust::Pin;
use client::{Device as Client, DeviceOptions};
use proto::time::Timestamp;
use runtime::Clock;
use runtime::config::private_file;
use runtime::tls::{ClientTls, OwnCertificate, ServerCertificate, ServerTls};
use serde_json::Value;

use super::device::Device;
use super::inner::Inner;
use super::line::Line;
use super::process::Process;
use crate::support::roamgate;

/// Time until a role answers.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is not as usual.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Further lines of the section `[gateway]`.
    pub(crate) gateway: String,
    /// Further lines of the section `[connection-point]`.
    pub(crate) connector: String,
    /// Most descriptors of the gateway.
    pub(crate) gateway_descriptors: Option<u32>,
}

/// Everything, running.
pub(crate) struct Deployment {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) site: Process,
    pub(crate) gateway: Process,
    pub(crate) connector: Process,
    /// Between connection point and gateway.
    pub(crate) line: Line,
    pub(crate) gateway_address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The server of the role that the steady traffic is for.
    pub(crate) inner: Inner,
    /// The server of another role.
    pub(crate) other: Inner,
    /// Enrolled devices, at the first role.
    pub(crate) devices: Vec<Device>,
    /// The base of the other role.
    pub(crate) other_base: String,
    /// The base of the real management point.
    pub(crate) management_point_base: String,
    api_port: u16,
}

impl Deployment {
    /// Sets everything up as its documentation says; done when two devices are enrolled and served.
    pub(crate) async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let [mp, mp_tls, link, api, gateway, admin, inner, other] = free_ports();
        let init = [
            "site",
            "init",
            "--site-code",
            "RG1",
            "--listen",
            "127.0.0.1",
            "--host",
            "localhost",
            "--mp-port",
        ];
        let mut words: Vec<String> = init.map(str::to_owned).to_vec();
        words.extend([mp.to_string(), "--mp-tls-port".into(), mp_tls.to_string()]);
        words.extend(["--link-port".into(), link.to_string(), "--api-port".into(), api.to_string()]);
        words.extend(["--dir".into(), path("site").display().to_string()]);
        run(&mut tokio::process::Command::new(roamgate()), &words).await;

        let gateway_address = SocketAddr::from(([127, 0, 0, 1], gateway));
        let line = Line::start(gateway_address).await;
        let tls = inner_tls(folder.path());
        let (inner, other) = (Inner::start(inner, Arc::clone(&tls)).await, Inner::start(other, tls).await);
        let mut deployment = Self {
            site: Process::new("site", path("site/site.toml"), folder.path()),
            gateway: Process::new("gateway", path("gateway.toml"), folder.path()),
            connector: Process::new("connection-point", path("connection-point.toml"), folder.path()),
            line,
            gateway_address,
            admin: SocketAddr::from(([127, 0, 0, 1], admin)),
            inner,
            other,
            devices: Vec::new(),
            other_base: String::new(),
            management_point_base: String::new(),
            api_port: api,
            folder,
        };
        deployment.gateway.descriptors = options.gateway_descriptors;
        deployment.site.start();
        deployment.wait_for_site().await;
        deployment.configure(&options, mp_tls).await;
        deployment.gateway.start();
        deployment.connector.start();
        deployment.wait_until_connected().await;
        deployment.enrol().await;
        deployment
    }

    async fn configure(&mut self, options: &Options, mp_tls: u16) {
        let mut bases = Vec::new();
        let authority = self.folder.path().join("authority.pem");
        self.operator(&["trust", "add", authority.to_str().expect("UTF-8")]).await;
        for (name, port, mode) in [
            ("MP1", mp_tls, "ehttp"),
            ("INNER", self.inner.port, "https"),
            ("OTHER", self.other.port, "https"),
        ] {
            let url = format!("https://localhost:{port}");
            let role = self.operator(&["role", "add", name, "--mode", mode, "--internal-url", &url]).await;
            let id = role["role_id"].as_str().unwrap_or_else(|| panic!("no role id: {role}")).to_owned();
            bases.push(format!("/CCM_Proxy_ServerAuth/{id}"));
        }
        let [management_point, inner, other] = bases.try_into().expect("three roles");
        self.management_point_base = management_point;
        self.other_base = other;
        // Its devices are made later: this is kept until then.
        self.devices = vec![Device {
            tls: Arc::new(empty_tls()),
            token: String::new(),
            gateway: self.gateway_address,
            base: inner,
        }];
        self.write_certificate();
        let folder = self.folder.path();
        let (bundle, port) = (folder.join("gateway.json"), self.line.port);
        let address = format!("127.0.0.1:{port}");
        let host = format!("localhost:{}", self.gateway_address.port());
        let words = ["gateway", "add", "GW1", "--address", &address, "--host", &host, "--bundle"];
        self.operator(&[&words[..], &[bundle.to_str().expect("UTF-8")]].concat()).await;
        let bundle = folder.join("connection-point.json");
        let words = ["connection-point", "add", "CP1", "--bundle", bundle.to_str().expect("UTF-8")];
        self.operator(&words).await;
        let quoted = |name: &str| toml::Value::String(folder.join(name).display().to_string()).to_string();
        let gateway = format!(
            "[gateway]\nbundle = {}\nstate_directory = {}\nlisten = [\"{}\"]\ncertificate = {}\nkey = {}\n\
             admin_listen = \"{}\"\nshards = 2\ncertificate_poll = \"1s\"\n{}\n",
            quoted("gateway.json"),
            quoted("gateway-state"),
            self.gateway_address,
            quoted("gateway.pem"),
            quoted("gateway.key"),
            self.admin,
            options.gateway,
        );
        let connector = format!(
            "[connection-point]\nbundle = {}\nstate_directory = {}\nthreads = 2\n{}\n",
            quoted("connection-point.json"),
            quoted("connection-point-state"),
            options.connector,
        );
        write(&folder.join("gateway.toml"), gateway.as_bytes());
        write(&folder.join("connection-point.toml"), connector.as_bytes());
    }

    /// A new certificate of the gateway, issued by the authority that devices trust.
    pub(crate) fn write_certificate(&self) {
        let folder = self.folder.path();
        let (certificate, key) = issue(folder);
        // One after the other, as people copy files: in between they do not belong together.
        write(&folder.join("gateway.pem"), certificate.as_bytes());
        write(&folder.join("gateway.key"), key.as_bytes());
    }

    async fn enrol(&mut self) {
        let made = self.operator(&["bulk-token", "new", "--max-uses", "2"]).await;
        let bulk = made["token"].as_str().expect("a token").to_owned();
        let template = self.devices.pop().expect("a template");
        let clock = Clock::system();
        let authority = std::fs::read_to_string(self.folder.path().join("authority.pem")).expect("PEM");
        let (_, role) = self.management_point_base.rsplit_once('/').expect("a role");
        let gateway = format!("localhost:{}/CCM_Proxy_MutualAuth/{role}", self.gateway_address.port());
        for number in 0..2 {
            let setup = Setup {
                name: format!("fault-{number}"),
                hardware_id: format!("2:{number:040X}"),
                site_code: None,
                inside: Vec::new(),
                gateways: vec![gateway.parse().expect("a gateway")],
                always_internet: true,
                ca: Some(authority.clone()),
                pin: Pin::from_file(&self.folder.path().join("site/site-root.pem")).expect("the site root"),
            };
            let now = Timestamp::from_micros(clock.now());
            let options = DeviceOptions {
                state: State::new(setup),
                key: KeyMaterial::generate(now).expect("a key"),
                store: Arc::new(MemoryStore::default()),
                clock: clock.clone(),
                system_roots: false,
            };
            let mut client = Client::new(options).expect("a device");
            client.use_bulk_token(bulk.clone().into());
            client.register().await.expect("registered");
            assert!(client.confirm().await.expect("confirmed").approval.is_approved());
            let token = client.ccm_token().await.expect("a CCM token").expose().to_owned();
            let roots = runtime::tls::roots_from_pem(authority.as_bytes()).expect("roots");
            let tls = ClientTls::with_roots(clock.clone(), roots)
                .certificate(client.identity().tls())
                .alpn(["http/1.1"])
                .build()
                .expect("TLS");
            self.devices.push(Device { tls, token, ..template.clone() });
        }
    }

    /// Runs an operator command and answers its JSON.
    pub(crate) async fn operator(&self, words: &[&str]) -> Value {
        self.try_operator(words).await.unwrap_or_else(|said| panic!("{words:?}: {said}"))
    }

    async fn try_operator(&self, words: &[&str]) -> Result<Value, String> {
        let folder = self.folder.path();
        let output = tokio::process::Command::new(roamgate())
            .args(words)
            .args(["--output", "json", "--server", &format!("https://localhost:{}", self.api_port)])
            .arg("--ca-file")
            .arg(folder.join("site/site-root.pem"))
            .arg("--operator-key-file")
            .arg(folder.join("site/operator.key"))
            .env("ROAMGATE_CONTEXT", folder.join("context.toml"))
            .env("ROAMGATE_CLOCK_OFFSET_FILE", folder.join("clock-offset"))
            .kill_on_drop(true)
            .output()
            .await
            .expect("the command runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// Waits until the operator API answers.
    pub(crate) async fn wait_for_site(&mut self) {
        let began = std::time::Instant::now();
        while let Err(said) = self.try_operator(&["site", "show"]).await {
            self.site.check();
            assert!(began.elapsed() < PATIENCE, "the site does not answer: {said}");
        }
    }

    /// Waits until every shard of the gateway has a tunnel, and the gateway what the site says now.
    pub(crate) async fn wait_until_connected(&mut self) {
        let began = std::time::Instant::now();
        loop {
            let gateways = self.operator(&["gateway", "list"]).await;
            let gateway = &gateways[0];
            if gateway["tunnels"].as_u64() >= Some(2) && gateway["version"] == gateway["site_version"] {
                return;
            }
            for process in [&mut self.site, &mut self.gateway, &mut self.connector] {
                process.check();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "not connected: {gateways}\n{}\n{}",
                self.gateway.output(),
                self.connector.output()
            );
        }
    }

    /// What the gateway's private page answers: status and text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(format!("http://{}{path}", self.admin)).send().await.expect("the page");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }
}

/// TLS of nobody, until a device has its own.
fn empty_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// Certificate and key for `localhost`, issued by the authority of this folder, which is made if need be.
fn issue(folder: &Path) -> (String, String) {
    let (authority, key) = (folder.join("authority.pem"), folder.join("authority.key"));
    if !authority.exists() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Faults");
        let own = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&own).expect("an authority");
        write(&authority, certificate.pem().as_bytes());
        write(&key, own.serialize_pem().as_bytes());
    }
    let read = |path: &Path| std::fs::read_to_string(path).expect("the authority");
    let own = rcgen::KeyPair::from_pem(&read(&key)).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read(&authority), own).expect("an authority");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    (leaf.pem(), key.serialize_pem())
}

/// The inner servers' end of TLS.
fn inner_tls(folder: &Path) -> Arc<rustls::ServerConfig> {
    let (certificate, key) = issue(folder);
    let own = OwnCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).expect("a certificate");
    ServerTls::new(Clock::system(), Arc::new(ServerCertificate::new(own)))
        .alpn(["http/1.1"])
        .build()
        .expect("TLS")
}

async fn run(command: &mut tokio::process::Command, words: &[String]) {
    let output = command.args(words).output().await.expect("the command runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(path: &PathBuf, bytes: &[u8]) {
    private_file::write(path, bytes).expect("a file");
}

/// Free ports below those that the system gives to outgoing connections, so that nobody takes the port of a role
/// that is down; another set for each deployment of this process.
fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + u16::try_from(runtime::id::random() % 8_000).expect("below 8,000");
    let _ = NEXT.compare_exchange(0, first, Ordering::SeqCst, Ordering::SeqCst);
    let mut ports = [0; N];
    for port in &mut ports {
        *port = loop {
            let candidate = NEXT.fetch_add(1, Ordering::SeqCst);
            if TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
                break candidate;
            }
        };
    }
    ports
}
