//! What the section `[gateway]` of a configuration file says.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use runtime::config::HumanDuration;
use serde::Deserialize;

use crate::limit;

/// Most shards that one gateway runs. More threads than any machine of this trade has cores are a mistake.
pub const SHARDS_MAX: u16 = 256;

/// The section `[gateway]`. A host's own matters only: what the site decides (roles, blocks, whether tokens
/// need their key) comes signed from the site and cannot be weakened here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file that `roamgate gateway add` wrote for this host; mode 0600.
    pub bundle: PathBuf,
    /// Folder for what the site published last. Made with mode 0700 if it is missing.
    pub state_directory: PathBuf,
    /// Addresses for devices and connection points alike. Default `0.0.0.0:443`.
    #[serde(default = "defaults::listen")]
    pub listen: Vec<SocketAddr>,
    /// Certificate chain shown to devices (PEM, its own certificate first). Read again on SIGHUP and when
    /// the file changes; one that cannot be used is reported and the old one stays.
    pub certificate: PathBuf,
    /// Its private key (PEM, mode 0600).
    pub key: PathBuf,
    /// Address of `/livez`, `/readyz` and `/metrics`, plain HTTP: keep it private. Default: none.
    #[serde(default)]
    pub admin_listen: Option<SocketAddr>,
    /// Names by which monitors may ask for these pages. Addresses, `localhost` and names without a dot or under
    /// endings like `.internal` need not be named; others do, because a stranger's page in a browser inside could
    /// point its own name at this address. Default: none.
    #[serde(default)]
    pub admin_names: Vec<String>,
    /// Threads that serve devices, each with its own listener. Default 0: one for each core.
    #[serde(default)]
    pub shards: u16,
    /// Connections at once, handshakes and tunnels included; one above is closed at once. Bounds memory at
    /// some 20 KiB for each that idles. Default 20,000.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: u32,
    /// Admitted requests at once; one above gets 503 with a time to return. Bounds memory at some 64 KiB for
    /// each, and at 1 MiB for each whose device is slow to take its answer. Default 4,096.
    #[serde(default = "defaults::max_requests")]
    pub max_requests: u32,
    /// How long a request that has been passed on may wait for its answer, and an answer for its next
    /// part, before the device is told 504 (or cut off). A little more than the connection point's
    /// `request_timeout`, because that one can say more exactly what is wrong. Default 65 s.
    #[serde(default = "defaults::answer_timeout")]
    pub answer_timeout: HumanDuration,
    /// How long a device may keep a request body waiting. Each KiB that it sends gives it a second back, up
    /// to this time. Default 20 s.
    #[serde(default = "defaults::body_timeout")]
    pub body_timeout: HumanDuration,
    /// How long a connection may wait for its next request. Default 75 s.
    #[serde(default = "defaults::idle_timeout")]
    pub idle_timeout: HumanDuration,
    /// Time between two looks at the certificate files. Default 5 s.
    #[serde(default = "defaults::certificate_poll")]
    pub certificate_poll: HumanDuration,
    /// What one request, source and device may take.
    #[serde(default)]
    pub limits: limit::config::Config,
}

/// A value in the section that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Nothing to listen on.
    #[error("gateway.listen is empty; give at least one address like \"0.0.0.0:443\"")]
    NoAddress,
    /// More shards than make sense.
    #[error("gateway.shards is {0}; at most {SHARDS_MAX} make sense, and 0 means one for each core")]
    TooManyShards(u16),
    /// A bound of nothing would refuse everybody.
    #[error("gateway.{0} must be more than nothing")]
    Zero(&'static str),
    /// One of the limits.
    #[error(transparent)]
    Limits(#[from] limit::config::Problem),
}

impl Config {
    /// Whether the values can work together.
    pub fn check(&self) -> Result<(), ConfigProblem> {
        if self.listen.is_empty() {
            return Err(ConfigProblem::NoAddress);
        }
        if self.shards > SHARDS_MAX {
            return Err(ConfigProblem::TooManyShards(self.shards));
        }
        let values = [
            ("max_connections", self.max_connections > 0),
            ("max_requests", self.max_requests > 0),
            ("answer_timeout", self.answer_timeout.get() > Duration::ZERO),
            ("body_timeout", self.body_timeout.get() > Duration::ZERO),
            ("idle_timeout", self.idle_timeout.get() > Duration::ZERO),
            ("certificate_poll", self.certificate_poll.get() > Duration::ZERO),
        ];
        if let Some((name, _)) = values.into_iter().find(|(_, is_some)| !is_some) {
            return Err(ConfigProblem::Zero(name));
        }
        Ok(self.limits.check()?)
    }

    /// How many shards run: as many as asked for, or one for each core.
    pub(crate) fn shard_count(&self) -> NonZeroU16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = match self.shards {
            0 => u16::try_from(cores()).unwrap_or(SHARDS_MAX).min(SHARDS_MAX),
            shards => shards,
        };
        NonZeroU16::new(wanted).unwrap_or(NonZeroU16::MIN)
    }
}

mod defaults {
    use super::{Duration, HumanDuration, Ipv4Addr, SocketAddr};

    pub(super) fn listen() -> Vec<SocketAddr> {
        vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443))]
    }

    pub(super) const fn max_connections() -> u32 {
        20_000
    }

    pub(super) const fn max_requests() -> u32 {
        4096
    }

    pub(super) fn answer_timeout() -> HumanDuration {
        HumanDuration::new(Duration::from_secs(65))
    }

    pub(super) fn body_timeout() -> HumanDuration {
        HumanDuration::new(Duration::from_secs(20))
    }

    pub(super) fn idle_timeout() -> HumanDuration {
        HumanDuration::new(Duration::from_secs(75))
    }

    pub(super) fn certificate_poll() -> HumanDuration {
        HumanDuration::new(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = r#"
        bundle = "gateway.bundle"
        state_directory = "state"
        certificate = "c.pem"
        key = "k.pem"
    "#;

    #[test]
    fn a_short_section_has_working_defaults() {
        let config: Config = toml::from_str(SHORT).unwrap();
        assert_eq!(config.listen, ["0.0.0.0:443".parse().unwrap()]);
        assert_eq!(config.answer_timeout.get(), Duration::from_secs(65));
        assert_eq!(config.check(), Ok(()));
        assert!(config.shard_count().get() >= 1);
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let error = toml::from_str::<Config>(&format!("{SHORT}\nmax_connection = 3")).unwrap_err();
        assert!(error.message().contains("max_connection"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let with = |line: &str| toml::from_str::<Config>(&format!("{SHORT}\n{line}")).unwrap().check();
        assert_eq!(with("listen = []"), Err(ConfigProblem::NoAddress));
        assert_eq!(with("shards = 300"), Err(ConfigProblem::TooManyShards(300)));
        assert_eq!(with("max_requests = 0"), Err(ConfigProblem::Zero("max_requests")));
        assert_eq!(with("body_timeout = \"0s\""), Err(ConfigProblem::Zero("body_timeout")));
        let problem = limit::config::Problem::HeadLines;
        assert_eq!(with("limits.head_lines = 1"), Err(ConfigProblem::Limits(problem)));
        assert_eq!(with("shards = 2"), Ok(()));
    }
}
