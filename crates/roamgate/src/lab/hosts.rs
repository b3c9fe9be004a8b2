//! The lab's server roles, each a process of its own, set up as their documentation says. What ends stays
//! ended: tests kill them and start them again by themselves.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::child::{LabChild, run_to_end};
use super::client_pki::ClientPki;
use super::connection_point::ConnectionPoint;
use super::gateway::Gateway;
use super::pki::{self, ServerCertificates};
use super::show::Show;
use super::tenant::Tenant;
use crate::api::Api;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// How long a role may take until it answers.
const PATIENCE: Duration = Duration::from_mins(1);
/// File in the lab's folder whose seconds all children add to the time: absent, none.
pub(crate) const CLOCK_FILE: &str = "clock-offset";
/// How often the lab looks whether a state has come.
const LOOK: Duration = Duration::from_millis(50);

/// The running server roles.
pub(crate) struct Hosts {
    pub(crate) folder: PathBuf,
    pub(crate) roamgate: PathBuf,
    pub(crate) context: Context,
    pub(crate) api: Api,
    pub(crate) pki: ServerCertificates,
    /// The organisation's authorities for client certificates, trusted by the site.
    pub(crate) client_pki: ClientPki,
    /// A stand-in of a tenant, onboarded.
    pub(crate) tenant: Tenant,
    /// What devices must trust: the authorities of the gateway's certificate and of the tenant's.
    pub(crate) authorities: PathBuf,
    pub(crate) management_point: SocketAddr,
    /// At least one; the first is the one that devices are told at their setup.
    pub(crate) gateways: Vec<Gateway>,
    /// At least one.
    pub(crate) connection_points: Vec<ConnectionPoint>,
    pub(crate) role_id: String,
    pub(crate) site_root_sha256: String,
    /// The outermost first.
    children: Vec<(String, LabChild)>,
}

/// How many hosts of a kind there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) gateways: usize,
    pub(crate) connection_points: usize,
}

/// Where a host's process finds what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folders<'a> {
    /// Folder of the lab.
    pub(crate) lab: &'a Path,
    /// The file by which clocks are moved.
    pub(crate) clock: &'a Path,
    /// This program.
    pub(crate) roamgate: &'a Path,
}

impl Folders<'_> {
    /// The command that runs the roles of this configuration file.
    pub(crate) fn serve(&self, config: &Path) -> Command {
        serve(self.roamgate, config)
    }
}

/// What the site answers about itself once everything is up.
pub(crate) struct Answers {
    pub(crate) site: Value,
    pub(crate) roles: Value,
    pub(crate) token_certificate: PathBuf,
}

