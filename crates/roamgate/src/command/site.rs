//! `roamgate site`.

use crate::api::Api;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const FIELDS: &[Column] = &[
    ("Site code", "site_code"),
    ("Name", "name"),
    ("Hierarchy", "hierarchy_id"),
    ("Site root (SHA-256)", "site_root_sha256"),
    ("Program", "program"),
    ("Devices", "devices.total"),
    ("  approved", "devices.approved"),
    ("  held", "devices.held"),
    ("  blocked", "devices.blocked"),
    ("  online", "devices.online"),
    ("Gateways", "gateways"),
    ("Connection points", "connection_points"),
    ("Published version", "snapshot_version"),
    ("Alarms", "alarms"),
];

pub(crate) async fn show(api: &Api, format: Format) -> Result<(), Failure> {
    output::record(format, &api.get("site").await?, FIELDS);
    Ok(())
}

/// `roamgate site init`: the only command that works on the database itself.
#[cfg(feature = "site")]
pub(crate) mod init {
    use std::net::SocketAddr;
    use std::path::Path;

    use runtime::Clock;
    use serde_json::json;
    use site::{InitConfig, Site};

    use crate::cli::SiteInitArgs;
    use crate::exit::{Exit, Failure};
    use crate::output::{self, Format};

    pub(crate) async fn run(arguments: SiteInitArgs, format: Format) -> Result<(), Failure> {
        let dir =
            std::path::absolute(&arguments.dir).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        runtime::config::private_dir::create(&dir)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        let config = dir.join("site.toml");
        if config.exists() {
            return Err(Failure::new(Exit::Conflict, format!("{} holds a site already", dir.display()))
                .help("Name another folder with --dir."));
        }
        let intranet: Result<Vec<site::Network>, _> =
            arguments.intranet.iter().map(|text| text.parse()).collect();
        let intranet = intranet.map_err(|error| {
            Failure::from_error(Exit::Usage, &error).help("Write a network as 192.0.2.0/24 or 2001:db8::/32.")
        })?;
        let operator_key_file = dir.join("operator.key");
        let made = Site::init(
            InitConfig {
                database: dir.join("site.db"),
                key_file: dir.join("site.key"),
                code: arguments.site_code,
                name: arguments.name.clone(),
                hierarchy: None,
                intranet,
                operator: arguments.operator.clone(),
                operator_key_file: operator_key_file.clone(),
                options: site::db::DbOptions::default(),
                lab: false,
            },
            Clock::system(),
        )
        .await
        .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        let root = made.root_certificate();
        made.close().await;
        let root_file = dir.join("site-root.pem");
        write(&root_file, &pem(&root))?;
        write(&config, &configuration(&arguments, &dir))?;
        let fingerprint = proto::id::Thumbprint::of(&root);
        let server = format!("https://{}:{}", arguments.host, arguments.api_port);
        if format == Format::Json {
            output::json(&json!({
                "dir": dir,
                "config": config,
                "operator_key_file": operator_key_file,
                "site_root_file": root_file,
                "site_root_sha256": fingerprint,
                "server": server,
            }));
            return Ok(());
        }
        output::line(&format!("The site {} is made in {}.", arguments.site_code, dir.display()));
        output::line(&format!("Its root (SHA-256): {fingerprint}"));
        output::line(&format!(
            "\nNext:\n  roamgate serve --config {}\n  roamgate context set --server {server} --ca-file {} --operator-key-file {}",
            config.display(),
            root_file.display(),
            operator_key_file.display()
        ));
        Ok(())
    }

    /// The configuration file of the new site host.
    fn configuration(arguments: &SiteInitArgs, dir: &Path) -> String {
        let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let at = |port: u16| text(&SocketAddr::new(arguments.listen, port).to_string());
        format!(
            "# Written by `roamgate site init`. Every key with its default: config/site.toml of the distribution.\n\n\
             [site]\ndatabase = {}\nkey_file = {}\n\n\
             [management-point]\nlisten = {}\nlisten_tls = {}\npublic_name = {}\n\n\
             [site-link]\nlisten = {}\nhost = {}\n\n\
             [operator-api]\nlisten = {}\nhost = {}\n\n\
             [logs]\ndirectory = {}\n",
            quoted(&dir.join("site.db")),
            quoted(&dir.join("site.key")),
            at(arguments.mp_port),
            at(arguments.mp_tls_port),
            text(&format!("{}:{}", arguments.host, arguments.mp_port)),
            at(arguments.link_port),
            text(&arguments.host),
            at(arguments.api_port),
            text(&arguments.host),
            quoted(&dir.join("logs")),
        )
    }

    fn write(path: &Path, text: &str) -> Result<(), Failure> {
        runtime::config::private_file::write(path, text)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))
    }

    fn pem(der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}
