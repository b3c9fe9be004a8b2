//! What every process needs, and nothing that knows the protocol.
//!
//! A role is `Config` → `bind` → `run(drain)`; this crate holds the parts of that walk which are the same for
//! all roles: reading the configuration ([`config`]), keys and TLS ([`tls`]), sockets ([`listen`], [`http`]),
//! stopping ([`drain`], [`signal`]), the time ([`clock`]), the log and the steps of a trace ([`telemetry`]), and what
//! monitors ask for ([`admin`], [`metrics`]).
//!
//! It depends on no other crate of ours, so that nothing in here can decide anything about a device.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod drain;
pub mod http;
pub mod id;
pub mod listen;
pub mod metrics;
pub mod read_ahead;
pub mod signal;
pub mod telemetry;
pub mod tls;

pub use clock::Clock;
pub use drain::Drain;
