//! The heartbeat: what the device says about itself, and which policy it applied.

use proto::id::Thumbprint;
use proto::message::MessageEndpoint;
use proto::request::report::{INVENTORY_CONTENT, InventoryAction, Report, ReportHeader, ReportInstance};

use crate::credential::preference::MethodState;
use crate::credential::revocation;
use crate::device::{CLIENT_VERSION, Device, RequestError};
use crate::log::line;
use crate::place;
use crate::platform;
use crate::state::{Approval, State};
use crate::token::Wanted;

/// Servers without a revocation check that a report names.
const SERVERS: usize = 8;
/// Longest list of setting names that a report holds, in characters.
const NAMES_CHARS: usize = 250;
/// The instance in which our client says what it applied.
const OUR_CLASS: &str = "Roamgate_Client";

impl Device {
    /// Reports that the device is alive, and what it applied.
    pub async fn heartbeat(&mut self) -> Result<(), RequestError> {
        let registration = self.registered()?;
        if registration.approval == Approval::Held {
            return Err(RequestError::NotApproved);
        }
        let report = self.report(registration.client_id);
        let request_id = self.tell(MessageEndpoint::Discovery, &report.to_xml(), Wanted::Device).await?;
        let now = self.now();
        let told = applied_key(self.state());
        let contact = &mut self.state_mut().contact;
        contact.heartbeat = Some(now);
        contact.heartbeat_settings = Some(told);
        self.save().map_err(RequestError::State)?;
        line!(info, InventoryAgent, request_id, serial = self.state().policy.serial, "heartbeat sent");
        Ok(())
    }

    fn report(&self, client_id: proto::id::ClientId) -> Report {
        let state = self.state();
        let name = &state.setup.name;
        let now = self.now();
        let authority = state.setup.site_code.map(|code| format!("SMS:{code}")).unwrap_or_default();
        let locality = state.whereabouts.as_ref().map_or("internet", |known| match known.locality {
            crate::location::Locality::Intranet => "intranet",
            crate::location::Locality::Internet => "internet",
        });
        let (method, credentials) = (state.method.as_ref(), &state.credentials);
        let before = method.and_then(|method| method.before).map(|before| before.name().to_owned());
        let unchecked: Vec<_> = credentials
            .unchecked_servers
            .iter()
            .take(SERVERS)
            .map(|warning| format!("{}: {}", warning.host, warning.text))
            .collect();
        let unchecked = unchecked.join("; ");
        let since = state.registration.map_or(now, |registration| registration.registered);
        let place = state.whereabouts.as_ref();
        let mut ours = vec![
            ("PolicySerial", state.policy.serial.to_string()),
            ("PolicyVersion", state.policy.settings.version.clone().unwrap_or_default()),
            ("Method", self.method().name().to_owned()),
            ("MethodReason", method.map(|method| method.reason.clone()).unwrap_or_default()),
            ("MethodSince", method.map(|method| method.since.iso8601()).unwrap_or_default()),
            ("MethodRefused", method.map(MethodState::refused_line).unwrap_or_default()),
            ("MethodBefore", before.unwrap_or_default()),
            ("Join", credentials.join.map(|join| join.as_str().to_owned()).unwrap_or_default()),
            (
                "Certificate",
                credentials.certificate.as_ref().map(|known| known.subject.clone()).unwrap_or_default(),
            ),
            (
                "CertificateEnds",
                credentials.certificate.as_ref().map(|known| known.not_after.iso8601()).unwrap_or_default(),
            ),
            ("ServerRevocationCheck", self.revocation_check().name().to_owned()),
            ("UncheckedServers", unchecked),
            ("ClockOffsetSeconds", (credentials.clock_offset / 1_000_000).to_string()),
            ("ClientVersion", CLIENT_VERSION.to_owned()),
            ("Locality", locality.to_owned()),
            ("LocalityRule", place.map(|place| place.rule.to_string()).unwrap_or_default()),
            ("GatewayPermission", self.permission().to_string()),
            ("IgnoredSettings", shortened(&state.policy.settings.ignored)),
            ("UnreadableSettings", shortened(&state.policy.settings.unreadable)),
            ("SiteRootTrust", state.trust.origin.map_or("", crate::trust::RootOrigin::name).to_owned()),
        ];
        ours.extend(applied(state));
        let instances = vec![
            instance(name, "CCM_ComputerSystem", vec![("Domain", String::new())]),
            instance(
                name,
                "CCM_Client",
                vec![
                    ("ClientId", client_id.to_string()),
                    ("ClientIdChangeDate", since.us()),
                    ("ClientVersion", CLIENT_VERSION.to_owned()),
                    ("PreviousClientId", "Unknown".to_owned()),
                ],
            ),
            instance(name, "SMS_Authority", vec![("Name", authority)]),
            instance(name, "CCM_ADSiteInfo", vec![("ADSiteName", String::new())]),
            instance(name, "CCM_ExtNetworkAdapterConfiguration", vec![("FQDN", name.clone())]),
            instance(name, "CCM_DiscoveryData", vec![("PlatformID", platform::platform_id().to_owned())]),
            instance(name, OUR_CLASS, ours),
        ];
        let header = ReportHeader {
            client_id,
            client_installed: Some(1),
            client_type: Some(1),
            client_version: CLIENT_VERSION.to_owned(),
            netbios_name: name.clone(),
            code_page: Some(437),
            locale_id: Some(1033),
            priority: None,
            content: INVENTORY_CONTENT.to_owned(),
            report_type: "Full".to_owned(),
            date: now.cim(),
            version: "1.0".to_owned(),
            format: "1.1".to_owned(),
            action: Some(InventoryAction::Discovery),
        };
        Report { header, instances, state_messages: Vec::new() }
    }
}

/// The client settings as this device applies them now, under the names of the policy.
pub(crate) fn applied(state: &State) -> Vec<(&'static str, String)> {
    let settings = &state.policy.settings;
    let (bootstrap, policy) = (state.proof.no_crl_check, settings.version.is_some());
    let check = revocation::effective(bootstrap, policy, settings.revocation_check);
    settings.applied(place::permission(state), check)
}

/// What distinguishes one report from another as far as operators wait for it, the settings as applied and
/// what the clock is corrected by: a heartbeat tells each new one at once.
pub(crate) fn applied_key(state: &State) -> String {
    let settings = &state.policy.settings;
    let ignored = [&*settings.ignored, &*settings.unreadable].concat();
    let clock = state.credentials.clock_offset / 60_000_000;
    let text = format!("{:?} {ignored:?} {clock}", applied(state));
    let digest = Thumbprint::of(text.as_bytes()).to_string();
    let version = settings.version.as_deref().unwrap_or("none");
    format!("{version} {}", digest.get(..16).unwrap_or_default())
}

fn shortened(names: &[String]) -> String {
    names.join(";").chars().take(NAMES_CHARS).collect()
}

fn instance(name: &str, class: &str, properties: Vec<(&str, String)>) -> ReportInstance {
    ReportInstance {
        content: "New".to_owned(),
        namespace: format!(r"\\{name}\root\ccm"),
        class: class.to_owned(),
        parent_class: class.to_owned(),
        properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
