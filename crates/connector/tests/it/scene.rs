//! Everything that a test needs: a site, a gateway, a role and the connection point between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use connector::{Config, ConnectionPoint, Paths};
use proto::bundle::ConnectorBundle;
use proto::id::{Guid, RequestId, RoleId};
use proto::link::{self, Down, GatewayTarget, RequestHead, RoleTarget, RoleTrust};
use proto::trust::Purpose;
use runtime::config::{HumanDuration, private_file};
use runtime::drain::Finished;
use runtime::{Clock, Drain};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::gateway::{Gateway, Shape};
use crate::pki::Pki;
use crate::role::Role;
use crate::site::Site;

pub(crate) const GATEWAY: Guid = Guid::from_bytes([7; 16]);
pub(crate) const CONNECTOR: Guid = Guid::from_bytes([9; 16]);

pub(crate) fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A running connection point with its surroundings.
pub(crate) struct Scene {
    pub(crate) pki: Arc<Pki>,
    pub(crate) site: Site,
    pub(crate) gateway: Gateway,
    pub(crate) point: Point,
    pub(crate) folder: TempDir,
}

/// The connection point itself.
pub(crate) struct Point {
    pub(crate) drain: Drain,
    task: JoinHandle<()>,
}

impl Scene {
    /// One gateway, one role, and everything is up.
    pub(crate) async fn start(role: &Role) -> Self {
        Self::with(&role.url(), Shape::single(), Duration::from_secs(20)).await
    }

    pub(crate) async fn with(role_url: &str, shape: Shape, timeout: Duration) -> Self {
        Self::under(Arc::new(Pki::new()), role_url, shape, timeout).await
    }

    pub(crate) async fn under(pki: Arc<Pki>, role_url: &str, shape: Shape, timeout: Duration) -> Self {
        let change = |config: &mut Config| config.request_timeout = HumanDuration::new(timeout);
        Self::of(pki, roles(role_url), shape, tempfile::tempdir().unwrap(), change).await
    }

    /// With these roles and this configuration, in a folder that may hold something already.
    pub(crate) async fn of(
        pki: Arc<Pki>,
        roles: Down,
        shape: Shape,
        folder: TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let up = shape.shards.into();
        let gateway = Gateway::start(anywhere(), &gateway_identity(&pki), shape).await;
        let first = vec![gateways(gateway.address), roles];
        let site = Site::start(anywhere(), &site_identity(&pki), first).await;
        write_bundle(&folder, &pki, site.address);
        let point = Point::configured(&folder, change);
        gateway.until_tunnels(up).await;
        let scene = Self { pki, site, gateway, point, folder };
        scene.until_forwarding().await;
        scene
    }

    /// Waits until the roles have arrived: gateways and roles come in two messages.
    pub(crate) async fn until_forwarding(&self) {
        let file = self.folder.path().join("state/last-known.json");
        until("roles are known", || {
            std::fs::read_to_string(&file).is_ok_and(|text| text.contains("internal_url"))
        })
        .await;
    }
}

impl Point {
    pub(crate) fn start(folder: &TempDir, timeout: Duration) -> Self {
        Self::configured(folder, |config| config.request_timeout = HumanDuration::new(timeout))
    }

    pub(crate) fn configured(folder: &TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            bundle: folder.path().join("bundle.json"),
            state_directory: folder.path().join("state"),
            request_timeout: HumanDuration::new(Duration::from_secs(20)),
            max_requests_per_tunnel: 512.try_into().unwrap(),
            client_certificate: Paths::default(),
            client_key: Paths::default(),
            verbose_logging: true,
            threads: 1,
            admin_listen: None,
            admin_names: Vec::new(),
        };
        change(&mut config);
        let bound = ConnectionPoint::bind(&config, Clock::system()).unwrap();
        let drain = Drain::new();
        let task = drain.spawn(bound.run(drain.clone()));
        Self { drain, task }
    }

    /// Stops in order and waits for it.
    pub(crate) async fn stop(self, deadline: Duration) -> Finished {
        self.drain.begin(deadline);
        let finished = self.drain.finish().await;
        self.task.await.unwrap();
        finished
    }
}

pub(crate) fn gateway_identity(pki: &Pki) -> proto::bundle::LinkIdentity {
    pki.issue(Purpose::LinkGateway, &link::gateway_name(GATEWAY))
}

pub(crate) fn site_identity(pki: &Pki) -> proto::bundle::LinkIdentity {
    pki.issue(Purpose::LinkSite, link::SITE_NAME)
}

pub(crate) fn gateways(address: SocketAddr) -> Down {
    Down::Gateways {
        gateways: vec![GatewayTarget {
            gateway: GATEWAY,
            name: "gw1".into(),
            address: address.to_string(),
            host: "gw.example".into(),
        }],
    }
}

pub(crate) fn roles(url: &str) -> Down {
    role(url, RoleTrust::Site, false)
}

/// One role, whose certificate these may have issued, and which may demand one.
pub(crate) fn role(url: &str, trust: RoleTrust, client_certificate: bool) -> Down {
    let target = RoleTarget { role: RoleId::FIRST, internal_url: url.into(), trust, client_certificate };
    Down::Roles { roles: vec![target] }
}

pub(crate) fn write_bundle(folder: &TempDir, pki: &Pki, site: SocketAddr) {
    let bundle = ConnectorBundle {
        format: ConnectorBundle::FORMAT.into(),
        site_code: "RG1".parse().unwrap(),
        connector: CONNECTOR,
        name: "CP1".into(),
        site_root_pem: pki.root_pem.clone(),
        link: pki.issue(Purpose::LinkConnector, &link::connector_name(CONNECTOR)),
        site_links: vec![site.to_string()],
    };
    private_file::write(folder.path().join("bundle.json"), serde_json::to_vec(&bundle).unwrap()).unwrap();
}

/// A request for the first role.
pub(crate) fn head<'a>(method: &'a str, target: &'a str) -> RequestHead<'a> {
    let id = uuid::Uuid::now_v7();
    RequestHead {
        request: RequestId::new(id.into()),
        method: method.into(),
        role: RoleId::FIRST,
        target: target.into(),
        external: format!("https://gw.example/CCM_Proxy_ServerAuth/{}{target}", RoleId::FIRST).into(),
        certificate: None,
        headers: vec![("authorization".into(), "Bearer token".into())],
        body_length: None,
    }
}

/// Waits for a state that cannot be awaited; fails after 10 seconds.
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let wait = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{what}: not within 10 s");
}
