//! The gateway as devices, connection points and monitors meet it: real sockets, real TLS, a site of its own
//! for each test, and a connection point that speaks the other side of the tunnel.

mod admin;
mod auth_info;
mod authority;
mod certificate;
mod connector;
mod crowding;
mod device;
mod forgery;
mod framing;
mod limits;
mod mutual_auth;
mod provider;
mod publication;
mod refusal;
mod relay;
mod revocation;
mod site;
mod slow;
mod tenant;
mod tunnel_link;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Config, Gateway, RunError};
use runtime::config::{HumanDuration, private_file};
use runtime::{Clock, Drain};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::site::{NOW, Site};

/// A bound after which a test gives up waiting: far more than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// A gateway that serves, with the folder that holds its files.
struct Running {
    site: Arc<Site>,
    folder: TempDir,
    address: SocketAddr,
    admin: SocketAddr,
    /// The gateway's; a clone of it moves it.
    clock: Clock,
    drain: Drain,
    ended: JoinHandle<Result<(), RunError>>,
}

/// Writes the files of a gateway host and returns a configuration that names them.
fn configure(site: &Site, folder: &TempDir) -> Config {
    let file = |name: &str| folder.path().join(name);
    private_file::write(file("bundle.json"), serde_json::to_vec(&site.bundle()).unwrap()).unwrap();
    site::write_certificate(folder, "localhost");
    Config {
        bundle: file("bundle.json"),
        state_directory: file("state"),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        certificate: file("certificate.pem"),
        key: file("key.pem"),
        admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        admin_names: Vec::new(),
        shards: 1,
        max_connections: 200,
        max_requests: 100,
        answer_timeout: HumanDuration::new(SOON),
        body_timeout: HumanDuration::new(SOON),
        idle_timeout: HumanDuration::new(SOON),
        certificate_poll: HumanDuration::new(Duration::from_millis(20)),
        limits: gateway::limit::config::Config {
            // All devices of a test come from one address.
            source_connections: gateway::limit::Portion::OFF,
            ..Default::default()
        },
    }
}

/// The clock of all tests: it stands still until somebody moves it.
fn clock() -> Clock {
    Clock::manual(NOW.micros())
}

async fn start(change: impl FnOnce(&mut Config)) -> Running {
    start_at(Arc::new(Site::new()), tempfile::tempdir().unwrap(), change).await
}

async fn start_at(site: Arc<Site>, folder: TempDir, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = configure(&site, &folder);
    change(&mut config);
    let clock = clock();
    let bound = Gateway::bind(config, clock.clone()).unwrap();
    let (address, admin) = (bound.addresses()[0], bound.admin_address().unwrap());
    let drain = Drain::new();
    let ended = tokio::spawn(bound.run(drain.clone()));
    Running { site, folder, address, admin, clock, drain, ended }
}

impl Running {
    /// Stops it, and waits until it has stopped.
    async fn stop(self) -> TempDir {
        self.drain.begin(SOON);
        self.drain.finish().await;
        within(self.ended).await.unwrap().unwrap();
        self.folder
    }
}

/// Waits for `future`, but not for ever.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it should have come by now")
}

/// Asks again and again until the answer is there.
async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    within(async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}
