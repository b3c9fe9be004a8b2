//! Components of this crate's lines; names and files as in the field where it has them [docs].

use runtime::telemetry::{ComponentSpec, Format};

/// Keys, users and devices of tenants.
pub(crate) const TENANTS: &str = "SMS_AZUREAD_DISCOVERY_AGENT";
/// Users and computers of directories.
pub(crate) const DIRECTORIES: &str = "SMS_AD_USER_DISCOVERY_AGENT";
/// Revocation lists.
pub(crate) const LISTS: &str = "SMS_CRL_FETCHER";

/// Components, files and formats of this crate.
pub const COMPONENTS: &[ComponentSpec] = &[
    ComponentSpec { component: TENANTS, file: "SMS_AZUREAD_DISCOVERY_AGENT.log", format: Format::Simple },
    ComponentSpec { component: DIRECTORIES, file: "adusrdis.log", format: Format::Simple },
    ComponentSpec { component: LISTS, file: "SMS_CRL_FETCHER.log", format: Format::Simple },
];
