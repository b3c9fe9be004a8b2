//! What the site fetches from elsewhere, because an administrator named the place.
//!
//! Keys of tenants, users and devices of tenants, users and computers of directories, revocation
//! lists. Nothing here follows an address out of a token, a device's certificate or a message: every
//! one comes from the site's own records, or from a document that such an address served over
//! verified TLS (rule 6 of the threat model).
//!
//! ```text
//! pure:     schedule            when what is due, with `now` and chance as arguments
//! clients:  openid, graph, directory, crl     one question, one answer, everything bounded
//! drivers:  key_driver, sync_driver, crl_driver     schedule ─► client ─► one operation of the site
//! ```
//!
//! Each source has a task of its own while it is asked, so one that hangs holds up no other, and
//! whatever goes wrong leaves what was known as it was (R13).

mod config;
pub mod crl;
mod crl_driver;
pub mod directory;
pub mod graph;
mod key_driver;
mod log;
pub mod openid;
mod outbound;
mod run;
mod schedule;
mod sync_driver;
mod sync_link;
mod workers;

pub use config::{Attributes, Config};
pub use log::COMPONENTS;
pub use outbound::{Answer, FetchError, Outbound, OutboundError, Proxies};
pub use run::run;
