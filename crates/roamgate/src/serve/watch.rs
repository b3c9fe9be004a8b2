//! Whether a site host can work now, and what it counts, for whoever watches it. No label names a device, a token
//! or an address.

#[cfg(test)]
#[path = "../../../runtime/tests/exposition/mod.rs"]
mod exposition;

use std::sync::Arc;

use management_point::Counts;
use runtime::Drain;
use runtime::admin::{Check, Watched};
use runtime::metrics::Page;
use runtime::telemetry::Chain;
use site::Site;

/// What monitors see of a site host.
pub(super) struct SiteWatch {
    site: Site,
    management_point: Option<Counts>,
    /// Held by the management point's task too, while it runs.
    serving: Arc<()>,
    drain: Drain,
    names: Vec<String>,
}

impl SiteWatch {
    /// Of this site and the management point beside it; answered to monitors that ask by one of `names`, too.
    pub(super) fn new(
        site: &Site,
        management_point: Option<&management_point::Bound>,
        drain: &Drain,
        names: Vec<String>,
    ) -> Self {
        Self {
            site: site.clone(),
            management_point: management_point.map(management_point::Bound::counts),
            serving: Arc::default(),
            drain: drain.clone(),
            names,
        }
    }

    /// To be held for as long as the management point serves.
    pub(super) fn serving(&self) -> Arc<()> {
        Arc::clone(&self.serving)
    }

    async fn database(&self) -> Check {
        match self.site.check_writable().await {
            Ok(took) => Check::noted("database", format!("wrote in {} ms", took.as_millis())),
            Err(error) => Check::failed(
                "database",
                Chain(&error).to_string(),
                "look at the site's log, and whether the disk of the database is full or read-only",
            ),
        }
    }

    async fn disk(&self) -> Check {
        match self.site.check_disk().await {
            Ok(()) => Check::ok("disk"),
            Err(cause) => Check::failed(
                "disk",
                format!("nothing can be written beside the database: {cause}"),
                "free space on that disk, or give the folder back to the service's user",
            ),
        }
    }

    fn keys(&self) -> Check {
        Check::unless(
            !self.site.has_token_keys(),
            "keys",
            "no token signing key is in force, no device gets a token",
            "make one with `roamgate key rotate`",
        )
    }

    fn management_point(&self) -> Option<Check> {
        self.management_point.as_ref()?;
        Some(Check::unless(
            Arc::strong_count(&self.serving) < 2 && !self.drain.has_started(),
            "management-point",
            "the management point does not serve any more",
            "look at the site's log and start the service again",
        ))
    }

    async fn fill_site(&self, page: &mut Page) {
        let devices = page.gauge(
            "roamgate_site_devices",
            "Registered devices by approval, by what they prove themselves, and whether they are blocked.",
        );
        match self.site.count_devices().await {
            Ok(counts) => {
                for row in counts {
                    let blocked = if row.blocked { "yes" } else { "no" };
                    let labels =
                        [("approval", row.approval.as_str()), ("method", &row.method), ("blocked", blocked)];
                    devices.labelled(labels, row.devices);
                }
            }
            // The page tells what it can; the check for readiness tells why.
            Err(error) => tracing::debug!(%error, "devices not counted"),
        }
        let counts = self.site.counts();
        page.counter(
            "roamgate_site_registrations_total",
            "Registrations that were taken, renewed ones included.",
        )
        .value(counts.registrations());
        let refusals = page.counter(
            "roamgate_site_registration_refusals_total",
            "Registrations that were refused, by reason code; docs/errors.md explains each.",
        );
        for (reason, count) in counts.registration_refusals() {
            refusals.labelled([("reason", &reason.to_string())], count);
        }
        let tokens = page.counter("roamgate_site_tokens_total", "Tokens that were minted, by class.");
        for (class, count) in counts.tokens() {
            tokens.labelled([("class", class)], count);
        }
    }

    fn fill_database(&self, page: &mut Page) {
        let writer = self.site.writer_counts();
        page.counter("roamgate_site_db_commits_total", "Transactions that were committed.")
            .value(writer.commits.get());
        page.counter("roamgate_site_db_lost_total", "Transactions that were lost, with all their jobs.")
            .value(writer.lost.get());
        page.counter(
            "roamgate_site_db_jobs_total",
            "Jobs in these transactions; divided by them: how many share one wait for the disk.",
        )
        .value(writer.jobs.get());
        page.histogram("roamgate_site_db_commit_seconds", "Time of a commit: the wait for the disk.")
            .steps(writer.commit_time.read());
        let queued = self.site.db_queued();
        page.gauge("roamgate_site_db_queued", "Jobs that wait for the database's threads.")
            .labelled([("for", "write")], size(queued.writes))
            .labelled([("for", "read")], size(queued.reads));
    }

