//! `roamgate collection`, `client-settings` and `expected-device`: words.

use clap::{Args, Subcommand};

use super::named;

#[derive(Debug, Subcommand)]
pub(crate) enum CollectionCommand {
    /// Make an empty collection
    Add {
        #[arg(value_parser = named())]
        name: String,
    },
    /// All collections
    List,
    /// One collection with its devices
    Show {
        #[arg(value_parser = named())]
        collection: String,
    },
    /// Put a device into it
    AddDevice {
        #[arg(value_parser = named())]
        collection: String,
        #[arg(value_parser = named(), required = true)]
        devices: Vec<String>,
    },
    /// Take a device out of it
    RemoveDevice {
        #[arg(value_parser = named())]
        collection: String,
        #[arg(value_parser = named(), required = true)]
        devices: Vec<String>,
    },
    /// Forget it; what was aimed at it is aimed at nobody
    Remove {
        #[arg(value_parser = named())]
        collection: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientSettingsCommand {
    /// Default and custom client settings, by priority
    List,
    /// Every setting that there is, with bounds and meaning
    Known,
    /// Make custom client settings for collections
    Add(ClientSettingsArgs),
    /// Replace what is named; the rest stays
    Set(ClientSettingsArgs),
    /// Forget custom client settings
    Remove {
        #[arg(value_parser = named())]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ClientSettingsArgs {
    /// Their name; `default` are those for all devices
    #[arg(value_parser = named())]
    pub(crate) name: String,
    /// 1 to 9999, each once; 1 wins over 2; the next free one unless named
    #[arg(long)]
    pub(crate) priority: Option<u32>,
    /// `Setting=value`, as `client-settings known` lists them; may stand several times
    #[arg(long = "value", value_name = "SETTING=VALUE")]
    pub(crate) values: Vec<String>,
    /// Collection that they are for; may stand several times
    #[arg(long = "collection", value_name = "COLLECTION")]
    pub(crate) collections: Vec<String>,
    /// Collection whose devices they are not for; may stand several times
    #[arg(long = "not-for", value_name = "COLLECTION")]
    pub(crate) not_for: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExpectedDeviceCommand {
    /// Expect a device: the rule `expected-list` approves it
    Add {
        /// Its name; alone it is an alarm, since anybody can claim a name
        #[arg(long, required_unless_present = "hardware_id")]
        name: Option<String>,
        /// Its hardware id, `2:` and 40 hexadecimal digits, as `roamgate device show` shows it
        #[arg(long)]
        hardware_id: Option<String>,
    },
    /// All that are expected
    List,
    /// Expect it no longer
    Remove {
        /// As `expected-device list` shows it
        #[arg(value_parser = named())]
        id: String,
    },
}
