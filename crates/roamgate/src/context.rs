//! Where the site is: from flags, then the environment, then the context file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// Flags that every operator command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SiteFlags {
    /// Operator API of the site, for instance https://site.example.org:8443
    #[arg(long, global = true, env = "ROAMGATE_SERVER", value_name = "URL", help_heading = "Site")]
    pub(crate) server: Option<String>,
    /// Root certificate of the site (PEM)
    #[arg(long, global = true, env = "ROAMGATE_CA_FILE", value_name = "FILE", help_heading = "Site")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with the operator's key
    #[arg(
        long,
        global = true,
        env = "ROAMGATE_OPERATOR_KEY_FILE",
        value_name = "FILE",
        help_heading = "Site"
    )]
    pub(crate) operator_key_file: Option<PathBuf>,
}

/// Where the site is and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Base URL of the operator API.
    pub(crate) server: String,
    /// Root certificate of the site (PEM).
    pub(crate) ca_file: PathBuf,
    /// File with the operator's key.
    pub(crate) operator_key_file: PathBuf,
}

impl Context {
    /// The context that these flags, the environment and the context file make together.
    pub(crate) fn find(flags: &SiteFlags) -> Result<Self, Failure> {
        let stored = Self::load()?;
        let missing = |what: &str| {
            Failure::new(Exit::Usage, format!("no site named: {what} is missing")).help(
                "Run `roamgate context set --server URL --ca-file F --operator-key-file F` once on this host, \
                 or give these flags with the command. `roamgate lab` sets the context by itself.",
            )
        };
        Ok(Self {
            server: flags
                .server
                .clone()
                .or_else(|| stored.as_ref().map(|c| c.server.clone()))
                .ok_or_else(|| missing("--server"))?,
            ca_file: flags
                .ca_file
                .clone()
                .or_else(|| stored.as_ref().map(|c| c.ca_file.clone()))
                .ok_or_else(|| missing("--ca-file"))?,
            operator_key_file: flags
                .operator_key_file
                .clone()
                .or_else(|| stored.as_ref().map(|c| c.operator_key_file.clone()))
                .ok_or_else(|| missing("--operator-key-file"))?,
        })
    }

    /// The context file, when there is one.
    pub(crate) fn load() -> Result<Option<Self>, Failure> {
        let Some(path) = file() else { return Ok(None) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display())));
            }
        };
        toml::from_str(&text).map(Some).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} is not a context: {error}", path.display()))
                .help("Delete the file, then run `roamgate context set`.")
        })
    }

    /// Writes the context file and answers where it is.
    pub(crate) fn save(&self) -> Result<PathBuf, Failure> {
        let path = file().ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no home folder for the context file")
                .help("Set ROAMGATE_CONTEXT to the path of a file.")
        })?;
        let text = toml::to_string(self).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&path, text)
        };
        write().map_err(|error| {
            Failure::new(Exit::Refused, format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(path)
    }

    /// Removes the context file.
    pub(crate) fn forget() -> Result<(), Failure> {
        let Some(path) = file() else { return Ok(()) };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::new(Exit::Refused, format!("cannot remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

/// `$ROAMGATE_CONTEXT`, or `roamgate/context.toml` in the configuration folder of the user.
fn file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("ROAMGATE_CONTEXT").or_else(|| {
        let folder = from("XDG_CONFIG_HOME").or_else(|| from("HOME").map(|home| home.join(".config")))?;
        Some(Path::new(&folder).join("roamgate").join("context.toml"))
    })
}
