//! The device side: setup, registration, tokens, policy, heartbeat.
//!
//! Where to look:
//!
//! | for | module |
//! |---|---|
//! | one device and what it says to its site | [`device`], [`registration`], [`locations`], [`policy`], [`heartbeat`] |
//! | what is decided, without doing it | [`location`], [`rotation`], [`standing`], [`probe`], [`place`], [`token`], [`schedule`], [`trust`] |
//! | what goes over the wire | [`transport`], [`tls`], [`failure`] |
//! | what it proves itself with, and why so | [`credential`], [`join`] |
//! | what is kept | [`state`], [`identity`] |
//! | what people type and read | [`setup`], [`local_settings`], [`status`], [`doctor`], [`log`] |
//! | what depends on the operating system | [`platform`], [`network`] |
//!
//! The walk of a request begins here: [`registration`] builds and signs, [`transport`] sends,
//! [`trust`] judges the answer.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod address;
pub mod cli;
pub mod credential;
pub mod device;
pub mod doctor;
pub mod failure;
pub mod heartbeat;
pub mod identity;
pub mod join;
pub mod local_settings;
pub mod location;
pub mod locations;
pub mod log;
pub mod network;
pub mod place;
pub mod platform;
pub mod policy;
pub mod probe;
pub mod registration;
pub mod retry;
pub mod rotation;
pub mod schedule;
pub mod service;
pub mod setup;
pub mod standing;
pub mod state;
pub mod status;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod token;
pub mod transport;
pub mod trust;

pub use device::{Device, DeviceOptions};
