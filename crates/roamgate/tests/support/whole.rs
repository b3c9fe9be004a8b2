//! A whole site in this process, on a clock of the test's own: site, management point, site
//! link, gateway and connection point, joined by real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use proto::id::RoleId;
use proto::time::Timestamp;
use runtime::{Clock, Drain};
use site::{By, InitConfig, NewConnector, NewGateway, NewRole, RoleMode, Site};

/// A running site with everything that a device can reach.
pub(crate) struct Whole {
    pub(crate) site: Site,
    pub(crate) gateway: SocketAddr,
    /// The management point's plain address.
    pub(crate) inside: SocketAddr,
    pub(crate) role: RoleId,
    /// The gateway's certificate, which devices must trust.
    pub(crate) gateway_certificate_pem: String,
    drain: Drain,
    _folder: tempfile::TempDir,
}

impl Whole {
    /// Starts it at this moment; done when the gateway has a tunnel.
    pub(crate) async fn start(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let quoted = |name: &str| toml::Value::String(path(name).display().to_string());
        let clock = Clock::manual(now.micros());
        let site = Site::init(
            InitConfig {
                database: path("site.db"),
                key_file: path("site.key"),
                code: "RG1".parse().expect("a site code"),
                name: "Test".to_owned(),
                hierarchy: None,
                intranet: Vec::new(),
                operator: "admin".to_owned(),
                operator_key_file: path("operator.key"),
                options: site::db::DbOptions::default(),
                lab: true,
            },
            clock.clone(),
        )
        .await
        .expect("a site");
        let drain = Drain::new();
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");

        let config = management_point::Config {
            listen: any,
            role: Some("MP1".to_owned()),
            ..management_point::Config::default()
        };
        let bound = management_point::ManagementPoint::bind(
            config,
            site.clone(),
            clock.clone(),
            management_point::Options { approve_everything: true },
        )
        .expect("a management point");
        let inside = bound.address();
        let management_point = bound.tls_address().expect("a free port for HTTPS");
        tokio::spawn(bound.run(drain.clone()));
        let link = console::SiteLinkConfig { listen: any, ..console::SiteLinkConfig::default() };
        let link = console::SiteLink::bind(link, site.clone(), clock.clone()).await.expect("a site link");
        let link_address = link.address();
        tokio::spawn(link.run(drain.clone()));
        let upkeep = site.clone();
        let stop = drain.token();
        tokio::spawn(async move { stop.run_until_cancelled(upkeep.run_upkeep()).await });

        let by = By::site();
        let role = NewRole {
            name: "MP1".to_owned(),
            internal_url: format!("https://localhost:{}", management_point.port()),
            mode: RoleMode::Ehttp,
            gateway_traffic: true,
        };
        let role = site.add_role(&by, role).await.expect("a role").id;
        // The gateway's port must be known before its bundle is written.
        let held = std::net::TcpListener::bind(any).expect("a port");
        let gateway = held.local_addr().expect("a port");
        drop(held);
        let host = format!("localhost:{}", gateway.port());
        let new = NewGateway { name: "GW1".to_owned(), host: host.clone(), address: host };
        let bundle = site.add_gateway(&by, new).await.expect("a gateway");
        write(&path("gateway.json"), &serde_json::to_vec(&bundle).expect("JSON"));
        let new = NewConnector {
            name: "CP1".to_owned(),
            site_links: vec![format!("localhost:{}", link_address.port())],
        };
        let bundle = site.add_connector(&by, new).await.expect("a connection point");
        write(&path("connector.json"), &serde_json::to_vec(&bundle).expect("JSON"));

        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .and_then(|parameters| parameters.self_signed(&key))
            .expect("a certificate");
        write(&path("gw.pem"), certificate.pem().as_bytes());
        write(&path("gw-key.pem"), key.serialize_pem().as_bytes());
        let config = format!(
            "bundle = {}\nstate_directory = {}\nlisten = [\"{gateway}\"]\ncertificate = {}\nkey = {}\nshards = 1\n",
            quoted("gateway.json"),
            quoted("gateway-state"),
            quoted("gw.pem"),
            quoted("gw-key.pem"),
        );
        let config = toml::from_str(&config).expect("a configuration");
        let bound = gateway::Gateway::bind(config, clock.clone()).expect("a gateway");
        tokio::spawn(bound.run(drain.clone()));
        let config = format!(
            "bundle = {}\nstate_directory = {}\nthreads = 1\n",
            quoted("connector.json"),
            quoted("connector-state")
        );
        let config = toml::from_str(&config).expect("a configuration");
        let bound = connector::ConnectionPoint::bind(&config, clock.clone()).expect("a connection point");
        tokio::spawn(bound.run(drain.clone()));

        let whole = Self {
            site,
            gateway,
            inside,
            role,
            gateway_certificate_pem: certificate.pem(),
            drain,
            _folder: folder,
        };
        whole.wait_until_connected().await;
        whole
    }

    /// The external base address at the door that takes tokens.
    pub(crate) fn outside(&self) -> String {
        format!("https://localhost:{}/CCM_Proxy_ServerAuth/{}", self.gateway.port(), self.role)
    }

    /// The external base address at the door that takes client certificates.
    pub(crate) fn outside_by_certificate(&self) -> String {
        format!("https://localhost:{}/CCM_Proxy_MutualAuth/{}", self.gateway.port(), self.role)
    }

    async fn wait_until_connected(&self) {
        let connected = async {
            loop {
                let gateways = self.site.list_gateways().await.expect("gateways");
                if gateways
                    .iter()
                    .any(|gateway| gateway.seen_by.iter().any(|(_, _, state)| state.tunnels > 0))
                {
                    return;
                }
                // Polling for a state: the loop ends with it.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), connected).await.expect("the gateway gets a tunnel");
    }

    /// Waits until the gateway has what the site says now.
    pub(crate) async fn wait_for_newest_version(&self) {
        let newest = self.site.current_snapshot().version;
        let known = async {
            loop {
                let known = self.site.acknowledgements(newest).await.expect("gateways");
                if known.waiting.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), known)
            .await
            .expect("the gateway gets the newest version");
    }

    /// Ends everything.
    pub(crate) async fn stop(self) {
        self.drain.begin(Duration::from_secs(5));
        self.drain.finish().await;
        self.site.close().await;
    }
}

fn write(path: &Path, bytes: &[u8]) {
    runtime::config::private_file::write(path, bytes).expect("a file");
}
