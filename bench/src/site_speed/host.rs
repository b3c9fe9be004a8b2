//! A site host of our own: made by the commands of the README, filled before it serves, run as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::id::ClientId;
use runtime::Clock;
use rusqlite::Connection;
use site::{ApprovalRule, By, Credentials, Evidence, NewRegistration, SeenVia, Site, SiteConfig};
use tokio::task::JoinSet;

use super::SpeedError;
use super::device::{Device, VERSION};
use super::load::{self, Outcome};
use crate::process::{EndBy, Process, cpu_of_trees, free_ports, run_to_end};

/// Time until it listens.
const PATIENCE: Duration = Duration::from_mins(2);
/// Devices that are enrolled at once: what one commit takes.
const AT_ONCE: usize = 256;
/// Columns of which each record has values of its own.
const OWN: [(&str, &str); 5] = [
    ("client_id", "randomblob(16)"),
    ("signing_thumbprint", "randomblob(32)"),
    ("name", "'FILL' || n.i"),
    ("name_key", "'fill' || n.i"),
    ("hardware_id", "'2:FILL' || n.i"),
];

/// The files of a site that does not run.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
    roamgate: PathBuf,
    address: SocketAddr,
}

impl Files {
    /// Makes a site that lets any number of devices of this machine in.
    pub(super) async fn make(roamgate: &Path, folder: &Path) -> Result<Self, SpeedError> {
        let [mp, mp_tls, link, api] = free_ports().map_err(|source| SpeedError::file(folder, source))?;
        let folder = folder.join("site");
        let mut init = Command::new(roamgate);
        init.args(["site", "init", "--site-code", "RG1", "--name", "Bench", "--listen", "127.0.0.1"])
            .args(["--host", "localhost", "--mp-port", &mp.to_string(), "--mp-tls-port", &mp_tls.to_string()])
            .args(["--link-port", &link.to_string(), "--api-port", &api.to_string()])
            .arg("--dir")
            .arg(&folder);
        run_to_end("site init", init)?;
        let address = SocketAddr::from(([127, 0, 0, 1], mp));
        let files = Self { folder, roamgate: roamgate.to_owned(), address };
        let site = files.open().await?;
        let network = "127.0.0.0/8".parse().map_err(|error| SpeedError::site("parse a network", error))?;
        site.set_approval_rules(&By::site(), vec![ApprovalRule::Network(network)])
            .await
            .map_err(|error| SpeedError::site("set the approval rules", error))?;
        for name in ["registration_burst", "registration_rate", "registration_usual"] {
            let set = site.set_setting(&By::site(), name, "1000000").await;
            set.map_err(|error| SpeedError::site("lift the bound of registrations", error))?;
        }
        site.close().await;
        Ok(files)
    }

    /// The site in this process, to be filled or asked. Close it before the host starts.
    pub(super) async fn open(&self) -> Result<Site, SpeedError> {
        let config = SiteConfig::new(self.folder.join("site.db"), self.folder.join("site.key"));
        Site::open(config, Clock::system()).await.map_err(|error| SpeedError::site("open the site", error))
    }

    /// A copy in this folder, with the same addresses: one of the two may run.
    pub(super) fn copy(&self, folder: &Path) -> Result<Self, SpeedError> {
        let to = folder.join("site");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(&self.folder).arg(&to);
        std::fs::create_dir_all(folder).map_err(|source| SpeedError::file(folder, source))?;
        run_to_end("cp", copy)?;
        Ok(Self { folder: to, ..self.clone() })
    }

    /// Registers, approves and confirms these devices; their ids and self-prove tokens.
    pub(super) async fn enrol(&self, devices: &[Device]) -> Result<Vec<(ClientId, String)>, SpeedError> {
        let site = self.open().await?;
        let mut all = Vec::with_capacity(devices.len());
        for chunk in devices.chunks(AT_ONCE) {
            let mut tasks = JoinSet::new();
            for (number, device) in chunk.iter().enumerate() {
                let (site, new) = (site.clone(), new_registration(device));
                tasks.spawn(async move { (number, enrol_one(&site, new).await) });
            }
            let mut done = tasks.join_all().await;
            done.sort_by_key(|(number, _)| *number);
            for (_, enrolled) in done {
                all.push(enrolled?);
            }
        }
        site.close().await;
        Ok(all)
    }

