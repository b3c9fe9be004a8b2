//! A tenant of a story: the stand-in in this process, onboarded by the command line; its devices and
//! users, and the tokens that it gives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::id::Guid;
use runtime::{Clock, Drain};
use serde_json::{Value, json};
use stand_in::{Config, Control, DeviceSeed, StandIn, TenantConfig, UserSeed};

use crate::support::Lab;

/// The running stand-in.
pub(crate) struct Tenant {
    pub(crate) id: Guid,
    pub(crate) control: Control,
    pub(crate) authority: String,
    pub(crate) issuers: Vec<String>,
    pub(crate) client_app: Guid,
    pub(crate) ca_file: PathBuf,
    pub(crate) base: String,
    folder: PathBuf,
    drain: Drain,
    runtime: Option<tokio::runtime::Runtime>,
}

/// The resource of the field's wizard.
pub(crate) const RESOURCE: &str = "https://ConfigMgrService";

/// A fresh id.
pub(crate) fn fresh() -> Guid {
    Guid::from_bytes(*uuid::Uuid::new_v4().as_bytes())
}

impl Tenant {
    /// Starts it with these users and onboards it.
    pub(crate) fn start(lab: &Lab, name: &str, users: Vec<UserSeed>) -> Self {
        let folder = lab.folder.path().join(name);
        runtime::config::private_dir::create(&folder).expect("a folder");
        let id = fresh();
        let mut tenant = TenantConfig::new(id, name);
        RESOURCE.clone_into(&mut tenant.resource);
        tenant.poll_interval = 1;
        tenant.users = users;
        let (client_app, discovery_app) = (tenant.client_app, tenant.discovery_app);
        let secret = tenant.discovery_secret.clone();
        let config = Config { tenants: vec![tenant], ..Config::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("tokio");
        let guard = runtime.enter();
        let bound = StandIn::bind(config, Clock::system()).expect("a stand-in");
        drop(guard);
        let ca_file = folder.join("authority.pem");
        std::fs::write(&ca_file, bound.ca_pem()).expect("a file");
        let secret_file = folder.join("secret");
        runtime::config::private_file::write(&secret_file, secret).expect("a file");
        let (authority, issuers, base) = (bound.authority(id), bound.issuers(id), bound.base().to_owned());
        let (control, drain) = (bound.control(), Drain::new());
        runtime.spawn(bound.run(drain.clone()));
        let text = |path: &Path| path.display().to_string();
        let mut words: Vec<String> = ["tenant", "add"].map(str::to_owned).to_vec();
        words.push(id.to_string());
        for (flag, value) in [
            ("--name", name.to_owned()),
            ("--authority", authority.clone()),
            ("--resource", RESOURCE.to_owned()),
            ("--client-app-id", client_app.to_string()),
            ("--discovery-app-id", discovery_app.to_string()),
            ("--secret-file", text(&secret_file)),
            ("--graph-url", base.clone()),
            ("--tenant-ca-file", text(&ca_file)),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        words.extend(issuers.iter().flat_map(|issuer| ["--issuer".to_owned(), issuer.clone()]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        lab.operator(&words);
        lab.operator(&["tenant", "sync", name, "--full"]);
        let runtime = Some(runtime);
        Self { id, control, authority, issuers, client_app, ca_file, base, folder, drain, runtime }
    }

    /// Joins a device: it is in the tenant now, and its folder holds the certificate and key.
    pub(crate) fn join(&self, name: &str, folder: &Path) -> DeviceSeed {
        let device = fresh();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, device.to_string());
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        runtime::config::private_file::write(folder.join("device.pem"), certificate.pem()).expect("a file");
        runtime::config::private_file::write(folder.join("device.key"), key.serialize_pem()).expect("a file");
        let seed = DeviceSeed::joined(device, name, certificate.der());
        self.control.put_device(self.id, seed.clone()).expect("the tenant");
        seed
    }

    /// A program that prints this token, as a device's token plug-in.
    pub(crate) fn program(&self, name: &str, token: &str) -> String {
        let file = self.folder.join(format!("{name}.json"));
        let ends = Clock::system().now() / 1_000_000 + 3000;
        let text = serde_json::to_vec(&json!({"access_token": token, "expires_on": ends})).expect("JSON");
        runtime::config::private_file::write(&file, text).expect("a file");
        format!("cat {}", file.display())
    }

    /// The words of setup that name it. What a gateway says about the tenant, a device inside has to be
    /// told besides.
    pub(crate) fn words(&self, is_inside: bool) -> Vec<String> {
        let mut words =
            vec!["--authority".to_owned(), self.authority.clone(), format!("AADTENANTID={}", self.id)];
        if is_inside {
            words.push(format!("AADCLIENTAPPID={}", self.client_app));
            words.push(format!("AADRESOURCEURI={RESOURCE}"));
        }
        words
    }

    /// Policies for its users.
    pub(crate) fn user_policy(&self, lab: &Lab) {
        let body = json!({
            "name": "For users of the tenant",
            "category": "RoamgateLab",
            "class": "Roamgate_Lab",
            "properties": {"Text": "hello"},
            "users": {"tenant": self.id},
        });
        post(lab, "policies", &body);
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.drain.begin(Duration::ZERO);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Calls the operator API where no command does it.
pub(crate) fn post(lab: &Lab, path: &str, body: &Value) -> Value {
    let key = std::fs::read_to_string(lab.text("operator.key_file")).expect("the operator's key");
    let ca = std::fs::read(lab.text("operator.ca_file")).expect("the site's root");
    let ca = reqwest::Certificate::from_pem(&ca).expect("PEM");
    let url = format!("{}/api/v1/{path}", lab.text("operator.url"));
    let text = body.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    runtime.block_on(async {
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().expect("a client");
        let request = client.post(url).bearer_auth(key.trim()).header("content-type", "application/json");
        let answer = request.body(text).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    })
}