impl Hosts {
    /// Makes the site and starts all roles; done when every gateway has its tunnels and the
    /// site's newest version.
    pub(crate) async fn start(folder: &Path, counts: Counts, show: &Show) -> Result<Self, Failure> {
        show.heading("Setting up site, gateway and connection point");
        let roamgate = std::env::current_exe().map_err(|error| Failure::from_error(Exit::Bug, &error))?;
        let mut ports = free_ports(4 + 2 * counts.gateways)?.into_iter();
        let mut port = || ports.next().expect("so many were asked for");
        let [mp, mp_tls, link, api_port] = [port(), port(), port(), port()];
        let site_dir = folder.join("site");
        let clock = folder.join(CLOCK_FILE);

        let step = show.begin("Make the site: database, authority, keys, first operator");
        let mut init = Command::new(&roamgate);
        init.args(["site", "init", "--site-code", "RG1", "--name", "Roamgate lab", "--listen", "127.0.0.1"])
            .arg("--dir")
            .arg(&site_dir)
            .args(["--intranet", "127.0.0.0/8", "--host", "localhost"])
            .args(["--mp-port", &mp.to_string(), "--mp-tls-port", &mp_tls.to_string()])
            .args(["--link-port", &link.to_string()])
            .args(["--api-port", &api_port.to_string()]);
        run_to_end("site init", init, PATIENCE).await?;
        step.done();

        let context = Context {
            server: format!("https://localhost:{api_port}"),
            ca_file: site_dir.join("site-root.pem"),
            operator_key_file: site_dir.join("operator.key"),
        };
        let step =
            show.begin("Start the site host: management point, token service, site link, operator API");
        let mut serve = serve(&roamgate, &site_dir.join("site.toml"));
        serve.arg("--lab-approve-everything");
        let mut site = LabChild::start("site", serve, folder, &clock)?;
        let api = Api::new(context.clone())?;
        wait_for("the operator API", &mut site, async || api.get("site").await.ok()).await?;
        let role = api
            .post("roles", &json!({"name": "MP1", "internal_url": format!("https://localhost:{mp_tls}"), "mode": "ehttp", "gateway_traffic": true}))
            .await?;
        let root = api.get("site").await?["site_root_sha256"].as_str().unwrap_or_default().to_owned();
        seed_policies(&api).await?;
        step.done();

        let step = show.begin("Trust an organisation's PKI: two authorities, their revocation lists fetched");
        let client_pki = ClientPki::start(folder, "pki-1").await?;
        trust(&api, &client_pki).await?;
        wait_for("the revocation lists", &mut site, async || {
            let trusted = api.get("trust").await.ok()?;
            trusted.as_array()?.iter().all(|one| one["crl"]["number"].is_string()).then_some(())
        })
        .await?;
        step.done();
        let step = show.begin("Onboard a tenant (a stand-in on this machine): its keys and users fetched");
        let tenant = Tenant::start(folder, &clock, &api).await?;
        step.done();

        let pki = pki::make(folder, counts.gateways)?;
        let authorities = folder.join("device-authorities.pem");
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| Failure::from_error(Exit::Bug, &error))
        };
        let both = read(&pki.ca_file)? + &read(&tenant.ca_file)?;
        runtime::config::private_file::write(&authorities, both)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        let folders = Folders { lab: folder, clock: &clock, roamgate: &roamgate };
        let mut gateways = Vec::new();
        let mut outer = Vec::new();
        for (number, own) in (1..).zip(&pki.gateways) {
            let title = one_of(
                "Start the gateway, with its bundle and its certificate and nothing else",
                number,
                counts.gateways,
            );
            let step = show.begin(&title);
            let (gateway, child) = Gateway::start(&folders, &api, number, [port(), port()], own).await?;
            outer.push((gateway.name.clone(), child));
            gateways.push(gateway);
            step.done();
        }
        let mut connection_points = Vec::new();
        for number in 1..=counts.connection_points {
            let title = one_of(
                "Start the connection point; it dials out and listens nowhere",
                number,
                counts.connection_points,
            );
            let step = show.begin(&title);
            let (point, child) = ConnectionPoint::start(&folders, &api, number).await?;
            outer.insert(0, (point.name.clone(), child));
            connection_points.push(point);
            step.done();
        }
        let step = show.begin("Every connection point has a tunnel to every shard of every gateway");
        let up = wait_for("the tunnels", &mut site, async || {
            let listed = api.get("gateways").await.ok()?;
            let listed = listed.as_array()?;
            let points = u64::try_from(counts.connection_points).ok()?;
            let is_up = |gateway: &Value| {
                gateway["tunnels"].as_u64() >= Some(gateway["shards"].as_u64().unwrap_or(1).max(1) * points)
                    && gateway["version"] == gateway["site_version"]
            };
            let tunnels = listed.iter().filter_map(|gateway| gateway["tunnels"].as_u64()).sum::<u64>();
            (listed.len() == counts.gateways && listed.iter().all(is_up)).then_some(tunnels)
        })
        .await;
        // One that has ended says more about it than the silence of its tunnels.
        outer.iter_mut().try_for_each(|(_, child)| child.check())?;
        step.done_with(&format!("{} tunnels", up?));
        outer.push(("site".to_owned(), site));
        Ok(Self {
            folder: folder.to_owned(),
            roamgate,
            api,
            pki,
            client_pki,
            tenant,
            authorities,
            management_point: SocketAddr::from(([127, 0, 0, 1], mp)),
            gateways,
            connection_points,
            role_id: role["role_id"].as_str().unwrap_or_default().to_owned(),
            site_root_sha256: root,
            context,
            children: outer,
        })
    }

    /// The address that devices are told: `CCMHOSTNAME`.
    pub(crate) fn ccm_hostname(&self) -> String {
        format!("{}/CCM_Proxy_MutualAuth/{}", self.gateway().host, self.role_id)
    }

    /// The gateway that devices are told at their setup.
    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateways.first().expect("a lab has at least one")
    }

    /// An error when a role has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.children.iter_mut().try_for_each(|(_, child)| child.check())
    }

    /// Process ids by name.
    pub(crate) fn pids(&self) -> Value {
        self.children.iter().map(|(name, child)| (name.clone(), json!(child.id()))).collect()
    }

    /// What the ready file needs of the site; writes the token signing certificate beside it.
    pub(crate) async fn ready(&self, folder: &Path) -> Result<Answers, Failure> {
        let token_certificate = folder.join("token-signing.pem");
        let pem = self.api.get("keys/token-signing-certificate").await?;
        std::fs::write(&token_certificate, pem["pem"].as_str().unwrap_or_default())
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        Ok(Answers {
            site: self.api.get("site").await?,
            roles: self.api.get("roles").await?,
            token_certificate,
        })
    }

    /// Ends all roles, the outermost first.
    pub(crate) async fn stop(self) {
        for (_, child) in self.children {
            child.stop().await;
        }
    }
}

