//! A site in a temporary folder with a clock that the test moves.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use proto::id::Thumbprint;
use proto::time::Timestamp;
use runtime::clock::Clock;
use site::{By, Credentials, InitConfig, NewRegistration, PkiCredential, SeenVia, Site, SiteConfig};

/// 2026-09-21, the moment at which every test begins.
pub(crate) const START: i64 = 1_790_000_000;

/// A site made once; RSA keys take their time, so tests start from copies of it.
struct Template {
    dir: tempfile::TempDir,
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let config = init_config(dir.path());
        let make = async { Site::init(config, clock()).await.unwrap().close().await };
        // Tests run inside a runtime of their own; another is entered on another thread only.
        let run =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(make);
        std::thread::scope(|scope| scope.spawn(run).join().unwrap());
        Template { dir }
    })
}

pub(crate) fn clock() -> Clock {
    Clock::manual(START * 1_000_000)
}

pub(crate) fn init_config(dir: &Path) -> InitConfig {
    InitConfig {
        database: dir.join("site.db"),
        key_file: dir.join("site.key"),
        code: "RG1".parse().unwrap(),
        name: "Test site".to_owned(),
        hierarchy: Some("7b0c3806-d28c-4a45-adb2-fb9f94a462f8".parse().unwrap()),
        intranet: vec!["10.0.0.0/8".parse().unwrap()],
        operator: "anna".to_owned(),
        operator_key_file: dir.join("anna.key"),
        options: site::db::DbOptions::default(),
        lab: false,
    }
}

pub(crate) struct TestSite {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) site: Site,
}

impl TestSite {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SiteConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["site.db", "site.key", "anna.key"] {
            std::fs::copy(template().dir.path().join(name), dir.path().join(name)).unwrap();
        }
        let clock = clock();
        let mut config = config(dir.path());
        change(&mut config);
        let site = Site::open(config, clock.clone()).await.unwrap();
        Self { dir, clock, site }
    }

    /// Ends the site and opens it again, as a restarted process does.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, clock, site } = self;
        site.close().await;
        let site = Site::open(config(dir.path()), clock.clone()).await.unwrap();
        Self { dir, clock, site }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("site.db")
    }

    pub(crate) fn operator_key(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("anna.key")).unwrap().trim().to_owned()
    }
}

pub(crate) fn config(dir: &Path) -> SiteConfig {
    SiteConfig::new(dir.join("site.db"), dir.join("site.key"))
}

pub(crate) fn anna() -> By {
    By::operator("anna", Some("10.0.0.5".parse().unwrap()))
}

pub(crate) fn now(test: &TestSite) -> Timestamp {
    test.site.now()
}

/// A device by number: its key, its name and its hardware follow from it. The site takes
/// certificates as they are; the management point has checked them.
pub(crate) fn device(number: u32) -> NewRegistration {
    NewRegistration {
        signing_certificate: format!("signing certificate {number}").into_bytes(),
        encryption_certificate: format!("encryption certificate {number}").into_bytes(),
        name: format!("PC{number}"),
        fqdn: format!("pc{number}.example.org"),
        hardware_id: Some(format!("2:{number:08X}")),
        client_version: "0.1.0".to_owned(),
        signs_requests: true,
        join: None,
        credentials: Credentials::default(),
        refused: Vec::new(),
        method_reason: "it registered with a bulk registration token".to_owned(),
        via: SeenVia::Gateway,
    }
}

pub(crate) fn key_of(number: u32) -> Thumbprint {
    Thumbprint::of(&device(number).signing_certificate)
}

/// A PKI certificate by number, good for a year.
pub(crate) fn certificate(number: u32) -> PkiCredential {
    let leaf = format!("PKI certificate {number}").into_bytes();
    PkiCredential {
        thumbprint: Thumbprint::of(&leaf),
        subject: format!("CN=PC{number}"),
        not_after: Timestamp::from_seconds(START + 365 * 86_400),
        chain: vec![leaf, b"intermediate".to_vec()],
    }
}
