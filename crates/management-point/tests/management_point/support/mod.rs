//! A site in a temporary folder, a management point before it, and devices that talk to it.

mod device;
mod http;
pub(crate) mod message;

use std::net::SocketAddr;
use std::time::Duration;

use management_point::{Config, ManagementPoint, Options};
use proto::time::Timestamp;
use runtime::{Clock, Drain};
use site::{By, InitConfig, NewBulkToken, Site};
use tempfile::TempDir;

pub(crate) use device::{TestDevice, Token, devices};
pub(crate) use http::{Answer, Ask, send_head, send_raw};
pub(crate) use message::{confirmation_body, heartbeat, location, registration_body, request_assignments};

/// Shortly before the recordings were made: 2026-11-21T11:15:30Z.
pub(crate) const NOW: i64 = 1_795_259_730;

/// A site, and a management point that answers for it.
pub(crate) struct Bench {
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
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
        let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        let bound = ManagementPoint::bind(config, site.clone(), clock.clone(), Options::default()).unwrap();
        let address = bound.address();
        let drain = Drain::new();
        let serving = drain.clone();
        tokio::spawn(async move { bound.run(serving).await.unwrap() });
        Self { site, clock, address, drain, _folder: folder }
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