/// Trusts the authorities of the lab's PKI.
async fn trust(api: &Api, pki: &ClientPki) -> Result<(), Failure> {
    use base64::Engine as _;
    let file = std::fs::read(&pki.authorities).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
    let file = base64::engine::general_purpose::STANDARD.encode(file);
    let added = api.post("trust", &json!({"file": file})).await?;
    // A certificate of an authority names its issuer's list; the lowest one's own is to be named.
    let issuing = added.as_array().into_iter().flatten().find(|one| one["kind"] == "intermediate");
    let id = issuing.and_then(|one| one["id"].as_str()).unwrap_or_default();
    let path = format!("trust/{id}/distribution-point");
    api.put(&path, &json!({"url": pki.crl_url})).await.map(drop)
}

/// Waits until `look` finds something; an error when the child ends or the time is over.
pub(crate) async fn wait_for<T>(
    what: &str,
    child: &mut LabChild,
    look: impl AsyncFn() -> Option<T>,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        child.check()?;
        if began.elapsed() > PATIENCE {
            return Err(Failure::new(
                Exit::TimedOut,
                format!("{what}: nothing after {} s", PATIENCE.as_secs()),
            ));
        }
        // Polling, not waiting for a while: the loop ends with the state that is looked for.
        tokio::time::sleep(LOOK).await;
    }
}

/// One public policy is there already (client settings); a compressed and a secret one
/// complete the kinds that a device can meet.
async fn seed_policies(api: &Api) -> Result<(), Failure> {
    for (name, flags, value) in [
        ("Lab: a compressed policy", vec!["compressed"], "compressed"),
        ("Lab: a secret policy", vec!["secret"], "for this device's eyes only"),
    ] {
        let body = json!({
            "name": name,
            "category": "RoamgateLab",
            "flags": flags,
            "class": "Roamgate_Lab",
            "properties": {"Text": value},
        });
        api.post("policies", &body).await?;
    }
    Ok(())
}

pub(crate) async fn add(api: &Api, nouns: &str, body: Value) -> Result<Value, Failure> {
    Ok(api.post(nouns, &body).await?["bundle"].take())
}

/// Lays out a role's host: its bundle and its configuration file, which is answered.
pub(crate) fn write_host(
    folder: &Path,
    name: &str,
    bundle: &Value,
    config: &str,
) -> Result<PathBuf, Failure> {
    runtime::config::private_dir::create(folder)
        .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
    let text = serde_json::to_vec_pretty(bundle).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
    let path = folder.join(name);
    for (path, text) in [(folder.join("bundle.json"), text.as_slice()), (path.clone(), config.as_bytes())] {
        runtime::config::private_file::write(&path, text)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
    }
    Ok(path)
}

fn serve(roamgate: &Path, config: &Path) -> Command {
    let mut command = Command::new(roamgate);
    command.arg("serve").arg("--config").arg(config).arg("--end-with-stdin");
    command
}

/// A path as a TOML string.
pub(crate) fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// The name of one of several: the first has none of its own, so that a lab of one is as it ever was.
pub(crate) fn numbered(name: &str, number: usize) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

/// A step's title, with a number where there are several.
fn one_of(title: &str, number: usize, all: usize) -> String {
    if all == 1 { title.to_owned() } else { format!("{title} ({number} of {all})") }
}

/// Ports that were free a moment ago; all are held until the last is found.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let failed = |error: std::io::Error| Failure::from_error(Exit::Bug, &error);
    let mut held = Vec::with_capacity(count);
    let mut ports = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        ports.push(listener.local_addr().map_err(failed)?.port());
        held.push(listener);
    }
    Ok(ports)
}
