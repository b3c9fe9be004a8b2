//! What the table `[gateway.limits]` of a configuration file says.

use std::time::Duration;

use proto::limits;
use runtime::config::{ByteSize, HumanDuration};
use serde::Deserialize;

use super::{AtOnce, Limit, Portion};

/// Bounds of `head_bytes`: below it good requests do not fit, above it a head does not fit the buffer.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 4096..=120 * 1024;
/// Bounds of `head_lines`.
const HEAD_LINES: std::ops::RangeInclusive<u16> = 20..=100;

/// The table `[gateway.limits]`: what this host bears. The defaults fit two cores and some 20,000 devices; what
/// an endpoint is open to, and its own largest body, is not to be configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of request line and headers; above it 431. A token may have 16 KiB, and a certificate header too.
    /// Default 32 KiB.
    pub head_bytes: ByteSize,
    /// Header lines; above it 431. Our own client sends some fifteen. Default 64.
    pub head_lines: u16,
    /// From the first byte of a request to the end of its head, and from a handshake to the first request;
    /// above it 408 (or silence to silence). A head fits one packet or two. Default 10 s.
    pub head_timeout: HumanDuration,
    /// From connecting to the end of the TLS handshake. Poor lines need two or three seconds. Default 10 s.
    pub handshake_timeout: HumanDuration,
    /// How long a device may take nothing of its answer. Default 30 s.
    pub write_timeout: HumanDuration,
    /// Bytes of a request body; above it 413. Only lowers what endpoints take. Default 5 MiB, the largest
    /// client message.
    pub body_bytes: ByteSize,
    /// Whether bodies are taken that state no length (`Transfer-Encoding: chunked`); else 411. No client of
    /// the protocol sends one, and a request with both a length and chunks can be read in two ways.
    /// Default false.
    pub chunked_bodies: bool,
    /// Open connections of one source (IPv4 address or IPv6 /64), as a part of `max_connections`; above it the
    /// connection is closed at once. A /48 may have twice as many. Generous, because thousands of devices may stand
    /// behind one address; a site whose devices all do wants more. Default 25 %.
    pub source_connections: Portion,
    /// Places of `max_connections` that devices do not get, so that a connection point comes through when they are
    /// all at the door; at most a quarter of `max_connections` is kept. A connection point holds one for each
    /// shard. Default 64.
    pub tunnel_connections: u32,
    /// TLS handshakes of one source (IPv4 address or IPv6 /64; a /48 may make four times as many); above it the
    /// connection is closed when its ClientHello has come. A full handshake takes half a millisecond of a core, so one source gets a quarter of one; the burst is
    /// an office of 10,000 devices that come back at one moment. Default `500/s burst 10000`.
    pub source_handshakes: Limit,
    /// TLS handshakes in all, but for those of sources that have a tunnel; above it the connection is closed when
    /// its ClientHello has come, and those that are open go on. Two cores make some 4,000 a second. Default `2000/s burst 20000`.
    pub all_handshakes: Limit,
    /// Requests of one source that were refused before they were passed on (no path, no token, no key), and those
    /// for the gateway's own pages. Above it 429 to requests of the source that show nothing known. The burst is an office of 10,000 devices whose tokens have all
    /// ended. Default `200/s burst 10000`.
    pub source_refused: Limit,
    /// Requests for tokens by one source; above it 429. The burst is an office of 10,000 devices.
    /// Default `200/s burst 10000`.
    pub source_tokens: Limit,
    /// Requests for tokens by one bulk token, whoever holds it; above it 429. A roll-out of 10,000 devices at one
    /// moment, and a quarter of what all may have. Default `500/s burst 10000`.
    pub bulk_tokens: Limit,
    /// Requests for tokens in all; above it 503. One costs the site a signature. Strangers
    /// leave a quarter of the burst to devices that the site knows. Default `2000/s burst 20000`.
    pub all_tokens: Limit,
    /// Requests of one device; above it 429. A device sends some ten at a time. Default `100/s burst 2000`.
    pub device_requests: Limit,
    /// Requests for tokens by one device, which needs one every eight hours; above it 429.
    /// Default `30/min burst 60`.
    pub device_tokens: Limit,
    /// Messages of one device before it is registered; above it 429. Registration takes some five.
    /// Default `60/min burst 120`.
    pub device_registration: Limit,
    /// Requests of one device that are under way, slow bodies and answers included; above it 429. Each holds a
    /// place of `max_requests` and a stream of a tunnel. A device has some ten at a time. Default 32.
    pub device_at_once: AtOnce,
    /// Requests of one source that are under way, those of devices that the site knows left out; above it 429. An
    /// eighth of `max_requests`: strangers make as many keys as they like. Default 512.
    pub source_at_once: AtOnce,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |seconds| HumanDuration::new(Duration::from_secs(seconds));
        Self {
            head_bytes: ByteSize::new(32 * 1024),
            head_lines: 64,
            head_timeout: seconds(10),
            handshake_timeout: seconds(10),
            write_timeout: seconds(30),
            body_bytes: ByteSize::new(limits::MESSAGE_BYTES as u64),
            chunked_bodies: false,
            source_connections: Portion::percent(25),
            tunnel_connections: 64,
            source_handshakes: limit("500/s burst 10000"),
            all_handshakes: limit("2000/s burst 20000"),
            source_refused: limit("200/s burst 10000"),
            source_tokens: limit("200/s burst 10000"),
            bulk_tokens: limit("500/s burst 10000"),
            all_tokens: limit("2000/s burst 20000"),
            device_requests: limit("100/s burst 2000"),
            device_tokens: limit("30/min burst 60"),
            device_registration: limit("60/min burst 120"),
            device_at_once: AtOnce::new(32),
            source_at_once: AtOnce::new(512),
        }
    }
}

