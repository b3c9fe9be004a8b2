//! Client settings: what clients obey, by device.
//!
//! The default settings are for all devices. Custom ones are aimed at collections, and *not for*
//! others, with a priority: of those that are for a device and name a setting, the one with the
//! smallest number gives its value. What results for a device goes to it in one policy body of
//! category `ClientAgentConfig`, made for each combination of custom settings that some device has,
//! and the permission for gateways also travels with the answers to its registration. So a value
//! reaches a device by two roads, and no device is left with one that nothing says any more.
//!
//! ```text
//! objects + collections ─ resolve ─► value and reason of each setting ─► body (a version a change)
//!                                                                     └► registration's answer
//! ```
//!
//! Bodies are public: the list of gateways is what any client is told anyway.

mod body;
mod known;
mod object;
mod resolve;

pub(crate) use body::{POLICY_ID, current_version, make_version, refresh};
pub use known::{KnownClientSetting, client_setting_names, known_client_settings};
pub use object::{ClientSettings, ClientSettingsChange, ClientSettingsError, NewClientSettings};
pub(crate) use object::{DEFAULT_NAME, DEFAULT_PRIORITY, list_weak};
use resolve::Objects;
pub use resolve::Resultant;
pub(crate) use resolve::{Object, Resolved, resolve_for};