    /// Fills the database up to this many devices, with records like those that are there.
    pub(super) fn fill(&self, devices: usize) -> Result<(), SpeedError> {
        let mut connection = Connection::open(self.folder.join("site.db"))?;
        let there: i64 = connection.query_row("SELECT count(*) FROM device", [], |row| row.get(0))?;
        let columns: Vec<String> = connection
            .prepare("SELECT name FROM pragma_table_info('device')")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let value = |column: &String| {
            let own = OWN.iter().find(|(name, _)| name == column);
            own.map_or_else(|| format!("d.{column}"), |(_, value)| (*value).to_owned())
        };
        let values: Vec<_> = columns.iter().map(value).collect();
        let insert = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO device ({}) SELECT {} FROM n, (SELECT * FROM device LIMIT 1) AS d",
            columns.join(", "),
            values.join(", ")
        );
        let transaction = connection.transaction()?;
        let missing = i64::try_from(devices).unwrap_or(i64::MAX).saturating_sub(there);
        if missing > 0 {
            transaction.execute(&insert, [missing])?;
        }
        transaction.commit()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Runs it.
    pub(super) fn serve(&self) -> Result<Host, SpeedError> {
        let mut command = Command::new(&self.roamgate);
        command.args(["serve", "--end-with-stdin", "--config"]).arg(self.folder.join("site.toml"));
        let folder = self.folder.parent().unwrap_or(&self.folder);
        let mut process = Process::start("site", command, folder, EndBy::Input)?;
        process.wait_for_port(self.address, PATIENCE)?;
        Ok(Host { process, address: self.address })
    }
}

/// What a registration over the wire comes to.
fn new_registration(device: &Device) -> NewRegistration {
    NewRegistration {
        signing_certificate: device.certificate.clone(),
        encryption_certificate: device.certificate.clone(),
        name: device.name.clone(),
        fqdn: device.name.clone(),
        hardware_id: Some(format!("2:{}", device.name)),
        client_version: VERSION.to_owned(),
        signs_requests: true,
        join: None,
        credentials: Credentials::default(),
        refused: Vec::new(),
        method_reason: String::new(),
        via: SeenVia::Intranet,
    }
}

async fn enrol_one(site: &Site, new: NewRegistration) -> Result<(ClientId, String), SpeedError> {
    let here = Evidence::Network { source: std::net::Ipv4Addr::LOCALHOST.into() };
    let registered = site.register_client(None, new, here).await;
    let id = registered.map_err(|error| SpeedError::site("register a device", error))?.client_id;
    let confirmed = site.confirm_registration(None, id, VERSION, true).await;
    let token = confirmed.map_err(|error| SpeedError::site("confirm a device", error))?.token;
    Ok((id, token))
}

/// A site host that serves.
#[derive(Debug)]
pub(super) struct Host {
    process: Process,
    address: SocketAddr,
}

/// What came of requests, and what they cost the site.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) outcome: Outcome,
    /// CPU time that the site's process used meanwhile.
    pub(super) cpu: Duration,
}

impl Served {
    /// Good answers for a second of the site's CPU time.
    pub(super) fn per_cpu(&self) -> f64 {
        load::per_second(self.outcome.good, self.cpu)
    }
}

impl Host {
    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends these requests and waits for all answers.
    pub(super) async fn send(
        &mut self,
        requests: Arc<[Bytes]>,
        connections: usize,
    ) -> Result<Served, SpeedError> {
        let before = cpu_of_trees(&[self.pid()]);
        let outcome = load::send_all(self.address, requests, connections).await;
        let cpu = cpu_of_trees(&[self.pid()]).saturating_sub(before);
        self.process.check()?;
        Ok(Served { outcome: outcome.map_err(SpeedError::Load)?, cpu })
    }
}
