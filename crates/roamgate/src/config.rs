//! One configuration file: a section in it is a role started.

use std::path::{Path, PathBuf};

use runtime::config::ByteSize;
use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// The whole file. Every key with its default stands in `config/*.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The site: database and keys. Needed by the three sections after it.
    #[cfg(feature = "site")]
    pub(crate) site: Option<SiteSection>,
    /// A management point; it needs the site in the same process.
    #[cfg(feature = "site")]
    pub(crate) management_point: Option<management_point::Config>,
    /// The listener that connection points dial.
    #[cfg(feature = "site")]
    pub(crate) site_link: Option<console::SiteLinkConfig>,
    /// The listener that operators' commands call.
    #[cfg(feature = "site")]
    pub(crate) operator_api: Option<console::OperatorApiConfig>,
    /// How the site fetches keys, users and revocation lists.
    #[cfg(feature = "site")]
    #[serde(default)]
    pub(crate) fetch: fetch::Config,
    /// A gateway.
    #[cfg(feature = "gateway")]
    pub(crate) gateway: Option<gateway::Config>,
    /// A connection point.
    #[cfg(feature = "connector")]
    pub(crate) connection_point: Option<connector::Config>,
    /// Where the logs go.
    #[serde(default)]
    pub(crate) logs: LogsSection,
}

/// Section `[site]`.
#[cfg(feature = "site")]
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteSection {
    /// The database file.
    pub(crate) database: PathBuf,
    /// The key file, under which private keys are encrypted; keep it where copies of the
    /// database do not go.
    pub(crate) key_file: PathBuf,
    /// Address of `/livez`, `/readyz` and `/metrics` of site, management point and links, plain HTTP: keep it
    /// private. Default: none.
    #[serde(default)]
    pub(crate) admin_listen: Option<std::net::SocketAddr>,
    /// Names by which monitors may ask for these pages. Addresses, `localhost` and names without a dot or under
    /// endings like `.internal` need not be named; others do, because a stranger's page in a browser inside could
    /// point its own name at this address. Default: none.
    #[serde(default)]
    pub(crate) admin_names: Vec<String>,
}

/// Section `[logs]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogsSection {
    /// Folder for the log files; without it there are none.
    pub(crate) directory: Option<PathBuf>,
    /// 0 verbose, 1 default, 2 warnings and errors, 3 errors only. Read again on SIGHUP.
    pub(crate) level: u8,
    /// Levels of single components, over `level`. Read again on SIGHUP.
    pub(crate) levels: std::collections::BTreeMap<String, u8>,
    /// JSON lines instead of the components' own formats.
    pub(crate) json: bool,
    /// Size at which a file becomes history (`.lo_`).
    pub(crate) max_size: ByteSize,
}

impl Default for LogsSection {
    fn default() -> Self {
        Self {
            directory: None,
            level: 1,
            levels: std::collections::BTreeMap::new(),
            json: false,
            max_size: ByteSize::new(runtime::telemetry::DEFAULT_SIZE),
        }
    }
}

/// Reads a file and judges whether its sections can work together.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let config: Config = runtime::config::load(path).map_err(|error| {
        Failure::from_error(Exit::Usage, &error)
            .help("Every key with its default is in the files under config/ of the distribution.")
    })?;
    config.check()?;
    Ok(config)
}

impl Config {
    fn check(&self) -> Result<(), Failure> {
        let usage = |text: &str, help: &str| Err(Failure::new(Exit::Usage, text).help(help));
        #[cfg(feature = "site")]
        {
            let parts = [
                (self.management_point.is_some(), "[management-point]"),
                (self.site_link.is_some(), "[site-link]"),
                (self.operator_api.is_some(), "[operator-api]"),
            ];
            if self.site.is_none()
                && let Some((_, section)) = parts.iter().find(|(there, _)| *there)
            {
                return usage(
                    &format!("{section} needs [site] in the same file"),
                    "A management-point host is a site host: it opens the site's database with the key file. \
                     Copy the section [site] of the file that `roamgate site init` wrote.",
                );
            }
        }
        if self.roles().is_empty() {
            return usage(
                "the file starts no role",
                "Add a section, for instance [gateway] or [connection-point].",
            );
        }
        runtime::telemetry::Level::try_from(self.logs.level)
            .map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        Ok(())
    }

