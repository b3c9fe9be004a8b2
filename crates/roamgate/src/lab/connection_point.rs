//! A connection point of the lab: a process of its own, which dials out and listens nowhere.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::child::LabChild;
use super::hosts::{Folders, add, numbered, quoted, write_host};
use crate::api::Api;
use crate::exit::Failure;

/// Where a connection point keeps its things.
#[derive(Debug)]
pub(crate) struct ConnectionPoint {
    /// Name of its process and of its folder: `connection-point`, `connection-point-2` and so on.
    pub(crate) name: String,
    /// Its configuration file.
    pub(crate) config: PathBuf,
}

impl ConnectionPoint {
    /// Makes the connection point of this number (from 1) known to the site and starts it.
    pub(crate) async fn start(
        folders: &Folders<'_>,
        api: &Api,
        number: usize,
    ) -> Result<(Self, LabChild), Failure> {
        let name = numbered("connection-point", number);
        let folder = folders.lab.join(&name);
        let bundle = add(api, "connection-points", json!({"name": format!("CP{number}")})).await?;
        let text = format!(
            "[connection-point]\nbundle = {}\nstate_directory = {}\n\n[logs]\ndirectory = {}\n",
            quoted(&folder.join("bundle.json")),
            quoted(&folder.join("state")),
            quoted(&folder.join("logs")),
        );
        let config = write_host(&folder, "connection-point.toml", &bundle, &text)?;
        let child = LabChild::start(&name, folders.serve(&config), folders.lab, folders.clock)?;
        Ok((Self { name, config }, child))
    }

    /// Its entry in the ready file.
    pub(crate) fn ready(&self, number: usize) -> Value {
        json!({"name": format!("CP{number}"), "process": self.name, "config": self.config})
    }
}
