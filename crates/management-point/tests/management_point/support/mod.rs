//! A site in a temporary folder, a management point before it, and devices that talk to it.

mod device;
mod http;
pub(crate) mod message;
pub(crate) mod pki;
pub(crate) mod tenant;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use management_point::{Config, ManagementPoint, Options};
use proto::time::Timestamp;
use runtime::{Clock, Drain};
use site::{By, InitConfig, NewBulkToken, NewRole, Role, RoleMode, Site};
use tempfile::TempDir;

pub(crate) use device::{TestDevice, Token, devices, fresh_id};
pub(crate) use http::{Answer, Ask, send_head, send_raw};
pub(crate) use message::{confirmation_body, heartbeat, location, registration_body, request_assignments};
pub(crate) use message::{registration_of_another_client, registration_with, user_assignments};
pub(crate) use tls::TlsClient;

/// Shortly before the recordings were made: 2026-11-21T11:15:30Z.
pub(crate) const NOW: i64 = 1_795_259_730;

/// A site, and a management point that answers for it.
pub(crate) struct Bench {
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: SocketAddr,
    drain: Drain,
    /// Goes with the bench.
    _folder: TempDir,
}

impl Bench {
    /// A site whose intranet is nowhere: nothing is approved for where it comes from.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A site that approves devices of these networks.
    pub(crate) async fn with(intranet: &[&str]) -> Self {
        Self::configured(intranet, |config| config).await
    }

    /// The same, with another configuration.
    pub(crate) async fn configured(intranet: &[&str], configure: impl FnOnce(Config) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW * 1_000_000);
        let config = InitConfig {
            database: folder.path().join("site.db"),
            key_file: folder.path().join("site.key"),
            code: "RG1".parse().unwrap(),
            name: "Test site".into(),
            hierarchy: None,
            intranet: intranet.iter().map(|network| network.parse().unwrap()).collect(),
            operator: "anna".into(),
            operator_key_file: folder.path().join("operator.key"),
            options: site::db::DbOptions::default(),
            lab: true,
        };
        let site = Site::init(config, clock.clone()).await.unwrap();
        let config = configure(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() });
        let bound = ManagementPoint::bind(config, site.clone(), clock.clone(), Options::default()).unwrap();
        let (address, tls_address) = (bound.address(), bound.tls_address().unwrap());
        let drain = Drain::new();
        let serving = drain.clone();
        tokio::spawn(async move { bound.run(serving).await.unwrap() });
        Self { site, clock, address, tls_address, drain, _folder: folder }
    }

    /// Publishes the role that this management point plays.
    pub(crate) async fn add_role(&self, mode: RoleMode) -> Role {
        self.site.add_role(&operator(), new_role("mp", mode, true)).await.unwrap()
    }

    /// What a client over HTTPS trusts and shows, once HTTPS is served.
    pub(crate) async fn tls(&self, shows: Option<&pki::Leaf>) -> TlsClient {
        let client = TlsClient::new(&self.clock, &self.site.root_certificate(), shows);
        until(async || client.server_certificate(self.tls_address).await.ok()).await;
        client
    }

    /// Trusts a PKI, whose revocation lists are there and revoke these.
    pub(crate) async fn trust(&self, pki: &pki::Pki) {
        self.site.add_trust(&operator(), pki.authorities()).await.unwrap();
        self.revoke(pki, 1, &[]).await;
    }

    /// Takes over new revocation lists.
    pub(crate) async fn revoke(&self, pki: &pki::Pki, number: u64, revoked: &[&pki::Leaf]) {
        for crl in pki.crls(number, revoked, self.now()) {
            self.site.put_crl(&operator(), &crl).await.unwrap();
        }
    }

    /// Sends over TLS, showing what the client shows.
    pub(crate) async fn send_tls(&self, ask: Ask, client: &TlsClient) -> Answer {
        ask.send_tls(self.tls_address, client).await.unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }

    /// A bulk registration token that lets any number of devices in.
    pub(crate) async fn bulk_token(&self) -> site::NewBulkTokenText {
        self.site.create_bulk_token(&operator(), NewBulkToken::default()).await.unwrap()
    }

    pub(crate) async fn send(&self, ask: Ask) -> Answer {
        let answer = ask.send(self.address).await;
        assert!(answer.header("roamgate-request-id").is_some(), "every answer names its request");
        answer
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.drain.begin(Duration::ZERO);
    }
}

/// The operator of the tests.
pub(crate) fn operator() -> By {
    By::operator("anna", None)
}

/// A management point to be published.
pub(crate) fn new_role(name: &str, mode: RoleMode, gateway_traffic: bool) -> NewRole {
    NewRole { name: name.into(), internal_url: "https://localhost".into(), mode, gateway_traffic }
}

/// Looks again and again until it is so. Fails past a bound that no working machine needs.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("it did not come to be")
}
