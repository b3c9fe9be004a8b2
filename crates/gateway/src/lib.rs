//! The internet-facing role: admits devices, holds no database and no signing key.
//!
//! A request walks through the modules in this order:
//!
//! | module | does |
//! |---|---|
//! | [`bind`](Gateway::bind), `accept` | listener, TLS, one request id for each request |
//! | [`limit`] | has its source, or the device, asked for too much? |
//! | [`admit`] | path, method, size, identity: may it pass? |
//! | `route` | picks a tunnel, moves the bodies, once more if the tunnel breaks |
//! | `tunnel` | one connection to a connection point, shared by its requests |
//! | `reply` | refusals of our own, and what a role answered |
//!
//! Beside it: [`publication`] takes what the site publishes and exchanges the [`state`] that admission reads:
//! keys of the site and of its `tenants`, and whose certificates are to be [`trust`]ed, which `shown` holds
//! against what a connection showed. `control` tells the site of traffic, refusals and wishes.
//!
//! **The gateway stands on the attacker's side of the line.** It refuses much and proves nothing: everything
//! that it lets pass is judged again inside.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod accept;
mod admin;
pub mod admit;
mod bind;
mod certificate;
pub mod config;
mod control;
pub mod counters;
pub mod events;
mod gateway;
mod headers;
pub mod limit;
mod log;
mod metrics;
pub mod publication;
mod reply;
mod route;
mod shown;
pub mod state;
mod store;
mod tenants;
pub mod trust;
mod tunnel;

pub use bind::{BindError, Bound, RunError};
pub use config::Config;
pub use gateway::Gateway;
pub use log::COMPONENTS;