    async fn fill_published(&self, page: &mut Page) {
        let version = self.site.current_snapshot().version;
        page.gauge("roamgate_site_snapshot_version", "Version of what the site publishes.").value(version);
        let gateways = page.gauge(
            "roamgate_site_gateways",
            "Gateways by whether they have taken the latest version (current) or not yet (behind).",
        );
        match self.site.acknowledgements(version).await {
            Ok(acknowledged) => {
                let behind = acknowledged.all.saturating_sub(acknowledged.acknowledged);
                gateways
                    .labelled([("state", "current")], size(acknowledged.acknowledged))
                    .labelled([("state", "behind")], size(behind));
            }
            Err(error) => tracing::debug!(%error, "gateways not counted"),
        }
    }
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Watched for SiteWatch {
    const ROLE: &'static str = "site";

    fn names(&self) -> &[String] {
        &self.names
    }

    async fn checks(&self) -> Vec<Check> {
        let drain = Check::unless(
            self.drain.has_started(),
            "drain",
            "draining, the site is stopping",
            "it ends by itself; devices come back when it is started again",
        );
        let mut checks = vec![drain, self.database().await, self.disk().await, self.keys()];
        checks.extend(self.management_point());
        checks
    }

    async fn fill(&self, page: &mut Page) {
        self.fill_site(page).await;
        self.fill_database(page);
        self.fill_published(page).await;
        if let Some(counts) = &self.management_point {
            counts.fill(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use runtime::Clock;
    use runtime::admin::Report;
    use runtime::metrics::Format;
    use site::{By, InitConfig, NewBulkToken};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn site(folder: &std::path::Path) -> Site {
        let config = InitConfig {
            database: folder.join("site.db"),
            key_file: folder.join("site.key"),
            code: "RG1".parse().unwrap(),
            name: "Test".to_owned(),
            hierarchy: None,
            intranet: Vec::new(),
            operator: "admin".to_owned(),
            operator_key_file: folder.join("operator.key"),
            options: site::db::DbOptions::default(),
            lab: true,
        };
        Site::init(config, Clock::system()).await.unwrap()
    }

    fn management_point(site: &Site) -> management_point::Bound {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = management_point::Config { listen: any, ..management_point::Config::default() };
        let options = management_point::Options { approve_everything: false };
        management_point::ManagementPoint::bind(config, site.clone(), Clock::system(), options).unwrap()
    }

    async fn page(watch: &SiteWatch) -> exposition::Page {
        let mut page = Page::default();
        watch.fill(&mut page).await;
        exposition::read(&page.text(Format::Text)).unwrap()
    }

    #[tokio::test]
    async fn the_page_is_well_formed_documented_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path()).await;
        let bound = management_point(&site);
        let watch = SiteWatch::new(&site, Some(&bound), &Drain::new(), Vec::new());
        let before = page(&watch).await;
        site.create_bulk_token(&By::site(), NewBulkToken::default()).await.unwrap();
        let after = page(&watch).await;
        let of = |page: &exposition::Page, name: &str, series: &str| {
            let samples = &page[name].samples;
            samples.iter().find(|(known, _)| known == series).unwrap_or_else(|| panic!("{samples:?}")).1
        };
        for (name, series) in [
            ("roamgate_site_tokens_total", "roamgate_site_tokens_total{class=\"bulk\"}"),
            ("roamgate_site_db_commits_total", "roamgate_site_db_commits_total"),
            ("roamgate_site_db_commit_seconds", "roamgate_site_db_commit_seconds_count"),
        ] {
            let grown = of(&after, name, series) - of(&before, name, series);
            assert!((grown - 1.0).abs() < f64::EPSILON, "{series} grew by {grown}");
        }
        // A histogram without an observation has no sample, and this management point was asked nothing.
        let documented = ["roamgate_site_"];
        exposition::compare_with_the_documentation(&after, &documented);
        site.close().await;
    }

    #[tokio::test]
    async fn each_thing_that_is_missing_is_told_with_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path()).await;
        let bound = management_point(&site);
        let drain = Drain::new();
        let watch = SiteWatch::new(&site, Some(&bound), &drain, Vec::new());
        let serving = watch.serving();
        let report = Report::new(watch.checks().await);
        assert!(report.is_ready(), "{}", report.text());
        drop(serving);
        drop(bound);
        let text = Report::new(watch.checks().await).text();
        assert!(text.contains("management-point: failed: the management point does not serve"), "{text}");
        drain.begin(std::time::Duration::ZERO);
        site.clone().close().await;
        let text = Report::new(watch.checks().await).text();
        assert!(text.contains("drain: failed: draining") && text.contains("database: failed: "), "{text}");
    }

    #[tokio::test]
    async fn monitors_ask_by_the_names_that_the_operator_gave_and_a_strangers_page_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path()).await;
        let names = vec!["mp.example.com".to_owned()];
        let watch = Arc::new(SiteWatch::new(&site, None, &Drain::new(), names));
        let listener = runtime::listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(runtime::admin::serve(watch, listener, std::future::pending()));
        for (name, status) in [("mp.example.com", 200), ("mp.example.org", 421), ("127.0.0.1", 200)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /livez HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        }
        serving.abort();
        site.close().await;
    }

    #[tokio::test]
    async fn a_folder_that_takes_nothing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path()).await;
        let watch = SiteWatch::new(&site, None, &Drain::new(), Vec::new());
        // Without its folder nothing can be written beside the database, whoever runs this.
        std::fs::remove_dir_all(folder.path()).unwrap();
        let text = Report::new(watch.checks().await).text();
        assert!(
            text.contains("disk: failed: nothing can be written beside the database: No such file"),
            "{text}"
        );
        assert!(!text.contains("management-point"), "{text}");
        site.close().await;
    }
}
