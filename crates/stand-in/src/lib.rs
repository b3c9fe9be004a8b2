//! A tenant for the lab and for tests, and nothing that a site runs.
//!
//! It serves over HTTPS what the site, its gateways and its devices ask of an identity provider:
//! discovery and keys ([`Control::rotate_keys`]), tokens for devices, users and apps, and the lists
//! of users and devices. Every proof is really checked: a stand-in that believes everything would
//! hide our own mistakes. Time is that of the injected clock.
//!
//! ```text
//! StandIn::bind(config, clock)? ─► Bound ─► .control()   what tests and the lab change
//!                                        └► .run(drain)  serve
//! ```
//!
//! | asked for | answered by |
//! |---|---|
//! | `/{tenant}/.well-known/openid-configuration`, `/{tenant}/v2.0/.well-known/…` | `discovery` |
//! | `/{tenant}/discovery/keys`, `/{tenant}/discovery/v2.0/keys` | `discovery` |
//! | `/{tenant}/oauth2/token`, `/{tenant}/oauth2/v2.0/token` | `token` |
//! | `/{tenant}/oauth2/devicecode`, `/{tenant}/oauth2/v2.0/devicecode` | `device_code` |
//! | `/{tenant}/device` | `sign_in` |
//! | `/v1.0/users`, `/v1.0/users/delta`, `/v1.0/devices`, `/v1.0/devices/delta` | `graph` |

mod assertion;
mod certificate;
mod claims;
mod config;
mod control;
mod device_code;
mod discovery;
mod fault;
mod form;
mod graph;
mod keys;
mod refusal;
mod register;
mod route;
mod sign_in;
mod stand_in;
mod state;
mod token;

pub use certificate::{Ca, CaError};
pub use config::{Config, DeviceSeed, TenantConfig, TokenVersion, UserSeed};
pub use control::{ApproveError, Control, Counts, RotateError, UnknownTenant};
pub use fault::{Fault, Part};
pub use keys::KeyError;
pub use stand_in::{BindError, Bound, StandIn};