fn limit(text: &str) -> Limit {
    text.parse().expect("the defaults are read by a test")
}

/// A value in the table that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Out of its bounds.
    #[error("gateway.limits.head_bytes must be between 4 KiB and 120 KiB")]
    HeadBytes,
    /// Out of its bounds.
    #[error("gateway.limits.head_lines must be between 20 and 100")]
    HeadLines,
    /// Endpoints take less.
    #[error("gateway.limits.body_bytes is more than any endpoint takes ({} bytes)", limits::MESSAGE_BYTES)]
    BodyBytes,
    /// A bound of nothing would refuse everybody.
    #[error("gateway.limits.{0} must be more than nothing")]
    Zero(&'static str),
}

impl Config {
    /// Places that are kept for tunnels where there are so many in all.
    pub(super) fn kept_for_tunnels(&self, max_connections: u32) -> u32 {
        self.tunnel_connections.min(max_connections / 4)
    }

    /// Whether the values can work.
    pub fn check(&self) -> Result<(), Problem> {
        if !HEAD_BYTES.contains(&self.head_bytes.bytes()) {
            return Err(Problem::HeadBytes);
        }
        if !HEAD_LINES.contains(&self.head_lines) {
            return Err(Problem::HeadLines);
        }
        if self.body_bytes.bytes() > limits::MESSAGE_BYTES as u64 {
            return Err(Problem::BodyBytes);
        }
        let times = [
            ("head_timeout", self.head_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("write_timeout", self.write_timeout),
        ];
        match times.into_iter().find(|(_, time)| time.get().is_zero()) {
            Some((name, _)) => Err(Problem::Zero(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn an_empty_table_is_the_defaults_and_works() {
        assert_eq!(read(""), Config::default());
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn the_file_under_config_lists_every_key_with_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/gateway.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, table) = text.split_once("[gateway.limits]").unwrap();
        let table = table.split_once("\n[").map_or(table, |(table, _)| table);
        assert_eq!(read(table), Config::default());
        let error = toml::from_str::<Config>("nothing = 1").unwrap_err().to_string();
        let (_, keys) = error.split_once("expected one of ").unwrap();
        for key in keys.split('`').skip(1).step_by(2) {
            let line = table.lines().position(|line| line.starts_with(&format!("{key} = ")));
            let line = line.unwrap_or_else(|| panic!("{key} is missing"));
            assert!(
                table.lines().nth(line - 1).is_some_and(|above| above.starts_with("# ")),
                "{key}: no reason"
            );
        }
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        assert_eq!(read("head_bytes = 1000").check(), Err(Problem::HeadBytes));
        assert_eq!(read("head_bytes = \"1 MiB\"").check(), Err(Problem::HeadBytes));
        assert_eq!(read("head_lines = 5").check(), Err(Problem::HeadLines));
        assert_eq!(read("body_bytes = \"6 MiB\"").check(), Err(Problem::BodyBytes));
        assert_eq!(read("write_timeout = \"0s\"").check(), Err(Problem::Zero("write_timeout")));
        assert_eq!(read("device_requests = \"off\"").device_requests, Limit::OFF);
        let error = toml::from_str::<Config>("all_tokens = \"many\"").unwrap_err();
        assert!(error.message().contains("200/s burst 1000"), "{error}");
    }
}
