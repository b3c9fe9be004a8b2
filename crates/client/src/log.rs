//! The client's log files and components, as administrators of this kind of client know them.
//!
//! Lines that the field knows by heart are written word for word ([`field!`]) by the flows
//! that cause them, with the values of the run; everything else is ours, with fields.

use std::path::PathBuf;

use runtime::Clock;
use runtime::telemetry::{ComponentSpec, Console, DEFAULT_SIZE, Format, Level, LogConfig, LogHandle};

/// Declares a component: its name in the lines and its file.
macro_rules! components {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {
        /// What logs, each into its own file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Component { $($(#[$doc])* $name),+ }

        impl Component {
            /// Every component.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name in the lines.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            pub(super) const fn file(self) -> &'static str {
                match self { $(Self::$name => $file),+ }
            }
        }
    };
}

#[expect(non_camel_case_types, reason = "the component names are the field's")]
mod component {
    components! {
        /// Set-up: command line, gateway, first token, return code.
        ccmsetup = "ccmsetup.log";
        /// Identity, registration, self-prove and CCM tokens.
        ClientIDManagerStartup = "ClientIDManagerStartup.log";
        /// Choice and rotation of management points.
        ClientLocation = "ClientLocation.log";
        /// Intranet or internet, location requests.
        LocationServices = "LocationServices.log";
        /// Every message to a management point.
        CcmMessaging = "CcmMessaging.log";
        /// Signing, and judging what was signed.
        ClientAuth = "ClientAuth.log";
        /// Policy: what is assigned, what was fetched.
        PolicyAgent = "PolicyAgent.log";
        /// Policy: what was applied.
        PolicyEvaluator = "PolicyEvaluator.log";
        /// Heartbeat.
        InventoryAgent = "InventoryAgent.log";
        /// The service itself.
        CcmExec = "CcmExec.log";
        /// The device's own key and certificate, and the certificates of servers.
        CertificateMaintenance = "CertificateMaintenance.log";
        /// Tokens of a tenant.
        ADALOperationProvider = "ADALOperationProvider.log";
    }
}
pub use component::Component;

/// Writes one of the field's own lines, word for word.
macro_rules! field {
    ($level:ident, $component:ident, $($message:tt)+) => {
        tracing::$level!(
            component = $crate::log::Component::$component.name(),
            verbatim = true,
            $($message)+
        )
    };
}
pub(crate) use field;

/// Writes a line of ours: fields, then a constant message.
macro_rules! line {
    ($level:ident, $component:ident, $($rest:tt)+) => {
        tracing::$level!(component = $crate::log::Component::$component.name(), $($rest)+)
    };
}
pub(crate) use line;

/// How the client logs: into `folder`, one file a component, and to standard error only on demand.
pub fn config(folder: Option<PathBuf>, level: Level, console: Console, clock: Clock) -> LogConfig {
    let spec = |component: &Component| ComponentSpec {
        component: component.name(),
        file: component.file(),
        format: Format::Ccm,
    };
    LogConfig {
        folder,
        components: Component::ALL.iter().map(spec).collect(),
        json: false,
        console,
        level,
        max_size: DEFAULT_SIZE,
        ..LogConfig::new(spec(&Component::CcmExec), clock)
    }
}

/// Changes how much every component logs.
pub fn set_level(log: &LogHandle, level: Level) {
    for (component, _) in log.levels() {
        // Every name comes from the table itself.
        let _ = log.set_level(component, level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_field_stands_in_its_file_word_for_word() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(
            Some(folder.path().to_owned()),
            Level::Default,
            Console::Off,
            Clock::manual(1_790_000_000_000_000),
        );
        let (subscriber, handle) = runtime::telemetry::start(config).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            field!(info, ClientIDManagerStartup, "[RegTask] - Starting registration, attempt {}.", 1);
            line!(info, PolicyAgent, policies = 3, "assignments taken");
        });
        drop(handle);
        let text = std::fs::read_to_string(folder.path().join("ClientIDManagerStartup.log")).unwrap();
        assert!(
            text.starts_with("<![LOG[[RegTask] - Starting registration, attempt 1.]LOG]!><time="),
            "{text}"
        );
        assert!(text.contains("component=\"ClientIDManagerStartup\""), "{text}");
        let text = std::fs::read_to_string(folder.path().join("PolicyAgent.log")).unwrap();
        assert!(text.contains("[LOG[assignments taken policies=3]LOG]"), "{text}");
    }
}
