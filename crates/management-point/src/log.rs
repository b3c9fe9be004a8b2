//! Log components of the management point, under the field's names.
//!
//! A component is the field `component` of a `tracing` event. Each has a file of its own in CCM
//! format, which the same viewers read. Lines of the field are written by the flows that cause them, with
//! the values of the run; the request id stands on the span around them.

use runtime::telemetry::{ComponentSpec, Format};

/// Registration: certificates, tokens, ids.
pub const MP_REGISTRATION_MANAGER: &str = "MP_RegistrationManager";
/// Registration messages.
pub const MP_CLI_REG: &str = "MP_CliReg";
/// The token service.
pub const CCM_STS: &str = "CCM_STS";
/// Site facts.
pub const MP_GET_AUTH: &str = "MP_GetAuth";
/// Location requests.
pub const MP_LOCATION: &str = "MP_Location";
/// Policy assignments.
pub const MP_POLICY: &str = "MP_Policy";
/// Policy bodies.
pub const MP_GET_POLICY: &str = "MP_GetPolicy";
/// Heartbeats.
pub const MP_DDR: &str = "MP_Ddr";
/// Hardware inventory.
pub const MP_HINV: &str = "MP_Hinv";
/// Software inventory.
pub const MP_SINV: &str = "MP_Sinv";
/// Status messages.
pub const MP_STATUS: &str = "MP_Status";
/// State messages.
pub const MP_RELAY: &str = "MP_Relay";
/// Who signed what; refusals for want of a proof.
pub const CLIENT_AUTH: &str = "ClientAuth";

/// Mode and certificate of the role.
pub const MP_CONTROL: &str = "mpcontrol";

/// Every component with its file.
pub const COMPONENTS: &[ComponentSpec] = &[
    spec(MP_REGISTRATION_MANAGER, "MP_RegistrationManager.log"),
    spec(MP_CLI_REG, "MP_CliReg.log"),
    spec(CCM_STS, "CCM_STS.log"),
    spec(MP_GET_AUTH, "MP_GetAuth.log"),
    spec(MP_LOCATION, "MP_Location.log"),
    spec(MP_POLICY, "MP_Policy.log"),
    spec(MP_GET_POLICY, "MP_GetPolicy.log"),
    spec(MP_DDR, "MP_Ddr.log"),
    spec(MP_HINV, "MP_Hinv.log"),
    spec(MP_SINV, "MP_Sinv.log"),
    spec(MP_STATUS, "MP_Status.log"),
    spec(MP_RELAY, "MP_Relay.log"),
    spec(MP_CONTROL, "mpcontrol.log"),
    spec(CLIENT_AUTH, "ClientAuth.log"),
];

const fn spec(component: &'static str, file: &'static str) -> ComponentSpec {
    ComponentSpec { component, file, format: Format::Ccm }
}
