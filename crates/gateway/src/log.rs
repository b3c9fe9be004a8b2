//! Where the gateway's lines go.

use runtime::telemetry::{ComponentSpec, Format};

/// Component of every line of this role.
pub(crate) const COMPONENT: &str = "CMGService";

/// The log files of this role.
pub const COMPONENTS: &[ComponentSpec] =
    &[ComponentSpec { component: COMPONENT, file: "CMGService.log", format: Format::Simple }];