    /// The roles that the file starts, as people name them.
    pub(crate) fn roles(&self) -> Vec<&'static str> {
        let mut roles = Vec::new();
        #[cfg(feature = "site")]
        roles.extend(
            [
                (self.site.is_some(), "site"),
                (self.management_point.is_some(), "management point"),
                (self.site_link.is_some(), "site link"),
                (self.operator_api.is_some(), "operator API"),
            ]
            .into_iter()
            .filter_map(|(there, name)| there.then_some(name)),
        );
        #[cfg(feature = "gateway")]
        roles.extend(self.gateway.is_some().then_some("gateway"));
        #[cfg(feature = "connector")]
        roles.extend(self.connection_point.is_some().then_some("connection point"));
        roles
    }
}

#[cfg(all(test, feature = "site", feature = "gateway", feature = "connector"))]
mod tests {
    use super::*;

    fn distributed(name: &str) -> String {
        let path = format!("{}/../../config/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The keys that a section takes, by the error that a wrong one brings.
    fn keys_of(section: &str, required: &str) -> Vec<String> {
        let text = format!("[{section}]\n{required}\nno_such_key = 1\n");
        let error = toml::from_str::<Config>(&text).expect_err("an unknown key").to_string();
        // "unknown field `no_such_key`, expected one of `a`, `b`", and for two "expected `a` or `b`".
        let (_, listed) = error.split_once(", expected ").unwrap_or_else(|| panic!("{section}: {error}"));
        let listed = listed.lines().next().unwrap_or_default();
        listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// Sections of the file with what must be said in each.
    fn files() -> [(&'static str, Vec<(&'static str, &'static str)>); 3] {
        let gateway = "bundle = \"gateway-bundle.json\"\nstate_directory = \"gateway-state\"\ncertificate = \"gw.pem\"\nkey = \"gw-key.pem\"";
        let connector =
            "bundle = \"connection-point-bundle.json\"\nstate_directory = \"connection-point-state\"";
        let site = "database = \"site.db\"\nkey_file = \"site.key\"";
        [
            ("gateway.toml", vec![("gateway", gateway), ("logs", "")]),
            ("connection-point.toml", vec![("connection-point", connector), ("logs", "")]),
            (
                "site.toml",
                vec![
                    ("site", site),
                    ("management-point", ""),
                    ("site-link", ""),
                    ("operator-api", ""),
                    ("fetch", ""),
                    ("logs", ""),
                ],
            ),
        ]
    }

    #[test]
    fn the_files_under_config_name_every_key() {
        for (name, sections) in files() {
            let text = distributed(name);
            for (section, required) in sections {
                let (_, rest) =
                    text.split_once(&format!("[{section}]")).unwrap_or_else(|| panic!("{name}: {section}"));
                let body: Vec<_> =
                    rest.lines().take_while(|line| !line.starts_with('[') || line.contains('.')).collect();
                for key in keys_of(section, required) {
                    let named = body.iter().any(|line| {
                        let line = line.trim_start_matches("# ");
                        line.starts_with(&format!("{key} = ")) || *line == format!("[{section}.{key}]")
                    });
                    assert!(named, "{name}: [{section}] does not name {key}");
                }
            }
        }
    }

    #[test]
    fn the_values_in_the_files_under_config_are_the_defaults() {
        for (name, sections) in files() {
            let least: Vec<_> =
                sections.iter().map(|(section, required)| format!("[{section}]\n{required}\n")).collect();
            let least = least.concat();
            let least: Config = toml::from_str(&least).unwrap_or_else(|error| panic!("{name}: {error}"));
            let whole: Config =
                toml::from_str(&distributed(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(format!("{least:#?}"), format!("{whole:#?}"), "{name}");
        }
    }

    #[test]
    fn a_management_point_without_its_site_is_refused() {
        let config: Config = toml::from_str("[management-point]\n").unwrap();
        let failure = config.check().expect_err("it needs the site");
        assert!(failure.message.contains("[management-point] needs [site]"), "{failure}");
    }

    #[test]
    fn a_file_that_starts_nothing_is_refused() {
        let config: Config = toml::from_str("[logs]\n").unwrap();
        assert!(config.check().is_err());
    }
}
